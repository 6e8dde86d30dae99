package storagetest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

var waitingTests = []test{
	{"Waiting_OldestFirst", waitingOldestFirst},
	{"Waiting_AnotherProcess", waitingAnotherProcess},
	{"Waiting_HostsOwnChange", waitingHostsChange},
	{"Waiting_NewLeadsDoNotWait", newLeadsDoNotWait},
	{"Waiting_Unpaused", waitingUnpaused},
	{"Waiting_Many", waitingMany},
	{"Backlog_OnlyByCommand", backlogByCommand},
	{"Backlog_NobodyEligible", backlogNobody},
	{"Backlog_Many", backlogMany},
}

// wait adds n leads while nobody is eligible, and returns their ids.
func (d *database) wait(t *testing.T, n int) []int64 {
	t.Helper()
	waiting := make([]int64, n)
	for i := range waiting {
		lead := d.lead(t, "Waits")
		require.Nil(t, lead.SalesManager)
		waiting[i] = lead.ID
	}
	return waiting
}

// assigned waits until all of some customers have an owner, and returns these.
func (d *database) assigned(t *testing.T, customers []int64) []int64 {
	t.Helper()
	owners := make([]int64, len(customers))
	eventually(t, "waiting leads are assigned", func() bool {
		for i, id := range customers {
			if owners[i] = ownerID(d.customer(t, id)); owners[i] == 0 {
				return false
			}
		}
		return true
	})
	return owners
}

func waitingOldestFirst(t *testing.T, d *database) {
	leads := d.wait(t, 6)
	s := []int64{d.user(t, "member", "Anvar").ID, d.user(t, "member", "Botir").ID}
	// Both in one transaction, so that they are eligible at the same moment.
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		if _, err := tx.LockRotation(ctx); err != nil {
			return err
		}
		return tx.MoveUsers(ctx, "member", cims.RoleSalesManager)
	})
	require.Equal(t, []int64{s[0], s[1], s[0], s[1], s[0], s[1]}, d.assigned(t, leads))
	for _, id := range leads {
		customer := d.customer(t, id)
		require.True(t, customer.Assignment.AssignedAt.After(customer.CreatedAt))
		require.Equal(t, customer.UpdatedAt, customer.Assignment.AssignedAt)
		require.Nil(t, customer.Assignment.AssignedBy)
		events := d.history(t, id)
		require.Len(t, events, 2)
		require.Equal(t, cims.AssignmentEvent, events[1].Kind)
		require.Equal(t, cims.CauseAutomatic, events[1].Cause)
		require.Nil(t, events[1].By)
		require.Nil(t, events[1].FromManager)
		require.Nil(t, events[0].Owner)
	}
	waiting, err := d.Unassigned(t.Context(), cims.UnassignedQuery{Waiting: true, Limit: 5})
	require.NoError(t, err)
	require.Empty(t, waiting)
}

// waitingAnotherProcess: the one that makes somebody eligible does not look; one
// that has nothing to do with it does.
func waitingAnotherProcess(t *testing.T, d *database) {
	leads := d.wait(t, 3)
	require.NoError(t, d.crm.Close(t.Context()))
	d.manager(t, d.open(t), nil)
	other := d.open(t)
	var seller int64
	require.NoError(t, other.Update(t.Context(), func(ctx context.Context, tx cims.Tx) error {
		var err error
		seller, err = tx.InsertUser(ctx, cims.User{
			Email: "s@example.com", Name: "S", Surname: "S", RoleName: cims.RoleSalesManager, Active: true,
		})
		return err
	}))
	require.Equal(t, times(3, seller), d.assigned(t, leads))
}

// waitingHostsChange: the host changes its users itself.
func waitingHostsChange(t *testing.T, d *database) {
	seller := d.sellers(t, "Anvar")[0]
	d.setActive(t, seller.ID, false)
	leads := d.wait(t, 2)
	d.update(t, func(ctx context.Context, tx cims.Tx) error { return tx.UpdateUser(ctx, seller) })
	require.Equal(t, times(2, seller.ID), d.assigned(t, leads))
}

