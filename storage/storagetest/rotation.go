package storagetest

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

var rotationTests = []test{
	{"Rotation_RoundRobin", roundRobin},
	{"Rotation_NobodyEligible", nobodyEligible},
	{"Rotation_Newcomer", newcomer},
	{"Rotation_ShiftsHandOver", shifts},
	{"Rotation_PauseAndReturn", pauseAndReturn},
	{"Rotation_Weights", weights},
	{"Rotation_Preview", preview},
	{"Rotation_SalesManagers", salesManagers},
	{"Rotation_SetSalesManagerRefusals", setSalesManagerRefusals},
	{"Rotation_ManualAssignment", manualAssignment},
	{"Rotation_ManualAssignmentRefusals", manualRefusals},
	{"Rotation_ManualTakesTurn", manualTakesTurn},
	{"Rotation_AutoAssign", autoAssign},
	{"Rotation_GoesOnAfterRestart", afterRestart},
}

// turns adds n leads and returns their owners.
func (d *database) turns(t *testing.T, n int) []int64 {
	t.Helper()
	owners := make([]int64, n)
	for i := range owners {
		owners[i] = ownerID(d.lead(t, "Lead"))
	}
	return owners
}

func (d *database) setManager(t *testing.T, id int64, update cims.SalesManagerUpdate) {
	t.Helper()
	_, err := d.crm.SetSalesManager(t.Context(), system, id, update)
	require.NoError(t, err)
}

func (d *database) setActive(t *testing.T, id int64, active bool) {
	t.Helper()
	_, err := d.crm.UpdateUser(t.Context(), system, id, cims.UserUpdate{Active: &active})
	require.NoError(t, err)
}

func times(n int, id int64) []int64 { return slices.Repeat([]int64{id}, n) }

func count(owners []int64, id int64) int {
	n := 0
	for _, owner := range owners {
		if owner == id {
			n++
		}
	}
	return n
}

func roundRobin(t *testing.T, d *database) {
	s := ids(d.sellers(t, "Zafar", "Anvar", "Botir"), userID)
	require.Equal(t, slices.Repeat(s, 4), d.turns(t, 12), "in turn, the lowest id first")
	require.Equal(t, map[int64]int{s[0]: 4, s[1]: 4, s[2]: 4}, d.leadsOf(t))
}

func nobodyEligible(t *testing.T, d *database) {
	require.Equal(t, times(2, 0), d.turns(t, 2))
	lead := d.lead(t, "Waits")
	require.Nil(t, lead.SalesManager)
	require.Nil(t, lead.Assignment)
	require.Equal(t, lead, d.customer(t, lead.ID))
	require.Len(t, d.history(t, lead.ID), 1)
	waiting, err := d.Unassigned(t.Context(), cims.UnassignedQuery{Waiting: true, Limit: 10})
	require.NoError(t, err)
	require.Len(t, waiting, 3)
}

func newcomer(t *testing.T, d *database) {
	s := ids(d.sellers(t, "Anvar", "Botir"), userID)
	d.turns(t, 20)
	c := d.sellers(t, "Vali")[0].ID
	owners := d.turns(t, 9)
	require.ElementsMatch(t, slices.Concat(times(3, s[0]), times(3, s[1]), times(3, c)), owners, "not flooded with what it missed")
	for i := range 3 {
		require.Equal(t, 1, count(owners[3*i:3*i+3], c), "nor left out")
	}
}

// shifts hand over with nobody in between, again and again.
func shifts(t *testing.T, d *database) {
	s := ids(d.sellers(t, "A", "B", "C", "D"), userID)
	total := map[int64]int{}
	for round := range 6 {
		on, off := s[:2], s[2:]
		if round%2 == 1 {
			on, off = off, on
		}
		for _, id := range off {
			d.setManager(t, id, cims.SalesManagerUpdate{Paused: new(true)})
		}
		for _, id := range on {
			d.setManager(t, id, cims.SalesManagerUpdate{Paused: new(false)})
		}
		owners := d.turns(t, 5)
		for _, id := range s {
			total[id] += count(owners, id)
		}
		require.LessOrEqual(t, spread(owners, on), 1, "round %d: no flood, no double turn: %v", round, owners)
		require.Zero(t, count(owners, off[0])+count(owners, off[1]))
	}
	require.LessOrEqual(t, abs(total[s[0]]-total[s[1]]), 1, "who works together shares alike: %v", total)
	require.LessOrEqual(t, abs(total[s[2]]-total[s[3]]), 1, "who works together shares alike: %v", total)
}

// spread returns the largest difference between the leads of two managers.
func spread(owners, of []int64) int {
	var counts []int
	for _, id := range of {
		counts = append(counts, count(owners, id))
	}
	return slices.Max(counts) - slices.Min(counts)
}

