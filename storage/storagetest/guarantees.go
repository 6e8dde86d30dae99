package storagetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
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

// processes opens n more Managers, each over a Storage of its own.
func (d *database) processes(t *testing.T, n int) []*cims.Manager {
	t.Helper()
	managers := []*cims.Manager{d.crm}
	for range n {
		managers = append(managers, d.manager(t, d.open(t), nil))
	}
	return managers
}

// requireConsistent checks what has to be true at any quiet moment: what the
// lists, the numbers and the history say of the same customers is the same.
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
			case cims.AssignmentEvent:
				require.Equal(t, owner, value(event.FromManager), "customer %d: a change of owner is missing", customer.ID)
				require.NotEqual(t, owner, value(event.ToManager))
				owner = value(event.ToManager)
			}
			if event.Cause != cims.CauseCreated { // whose owner comes with the next event
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

// nineLeads come in at once: each of three managers gets three, every time.
func nineLeads(t *testing.T, d *database) {
	s := ids(d.sellers(t, "Anvar", "Botir", "Vali"), userID)
	processes := d.processes(t, 1)
	for round := 1; round <= 10; round++ {
		var owners [9]int64
		requireAll(t, together(len(owners), func(i int) error {
			lead, err := processes[i%2].AddCustomer(t.Context(), system, cims.NewCustomer{FullName: fmt.Sprintf("Lead %d", i)})
			owners[i] = ownerID(lead)
			return err
		}))
		require.ElementsMatch(t, append(append(times(3, s[0]), times(3, s[1])...), times(3, s[2])...), owners)
		require.Equal(t, map[int64]int{s[0]: 3 * round, s[1]: 3 * round, s[2]: 3 * round}, d.leadsOf(t))
	}
	d.requireConsistent(t)
}

// watch reads the numbers of leads until it is told to stop, and holds those of
// some managers against each other, at every moment that it sees.
func (d *database) watch(t *testing.T, of []int64) (stop func()) {
	t.Helper()
	store := d.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		for ctx.Err() == nil {
			rotation, err := store.Rotation(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			leads := map[int64]int{}
			for _, member := range rotation.Members {
				leads[member.ID] = member.Leads
			}
			for _, a := range of {
				for _, b := range of {
					if !assert.LessOrEqual(t, leads[a]-leads[b], 1, "a reader saw %v", leads) {
						return
					}
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	return func() {
		cancel()
		group.Wait()
	}
}

func manyLeads(t *testing.T, d *database) {
	const leads, callers = 2000, 16
	s := ids(d.sellers(t, "A", "B", "C", "D", "E", "F", "G"), userID)
	processes := d.processes(t, 0)
	stop := d.watch(t, s)
	var owners sync.Map
	requireAll(t, together(callers, func(i int) error {
		for range leads / callers {
			lead, err := processes[i%len(processes)].AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Lead"})
			if err != nil {
				return err
			}
			owners.Store(lead.ID, ownerID(lead))
		}
		return nil
	}))
	stop()
	counts := d.leadsOf(t)
	for _, a := range s {
		require.Contains(t, []int{leads / len(s), leads/len(s) + 1}, counts[a], "%v", counts)
	}
	seen := 0
	for _, customer := range d.customers(t, cims.CustomerFilter{}) {
		owner, ok := owners.Load(customer.ID)
		require.True(t, ok)
		require.Equal(t, owner, ownerID(customer), "what was answered is what is stored")
		seen++
	}
	require.Equal(t, leads, seen)
	d.requireConsistentEach(t, 10)
}

// managersComeAndGo: two are there all the time, and differ by one lead at most
// at every moment, whatever the others do.
func managersComeAndGo(t *testing.T, d *database) {
	s := ids(d.sellers(t, "Stays", "Stays too", "Pauses", "Leaves", "Weighs"), userID)
	processes := d.processes(t, 1)
	stop := d.watch(t, s[:2])
	var done atomic.Bool
	var added atomic.Int64
	changes := []func(i int) error{
		func(i int) error {
			_, err := d.crm.SetSalesManager(t.Context(), system, s[2], cims.SalesManagerUpdate{Paused: new(i%2 == 0)})
			return err
		},
		func(i int) error {
			_, err := d.crm.UpdateUser(t.Context(), system, s[3], cims.UserUpdate{Active: new(i%2 == 1)})
			return err
		},
		func(i int) error {
			_, err := d.crm.SetSalesManager(t.Context(), system, s[4], cims.SalesManagerUpdate{Weight: new(1 + 7*i%100)})
			return err
		},
		func(i int) error { // joins
			_, err := d.crm.CreateUser(t.Context(), system, newUser(cims.RoleSalesManager, fmt.Sprintf("New %d", i)))
			return err
		},
	}
	requireAll(t, together(5, func(i int) error {
		if i == 0 {
			defer done.Store(true)
			for i := range 40 {
				before := added.Load()
				if err := changes[i%4](i / 4); err != nil {
					return err
				}
				for waited := 0; added.Load() < before+6; waited++ { // some leads in between
					if waited > 10_000 {
						return errors.New("no leads come in")
					}
					time.Sleep(time.Millisecond)
				}
			}
			return nil
		}
		for n := 0; !done.Load() && n < 5000; n++ {
			if _, err := processes[i%2].AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Lead"}); err != nil {
				return err
			}
			added.Add(1)
		}
		return nil
	}))
	stop()
	counts := d.leadsOf(t)
	require.LessOrEqual(t, abs(counts[s[0]]-counts[s[1]]), 1, "%v", counts)
	require.Positive(t, counts[s[0]])
	require.Positive(t, counts[s[2]])
}

func weightsAtOnce(t *testing.T, d *database) {
	s := ids(d.sellers(t, "One", "Two", "Three"), userID)
	d.setManager(t, s[1], cims.SalesManagerUpdate{Weight: new(2)})
	d.setManager(t, s[2], cims.SalesManagerUpdate{Weight: new(3)})
	processes := d.processes(t, 1)
	requireAll(t, together(8, func(i int) error {
		for range 30 {
			if _, err := processes[i%2].AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Lead"}); err != nil {
				return err
			}
		}
		return nil
	}))
	require.Equal(t, map[int64]int{s[0]: 40, s[1]: 80, s[2]: 120}, d.leadsOf(t))
}

// failing fails some transactions after everything in them was done.
type failing struct {
	cims.Storage
	calls atomic.Int64
}

var errFailing = errors.New("made to fail")

func (f *failing) Update(ctx context.Context, do func(ctx context.Context, tx cims.Tx) error) error {
	fail := f.calls.Add(1)%3 == 0
	return f.Storage.Update(ctx, func(ctx context.Context, tx cims.Tx) error {
		if err := do(ctx, tx); err != nil {
			return err
		}
		if fail {
			return errFailing
		}
		return nil
	})
}

// rollbacks in the middle leave no trace in the rotation.
func rollbacks(t *testing.T, d *database) {
	s := ids(d.sellers(t, "Anvar", "Botir", "Vali"), userID)
	fails := d.manager(t, &failing{Storage: d.open(t)}, &cims.Config{WaitingInterval: time.Hour})
	stop := d.watch(t, s)
	var added, failed atomic.Int64
	requireAll(t, together(8, func(i int) error {
		crm := d.crm
		if i%2 == 0 {
			crm = fails
		}
		for range 40 {
			_, err := crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Lead"})
			switch {
			case errors.Is(err, errFailing):
				failed.Add(1)
			case err != nil:
				return err
			default:
				added.Add(1)
			}
		}
		return nil
	}))
	stop()
	require.Positive(t, failed.Load())
	rotation, err := d.Rotation(t.Context())
	require.NoError(t, err)
	require.Equal(t, added.Load(), rotation.Turn, "a turn for each lead that is there, none for the others")
	counts := d.leadsOf(t)
	for _, id := range s {
		require.InDelta(t, float64(added.Load())/3, counts[id], 0.67, "%v", counts)
	}
	require.Len(t, d.customers(t, cims.CustomerFilter{}), int(added.Load()))
	d.requireConsistent(t)
}

// nothingAfterDeactivation: once the call has returned, no lead shows up with a
// manager that it took out of the rotation, however many are on their way.
func nothingAfterDeactivation(t *testing.T, d *database) {
	s := ids(d.sellers(t, "Stays", "Goes"), userID)
	goes := s[1]
	processes := d.processes(t, 1)
	var done atomic.Bool
	var added atomic.Int64
	owned := func() (int, error) {
		got, err := d.Conversion(t.Context(), cims.ConversionQuery{
			Last: 100_000, Target: "finished", SalesManagerID: &goes, Mode: cims.Current,
		})
		return got.Total, err
	}
	more := func(n int64) error {
		before := added.Load()
		for waited := 0; added.Load() < before+n; waited++ {
			if waited > 30_000 {
				return errors.New("no leads come in")
			}
			time.Sleep(time.Millisecond)
		}
		return nil
	}
	update := func(update cims.UserUpdate) error {
		_, err := d.crm.UpdateUser(t.Context(), system, goes, update)
		return err
	}
	pause := func(paused bool) error {
		_, err := d.crm.SetSalesManager(t.Context(), system, goes, cims.SalesManagerUpdate{Paused: &paused})
		return err
	}
	ways := []struct{ out, in func() error }{
		{
			func() error { return update(cims.UserUpdate{Active: new(false)}) },
			func() error { return update(cims.UserUpdate{Active: new(true)}) },
		},
		{func() error { return pause(true) }, func() error { return pause(false) }},
		{
			func() error { return update(cims.UserUpdate{RoleName: new("member")}) },
			func() error { return update(cims.UserUpdate{RoleName: new(cims.RoleSalesManager)}) },
		},
	}
	requireAll(t, together(7, func(i int) error {
		if i == 0 {
			defer done.Store(true)
			for round := range 18 {
				way := ways[round%len(ways)]
				if err := errors.Join(more(5), way.out()); err != nil {
					return err
				}
				before, err := owned()
				if err != nil {
					return err
				}
				if err := more(8); err != nil { // more than can have been on their way
					return err
				}
				after, err := owned()
				if err != nil {
					return err
				}
				if after != before {
					return fmt.Errorf("round %d: %d leads became visible afterwards", round, after-before)
				}
				if err := way.in(); err != nil {
					return err
				}
			}
			return nil
		}
		for n := 0; !done.Load() && n < 20_000; n++ {
			if _, err := processes[i%2].AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Lead"}); err != nil {
				return err
			}
			added.Add(1)
		}
		return nil
	}))
	require.Greater(t, d.leadsOf(t)[goes], 18, "it did get leads in between")
}

// statusDeletionRace: a status is deleted while customers are put into it in
// every way there is.
func statusDeletionRace(t *testing.T, d *database) {
	processes := d.processes(t, 1)
	lead, other := d.lead(t, "Aziza"), d.lead(t, "Botir")
	for round := range 30 {
		name := fmt.Sprintf("race_%d", round)
		status := d.status(t, name)
		if round%3 == 1 {
			d.set(t, other.ID, name)
		}
		var how cims.Deletion
		if round%3 != 0 {
			how.MoveTo = "finished"
		}
		errs := together(6, func(i int) error {
			crm := processes[i%2]
			var err error
			switch i {
			case 0, 1:
				err = crm.DeleteStatus(t.Context(), system, status.ID, how)
			case 2, 3:
				_, err = crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "New", StatusName: name})
			default:
				_, err = crm.SetStatus(t.Context(), system, lead.ID, name, "")
			}
			return err
		})
		deleted := 0
		for i, err := range errs {
			switch {
			case i > 1 && err != nil:
				requireInvalid(t, err, "status_name:unknown")
			case err == nil && i <= 1:
				deleted++
			case i <= 1:
				require.True(t, errors.Is(err, cims.ErrInUse) || errors.Is(err, cims.ErrNotFound), "%v", err)
			}
		}
		statuses, err := d.Statuses(t.Context())
		require.NoError(t, err)
		require.LessOrEqual(t, deleted, 1)
		require.Len(t, statuses, 7-deleted)
		if how.MoveTo != "" {
			require.Equal(t, 1, deleted, "nobody can come in between the move and the deletion")
		}
		in, err := d.CountCustomers(t.Context(), name, 100)
		require.NoError(t, err)
		if deleted == 1 {
			require.Zero(t, in, "somebody is left in a status that is gone")
		} else {
			require.Positive(t, in, "nobody was in it, and yet it stayed")
			require.NoError(t, d.crm.DeleteStatus(t.Context(), system, status.ID, cims.Deletion{MoveTo: "contacted"}))
		}
	}
	d.requireConsistent(t)
}

