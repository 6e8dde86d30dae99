package rotation_test

import (
	"fmt"
	"time"

	"github.com/cimskit/cims/rotation"
)

func Example() {
	state := rotation.State{Members: []rotation.Member{
		{ID: 1, Weight: 2}, {ID: 2, Weight: 1}, {ID: 3, Weight: 1},
	}}
	for range 4 {
		decision := rotation.Default.Decide(&state, rotation.Lead{}, time.Now())
		fmt.Printf("%d gets the lead, owed after it:", decision.Member)
		for _, m := range state.Members {
			fmt.Printf(" %.2f", float64(m.Credit)/rotation.Unit)
		}
		fmt.Println()
	}
	// Output:
	// 1 gets the lead, owed after it: -0.50 0.25 0.25
	// 2 gets the lead, owed after it: 0.00 -0.50 0.50
	// 1 gets the lead, owed after it: -0.50 -0.25 0.75
	// 3 gets the lead, owed after it: 0.00 0.00 0.00
}

// Example_gate limits each member to two leads.
func Example_gate() {
	policy := rotation.Policy{Presence: []rotation.Gate{
		rotation.NotPaused,
		func(m *rotation.Member, _ time.Time) (rotation.Reason, time.Time) {
			if m.Leads >= 2 {
				return "full", time.Time{}
			}
			return "", time.Time{}
		},
	}}
	state := rotation.State{Members: []rotation.Member{
		{ID: 1, Weight: 1}, {ID: 2, Weight: 1, Leads: 1}, {ID: 3, Weight: 1, Paused: true},
	}}
	batch := policy.Batch(&state, time.Now())
	for range 4 {
		decision := batch.Decide(rotation.Lead{})
		fmt.Println(decision.Reason, decision.Member)
		for _, skip := range decision.Skipped {
			fmt.Println("  skipped", skip.Member, skip.Reason)
		}
	}
	// Output:
	// turn 1
	//   skipped 3 paused
	// turn 2
	//   skipped 3 paused
	// turn 1
	//   skipped 2 full
	//   skipped 3 paused
	// nobody 0
	//   skipped 1 full
	//   skipped 2 full
	//   skipped 3 paused
}
