package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

var hookTests = []test{
	{"Hooks_AreToldOfEachChange", hooksAreTold},
	{"Hooks_AFailureIsItsOwnCallers", hookFails},
	{"Hooks_WriteWithTheChange", hooksWrite},
	{"Hooks_MayPanicBehindTheScenes", hookPanicsInBackground},
	{"Hooks_KeepNoOthersWaiting", hookRefusesAWaitingLead},
	{"Hooks_GetNobodyElsesContext", hookContexts},
}

// recorder collects the changes that a hook gets.
type recorder struct {
	mu      sync.Mutex
	changes []cims.Change
}

func (h *recorder) hook(_ context.Context, _ cims.Executor, change cims.Change) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changes = append(h.changes, change)
	return nil
}

// take returns the changes since the last time, and checks that they are as wanted.
func (h *recorder) take(t *testing.T, want ...string) []cims.Change {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	changes := h.changes
	h.changes = nil
	var got []string
	for _, c := range changes {
		got = append(got, fmt.Sprintf("%s %s", c.Entity, c.Action))
		require.NotZero(t, c.EntityID)
		require.False(t, c.At.IsZero())
		require.Equal(t, c.Action == cims.ActionCreated, c.Before == nil)
		require.Equal(t, c.Action == cims.ActionDeleted, c.After == nil)
	}
	require.Equal(t, want, got)
	return changes
}