func abs(n int) int { return max(n, -n) }

func pauseAndReturn(t *testing.T, d *database) {
	s := ids(d.sellers(t, "Anvar", "Botir", "Vali"), userID)
	d.turns(t, 6)
	d.setManager(t, s[1], cims.SalesManagerUpdate{Paused: new(true)})
	require.Equal(t, []int64{s[0], s[2], s[0], s[2]}, d.turns(t, 4), "a paused one gets none")
	require.Equal(t, map[int64]int{s[0]: 4, s[1]: 2, s[2]: 4}, d.leadsOf(t), "and keeps what it has")
	d.setManager(t, s[1], cims.SalesManagerUpdate{Paused: new(false)})
	owners := d.turns(t, 6)
	require.Equal(t, []int{2, 2, 2}, []int{count(owners, s[0]), count(owners, s[1]), count(owners, s[2])}, "%v", owners)

	// Out and in again at once wins nothing: not a second turn, no earlier one.
	d.turns(t, 1)
	rotation, err := d.crm.NextSalesManagers(t.Context(), system, 6)
	require.NoError(t, err)
	for _, id := range s {
		d.setManager(t, id, cims.SalesManagerUpdate{Paused: new(true)})
		d.setManager(t, id, cims.SalesManagerUpdate{Paused: new(false)})
		d.setActive(t, id, false)
		d.setActive(t, id, true)
	}
	require.Equal(t, ids(rotation, func(p cims.Person) int64 { return p.ID }), d.turns(t, 6))
}

func weights(t *testing.T, d *database) {
	s := ids(d.sellers(t, "Anvar", "Botir", "Vali"), userID)
	d.setManager(t, s[0], cims.SalesManagerUpdate{Weight: new(2)})
	d.setManager(t, s[2], cims.SalesManagerUpdate{Weight: new(3)})
	owners := d.turns(t, 36)
	require.Equal(t, []int{12, 6, 18}, []int{count(owners, s[0]), count(owners, s[1]), count(owners, s[2])})
	for n := range owners {
		a, b, c := float64(count(owners[:n], s[0]))/2, float64(count(owners[:n], s[1])), float64(count(owners[:n], s[2]))/3
		require.LessOrEqual(t, max(a, b, c)-min(a, b, c), 1.0, "after %d: %v", n, owners[:n])
	}
	// Equal again: alike from now on.
	d.setManager(t, s[0], cims.SalesManagerUpdate{Weight: new(1)})
	d.setManager(t, s[2], cims.SalesManagerUpdate{Weight: new(1)})
	owners = d.turns(t, 30)
	for n := range owners {
		require.LessOrEqual(t, spread(owners[:n], s), 1, "after %d: %v", n, owners[:n])
	}
}

func preview(t *testing.T, d *database) {
	people, err := d.crm.NextSalesManagers(t.Context(), system, 5)
	require.NoError(t, err)
	require.Empty(t, people)
	s := ids(d.sellers(t, "Anvar", "Botir", "Vali"), userID)
	d.turns(t, 4)
	d.setManager(t, s[1], cims.SalesManagerUpdate{Weight: new(3)})
	d.setManager(t, s[0], cims.SalesManagerUpdate{Paused: new(true)})
	d.sellers(t, "Gani")
	for range 3 {
		people, err = d.crm.NextSalesManagers(t.Context(), system, 11)
		require.NoError(t, err)
		again, err := d.crm.NextSalesManagers(t.Context(), system, 11)
		require.NoError(t, err)
		require.Equal(t, people, again, "to look changes nothing")
		for i, person := range people {
			lead := d.lead(t, "Lead")
			require.Equal(t, person, *lead.SalesManager, "place %d", i)
		}
	}
	people, err = d.crm.NextSalesManagers(t.Context(), system, 1000)
	require.NoError(t, err)
	require.Len(t, people, 1000)
	for _, n := range []int{0, -1, 1001} {
		_, err := d.crm.NextSalesManagers(t.Context(), system, n)
		requireInvalid(t, err, "n:range")
	}
}