func roleDeletionRace(t *testing.T, d *database) {
	processes := d.processes(t, 1)
	user := d.user(t, "member", "User")
	for round := range 20 {
		name := fmt.Sprintf("race_%d", round)
		role, err := d.crm.CreateRole(t.Context(), system, cims.NewRole{Name: name, DisplayName: name})
		require.NoError(t, err)
		var how cims.Deletion
		if round%2 == 1 {
			how.MoveTo = "customer"
		}
		errs := together(4, func(i int) error {
			var err error
			switch i {
			case 0, 1:
				err = processes[i].DeleteRole(t.Context(), system, role.ID, how)
			case 2:
				_, err = processes[0].CreateUser(t.Context(), system, newUser(name, fmt.Sprintf("New %d", round)))
			default:
				_, err = processes[1].UpdateUser(t.Context(), system, user.ID, cims.UserUpdate{RoleName: &name})
			}
			return err
		})
		deleted := 0
		for i, err := range errs {
			switch {
			case i > 1 && err != nil:
				requireInvalid(t, err, "role_name:unknown")
			case err == nil && i <= 1:
				deleted++
			case i <= 1:
				require.True(t, errors.Is(err, cims.ErrInUse) || errors.Is(err, cims.ErrNotFound), "%v", err)
			}
		}
		held, err := d.CountUsers(t.Context(), name, 100)
		require.NoError(t, err)
		roles, err := d.Roles(t.Context())
		require.NoError(t, err)
		require.Len(t, roles, 6-deleted)
		if how.MoveTo != "" {
			require.Equal(t, 1, deleted, "nobody can come in between the move and the deletion")
		}
		if deleted == 1 {
			require.Zero(t, held, "somebody is left with a role that is gone")
		} else {
			require.Positive(t, held)
			require.NoError(t, d.crm.DeleteRole(t.Context(), system, role.ID, cims.Deletion{MoveTo: "customer"}))
		}
	}
}