func hooksAreTold(t *testing.T, d *database) {
	ctx, h := t.Context(), &recorder{}
	crm := d.manager(t, d.Storage, &cims.Config{Hooks: []cims.Hook{h.hook}})
	ceo := d.actor(t, cims.RoleCEO, "Cyrus")

	anvar, err := crm.CreateUser(ctx, ceo, newUser(cims.RoleSalesManager, "Anvar"))
	require.NoError(t, err)
	change := h.take(t, "user created")[0]
	require.Equal(t, anvar, change.After)
	require.Equal(t, ceo.User(), change.Actor.User())
	require.EqualValues(t, 7, change.ID.Version())

	lead, err := crm.AddCustomer(ctx, cims.System("web form"), cims.NewCustomer{FullName: "Aziza"})
	require.NoError(t, err)
	next := h.take(t, "customer created")[0]
	require.Equal(t, lead, next.After)
	require.Equal(t, "web form", next.Actor.SystemName())
	require.Equal(t, cims.CauseCreated, next.Cause)
	require.Less(t, change.ID.String(), next.ID.String(), "ids ascend")

	status, err := crm.CreateStatus(ctx, ceo, cims.NewStatus{Name: "trial", DisplayName: "Trial"})
	require.NoError(t, err)
	require.Equal(t, status, h.take(t, "status created")[0].After)
	changed, err := crm.UpdateStatus(ctx, ceo, status.ID, cims.StatusUpdate{Order: new(9)})
	require.NoError(t, err)
	change = h.take(t, "status updated")[0]
	require.Equal(t, []any{status, changed}, []any{change.Before, change.After})
	_, err = crm.UpdateStatus(ctx, ceo, status.ID, cims.StatusUpdate{Order: new(9)})
	require.NoError(t, err)
	h.take(t) // nothing has changed

	after, err := crm.SetStatus(ctx, ceo, lead.ID, "trial", "asked for one")
	require.NoError(t, err)
	change = h.take(t, "customer status")[0]
	require.Equal(t, "contacted", change.Before.(cims.Customer).StatusName) //nolint:forcetypeassert // or the test fails
	require.Equal(t, after, change.After)
	require.Equal(t, "asked for one", change.Reason)
	require.NoError(t, crm.DeleteStatus(ctx, ceo, status.ID, cims.Deletion{MoveTo: "finished"}))
	require.Equal(t, cims.CauseMoved, h.take(t, "customer status", "status deleted")[0].Cause)
	require.ErrorIs(t, crm.DeleteStatus(ctx, ceo, d.statusNamed(t, "finished").ID, cims.Deletion{}), cims.ErrForbidden)
	h.take(t) // the refused changes

	botir, err := crm.CreateUser(ctx, ceo, newUser(cims.RoleSalesManager, "Botir"))
	require.NoError(t, err)
	_, err = crm.SetSalesManager(ctx, ceo, botir.ID, cims.SalesManagerUpdate{Weight: new(3)})
	require.NoError(t, err)
	change = h.take(t, "user created", "sales_manager updated")[1]
	require.Equal(t, 3, change.After.(cims.SalesManager).Weight) //nolint:forcetypeassert // or the test fails
	_, err = crm.Assign(ctx, ceo, lead.ID, botir.ID)
	require.NoError(t, err)
	change = h.take(t, "customer assigned")[0]
	require.Equal(t, d.customer(t, lead.ID), change.After)
	_, err = crm.Assign(ctx, ceo, lead.ID, botir.ID)
	require.NoError(t, err)
	h.take(t) // it was so already

	_, err = crm.UpdateUser(ctx, ceo, botir.ID, cims.UserUpdate{Active: new(false), Leads: cims.RedistributeLeads})
	require.NoError(t, err)
	change = h.take(t, "user updated", "customer assigned")[1]
	require.Equal(t, cims.CauseRedistributed, change.Cause)
	require.Equal(t, anvar.ID, change.After.(cims.Customer).SalesManager.ID) //nolint:forcetypeassert // or the test fails
	_, err = crm.UpdateUser(ctx, ceo, anvar.ID, cims.UserUpdate{Active: new(false), Leads: cims.RedistributeLeads})
	require.NoError(t, err)
	require.Nil(t, h.take(t, "user updated", "customer assigned")[1].After.(cims.Customer).SalesManager, "nobody is left") //nolint:forcetypeassert // or the test fails
	assignment, err := crm.AutoAssign(ctx, ceo, lead.ID)
	require.NoError(t, err)
	require.Nil(t, assignment)
	h.take(t) // it waits as before

	role, err := crm.CreateRole(ctx, ceo, cims.NewRole{Name: "auditor", DisplayName: "Auditor"})
	require.NoError(t, err)
	_, err = crm.UpdateRole(ctx, ceo, role.ID, cims.RoleUpdate{Description: new("reads")})
	require.NoError(t, err)
	_, err = crm.CreateUser(ctx, ceo, newUser("auditor", "Olim"))
	require.NoError(t, err)
	require.NoError(t, crm.DeleteRole(ctx, ceo, role.ID, cims.Deletion{MoveTo: "member"}))
	change = h.take(t, "role created", "role updated", "user created", "user updated", "role deleted")[3]
	require.Equal(t, cims.Text("member"), change.After.(cims.User).RoleName) //nolint:forcetypeassert // or the test fails

	_, err = crm.AddCustomers(ctx, ceo, []cims.NewCustomer{{FullName: "One"}, {FullName: "Two"}}, nil)
	require.NoError(t, err)
	h.take(t, "customer created", "customer created")
}

