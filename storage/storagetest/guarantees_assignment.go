package storagetest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// oneAssignment: many ask the rotation to assign the same customers, which also
// are a backlog that is being worked off.
func oneAssignment(t *testing.T, d *database) {
	s := ids(d.sellers(t, "Anvar", "Botir", "Vali"), userID)
	left := d.bulk(t, 60, "contacted")
	processes := d.processes(t, 1)
	requireAll(t, together(10, func(i int) error {
		crm := processes[i%len(processes)]
		if i == 0 {
			_, err := crm.AssignBacklog(t.Context(), system)
			return err
		}
		for j := range left {
			at := j
			if i%2 == 1 { // from the other end
				at = len(left) - 1 - j
			}
			assignment, err := crm.AutoAssign(t.Context(), system, left[at])
			if err != nil {
				return err
			}
			if assignment == nil || assignment.CustomerID != left[at] {
				return fmt.Errorf("customer %d got %v", left[at], assignment)
			}
		}
		return nil
	}))
	for _, id := range left {
		require.Len(t, d.history(t, id), 2, "customer %d was created and assigned once", id)
	}
	require.Equal(t, map[int64]int{s[0]: 20, s[1]: 20, s[2]: 20}, d.leadsOf(t))
	d.requireConsistent(t)
}

// manyHands: one customer, assigned by hand to everybody at once.
func manyHands(t *testing.T, d *database) {
	s := ids(d.sellers(t, "Anvar", "Botir", "Vali", "Gani"), userID)
	lead := d.lead(t, "Aziza")
	processes := d.processes(t, 1)
	requireAll(t, together(8, func(i int) error {
		for j := range 15 {
			manager := s[(i+j)%len(s)]
			assignment, err := processes[i%2].Assign(t.Context(), system, lead.ID, manager)
			if err != nil {
				return err
			}
			if assignment.SalesManagerID != manager {
				return fmt.Errorf("%d instead of %d", assignment.SalesManagerID, manager)
			}
		}
		return nil
	}))
	total := 0
	for _, leads := range d.leadsOf(t) {
		total += leads
	}
	require.Equal(t, 1, total)
	d.requireConsistent(t)
}
