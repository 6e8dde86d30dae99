package storagetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

// guaranteeTests are named after the guarantees of the library's documentation.
// Those that survive the death of a process, or speak of cost, are tested where
// there is a process to kill and a clock to trust.
var guaranteeTests = []test{
	{"Guarantee2_ManyLeadsAtOnce", manyLeads}, // first: it takes the longest
	{"Guarantee1_OneAssignmentPerCustomer", oneAssignment},
	{"Guarantee1_ManyHandsOnOneCustomer", manyHands},
	{"Guarantee2_NineLeadsThreeManagers", nineLeads},
	{"Guarantee2_ManagersComeAndGo", managersComeAndGo},
	{"Guarantee2_WeightsUnderConcurrency", weightsAtOnce},
	{"Guarantee2_Rollbacks", rollbacks},
	{"Guarantee3_NothingAfterDeactivation", nothingAfterDeactivation},
	{"Guarantee4_StatusInUseStays", statusDeletionRace},
	{"Guarantee4_RoleInUseStays", roleDeletionRace},
	{"Guarantee5_TwoCEOsRemoveEachOther", ceosRemoveEachOther},
	{"Guarantee5_AllCEOsResignAtOnce", ceosResign},
	{"Guarantee7_EveryChangeIsInTheHistory", againstModel},
	{"Guarantee7_UnderConcurrency", historyUnderConcurrency},
	{"Guarantee9_RightsTakenFromEachOther", rightsTakenAtOnce},
}

// processes opens n more Managers, each over a new Storage.
func (d *database) processes(t *testing.T, n int) []*cims.Manager {
	t.Helper()
	managers := []*cims.Manager{d.crm}
	for range n {
		managers = append(managers, d.manager(t, d.open(t), nil))
	}
	return managers
}

// requireConsistent checks that the lists, the numbers and the history of the
// customers agree, as they must at any quiet moment.
func (d *database) requireConsistent(t *testing.T) {
	t.Helper()
	d.requireConsistentEach(t, 1)
}

// requireConsistentEach reads the history of each nth customer only.
func (d *database) requireConsistentEach(t *testing.T, nth int) {
	t.Helper()
	statuses, err := d.Statuses(t.Context())
	require.NoError(t, err)
	known := map[string]bool{}
	for _, status := range statuses {
		known[status.Name] = true
	}
	owned := map[int64]int{}
	customers := d.customers(t, cims.CustomerFilter{})
	for i, customer := range customers {
		require.True(t, known[customer.StatusName], "customer %d is in status %q, which is none", customer.ID, customer.StatusName)
		owned[ownerID(customer)]++
		if i%nth != 0 {
			continue
		}
		status, owner := "", int64(0)
		for i, event := range d.history(t, customer.ID) {
			switch event.Kind {
			case cims.StatusEvent:
				if event.Cause == cims.CauseCreated {
					require.Zero(t, i, "customer %d: created twice", customer.ID)
					require.Empty(t, event.FromStatus)
				} else if status != "" {
					require.Equal(t, status, event.FromStatus, "customer %d: a change of status is missing", customer.ID)
				}
				require.NotEqual(t, event.FromStatus, event.ToStatus)
				status = event.ToStatus
			case cims.NoteEvent:
				require.Equal(t, status, event.ToStatus, "customer %d: a note changes nothing", customer.ID)
			case cims.AssignmentEvent:
				require.Equal(t, owner, value(event.FromManager), "customer %d: a change of owner is missing", customer.ID)
				require.NotEqual(t, owner, value(event.ToManager))
				owner = value(event.ToManager)
			}
			if event.Cause != cims.CauseCreated { // its owner comes with the next event
				require.Equal(t, owner, value(event.Owner), "customer %d: the owner of event %d", customer.ID, i)
			}
		}
		if status != "" {
			require.Equal(t, status, customer.StatusName, "customer %d", customer.ID)
		}
		require.Equal(t, owner, ownerID(customer), "customer %d", customer.ID)
	}
	for id, leads := range d.leadsOf(t) {
		require.Equal(t, owned[id], leads, "the number of leads of manager %d", id)
		require.Len(t, d.customers(t, cims.CustomerFilter{SalesManagerID: &id}), leads)
	}
	require.Len(t, d.customers(t, cims.CustomerFilter{Unassigned: true}), owned[0])
}
