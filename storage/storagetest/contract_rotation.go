package storagetest

import (
	"context"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/rotation"
)

func contractRotation(t *testing.T, d *database) {
	state, err := d.Rotation(t.Context())
	require.NoError(t, err)
	require.Empty(t, state.Members)
	require.Zero(t, state.Turn)

	sellers := d.sellers(t, "Anvar", "Botir", "Paused", "Inactive")
	d.user(t, cims.RoleCEO, "Boss")
	d.user(t, "member", "Member")
	_, err = d.crm.SetSalesManager(t.Context(), system, sellers[2].ID, cims.SalesManagerUpdate{Paused: new(true), Weight: new(3)})
	require.NoError(t, err)
	_, err = d.crm.UpdateUser(t.Context(), system, sellers[3].ID, cims.UserUpdate{Active: new(false)})
	require.NoError(t, err)
	expected := cims.Rotation{People: map[int64]cims.Person{}}
	for _, user := range sellers[:3] {
		expected.Members = append(expected.Members, rotation.Member{ID: user.ID, Weight: 1})
		expected.People[user.ID] = cims.Person{ID: user.ID, Email: user.Email, Name: user.Name, Surname: user.Surname}
	}
	expected.Members[2].Weight, expected.Members[2].Paused = 3, true
	state, err = d.Rotation(t.Context())
	require.NoError(t, err)
	require.Equal(t, expected, state, "in the order of the ids")
	var locked cims.Rotation
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		var err error
		locked, err = tx.LockRotation(ctx)
		return err
	})
	require.Equal(t, expected, locked)

	// Changes of users show at once.
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		renamed := sellers[0]
		renamed.Surname, renamed.Email = "Renamed", "renamed@example.com"
		if err := tx.UpdateUser(ctx, renamed); err != nil {
			return err
		}
		expected.People[renamed.ID] = cims.Person{ID: renamed.ID, Email: renamed.Email, Name: renamed.Name, Surname: renamed.Surname}
		left := sellers[1]
		left.RoleName = "member"
		return tx.UpdateUser(ctx, left)
	})
	expected.Members = slices.Delete(expected.Members, 1, 2)
	delete(expected.People, sellers[1].ID)
	state, err = d.Rotation(t.Context())
	require.NoError(t, err)
	require.Equal(t, expected, state)

	// An inactive role has no members.
	role := d.roleNamed(t, cims.RoleSalesManager)
	role.Active = false
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		if _, err := tx.LockRole(ctx, role.ID); err != nil {
			return err
		}
		return tx.UpdateRole(ctx, role)
	})
	state, err = d.Rotation(t.Context())
	require.NoError(t, err)
	require.Empty(t, state.Members)
}

// inRotation runs do under the rotation's lock, and returns the state after.
func (d *database) inRotation(t *testing.T, do func(ctx context.Context, tx cims.Tx, state cims.Rotation) error) cims.Rotation {
	t.Helper()
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		state, err := tx.LockRotation(ctx)
		if err != nil {
			return err
		}
		return do(ctx, tx, state)
	})
	state, err := d.Rotation(t.Context())
	require.NoError(t, err)
	return state
}

func contractSaveRotation(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir", "Vali")
	var saved cims.Rotation
	save := func(ctx context.Context, tx cims.Tx, state cims.Rotation) error {
		saved = state
		return tx.SaveRotation(ctx, state)
	}
	state := d.inRotation(t, func(ctx context.Context, tx cims.Tx, state cims.Rotation) error {
		state.Turn = math.MaxInt64 - 1
		for i := range state.Members {
			m := &state.Members[i]
			m.Credit, m.LastTurn, m.Present = 1<<60+int64(i), math.MaxInt64-2-int64(i), 100-i
		}
		state.Members[1].Credit *= -1
		return save(ctx, tx, state)
	})
	require.Equal(t, saved, state)
	require.Equal(t, state, d.inRotation(t, save), "as it was read")

	// Weights, pauses and numbers of leads are not part of it.
	state = d.inRotation(t, func(ctx context.Context, tx cims.Tx, state cims.Rotation) error {
		for i := range state.Members {
			state.Members[i].Weight, state.Members[i].Paused, state.Members[i].Leads = 7, true, 9
		}
		return tx.SaveRotation(ctx, state)
	})
	require.Equal(t, saved, state)

	// A sales manager that leaves loses its place by the next decision.
	setActive := func(active bool) {
		_, err := d.crm.UpdateUser(t.Context(), system, sellers[1].ID, cims.UserUpdate{Active: &active})
		require.NoError(t, err)
	}
	setActive(false)
	setActive(true)
	require.Equal(t, saved, d.inRotation(t, save))
	setActive(false)
	require.Len(t, d.inRotation(t, save).Members, 2)
	setActive(true)
	state = d.inRotation(t, save)
	require.Equal(t, rotation.Member{ID: sellers[1].ID, Weight: 1}, state.Members[1])
}

func contractSaveMember(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	lead := d.lead(t, "Aziza")
	before, err := d.Rotation(t.Context())
	require.NoError(t, err)
	state := d.inRotation(t, func(ctx context.Context, tx cims.Tx, state cims.Rotation) error {
		m := state.Members[0]
		m.Weight, m.Paused = 100, true
		m.Credit, m.LastTurn, m.Present, m.Leads = 5, 6, 7, 8 // which are for others to store
		return tx.SaveMember(ctx, m)
	})
	require.Equal(t, ownerID(lead), sellers[0].ID)
	before.Members[0].Weight, before.Members[0].Paused = 100, true
	require.Equal(t, before, state)

	// A sales manager that leaves keeps both.
	for _, active := range []bool{false, true} {
		_, err := d.crm.UpdateUser(t.Context(), system, sellers[0].ID, cims.UserUpdate{Active: &active})
		require.NoError(t, err)
	}
	state, err = d.Rotation(t.Context())
	require.NoError(t, err)
	require.Equal(t, before, state)
}

