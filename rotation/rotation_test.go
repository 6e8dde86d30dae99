package rotation_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/cimskit/cims/rotation"
)

var (
	now  = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	open = rotation.Lead{} // to everybody present
)

// atRest returns a team with the IDs 1, 2, 3 … that had no lead yet.
func atRest(weights ...int) rotation.State {
	var state rotation.State
	for i, weight := range weights {
		state.Members = append(state.Members, rotation.Member{ID: int64(i + 1), Weight: weight})
	}
	return state
}

// clone returns a copy that shares nothing with the state.
func clone(state rotation.State) rotation.State {
	state.Members = slices.Clone(state.Members)
	return state
}

// decide returns who gets each of the next n leads.
func decide(state *rotation.State, n int) []int64 {
	batch := rotation.Default.Batch(state, now)
	picks := make([]int64, n)
	for i := range picks {
		picks[i] = batch.Decide(open).Member
	}
	return picks
}

func count(ids []int64, id int64) (n int) {
	for _, other := range ids {
		if other == id {
			n++
		}
	}
	return n
}

func sum(weights []int) (sum int) {
	for _, weight := range weights {
		sum += weight
	}
	return sum
}

// abs returns the distance of a number from zero.
func abs[T int | int64](n T) T { return max(n, -n) }

// anyWeights draws a team's weights.
func anyWeights(t *rapid.T) []int {
	return rapid.SliceOfN(rapid.OneOf(rapid.IntRange(1, 5), rapid.IntRange(1, 100)), 1, 12).Draw(t, "weights")
}

// anyState draws a state that no history need lead to, of up to 8 members. Many
// weights, credits and turns are alike.
func anyState(t *rapid.T) rotation.State {
	weight := rapid.OneOf(rapid.Just(1), rapid.SampledFrom([]int{1, 2, 3}), rapid.IntRange(1, 100))
	credit := rapid.OneOf(
		rapid.Map(evenly(0, 48), func(n int64) int64 { return (n - 24) * rotation.Unit / 12 }),
		rapid.Map(evenly(0, 1<<20), func(n int64) int64 { return (n-1<<19)*(rotation.Unit>>18) + n%5 }),
		rapid.Int64Range(-10, 10),
		rapid.Int64Range(-rotation.Unit<<18, rotation.Unit<<18),
	)
	state := rotation.State{Turn: evenly(0, 1000).Draw(t, "turn")}
	id := int64(0)
	for range evenly(0, 8).Draw(t, "members") {
		id += evenly(1, 2).Draw(t, "gap")
		m := rotation.Member{
			ID: id, Weight: weight.Draw(t, "weight"), Paused: evenly(1, 4).Draw(t, "paused") == 1,
			Leads: int(evenly(0, 5).Draw(t, "leads")), Credit: credit.Draw(t, "credit"),
			LastTurn: min(evenly(0, 5).Draw(t, "last turn"), state.Turn),
		}
		m.Present = rapid.SampledFrom([]int{m.Weight, m.Weight, 0, m.Weight + 1}).Draw(t, "present")
		state.Members = append(state.Members, m)
	}
	return state
}

// evenly draws a number between two, each as likely; rapid's own ranges prefer
// small ones.
func evenly(low, high int64) *rapid.Generator[int64] {
	return rapid.Map(rapid.Int64Min(0), func(n int64) int64 { return low + n%(high-low+1) })
}

// anyLead draws a lead that is open to everybody, or excludes some of ten ids.
func anyLead(t *rapid.T) rotation.Lead {
	if rapid.Bool().Draw(t, "open") {
		return open
	}
	return rotation.Lead{Excluded: rapid.SliceOfN(rapid.Int64Range(1, 10), 0, 6).Draw(t, "excluded")}
}

func TestImports(t *testing.T) {
	t.Parallel()
	imports, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{join .Imports " "}}`, ".").Output()
	require.NoError(t, err)
	require.Subset(t, []string{"cmp", "math/bits", "slices", "time"}, strings.Fields(string(imports)))
}
