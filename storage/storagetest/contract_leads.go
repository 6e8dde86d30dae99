package storagetest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/rotation"
)

func contractUnassigned(t *testing.T, d *database) {
	seller := d.sellers(t, "Anvar")[0]
	early := noon.Add(-time.Hour)
	inserted := d.insert(t, // alternately old and new, so that ids and times disagree
		cims.Customer{}, cims.Customer{CreatedAt: early}, cims.Customer{}, cims.Customer{CreatedAt: early},
		cims.Customer{}, cims.Customer{CreatedAt: early},
	)
	list := func(waiting bool, limit int) []int64 {
		got, err := d.Unassigned(t.Context(), cims.UnassignedQuery{Waiting: waiting, Limit: limit})
		require.NoError(t, err)
		return got
	}
	pick := func(places ...int) []int64 {
		picked := []int64{}
		for _, i := range places {
			picked = append(picked, inserted[i])
		}
		return picked
	}
	require.Equal(t, pick(1, 3, 5, 0, 2, 4), list(false, 10))
	require.Equal(t, pick(1, 3), list(false, 2))
	require.Empty(t, list(true, 10))

	change := func(i int, from, to *int64) cims.OwnerChange {
		return cims.OwnerChange{
			CustomerID: inserted[i], CustomerCreatedAt: d.customer(t, inserted[i]).CreatedAt,
			From: from, To: to, Cause: cims.CauseAutomatic, At: noon.Add(time.Hour),
		}
	}
	d.changeOwners(t, change(0, nil, nil), change(3, nil, nil), change(4, nil, &seller.ID))
	require.Equal(t, pick(3, 0), list(true, 10), "these wait")
	require.Equal(t, pick(3), list(true, 1))
	require.Equal(t, pick(1, 5, 2), list(false, 10), "these were left without")
	require.Len(t, d.history(t, inserted[0]), 1, "to wait is no change of the owner")

	d.changeOwners(t, change(0, nil, &seller.ID), change(4, &seller.ID, nil))
	require.Equal(t, pick(3, 4), list(true, 10), "who loses an owner waits, who gets one doesn't")
	require.Equal(t, pick(1, 5, 2), list(false, 10))
}

// contractIntake: new leads with a sales manager, waiting for one, and without.
func contractIntake(t *testing.T, d *database) {
	seller := d.sellers(t, "Anvar")[0]
	owner := cims.Person{ID: seller.ID, Email: seller.Email, Name: seller.Name, Surname: seller.Surname}
	lead := func(name string) *cims.Lead {
		return &cims.Lead{Customer: cims.Customer{FullName: name, StatusName: "rejected", CreatedAt: noon, UpdatedAt: noon}}
	}
	owned, waiting, left := lead("Owned"), lead("Waiting"), lead("Left")
	owned.Customer.SalesManager, owned.By, waiting.Waiting = &owner, &seller.ID, true
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		state, err := tx.LockRotation(ctx)
		if err != nil {
			return err
		}
		state.Turn = 1
		state.Members[0].Credit, state.Members[0].LastTurn = 9, 1
		if err := tx.InsertLeads(ctx, []*cims.Lead{owned, waiting, left}); err != nil {
			return err
		}
		if err := tx.SaveRotation(ctx, state); err != nil {
			return err
		}
		return tx.CountLeads(ctx, map[int64]int{seller.ID: 1})
	})
	require.Less(t, owned.Customer.ID, waiting.Customer.ID)
	require.Less(t, waiting.Customer.ID, left.Customer.ID)
	require.Equal(t, &cims.Assignment{
		ID: owned.Customer.Assignment.ID, CustomerID: owned.Customer.ID, SalesManagerID: seller.ID, AssignedAt: noon, Active: true,
	}, owned.Customer.Assignment)
	for _, l := range []*cims.Lead{owned, waiting, left} {
		require.Equal(t, l.Customer, d.customer(t, l.Customer.ID))
	}
	state, err := d.Rotation(t.Context())
	require.NoError(t, err)
	require.Equal(t, cims.Rotation{
		State:  rotation.State{Turn: 1, Members: []rotation.Member{{ID: seller.ID, Credit: 9, LastTurn: 1, Weight: 1, Leads: 1}}},
		People: map[int64]cims.Person{seller.ID: owner},
	}, state)
	waits, err := d.Unassigned(t.Context(), cims.UnassignedQuery{Waiting: true, Limit: 5})
	require.NoError(t, err)
	require.Equal(t, []int64{waiting.Customer.ID}, waits)
	backlog, err := d.Unassigned(t.Context(), cims.UnassignedQuery{Limit: 5})
	require.NoError(t, err)
	require.Equal(t, []int64{left.Customer.ID}, backlog)

	events := d.history(t, owned.Customer.ID)
	require.Equal(t, []cims.Event{
		{ID: events[0].ID, At: noon, Kind: cims.StatusEvent, ToStatus: "rejected", By: &seller.ID, Cause: cims.CauseCreated, Owner: &seller.ID},
		{ID: events[1].ID, At: noon, Kind: cims.AssignmentEvent, ToManager: &seller.ID, Cause: cims.CauseAutomatic, Owner: &seller.ID},
	}, events)
	require.Len(t, d.history(t, waiting.Customer.ID), 1)
}
