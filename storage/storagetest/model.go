package storagetest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

// seeded is a source of random choices that can be repeated: its seed is logged.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("STORAGETEST_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("STORAGETEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // no secret
}

func choose[T any](random *rand.Rand, from []T) T { return from[random.IntN(len(from))] }

// model holds the expected state of a company that uses the library. It has maps, and
// no rules but those of status, owner and history.
type model struct {
	customers map[int64]*modelCustomer
	leads     []int64 // their ids
	waiting   map[int64]bool
	eligible  map[int64]bool // of all managers, also those who have left
	statuses  map[string]int64
}

type modelCustomer struct {
	status  string
	owner   int64
	history []string
}

func (c *modelCustomer) record(cause cims.Cause, from, to any, by int64) {
	c.history = append(c.history, fmt.Sprintf("%s %v>%v by %d", cause, from, to, by))
}

func (c *modelCustomer) setStatus(cause cims.Cause, status string, by int64) {
	if c.status != status {
		c.record(cause, c.status, status, by)
		c.status = status
	}
}

func (c *modelCustomer) setOwner(cause cims.Cause, owner, by int64) {
	if c.owner != owner {
		c.record(cause, c.owner, owner, by)
		c.owner = owner
	}
}

func (m *model) anyEligible() bool {
	for _, eligible := range m.eligible {
		if eligible {
			return true
		}
	}
	return false
}

