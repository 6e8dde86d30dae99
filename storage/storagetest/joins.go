package storagetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

// HostTx is a transaction that a host has begun on the database of one test.
type HostTx struct {
	// Join returns a Manager that works inside the transaction. It calls
	// cims.Manager.WithTx or a similar function of the storage's package.
	Join             func(*cims.Manager) *cims.Manager
	Exec             func(statement string) error
	Commit, Rollback func() error
}

// Host begins transactions on a host's connections to the database of one test.
type Host func(t *testing.T) HostTx

// RunJoins tests a cims.Joiner. It checks that changes inside a host's transaction commit
// with the host's rows or not at all, that a refused change leaves the transaction usable,
// and that the rotation stays fair.
//
// factory is called once for each test. It returns two functions that share a new
// database: open as in Run, and begin, which begins a transaction that the test ends.
func RunJoins(t *testing.T, factory func(t *testing.T) (open Open, begin Host)) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(h *hosting, t *testing.T)
	}{
		{"TogetherOrNotAtAll", (*hosting).together},
		{"RefusalsLeaveTheTransactionUsable", (*hosting).refusals},
		{"EachKindOfChange", (*hosting).eachChange},
		{"JoiningAgainIsTheSame", (*hosting).again},
		{"AKeyIsKeptWithTheTransaction", (*hosting).keys},
		{"HooksRunInside", (*hosting).hooks},
		{"AfterClose", (*hosting).afterClose},
		{"FairBesideOthers", (*hosting).fair},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var begin Host
			d := newDatabase(t, func(t *testing.T) Open {
				var open Open
				open, begin = factory(t)
				return open
			}, false)
			h := &hosting{database: d, begin: func(t *testing.T) HostTx {
				tx := begin(t)
				t.Cleanup(func() { _ = tx.Rollback() }) // which it needs only where the test has failed
				return tx
			}}
			h.do(t, func(tx HostTx) error {
				return tx.Exec("CREATE TABLE orders (id INTEGER PRIMARY KEY, title TEXT NOT NULL)")
			})
			test.run(h, t)
		})
	}
}

type hosting struct {
	*database
	begin Host
}

// do runs a host's transaction, and commits it if do succeeds.
func (h *hosting) do(t *testing.T, run func(tx HostTx) error) {
	t.Helper()
	tx := h.begin(t)
	if err := run(tx); err != nil {
		require.NoError(t, tx.Rollback())
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit())
}

// requireOrder checks whether a row of the host exists, by inserting it again.
func (h *hosting) requireOrder(t *testing.T, id int, there bool) {
	t.Helper()
	tx := h.begin(t)
	err := tx.Exec(fmt.Sprintf("INSERT INTO orders (id, title) VALUES (%d, 'again')", id))
	require.NoError(t, tx.Rollback())
	require.Equal(t, there, err != nil, "%v", err)
}

func order(id int) string {
	return fmt.Sprintf("INSERT INTO orders (id, title) VALUES (%d, 'an order')", id)
}

func (h *hosting) together(t *testing.T) {
	h.sellers(t, "Anvar", "Botir")
	for id, commit := range []bool{false, true, false, true} {
		tx := h.begin(t)
		crm := tx.Join(h.crm)
		require.NoError(t, tx.Exec(order(id)))
		lead, err := crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: fmt.Sprintf("Lead %d", id)})
		require.NoError(t, err)
		require.Equal(t, []string{"Anvar", "Anvar", "Botir", "Botir"}[id], lead.SalesManager.Name, "what was rolled back took no turn")
		seen, err := crm.Customer(t.Context(), system, lead.ID)
		require.NoError(t, err, "the transaction sees its own")
		require.Equal(t, lead, seen)
		if commit {
			require.NoError(t, tx.Commit())
		} else {
			require.NoError(t, tx.Rollback())
		}
		h.requireOrder(t, id, commit)
		seen, err = h.crm.Customer(t.Context(), system, lead.ID)
		if commit {
			require.NoError(t, err)
			require.Equal(t, lead, seen)
		} else {
			require.ErrorIs(t, err, cims.ErrNotFound)
		}
	}
	h.requireConsistent(t)
	require.Len(t, h.customers(t, cims.CustomerFilter{}), 2)
}