func salesManagers(t *testing.T, d *database) {
	list, err := d.crm.SalesManagers(t.Context(), system)
	require.NoError(t, err)
	require.Empty(t, list)
	s := d.sellers(t, "яна", "Zafar", "anvar", "Аня")
	twin, err := d.crm.CreateUser(t.Context(), system, cims.NewUser{
		Email: "twin@example.com", Name: "anvar", Surname: "A", RoleName: cims.RoleSalesManager,
	})
	require.NoError(t, err)
	d.user(t, cims.RoleCEO, "Boss")
	gone := d.sellers(t, "Gone")[0]
	d.turns(t, 7)
	d.setActive(t, gone.ID, false)
	changed, err := d.crm.SetSalesManager(t.Context(), system, s[1].ID, cims.SalesManagerUpdate{Weight: new(100), Paused: new(true)})
	require.NoError(t, err)

	entry := func(user cims.User, leads int) cims.SalesManager {
		return cims.SalesManager{
			Person:        cims.Person{ID: user.ID, Email: user.Email, Name: user.Name, Surname: user.Surname},
			AssignedLeads: leads, Weight: 1,
		}
	}
	zafar := entry(s[1], 1)
	zafar.Weight, zafar.Paused = 100, true
	require.Equal(t, zafar, changed)
	list, err = d.crm.SalesManagers(t.Context(), system)
	require.NoError(t, err)
	require.Equal(t, []cims.SalesManager{
		zafar, entry(s[2], 1), entry(twin, 1), entry(s[3], 1), entry(s[0], 2),
	}, list, "by name in code points, then id")

	// Fields that are not sent stay.
	changed, err = d.crm.SetSalesManager(t.Context(), system, s[1].ID, cims.SalesManagerUpdate{Paused: new(false)})
	require.NoError(t, err)
	zafar.Paused = false
	require.Equal(t, zafar, changed)
	changed, err = d.crm.SetSalesManager(t.Context(), system, s[1].ID, cims.SalesManagerUpdate{Weight: new(1)})
	require.NoError(t, err)
	zafar.Weight = 1
	require.Equal(t, zafar, changed)
}

func setSalesManagerRefusals(t *testing.T, d *database) {
	seller := d.sellers(t, "Anvar")[0]
	boss := d.user(t, cims.RoleCEO, "Boss")
	for _, c := range []struct {
		update cims.SalesManagerUpdate
		faults []string
	}{
		{cims.SalesManagerUpdate{}, []string{"body:no_field"}},
		{cims.SalesManagerUpdate{Weight: new(0)}, []string{"weight:range"}},
		{cims.SalesManagerUpdate{Weight: new(-1), Paused: new(true)}, []string{"weight:range"}},
		{cims.SalesManagerUpdate{Weight: new(101)}, []string{"weight:range"}},
	} {
		_, err := d.crm.SetSalesManager(t.Context(), system, seller.ID, c.update)
		requireInvalid(t, err, c.faults...)
	}
	d.setActive(t, seller.ID, false)
	for _, id := range []int64{seller.ID, boss.ID, absent} {
		_, err := d.crm.SetSalesManager(t.Context(), system, id, cims.SalesManagerUpdate{Paused: new(true)})
		require.ErrorIs(t, err, cims.ErrNotFound)
	}
	d.setActive(t, seller.ID, true)
	list, err := d.crm.SalesManagers(t.Context(), system)
	require.NoError(t, err)
	require.False(t, list[0].Paused)
	require.Equal(t, 1, list[0].Weight)
}

func manualAssignment(t *testing.T, d *database) {
	boss := d.actor(t, cims.RoleCEO, "Boss")
	s := ids(d.sellers(t, "Anvar", "Botir"), userID)
	lead := d.lead(t, "Aziza")
	require.Equal(t, s[0], ownerID(lead))

	// Instead of another.
	assignment, err := d.crm.Assign(t.Context(), boss, lead.ID, s[1])
	require.NoError(t, err)
	now := d.customer(t, lead.ID)
	require.Equal(t, &assignment, now.Assignment)
	require.Equal(t, cims.Assignment{
		ID: assignment.ID, CustomerID: lead.ID, SalesManagerID: s[1],
		AssignedAt: now.UpdatedAt, AssignedBy: new(boss.User().ID), Active: true,
	}, assignment)
	require.True(t, now.UpdatedAt.After(lead.UpdatedAt))
	require.Equal(t, s[1], ownerID(now))
	require.Equal(t, map[int64]int{s[0]: 0, s[1]: 1}, d.leadsOf(t))
	require.Len(t, d.history(t, lead.ID), 3)

	// To the same again: nothing changes.
	again, err := d.crm.Assign(t.Context(), system, lead.ID, s[1])
	require.NoError(t, err)
	require.Equal(t, assignment, again)
	require.Equal(t, now, d.customer(t, lead.ID))
	require.Len(t, d.history(t, lead.ID), 3)
	require.Equal(t, map[int64]int{s[0]: 0, s[1]: 1}, d.leadsOf(t))

	// It took no turn: the next lead goes to the same manager.
	require.Equal(t, []int64{s[1], s[0]}, d.turns(t, 2))
	d.own(t, s[1], d.bulk(t, 5, "contacted")...)
	require.Equal(t, []int64{s[1], s[0]}, d.turns(t, 2))

	// A paused manager can get leads by hand, waiting ones too.
	d.setManager(t, s[0], cims.SalesManagerUpdate{Paused: new(true)})
	d.setManager(t, s[1], cims.SalesManagerUpdate{Paused: new(true)})
	waits := d.lead(t, "Waits")
	require.Nil(t, waits.SalesManager)
	d.own(t, s[0], waits.ID)
	waiting, err := d.Unassigned(t.Context(), cims.UnassignedQuery{Waiting: true, Limit: 5})
	require.NoError(t, err)
	require.Empty(t, waiting)
}