// againstModel does random things and checks after each that the library agrees with
// the model, to the last line of every history.
func againstModel(t *testing.T, d *database) {
	random := seeded(t)
	ctx := t.Context()
	boss := d.actorOf(t, d.user(t, cims.RoleCEO, "Boss").ID)
	by := boss.User().ID
	m := model{
		customers: map[int64]*modelCustomer{}, waiting: map[int64]bool{}, eligible: map[int64]bool{},
		statuses: map[string]int64{"contacted": 0, "finished": 0},
	}
	var managers []int64
	for _, seller := range d.sellers(t, "A", "B", "C", "D") {
		managers = append(managers, seller.ID)
		m.eligible[seller.ID] = true
	}
	crm := d.crm
	names := func() []string { return slices.Sorted(maps.Keys(m.statuses)) }
	// take gives a customer to an eligible manager, as the rotation must, or lets it
	// wait.
	take := func(id int64, cause cims.Cause, by int64) {
		owner := ownerID(d.customer(t, id))
		require.Equal(t, m.anyEligible(), owner != 0, "customer %d", id)
		require.True(t, owner == 0 || m.eligible[owner], "customer %d went to %d, who is not eligible", id, owner)
		m.customers[id].setOwner(cause, owner, by)
		m.waiting[id] = owner == 0
	}
	// settle waits until no customer waits that could be assigned.
	settle := func() {
		if !m.anyEligible() {
			return
		}
		eventually(t, "waiting leads are assigned", func() bool {
			waiting, err := d.Unassigned(ctx, cims.UnassignedQuery{Waiting: true, Limit: 1})
			require.NoError(t, err)
			return len(waiting) == 0
		})
		for _, id := range m.leads {
			if m.waiting[id] {
				take(id, cims.CauseAutomatic, 0)
			}
		}
	}
	steps := []func(){
		func() { // a new lead
			status := choose(random, names())
			lead, err := crm.AddCustomer(ctx, boss, cims.NewCustomer{FullName: "Lead", StatusName: status})
			require.NoError(t, err)
			m.leads = append(m.leads, lead.ID)
			m.customers[lead.ID] = &modelCustomer{}
			m.customers[lead.ID].setStatus(cims.CauseCreated, status, by)
			take(lead.ID, cims.CauseAutomatic, 0)
			require.Equal(t, m.customers[lead.ID].owner, ownerID(lead))
		},
		func() { // a change of status, also to the same
			id, status := choose(random, m.leads), choose(random, names())
			_, err := crm.SetStatus(ctx, boss, id, status, "")
			require.NoError(t, err)
			m.customers[id].setStatus(cims.CauseManual, status, by)
		},
		func() { // by hand, also to the same, to a paused one, to one who has left
			id, manager := choose(random, m.leads), choose(random, managers)
			active := true
			if account, err := d.Account(ctx, manager); err != nil || !account.User.Active {
				active = false
			}
			_, err := crm.Assign(ctx, boss, id, manager)
			if !active {
				require.ErrorIs(t, err, cims.ErrNotFound)
				return
			}
			require.NoError(t, err)
			m.customers[id].setOwner(cims.CauseManual, manager, by)
			m.waiting[id] = false
		},
		func() { // by the rotation, if it has nobody
			id := choose(random, m.leads)
			_, err := crm.AutoAssign(ctx, boss, id)
			require.NoError(t, err)
			if m.customers[id].owner == 0 {
				take(id, cims.CauseAutomatic, 0)
			}
		},
		func() { // a pause or its end
			manager := choose(random, managers)
			account, err := d.Account(ctx, manager)
			require.NoError(t, err)
			pause := random.IntN(2) == 0
			_, err = crm.SetSalesManager(ctx, boss, manager, cims.SalesManagerUpdate{Paused: &pause, Weight: new(1 + random.IntN(3))})
			if !account.User.Active {
				require.ErrorIs(t, err, cims.ErrNotFound)
				return
			}
			require.NoError(t, err)
			m.eligible[manager] = !pause
		},
		func() { // somebody comes, or leaves, with or without the leads
			manager := choose(random, managers)
			active := random.IntN(3) > 0
			update := cims.UserUpdate{Active: &active}
			if !active && random.IntN(2) == 0 {
				update.Leads = cims.RedistributeLeads
			}
			_, err := crm.UpdateUser(ctx, boss, manager, update)
			require.NoError(t, err)
			m.eligible[manager] = false
			rotation, err := d.Rotation(ctx)
			require.NoError(t, err)
			for _, member := range rotation.Members {
				if member.ID == manager {
					m.eligible[manager] = active && !member.Paused
				}
			}
			if update.Leads == cims.RedistributeLeads {
				for id, customer := range m.customers {
					if customer.owner == manager {
						take(id, cims.CauseRedistributed, by)
					}
				}
			}
		},
		func() { // a new status
			name := fmt.Sprintf("status_%d", random.IntN(6))
			status, err := crm.CreateStatus(ctx, boss, cims.NewStatus{Name: name, DisplayName: name})
			if _, exists := m.statuses[name]; exists {
				require.ErrorIs(t, err, cims.ErrExists)
				return
			}
			require.NoError(t, err)
			m.statuses[name] = status.ID
		},
		func() { // a status goes, with a place for its customers or without
			name, to := choose(random, names()), choose(random, names())
			used := 0
			for _, customer := range m.customers {
				if customer.status == name {
					used++
				}
			}
			var how cims.Deletion
			if random.IntN(2) == 0 {
				how.MoveTo = to
			}
			if m.statuses[name] == 0 {
				return // of the system
			}
			err := crm.DeleteStatus(ctx, boss, m.statuses[name], how)
			switch {
			case how.MoveTo == name:
				require.ErrorIs(t, err, cims.ErrInvalid)
				return
			case how.MoveTo == "" && used > 0:
				requireInUse(t, err, used, false)
				return
			}
			require.NoError(t, err)
			delete(m.statuses, name)
			for _, customer := range m.customers {
				if customer.status == name {
					customer.setStatus(cims.CauseMoved, to, by)
				}
			}
		},
	}
	for range 3 {
		steps[0]()
	}
	for range 200 {
		step := random.IntN(len(steps) + 2)
		if step >= len(steps) { // some more of the usual
			step -= len(steps)
		}
		steps[step]()
		settle()
		if random.IntN(10) == 0 {
			d.requireAsModel(t, m)
		}
	}
	d.requireAsModel(t, m)
	d.requireConsistent(t)
}

