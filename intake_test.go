package cims_test

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/sqlite"
)

// gated is a Storage whose transactions wait at a gate while it is shut. It is not an
// Intaker.
type gated struct {
	cims.Storage
	gate         chan struct{}
	transactions atomic.Int64
}

func (g *gated) Update(ctx context.Context, do func(context.Context, cims.Tx) error) error {
	g.transactions.Add(1)
	<-g.gate
	return g.Storage.Update(ctx, do)
}

var us = cims.System("test")

// newGated returns a Manager with one sales manager, behind a shut gate.
func newGated(t *testing.T) (*cims.Manager, *gated) {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "crm.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	require.NoError(t, store.Migrate(t.Context()))
	g := &gated{Storage: store, gate: make(chan struct{})}
	open := make(chan struct{})
	close(open)
	shut := g.gate
	g.gate = open
	crm, err := cims.New(g, nil)
	require.NoError(t, err)
	_, err = crm.CreateUser(t.Context(), us, cims.NewUser{Email: "a@example.com", Name: "A", Surname: "A", RoleName: cims.RoleSalesManager})
	require.NoError(t, err)
	require.NoError(t, crm.Close(t.Context())) // its worker would stop at the gate
	g.gate = shut
	g.transactions.Store(0)
	crm, err = cims.New(g, &cims.Config{WaitingInterval: 24 * time.Hour})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, crm.Close(context.Background())) })
	return crm, g
}

// together adds leads at once behind one that is under way, waits until all are
// in the queue, and returns a function that waits for their errors.
func together(t *testing.T, crm *cims.Manager, g *gated, contexts []context.Context, leads []cims.NewCustomer) (wait func() []error) {
	t.Helper()
	return togetherBy(t, g, len(leads), func(i int) error {
		_, err := crm.AddCustomer(contexts[i], us, leads[i])
		return err
	})
}

// togetherBy is like together for any call.
func togetherBy(t *testing.T, g *gated, calls int, call func(i int) error) (wait func() []error) {
	t.Helper()
	errs := make([]error, calls)
	var group sync.WaitGroup
	for i := range calls {
		begun := make(chan struct{})
		group.Go(func() {
			close(begun)
			errs[i] = call(i)
		})
		<-begun
		if i == 0 {
			require.Eventually(t, func() bool { return g.transactions.Load() == 1 }, time.Minute, time.Millisecond)
		}
	}
	time.Sleep(20 * time.Millisecond) // from its goroutine into the queue
	return func() []error { group.Wait(); return errs }
}

func numbered(n int) ([]context.Context, []cims.NewCustomer) {
	contexts, leads := make([]context.Context, n), make([]cims.NewCustomer, n)
	for i := range n {
		contexts[i], leads[i] = context.Background(), cims.NewCustomer{FullName: fmt.Sprintf("Lead %d", i)}
	}
	return contexts, leads
}

func stored(t *testing.T, crm *cims.Manager) map[string]bool {
	t.Helper()
	page, err := crm.Customers(t.Context(), us, cims.CustomerFilter{}, cims.PageRequest{Limit: 200})
	require.NoError(t, err)
	names := map[string]bool{}
	for _, c := range page.Items {
		require.NotNil(t, c.SalesManager)
		names[c.FullName] = true
	}
	return names
}

func TestLeadsThatArriveTogetherShareATransaction(t *testing.T) {
	crm, g := newGated(t)
	contexts, leads := numbered(20)
	wait := together(t, crm, g, contexts, leads)
	close(g.gate)
	for _, err := range wait() {
		require.NoError(t, err)
	}
	require.Len(t, stored(t, crm), 20)
	require.EqualValues(t, 2, g.transactions.Load(), "the first one, and the others")
}

func TestABadLeadHarmsOnlyItsOwnCaller(t *testing.T) {
	crm, g := newGated(t)
	contexts, leads := numbered(6)
	leads[3].StatusName = "no_such_status"
	wait := together(t, crm, g, contexts, leads)
	close(g.gate)
	for i, err := range wait() {
		if i == 3 {
			require.ErrorIs(t, err, cims.ErrInvalid)
		} else {
			require.NoError(t, err, i)
		}
	}
	require.Len(t, stored(t, crm), 5)
}

// TestARefusalCostsNoOtherTransaction repeats keys in a batch and names a status that
// doesn't exist.
func TestARefusalCostsNoOtherTransaction(t *testing.T) {
	crm, g := newGated(t)
	contexts, leads := numbered(8)
	leads[2].IdempotencyKey, leads[3].IdempotencyKey = "reused", "reused"
	leads[4].StatusName = "no_such_status"
	leads[6], leads[7] = leads[5], leads[5]
	leads[6].IdempotencyKey, leads[7].IdempotencyKey = "repeated", "repeated"
	wait := together(t, crm, g, contexts, leads)
	close(g.gate)
	reused := 0
	for i, err := range wait() {
		switch {
		case i == 4:
			require.ErrorIs(t, err, cims.ErrInvalid)
		case err != nil:
			require.ErrorIs(t, err, cims.ErrKeyReused)
			reused++
		}
	}
	require.Equal(t, 1, reused)
	require.EqualValues(t, 2, g.transactions.Load(), "the first one, and the others")
	page, err := crm.Customers(t.Context(), us, cims.CustomerFilter{}, cims.PageRequest{Limit: 200})
	require.NoError(t, err)
	require.Len(t, page.Items, 5, "a repeated call stores nothing")
}