// ceosRemoveEachOther at the same moment, in one way or the other: one succeeds.
func ceosRemoveEachOther(t *testing.T, d *database) {
	users := []cims.User{d.user(t, cims.RoleCEO, "First"), d.user(t, cims.RoleCEO, "Second")}
	processes := d.processes(t, 1)
	ways := []cims.UserUpdate{
		{Active: new(false)}, {RoleName: new("member")}, {Active: new(false), RoleName: new("customer")},
	}
	for round := range 50 {
		actors := []cims.Actor{d.actorOf(t, users[0].ID), d.actorOf(t, users[1].ID)}
		errs := together(2, func(i int) error {
			_, err := processes[i].UpdateUser(t.Context(), actors[i], users[1-i].ID, ways[(round/(1+2*i))%len(ways)])
			return err
		})
		require.NotEqual(t, errs[0] == nil, errs[1] == nil, "round %d: %v", round, errs)
		for i, err := range errs {
			if err != nil {
				require.True(t, errors.Is(err, cims.ErrForbidden) || errors.Is(err, cims.ErrLastCEO), "%v", err)
				continue
			}
			remaining, err := d.Users(t.Context(), cims.UserQuery{Role: cims.RoleCEO, Active: new(true), Limit: 5})
			require.NoError(t, err)
			require.Equal(t, []int64{users[i].ID}, ids(remaining, userID))
			_, err = d.crm.UpdateUser(t.Context(), actors[i], users[1-i].ID, cims.UserUpdate{Active: new(true), RoleName: new(cims.RoleCEO)})
			require.NoError(t, err)
		}
	}
}