func (d *database) requireAsModel(t *testing.T, m model) {
	t.Helper()
	counts := map[int64]int{}
	for _, id := range m.leads {
		expected, got := m.customers[id], d.customer(t, id)
		require.Equal(t, expected.status, got.StatusName, "customer %d", id)
		require.Equal(t, expected.owner, ownerID(got), "customer %d", id)
		counts[expected.owner]++
		var history []string
		for _, event := range d.history(t, id) {
			from, to := any(event.FromStatus), any(event.ToStatus)
			if event.Kind == cims.AssignmentEvent {
				from, to = value(event.FromManager), value(event.ToManager)
			}
			history = append(history, fmt.Sprintf("%s %v>%v by %d", event.Cause, from, to, value(event.By)))
		}
		require.Equal(t, expected.history, history, "customer %d", id)
	}
	for id, leads := range d.leadsOf(t) {
		require.Equal(t, counts[id], leads, "manager %d", id)
	}
	waiting, err := d.Unassigned(t.Context(), cims.UnassignedQuery{Waiting: true, Limit: 1000})
	require.NoError(t, err)
	for _, id := range waiting {
		require.True(t, m.waiting[id], "customer %d waits", id)
	}
	require.Len(t, waiting, counts[0])
}

// historyUnderConcurrency does the same random things from several sides at once. The
// outcome can't be foretold, but it has to be consistent.
func historyUnderConcurrency(t *testing.T, d *database) {
	random := seeded(t)
	processes := d.processes(t, 1)
	boss := d.actorOf(t, d.user(t, cims.RoleCEO, "Boss").ID)
	managers := ids(d.sellers(t, "A", "B", "C"), userID)
	leads := append(d.bulk(t, 8, "contacted"), d.turnsIDs(t, 8)...)
	const callers = 6
	var sources [callers]*rand.Rand
	for i := range sources {
		sources[i] = rand.New(rand.NewPCG(random.Uint64(), random.Uint64())) //nolint:gosec // no secret
	}
	requireAll(t, together(callers, func(i int) error {
		random, crm, ctx := sources[i], processes[i%2], t.Context()
		for n := range 40 {
			id, name := choose(random, leads), fmt.Sprintf("status_%d", random.IntN(3))
			var err error
			switch random.IntN(8) {
			case 0:
				_, err = crm.AddCustomer(ctx, boss, cims.NewCustomer{FullName: "Lead"})
			case 1:
				_, err = crm.SetStatus(ctx, boss, id, choose(random, []string{"contacted", "finished", "rejected"}), "")
			case 2:
				_, err = crm.SetStatus(ctx, boss, id, name, "")
			case 3:
				_, err = crm.Assign(ctx, boss, id, choose(random, managers))
			case 4:
				_, err = crm.AutoAssign(ctx, boss, id)
			case 5:
				_, err = crm.CreateStatus(ctx, boss, cims.NewStatus{Name: name, DisplayName: name})
			case 6:
				statuses, listErr := crm.Statuses(ctx, boss, cims.StatusFilter{})
				if listErr != nil {
					return listErr
				}
				last := statuses[0] // of order 0, if there is one of ours
				err = crm.DeleteStatus(ctx, boss, last.ID, cims.Deletion{MoveTo: "continuing"})
			case 7:
				leave := cims.UserUpdate{Active: new(false), Leads: cims.RedistributeLeads}
				if n%3 > 0 {
					leave = cims.UserUpdate{Active: new(true)}
				}
				_, err = crm.UpdateUser(ctx, boss, choose(random, managers), leave)
			}
			for _, expected := range []error{cims.ErrInvalid, cims.ErrNotFound, cims.ErrExists, cims.ErrForbidden, nil} {
				if errors.Is(err, expected) {
					err = nil
				}
			}
			if err != nil {
				return err
			}
		}
		return nil
	}))
	for _, id := range managers {
		d.setActive(t, id, true)
	}
	eventually(t, "nobody waits any more", func() bool {
		waiting, err := d.Unassigned(t.Context(), cims.UnassignedQuery{Waiting: true, Limit: 1})
		require.NoError(t, err)
		return len(waiting) == 0
	})
	d.requireConsistent(t)
}

// turnsIDs adds n leads and returns their ids.
func (d *database) turnsIDs(t *testing.T, n int) []int64 {
	t.Helper()
	list := make([]int64, n)
	for i := range list {
		list[i] = d.lead(t, "Lead").ID
	}
	return list
}