func TestWhoGivesUpIsLeftOutOrToldTheTruth(t *testing.T) {
	crm, g := newGated(t)
	contexts, leads := numbered(5)
	first, giveUpFirst := context.WithCancel(t.Context())
	third, giveUpThird := context.WithCancel(t.Context())
	contexts[0], contexts[2] = first, third
	wait := together(t, crm, g, contexts, leads)
	giveUpFirst() // its transaction is running
	giveUpThird() // it is in the queue
	time.Sleep(20 * time.Millisecond)
	close(g.gate)
	errs := wait()
	require.ErrorIs(t, errs[0], cims.ErrOutcomeUnknown)
	require.ErrorIs(t, errs[2], context.Canceled)
	require.NotErrorIs(t, errs[2], cims.ErrOutcomeUnknown)
	for _, i := range []int{1, 3, 4} {
		require.NoError(t, errs[i])
	}
	names := stored(t, crm)
	require.NotContains(t, names, "Lead 2", "it was told so")
	for _, i := range []int{1, 3, 4} {
		require.Contains(t, names, fmt.Sprintf("Lead %d", i))
	}
}

func TestCloseLetsThoseInTheQueueIn(t *testing.T) {
	before := runtime.NumGoroutine()
	crm, g := newGated(t)
	contexts, leads := numbered(5)
	wait := together(t, crm, g, contexts, leads)
	ended, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	require.ErrorIs(t, crm.Close(ended), context.DeadlineExceeded)
	_, err := crm.AddCustomer(t.Context(), us, cims.NewCustomer{FullName: "Late"})
	require.ErrorIs(t, err, cims.ErrClosed)
	close(g.gate)
	require.NoError(t, crm.Close(t.Context()))
	for _, err := range wait() {
		require.NoError(t, err)
	}
	require.Len(t, stored(t, crm), 5)
	// The other goroutines belong to the pools of the database.
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+3 }, time.Minute, time.Millisecond)
}

// faulty is a Storage that panics on a lead with a certain status.
type faulty struct {
	*gated
	armed atomic.Bool
}

func (f *faulty) Update(ctx context.Context, do func(context.Context, cims.Tx) error) error {
	return f.gated.Update(ctx, func(ctx context.Context, tx cims.Tx) error { return do(ctx, panicking{tx, f}) })
}

type panicking struct {
	cims.Tx
	of *faulty
}

func (p panicking) UseStatus(ctx context.Context, name string) (cims.Status, error) {
	if name == "rejected" && p.of.armed.Load() {
		panic("a fault")
	}
	return p.Tx.UseStatus(ctx, name)
}

func TestAPanicIsItsOwnCallersAlone(t *testing.T) {
	_, g := newGated(t)
	f := &faulty{gated: g}
	f.armed.Store(true)
	crm, err := cims.New(f, &cims.Config{WaitingInterval: 24 * time.Hour})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, crm.Close(context.Background())) })
	contexts, leads := numbered(6)
	leads[3].StatusName = "rejected"
	var caught atomic.Pointer[any]
	wait := togetherBy(t, g, len(leads), func(i int) (err error) {
		defer func() {
			if fault := recover(); fault != nil {
				require.Equal(t, 3, i)
				caught.Store(&fault)
			}
		}()
		_, err = crm.AddCustomer(contexts[i], us, leads[i])
		return err
	})
	close(g.gate)
	for _, err := range wait() {
		require.NoError(t, err)
	}
	require.NotNil(t, caught.Load())
	require.ErrorContains(t, (*caught.Load()).(error), "a fault")
	require.ErrorContains(t, (*caught.Load()).(error), "UseStatus", "and it says where")
	require.Len(t, stored(t, crm), 5)
}

// TestAutomaticAssignmentsThatArriveTogetherShareATransaction includes a customer
// that is named twice and one that doesn't exist.
func TestAutomaticAssignmentsThatArriveTogetherShareATransaction(t *testing.T) {
	crm, g := newGated(t)
	ids := make([]int64, 12)
	shut := g.gate
	g.gate = make(chan struct{})
	close(g.gate)
	require.NoError(t, g.Storage.Update(t.Context(), func(ctx context.Context, tx cims.Tx) error {
		leads := make([]*cims.Lead, len(ids)-2)
		for i := range leads {
			leads[i] = &cims.Lead{Customer: cims.Customer{FullName: "Left", StatusName: cims.StatusContacted, CreatedAt: time.Now(), UpdatedAt: time.Now()}}
		}
		err := tx.InsertLeads(ctx, leads)
		for i, lead := range leads {
			ids[i] = lead.Customer.ID
		}
		return err
	}))
	ids[10], ids[11] = ids[5], 987_654
	g.gate = shut
	got := make([]*cims.Assignment, len(ids))
	wait := togetherBy(t, g, len(ids), func(i int) (err error) {
		got[i], err = crm.AutoAssign(t.Context(), us, ids[i])
		return err
	})
	close(g.gate)
	errs := wait()
	require.ErrorIs(t, errs[11], cims.ErrNotFound)
	for i, id := range ids[:11] {
		require.NoError(t, errs[i])
		require.Equal(t, id, got[i].CustomerID)
		customer, err := crm.Customer(t.Context(), us, id)
		require.NoError(t, err)
		require.Equal(t, got[i], customer.Assignment)
	}
	require.EqualValues(t, 2, g.transactions.Load(), "the first one, and the others")
	managers, err := crm.SalesManagers(t.Context(), us)
	require.NoError(t, err)
	require.Equal(t, 10, managers[0].AssignedLeads)
}