func manualRefusals(t *testing.T, d *database) {
	seller, gone := d.sellers(t, "Anvar")[0], d.sellers(t, "Gone")[0]
	boss := d.user(t, cims.RoleCEO, "Boss")
	d.setActive(t, gone.ID, false)
	lead := d.lead(t, "Aziza")
	for _, c := range []struct {
		customer, manager int64
		about             cims.Entity
	}{
		{absent, seller.ID, cims.EntityCustomer},
		{lead.ID, absent, cims.EntitySalesManager},
		{lead.ID, gone.ID, cims.EntitySalesManager},
		{lead.ID, boss.ID, cims.EntitySalesManager},
		{lead.ID, 0, cims.EntitySalesManager},
	} {
		_, err := d.crm.Assign(t.Context(), system, c.customer, c.manager)
		var refusal *cims.Error
		require.ErrorAs(t, err, &refusal)
		require.ErrorIs(t, err, cims.ErrNotFound)
		require.Equal(t, c.about, refusal.Entity)
	}
	require.Equal(t, lead, d.customer(t, lead.ID))
	require.Len(t, d.history(t, lead.ID), 2)
	_, err := d.crm.AutoAssign(t.Context(), system, absent)
	require.ErrorIs(t, err, cims.ErrNotFound)
}

func manualTakesTurn(t *testing.T, d *database) {
	crm := d.manager(t, d.Storage, &cims.Config{ManualTakesTurn: true})
	s := ids(d.sellers(t, "Anvar", "Botir"), userID)
	assign := func(manager int64) {
		_, err := crm.Assign(t.Context(), system, d.bulk(t, 1, "contacted")[0], manager)
		require.NoError(t, err)
	}
	d.turns(t, 2)
	assign(s[0])
	require.Equal(t, []int64{s[1], s[0], s[1]}, d.turns(t, 3))
	// Also of a manager that has just joined: it starts where the others are.
	d.turns(t, 21)
	c := d.sellers(t, "Vali")[0].ID
	assign(c)
	owners := d.turns(t, 2)
	require.ElementsMatch(t, s, owners, "the newcomer has had its turn by hand")
}

func autoAssign(t *testing.T, d *database) {
	boss := d.actor(t, cims.RoleCEO, "Boss")
	left := d.bulk(t, 3, "contacted")
	// Nobody is eligible: it waits from now on.
	assignment, err := d.crm.AutoAssign(t.Context(), boss, left[0])
	require.NoError(t, err)
	require.Nil(t, assignment)
	waiting, err := d.Unassigned(t.Context(), cims.UnassignedQuery{Waiting: true, Limit: 5})
	require.NoError(t, err)
	require.Equal(t, left[:1], waiting)
	require.Len(t, d.history(t, left[0]), 1, "its creation")

	s := ids(d.sellers(t, "Anvar", "Botir"), userID)
	eventually(t, "who waits is assigned", func() bool { return ownerID(d.customer(t, left[0])) == s[0] })
	assignment, err = d.crm.AutoAssign(t.Context(), boss, left[1])
	require.NoError(t, err)
	require.NotNil(t, assignment)
	now := d.customer(t, left[1])
	require.Equal(t, assignment, now.Assignment)
	require.Equal(t, s[1], ownerID(now))
	require.Nil(t, assignment.AssignedBy)
	events := d.history(t, left[1])
	require.Len(t, events, 2)
	require.Equal(t, cims.CauseAutomatic, events[1].Cause)

	// A lead that has an owner keeps it.
	again, err := d.crm.AutoAssign(t.Context(), boss, left[1])
	require.NoError(t, err)
	require.Equal(t, assignment, again)
	require.Len(t, d.history(t, left[1]), 2)
	require.Equal(t, s, d.turns(t, 2), "the first one took a turn, the second didn't")
}

func afterRestart(t *testing.T, d *database) {
	s := ids(d.sellers(t, "Anvar", "Botir", "Vali"), userID)
	require.Equal(t, []int64{s[0], s[1]}, d.turns(t, 2))
	for i := range 7 {
		store := d.open(t)
		require.NoError(t, store.Migrate(t.Context()))
		crm, err := cims.New(store, &cims.Config{Clock: d.clock.now})
		require.NoError(t, err)
		lead, err := crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Lead"})
		require.NoError(t, err)
		require.NoError(t, crm.Close(context.Background()))
		require.Equal(t, s[(2+i)%3], ownerID(lead))
	}
}