// ceosResign, all of them at once: one has to stay.
func ceosResign(t *testing.T, d *database) {
	processes := d.processes(t, 1)
	var users []cims.User
	for i := range 5 {
		users = append(users, d.user(t, cims.RoleCEO, fmt.Sprintf("CEO %d", i)))
	}
	for range 10 {
		errs := together(len(users), func(i int) error {
			_, err := processes[i%2].UpdateUser(t.Context(), system, users[i].ID, cims.UserUpdate{Active: new(false)})
			return err
		})
		refused := 0
		for _, err := range errs {
			if err != nil {
				require.ErrorIs(t, err, cims.ErrLastCEO)
				refused++
			}
		}
		require.Equal(t, 1, refused)
		for _, user := range users {
			d.setActive(t, user.ID, true)
		}
	}
}

// meeting holds each transaction back, right before it takes a right away, until
// two have come so far, or for a moment: where the two can get that far at once,
// they do.
type meeting struct {
	cims.Storage
	arrived chan struct{}
}

type meetingTx struct {
	cims.Tx
	meeting *meeting
}

func (m *meeting) Update(ctx context.Context, do func(ctx context.Context, tx cims.Tx) error) error {
	return m.Storage.Update(ctx, func(ctx context.Context, tx cims.Tx) error { return do(ctx, meetingTx{tx, m}) })
}