// newLeadsDoNotWait: a new lead is assigned in the answer to its creation, before
// waiting leads have been looked for.
func newLeadsDoNotWait(t *testing.T, d *database) {
	require.NoError(t, d.crm.Close(t.Context()))
	d.crm = d.manager(t, d.Storage, &cims.Config{WaitingInterval: 24 * time.Hour})
	leads := d.wait(t, 2)
	var seller int64
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		var err error
		seller, err = tx.InsertUser(ctx, cims.User{
			Email: "s@example.com", Name: "S", Surname: "S", RoleName: cims.RoleSalesManager, Active: true,
		})
		return err
	})
	require.Equal(t, []int64{seller}, d.turns(t, 1))
	waiting, err := d.Unassigned(t.Context(), cims.UnassignedQuery{Waiting: true, Limit: 5})
	require.NoError(t, err)
	require.Equal(t, leads, waiting, "these wait still")
	d.manager(t, d.Storage, &cims.Config{WaitingInterval: 10 * time.Millisecond})
	d.assigned(t, leads)
}

func waitingUnpaused(t *testing.T, d *database) {
	seller := d.sellers(t, "Anvar")[0].ID
	d.setManager(t, seller, cims.SalesManagerUpdate{Paused: new(true)})
	leads := d.wait(t, 2)
	d.setManager(t, seller, cims.SalesManagerUpdate{Weight: new(2)})
	require.Nil(t, d.customer(t, leads[0]).SalesManager, "a paused one gets no waiting lead")
	d.setManager(t, seller, cims.SalesManagerUpdate{Paused: new(false)})
	require.Equal(t, times(2, seller), d.assigned(t, leads))
}

// waitingMany: more than are handed out under one statement.
func waitingMany(t *testing.T, d *database) {
	const n = 1100
	left := d.bulk(t, n, "contacted")
	result, err := d.crm.AssignBacklog(t.Context(), system)
	require.NoError(t, err)
	require.Equal(t, cims.BacklogResult{Waiting: n}, result)
	s := ids(d.sellers(t, "Anvar"), userID)
	eventually(t, "all waiting leads are assigned", func() bool { return d.leadsOf(t)[s[0]] == n })
	require.Len(t, d.customers(t, cims.CustomerFilter{SalesManagerID: &s[0]}), len(left))
}

func backlogByCommand(t *testing.T, d *database) {
	boss := d.actor(t, cims.RoleCEO, "Boss")
	left := d.bulk(t, 5, "contacted")
	waits := d.wait(t, 1)
	s := ids(d.sellers(t, "Anvar"), userID)
	d.assigned(t, waits)
	for _, id := range left {
		require.Nil(t, d.customer(t, id).SalesManager, "what was left behind does not wait")
	}
	s = append(s, ids(d.sellers(t, "Botir"), userID)...)
	d.turns(t, 1) // Botir's
	result, err := d.crm.AssignBacklog(t.Context(), boss)
	require.NoError(t, err)
	require.Equal(t, cims.BacklogResult{Assigned: 5}, result)
	owners := d.assigned(t, left)
	require.LessOrEqual(t, spread(owners, s), 1)
	for i := range owners[1:] {
		require.NotEqual(t, owners[i], owners[i+1], "oldest first, in turn")
	}
	for _, id := range left {
		require.Nil(t, d.customer(t, id).Assignment.AssignedBy, "the rotation did it, whoever had it done")
		events := d.history(t, id)
		require.Len(t, events, 2)
		require.Equal(t, cims.CauseAutomatic, events[1].Cause)
	}
	result, err = d.crm.AssignBacklog(t.Context(), boss)
	require.NoError(t, err)
	require.Zero(t, result)
}

func backlogNobody(t *testing.T, d *database) {
	left := d.bulk(t, 4, "contacted")
	result, err := d.crm.AssignBacklog(t.Context(), system)
	require.NoError(t, err)
	require.Equal(t, cims.BacklogResult{Waiting: 4}, result)
	seller := d.sellers(t, "Anvar")[0].ID
	require.Equal(t, times(4, seller), d.assigned(t, left), "from now on they wait as others do")
}

func backlogMany(t *testing.T, d *database) {
	const n = 1101
	s := ids(d.sellers(t, "Anvar", "Botir", "Vali"), userID)
	d.bulk(t, n, "contacted")
	result, err := d.crm.AssignBacklog(t.Context(), system)
	require.NoError(t, err)
	require.Equal(t, cims.BacklogResult{Assigned: n}, result)
	require.Equal(t, map[int64]int{s[0]: n / 3, s[1]: n / 3, s[2]: n / 3}, d.leadsOf(t))
	require.Empty(t, d.customers(t, cims.CustomerFilter{Unassigned: true}))
}