// hookFails has a hook fail, and panic, for some of many leads that arrive at once.
// Its error may look like one of the database.
func hookFails(t *testing.T, d *database) {
	bad := map[string]error{
		"Bad": errors.New("not this one"), "EOF": io.EOF, "Late": context.DeadlineExceeded, "Network": &net.OpError{Op: "dial", Err: net.ErrClosed},
		"Unavailable": &cims.Error{Kind: cims.ErrUnavailable, Err: errors.New("another database")},
	}
	crm := d.manager(t, d.Storage, &cims.Config{Hooks: []cims.Hook{
		func(_ context.Context, _ cims.Executor, change cims.Change) error {
			switch lead, _ := change.After.(cims.Customer); lead.FullName {
			case "Worse":
				panic("worse")
			case "Gone":
				runtime.Goexit()
			default:
				return bad[lead.FullName]
			}
			return nil
		},
	}})
	d.sellers(t, "Anvar", "Botir", "Dilnoza")
	names := slices.Repeat([]string{"Good", "Good", "Worse", "Gone"}, 20)
	for name := range bad {
		names = append(names, slices.Repeat([]string{name}, 4)...)
	}
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] }) //nolint:gosec // no secret
	errs := make([]error, len(names))
	var group sync.WaitGroup
	for i, name := range names {
		group.Go(func() {
			defer func() {
				if fault := recover(); fault != nil {
					errs[i] = fmt.Errorf("panic: %v", fault)
				}
			}()
			_, errs[i] = crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: name})
		})
	}
	group.Wait()
	for i, name := range names {
		switch name {
		case "Good":
			require.NoError(t, errs[i])
		case "Worse":
			require.ErrorContains(t, errs[i], "worse")
		case "Gone":
			require.ErrorContains(t, errs[i], "ended its goroutine")
		default:
			require.ErrorIs(t, errs[i], bad[name])
		}
	}
	customers := d.customers(t, cims.CustomerFilter{})
	require.Len(t, customers, 40)
	require.False(t, slices.ContainsFunc(customers, func(c cims.Customer) bool { return c.FullName != "Good" }))
	managers, err := crm.SalesManagers(t.Context(), system)
	require.NoError(t, err)
	for _, m := range managers {
		require.InDelta(t, 13.5, m.AssignedLeads, 1, "a failure takes no turn")
	}
	d.requireConsistent(t)
}

// hooksWrite: a row that a hook writes is there if the change is.
func hooksWrite(t *testing.T, d *database) {
	ctx := t.Context()
	exec := func(statement string) (err error) {
		return d.Update(ctx, func(ctx context.Context, tx cims.Tx) error {
			executor, ok := tx.(cims.Executor)
			if !ok {
				return errors.New("no executor")
			}
			_, err := executor.Exec(ctx, statement)
			return err
		})
	}
	fail := false
	crm := d.manager(t, d.Storage, &cims.Config{Hooks: []cims.Hook{
		func(ctx context.Context, tx cims.Executor, change cims.Change) error {
			count, err := tx.Exec(ctx, fmt.Sprintf("INSERT INTO outbox (id, subject) VALUES ('%s', %d)", change.ID, change.EntityID))
			if err == nil && count != 1 {
				return fmt.Errorf("%d rows", count)
			}
			return err
		},
		func(context.Context, cims.Executor, cims.Change) error {
			if fail {
				return errors.New("later in the same transaction")
			}
			return nil
		},
	}})
	if exec("CREATE TABLE outbox (id CHAR(36) PRIMARY KEY, subject INTEGER UNIQUE)") != nil {
		_, err := crm.AddCustomer(ctx, system, cims.NewCustomer{FullName: "Aziza"})
		require.ErrorContains(t, err, "runs no statements")
		require.Empty(t, d.customers(t, cims.CustomerFilter{}))
		return
	}
	lead, err := crm.AddCustomer(ctx, system, cims.NewCustomer{FullName: "Aziza"})
	require.NoError(t, err)
	require.Error(t, exec(fmt.Sprintf("INSERT INTO outbox (id, subject) VALUES ('again', %d)", lead.ID)), "it is there")
	fail = true
	_, err = crm.AddCustomer(ctx, system, cims.NewCustomer{FullName: "Bekzod"})
	require.ErrorContains(t, err, "later in the same transaction")
	fail = false
	require.NoError(t, exec(fmt.Sprintf("INSERT INTO outbox (id, subject) SELECT 'x' || n, %d + n FROM (SELECT 1 AS n UNION SELECT 2 UNION SELECT 3) AS numbers", lead.ID)), "nothing else is there")
	require.NoError(t, exec("DELETE FROM outbox"))
	_, err = crm.AddCustomer(ctx, system, cims.NewCustomer{FullName: "Bekzod"})
	require.NoError(t, err)
	d.requireConsistent(t)
}

