package storagetest

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

func contractRotation(t *testing.T, d *database) {
	rotation, err := d.Rotation(t.Context())
	require.NoError(t, err)
	require.Empty(t, rotation.Members)
	require.Zero(t, rotation.Turn)
	require.Zero(t, rotation.Floor)

	sellers := d.sellers(t, "Anvar", "Botir", "Paused", "Inactive")
	d.user(t, cims.RoleCEO, "Boss")
	d.user(t, "member", "Member")
	_, err = d.crm.SetSalesManager(t.Context(), system, sellers[2].ID, cims.SalesManagerUpdate{Paused: new(true), Weight: new(3)})
	require.NoError(t, err)
	_, err = d.crm.UpdateUser(t.Context(), system, sellers[3].ID, cims.UserUpdate{Active: new(false)})
	require.NoError(t, err)
	member := func(user cims.User) cims.Member {
		return cims.Member{
			Person: cims.Person{ID: user.ID, Email: user.Email, Name: user.Name, Surname: user.Surname}, Weight: 1,
		}
	}
	expected := []cims.Member{member(sellers[0]), member(sellers[1]), member(sellers[2])}
	expected[2].Weight, expected[2].Paused = 3, true
	rotation, err = d.Rotation(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, expected, rotation.Members)
	var locked cims.Rotation
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		var err error
		locked, err = tx.LockRotation(ctx)
		return err
	})
	require.ElementsMatch(t, expected, locked.Members)

	// Changes of users show at once.
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		renamed := sellers[0]
		renamed.Surname, renamed.Email = "Renamed", "renamed@example.com"
		if err := tx.UpdateUser(ctx, renamed); err != nil {
			return err
		}
		expected[0] = member(renamed)
		left := sellers[1]
		left.RoleName = "member"
		return tx.UpdateUser(ctx, left)
	})
	rotation, err = d.Rotation(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, []cims.Member{expected[0], expected[2]}, rotation.Members)

	// An inactive role has no members.
	role := d.roleNamed(t, cims.RoleSalesManager)
	role.Active = false
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		if _, err := tx.LockRole(ctx, role.ID); err != nil {
			return err
		}
		return tx.UpdateRole(ctx, role)
	})
	rotation, err = d.Rotation(t.Context())
	require.NoError(t, err)
	require.Empty(t, rotation.Members)
}

func contractSaveRotation(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir", "Vali")
	state := cims.Rotation{Floor: 1 << 60, Turn: math.MaxInt64 - 1}
	saved := cims.Member{
		Person:      cims.Person{ID: sellers[1].ID, Email: sellers[1].Email, Name: sellers[1].Name, Surname: sellers[1].Surname},
		VirtualTime: 1<<60 + 7, LastTurn: math.MaxInt64 - 2, Weight: 100, Paused: true,
	}
	state.Members = []cims.Member{saved}
	save := func(state cims.Rotation) {
		d.update(t, func(ctx context.Context, tx cims.Tx) error {
			if _, err := tx.LockRotation(ctx); err != nil {
				return err
			}
			assignments, err := tx.SaveRotation(ctx, state, nil, nil)
			if err == nil && len(assignments) != 0 {
				return errors.New("assignments of nobody")
			}
			return err
		})
	}
	byID := func() map[int64]cims.Member {
		rotation, err := d.Rotation(t.Context())
		require.NoError(t, err)
		require.Equal(t, state.Floor, rotation.Floor)
		require.Equal(t, state.Turn, rotation.Turn)
		members := map[int64]cims.Member{}
		for _, member := range rotation.Members {
			members[member.ID] = member
		}
		return members
	}
	save(state)
	members := byID()
	require.Len(t, members, 3)
	require.Equal(t, saved, members[saved.ID])
	require.Zero(t, members[sellers[0].ID].VirtualTime, "who is not listed stays as it is")
	require.Equal(t, 1, members[sellers[0].ID].Weight)

	other := members[sellers[2].ID]
	other.VirtualTime, other.LastTurn = 720_720_000, 1
	state.Members = []cims.Member{other}
	save(state)
	members = byID()
	require.Equal(t, saved, members[saved.ID])
	require.Equal(t, other, members[other.ID])

	// A member that leaves and comes back has its place again.
	for _, active := range []bool{false, true} {
		_, err := d.crm.UpdateUser(t.Context(), system, saved.ID, cims.UserUpdate{Active: &active})
		require.NoError(t, err)
	}
	require.Equal(t, saved, byID()[saved.ID])
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
