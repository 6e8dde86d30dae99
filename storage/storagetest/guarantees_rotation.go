package storagetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

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

// watch reads the numbers of leads until stop is called, and checks that those of
// some managers never differ by more than one.
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

// managersComeAndGo: two managers stay while others change. They differ by one lead
// at most at every moment.
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

// failing fails the transactions that store a lead named madeToFail, after everything in them
// was done.
type failing struct{ cims.Storage }

type failingTx struct {
	cims.Tx
	fail bool
}

const madeToFail = "Made to fail"

var errFailing = errors.New("made to fail")

func (f failing) Update(ctx context.Context, do func(ctx context.Context, tx cims.Tx) error) error {
	return f.Storage.Update(ctx, func(ctx context.Context, tx cims.Tx) error {
		watched := &failingTx{Tx: tx}
		if err := do(ctx, watched); err != nil {
			return err
		}
		if watched.fail {
			return errFailing
		}
		return nil
	})
}

func (f *failingTx) InsertLeads(ctx context.Context, leads []*cims.Lead) error {
	f.fail = f.fail || slices.ContainsFunc(leads, func(lead *cims.Lead) bool { return lead.Customer.FullName == madeToFail })
	return f.Tx.InsertLeads(ctx, leads)
}

// rollbacks in the middle leave no trace in the rotation.
func rollbacks(t *testing.T, d *database) {
	s := ids(d.sellers(t, "Anvar", "Botir", "Vali"), userID)
	fails := d.manager(t, failing{d.open(t)}, &cims.Config{WaitingInterval: time.Hour})
	stop := d.watch(t, s)
	var added, failed atomic.Int64
	requireAll(t, together(8, func(i int) error {
		crm := d.crm
		if i%2 == 0 {
			crm = fails
		}
		for n := range 40 {
			name := "Lead"
			if i%2 == 0 && n%3 == 0 {
				name = madeToFail
			}
			_, err := crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: name})
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
	require.Equal(t, int64(4*14), failed.Load())
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