// hookPanicsInBackground has it panic where nobody has called: the program goes on,
// and so do the leads when it has got over it.
func hookPanicsInBackground(t *testing.T, d *database) {
	require.NoError(t, d.crm.Close(t.Context())) // it has no hooks, and would be faster
	var panics atomic.Int64
	var broken atomic.Bool
	broken.Store(true)
	crm := d.manager(t, d.Storage, &cims.Config{WaitingInterval: 10 * time.Millisecond, Hooks: []cims.Hook{
		func(_ context.Context, _ cims.Executor, change cims.Change) error {
			if change.Action == cims.ActionAssigned && broken.Load() {
				panics.Add(1)
				panic("in the background")
			}
			return nil
		},
	}})
	lead, err := crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Aziza"})
	require.NoError(t, err)
	_, err = crm.CreateUser(t.Context(), system, newUser(cims.RoleSalesManager, "Anvar"))
	require.NoError(t, err)
	eventually(t, "it panics, and again", func() bool { return panics.Load() > 1 })
	require.Nil(t, d.customer(t, lead.ID).SalesManager)
	broken.Store(false)
	eventually(t, "the lead has been assigned", func() bool { return d.customer(t, lead.ID).SalesManager != nil })
	d.requireConsistent(t)
}

// hookRefusesAWaitingLead has a hook refuse some waiting leads, also by a statement
// that fails. The others don't wait for them.
func hookRefusesAWaitingLead(t *testing.T, d *database) {
	require.NoError(t, d.crm.Close(t.Context())) // it has no hooks
	var refuse atomic.Bool
	refuse.Store(true)
	crm := d.manager(t, d.Storage, &cims.Config{WaitingInterval: 10 * time.Millisecond, Hooks: []cims.Hook{
		func(ctx context.Context, tx cims.Executor, change cims.Change) error {
			lead, _ := change.After.(cims.Customer)
			switch {
			case change.Action != cims.ActionAssigned || !refuse.Load():
				return nil
			case lead.FullName == "Bad":
				return errors.New("not this one")
			case lead.FullName == "Failing":
				_, err := tx.Exec(ctx, "INSERT INTO no_such_outbox VALUES (1)")
				return err
			default:
				return nil
			}
		},
	}})
	var bad, good []int64
	for range 3 {
		for name, list := range map[string]*[]int64{"Bad": &bad, "Failing": &bad, "Good": &good} {
			lead, err := crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: name})
			require.NoError(t, err)
			*list = append(*list, lead.ID)
		}
	}
	_, err := crm.CreateUser(t.Context(), system, newUser(cims.RoleSalesManager, "Anvar"))
	require.NoError(t, err)
	d.assigned(t, good)
	for _, id := range bad {
		require.Nil(t, d.customer(t, id).SalesManager)
	}
	refuse.Store(false)
	d.assigned(t, bad)
	d.requireConsistent(t)
}

type hookKey struct{}

// hookContexts has callers share transactions, some with an id of their request
// and something else in their context.
func hookContexts(t *testing.T, d *database) {
	var mu sync.Mutex
	ids, foreign := map[string]string{}, 0
	crm := d.manager(t, d.Storage, &cims.Config{Hooks: []cims.Hook{
		func(ctx context.Context, _ cims.Executor, change cims.Change) error {
			mu.Lock()
			defer mu.Unlock()
			if ctx.Value(hookKey{}) != nil {
				foreign++
			}
			if lead, ok := change.After.(cims.Customer); ok {
				ids[lead.FullName] = change.RequestID
			}
			return nil
		},
	}})
	want := map[string]string{}
	for i := range 60 {
		want[fmt.Sprint("lead ", i)] = []string{"", fmt.Sprint("request-", i)}[i%2]
	}
	requireAll(t, together(len(want), func(i int) error {
		name := fmt.Sprint("lead ", i)
		ctx := cims.WithRequestID(context.WithValue(t.Context(), hookKey{}, name), want[name])
		_, err := crm.AddCustomer(ctx, system, cims.NewCustomer{FullName: name})
		return err
	}))
	require.Equal(t, want, ids)
	require.Zero(t, foreign)
}