func (tx meetingTx) meet() {
	select {
	case tx.meeting.arrived <- struct{}{}: // the other one is waiting
	case <-tx.meeting.arrived:
	case <-time.After(150 * time.Millisecond):
	}
}

func (tx meetingTx) UpdateRole(ctx context.Context, role cims.Role) error {
	tx.meet()
	return tx.Tx.UpdateRole(ctx, role)
}

func (tx meetingTx) UpdateUser(ctx context.Context, user cims.User) error {
	tx.meet()
	return tx.Tx.UpdateUser(ctx, user)
}

// rightsTakenAtOnce: two who take each other's rights at the same moment can't
// both succeed: one of them no longer had the right to.
func rightsTakenAtOnce(t *testing.T, d *database) {
	arrived := make(chan struct{})
	managers := []*cims.Manager{
		d.manager(t, &meeting{d.open(t), arrived}, nil), d.manager(t, &meeting{d.open(t), arrived}, nil),
	}
	type way func(crm *cims.Manager, actor cims.Actor, other cims.User, itsRole int64) error
	byRole := func(crm *cims.Manager, actor cims.Actor, _ cims.User, itsRole int64) error {
		_, err := crm.UpdateRole(t.Context(), actor, itsRole, cims.RoleUpdate{Permissions: &[]cims.Permission{}})
		return err
	}
	byUser := func(crm *cims.Manager, actor cims.Actor, other cims.User, _ int64) error {
		_, err := crm.UpdateUser(t.Context(), actor, other.ID, cims.UserUpdate{Active: new(false)})
		return err
	}
	for i, ways := range [][2]way{{byUser, byUser}, {byRole, byUser}, {byRole, byRole}} {
		var actors [2]cims.Actor
		var roles [2]int64
		for j := range actors {
			name := fmt.Sprintf("pair_%d_%d", i, j)
			actors[j] = d.holder(t, name, cims.RolesWrite, cims.UsersWrite)
			roles[j] = d.roleNamed(t, name).ID
		}
		errs := together(2, func(j int) error { return ways[j](managers[j], actors[j], actors[1-j].User(), roles[1-j]) })
		require.NotEqual(t, errs[0] == nil, errs[1] == nil, "pair %d, of whom one has to succeed: %v", i, errs)
		for _, err := range errs {
			if err != nil {
				require.ErrorIs(t, err, cims.ErrForbidden)
			}
		}
	}
}