func (h *hosting) refusals(t *testing.T) {
	h.sellers(t, "Anvar")
	used := h.status(t, "used")
	lead := h.leadIn(t, "Aziza", "used")
	ceo, err := h.crm.CreateUser(t.Context(), system, newUser(cims.RoleCEO, "Cyrus"))
	require.NoError(t, err)
	h.do(t, func(tx HostTx) error {
		crm, ctx := tx.Join(h.crm), t.Context()
		require.NoError(t, tx.Exec(order(1)))
		_, err := crm.CreateStatus(ctx, system, cims.NewStatus{Name: "used", DisplayName: "Used"})
		require.ErrorIs(t, err, cims.ErrExists)
		require.ErrorIs(t, crm.DeleteStatus(ctx, system, used.ID, cims.Deletion{}), cims.ErrInUse)
		_, err = crm.CreateUser(ctx, system, newUser(cims.RoleCEO, "Cyrus"))
		require.ErrorIs(t, err, cims.ErrExists)
		_, err = crm.UpdateUser(ctx, system, ceo.ID, cims.UserUpdate{Active: new(false)})
		require.ErrorIs(t, err, cims.ErrLastCEO)
		_, err = crm.SetStatus(ctx, system, lead.ID, "no_such_status", "")
		require.ErrorIs(t, err, cims.ErrInvalid)
		_, err = crm.Assign(ctx, system, lead.ID, 1<<40)
		require.ErrorIs(t, err, cims.ErrNotFound)
		_, err = crm.AutoAssign(ctx, system, 1<<40)
		require.ErrorIs(t, err, cims.ErrNotFound)
		_, err = crm.AddCustomer(ctx, cims.Actor{}, cims.NewCustomer{FullName: "Nobody's"})
		require.ErrorIs(t, err, cims.ErrForbidden)
		_, err = crm.Customer(ctx, system, 1<<40)
		require.ErrorIs(t, err, cims.ErrNotFound)
		require.NoError(t, tx.Exec(order(2)))
		_, err = crm.SetStatus(ctx, system, lead.ID, "finished", "")
		return err
	})
	h.requireOrder(t, 1, true)
	h.requireOrder(t, 2, true)
	require.Equal(t, "finished", h.customer(t, lead.ID).StatusName)
	h.requireConsistent(t)
}

// eachChange makes each kind of change in one transaction, rolls back, and makes them
// again.
func (h *hosting) eachChange(t *testing.T) {
	ctx := t.Context()
	sellers := h.sellers(t, "Anvar", "Botir")
	lead, other := h.lead(t, "Aziza"), h.lead(t, "Bekzod")
	change := func(crm *cims.Manager) {
		status, err := crm.CreateStatus(ctx, system, cims.NewStatus{Name: "trial", DisplayName: "Trial"})
		require.NoError(t, err)
		_, err = crm.SetStatus(ctx, system, lead.ID, "trial", "asked for one")
		require.NoError(t, err)
		_, err = crm.UpdateStatus(ctx, system, status.ID, cims.StatusUpdate{Color: new("#FF0000")})
		require.NoError(t, err)
		require.NoError(t, crm.DeleteStatus(ctx, system, status.ID, cims.Deletion{MoveTo: "finished"}))
		role, err := crm.CreateRole(ctx, system, cims.NewRole{Name: "auditor", DisplayName: "Auditor"})
		require.NoError(t, err)
		require.NoError(t, crm.DeleteRole(ctx, system, role.ID, cims.Deletion{}))
		third, err := crm.CreateUser(ctx, system, newUser(cims.RoleSalesManager, "Zafar"))
		require.NoError(t, err)
		_, err = crm.SetSalesManager(ctx, system, third.ID, cims.SalesManagerUpdate{Weight: new(2)})
		require.NoError(t, err)
		_, err = crm.Assign(ctx, system, other.ID, third.ID)
		require.NoError(t, err)
		_, err = crm.AddCustomers(ctx, system, []cims.NewCustomer{{FullName: "One"}, {FullName: "Two"}, {FullName: "Three"}, {FullName: "Four"}}, nil)
		require.NoError(t, err)
		_, err = crm.UpdateUser(ctx, system, sellers[0].ID, cims.UserUpdate{Active: new(false)})
		require.NoError(t, err)
		rate, err := crm.ConversionRate(ctx, system, cims.ConversionQuery{})
		require.NoError(t, err)
		require.Equal(t, 6, rate.Total, "the transaction's own are counted")
		events, err := crm.History(ctx, system, lead.ID, cims.PageRequest{})
		require.NoError(t, err)
		require.Len(t, events.Items, 4)
	}
	tx := h.begin(t)
	change(tx.Join(h.crm))
	require.NoError(t, tx.Rollback())
	require.Len(t, h.customers(t, cims.CustomerFilter{}), 2)
	require.Len(t, h.history(t, lead.ID), 2)
	h.do(t, func(tx HostTx) error { change(tx.Join(h.crm)); return nil })
	require.Len(t, h.customers(t, cims.CustomerFilter{}), 6)
	require.Equal(t, "finished", h.customer(t, lead.ID).StatusName)
	h.requireConsistent(t)
}