func contractCountLeads(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir", "Vali")
	count := func(gained map[int64]int) map[int64]int {
		d.inRotation(t, func(ctx context.Context, tx cims.Tx, _ cims.Rotation) error { return tx.CountLeads(ctx, gained) })
		return d.leadsOf(t)
	}
	a, b, c := sellers[0].ID, sellers[1].ID, sellers[2].ID
	require.Equal(t, map[int64]int{a: 3, b: 1, c: 0}, count(map[int64]int{a: 3, b: 1}))
	require.Equal(t, map[int64]int{a: 1, b: 1, c: 4}, count(map[int64]int{a: -2, c: 4}))
	require.Equal(t, map[int64]int{a: 1, b: 1, c: 4}, count(nil))
}

func contractOwners(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	a, b := sellers[0].ID, sellers[1].ID
	boss := d.user(t, cims.RoleCEO, "Boss").ID
	leads := d.insert(t, cims.Customer{}, cims.Customer{}, cims.Customer{})
	at := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Minute) }
	change := func(lead int, from, to *int64, cause cims.Cause, by *int64, n int) cims.OwnerChange {
		return cims.OwnerChange{
			CustomerID: leads[lead], CustomerCreatedAt: noon, From: from, To: to, Cause: cause, By: by, At: at(n),
		}
	}
	// In the order of the changes, which is not that of the customers.
	first := d.changeOwners(t,
		change(2, nil, &b, cims.CauseAutomatic, nil, 0),
		change(1, nil, nil, cims.CauseAutomatic, nil, 0),
		change(0, nil, &a, cims.CauseManual, &boss, 1),
	)
	require.Len(t, first, 3)
	require.Equal(t, cims.Assignment{
		ID: first[0].ID, CustomerID: leads[2], SalesManagerID: b, AssignedAt: at(0), Active: true,
	}, first[0])
	require.Zero(t, first[1])
	require.Equal(t, cims.Assignment{
		ID: first[2].ID, CustomerID: leads[0], SalesManagerID: a, AssignedAt: at(1), AssignedBy: &boss, Active: true,
	}, first[2])
	require.NotZero(t, first[0].ID)
	require.NotZero(t, first[2].ID)
	require.Equal(t, &first[0], d.customer(t, leads[2]).Assignment)
	require.Equal(t, &first[2], d.customer(t, leads[0]).Assignment)
	require.Equal(t, noon, d.customer(t, leads[2]).UpdatedAt, "created at that moment")
	require.Equal(t, at(1), d.customer(t, leads[0]).UpdatedAt)
	require.Equal(t, map[int64]int{a: 1, b: 1}, d.leadsOf(t))

	second := d.changeOwners(t,
		change(0, &a, &b, cims.CauseRedistributed, &boss, 2),
		change(1, nil, &b, cims.CauseAutomatic, nil, 2),
	)
	require.Equal(t, b, second[0].SalesManagerID)
	require.Nil(t, second[0].AssignedBy, "the rotation did it, whoever had it done")
	require.Equal(t, map[int64]int{a: 0, b: 3}, d.leadsOf(t))

	third := d.changeOwners(t,
		change(0, &b, nil, cims.CauseRedistributed, nil, 3),
		change(2, &b, &b, cims.CauseManual, &boss, 3), // the same one
	)
	require.Zero(t, third[0])
	require.Equal(t, b, third[1].SalesManagerID)
	customer := d.customer(t, leads[0])
	require.Nil(t, customer.SalesManager)
	require.Nil(t, customer.Assignment)
	require.Equal(t, map[int64]int{a: 0, b: 2}, d.leadsOf(t))
	events := d.history(t, leads[0])
	require.Len(t, events, 4)
	events = events[1:] // without its creation
	for i, expected := range []cims.Event{
		{At: at(1), ToManager: &a, By: &boss, Cause: cims.CauseManual},
		{At: at(2), FromManager: &a, ToManager: &b, By: &boss, Cause: cims.CauseRedistributed},
		{At: at(3), FromManager: &b, Cause: cims.CauseRedistributed},
	} {
		expected.ID, expected.Kind, expected.Owner = events[i].ID, cims.AssignmentEvent, events[i].Owner
		require.Equal(t, expected, events[i])
	}
	require.Len(t, d.history(t, leads[2]), 2, "no event where the owner stays")

	// A lead without an owner can get one again.
	fourth := d.changeOwners(t, change(0, nil, &a, cims.CauseAutomatic, nil, 4))
	require.Equal(t, &fourth[0], d.customer(t, leads[0]).Assignment)
	require.Nil(t, fourth[0].AssignedBy)
	require.Equal(t, at(4), d.customer(t, leads[0]).UpdatedAt)
	list, err := d.Customers(t.Context(), cims.CustomerQuery{SalesManagerID: &a, Limit: 5})
	require.NoError(t, err)
	require.Equal(t, leads[:1], ids(list, customerID))

	// A member that leaves the rotation keeps its number of leads.
	_, err = d.crm.UpdateUser(t.Context(), system, b, cims.UserUpdate{Active: new(false)})
	require.NoError(t, err)
	d.changeOwners(t, change(1, &b, &a, cims.CauseManual, nil, 5))
	_, err = d.crm.UpdateUser(t.Context(), system, b, cims.UserUpdate{Active: new(true)})
	require.NoError(t, err)
	require.Equal(t, map[int64]int{a: 2, b: 1}, d.leadsOf(t))
}