func (h *hosting) again(t *testing.T) {
	h.sellers(t, "Anvar")
	h.do(t, func(tx HostTx) error {
		crm := tx.Join(tx.Join(h.crm))
		_, err := crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Aziza"})
		require.NoError(t, crm.Close(t.Context()), "which closes nothing")
		require.NoError(t, crm.Ready(t.Context()))
		return err
	})
	require.Len(t, h.customers(t, cims.CustomerFilter{}), 1)
}

func (h *hosting) keys(t *testing.T) {
	h.sellers(t, "Anvar", "Botir")
	in := cims.NewCustomer{FullName: "Aziza", IdempotencyKey: "order-1"}
	tx := h.begin(t)
	_, err := tx.Join(h.crm).AddCustomer(t.Context(), system, in)
	require.NoError(t, err)
	require.NoError(t, tx.Rollback())
	var first cims.Customer
	h.do(t, func(tx HostTx) error {
		var err error
		first, err = tx.Join(h.crm).AddCustomer(t.Context(), system, in)
		return err
	})
	require.Equal(t, "Anvar", first.SalesManager.Name)
	h.do(t, func(tx HostTx) error {
		second, err := tx.Join(h.crm).AddCustomer(t.Context(), system, in)
		require.Equal(t, first, second)
		return err
	})
	require.Len(t, h.customers(t, cims.CustomerFilter{}), 1)
}

func (h *hosting) hooks(t *testing.T) {
	h.sellers(t, "Anvar")
	id := 0
	crm := h.manager(t, h.Storage, &cims.Config{Hooks: []cims.Hook{
		func(ctx context.Context, tx cims.Executor, _ cims.Change) error {
			_, err := tx.Exec(ctx, order(id))
			return err
		},
	}})
	for _, commit := range []bool{false, true} {
		id++
		tx := h.begin(t)
		_, err := tx.Join(crm).AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Aziza"})
		require.NoError(t, err)
		_, err = tx.Join(crm).AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Bekzod"})
		require.Error(t, err, "there is such an order")
		if commit {
			require.NoError(t, tx.Commit())
		} else {
			require.NoError(t, tx.Rollback())
		}
		h.requireOrder(t, id, commit)
	}
	require.Len(t, h.customers(t, cims.CustomerFilter{}), 1)
}

func (h *hosting) afterClose(t *testing.T) {
	crm := h.manager(t, h.Storage, nil)
	require.NoError(t, crm.Close(t.Context()))
	tx := h.begin(t)
	_, err := tx.Join(crm).AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Too late"})
	require.ErrorIs(t, err, cims.ErrClosed)
	require.NoError(t, tx.Rollback())
}

// fair makes hosts commit and roll back beside callers that share transactions. No lead is
// lost and the spread stays 1.
func (h *hosting) fair(t *testing.T) {
	h.sellers(t, "Anvar", "Botir", "Dilnoza")
	const hosts, each = 4, 15
	var group sync.WaitGroup
	for host := range hosts {
		group.Go(func() {
			for i := range each {
				if _, err := h.crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "By itself"}); !assert.NoError(t, err) {
					return
				}
				tx := h.begin(t)
				err := tx.Exec(order(host*each + i))
				if err == nil {
					_, err = tx.Join(h.crm).AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "With an order"})
				}
				end := tx.Commit
				if i%3 == 0 {
					end = tx.Rollback
				}
				if !assert.NoError(t, errors.Join(err, end())) {
					return
				}
			}
		})
	}
	group.Wait()
	require.Len(t, h.customers(t, cims.CustomerFilter{}), hosts*(each+each*2/3))
	managers, err := h.crm.SalesManagers(t.Context(), system)
	require.NoError(t, err)
	low, high := managers[0].AssignedLeads, managers[0].AssignedLeads
	for _, m := range managers {
		low, high = min(low, m.AssignedLeads), max(high, m.AssignedLeads)
	}
	require.LessOrEqual(t, high-low, 1)
	h.requireConsistent(t)
}
