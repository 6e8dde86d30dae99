package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

var importTests = []test{
	{"Import_InTheRotationsOrder", importInOrder},
	{"Import_GoesOnWithAnUnevenPool", importUneven},
	{"Import_Weights", importWeights},
	{"Import_AllOrNothing", importAllOrNothing},
	{"Import_NobodyEligible", importWaits},
	{"Import_Refusals", importRefusals},
	{"Guarantee2_ImportsWhileLeadsStream", importsWhileLeadsStream},
	{"Guarantee3_DeactivationDuringAnImport", deactivationDuringImport},
}

// batchOf is n leads to be imported.
func batchOf(n int) []cims.NewCustomer {
	leads := make([]cims.NewCustomer, n)
	for i := range leads {
		leads[i] = cims.NewCustomer{FullName: fmt.Sprintf("Imported %05d", i)}
	}
	return leads
}

func sequence(leads []cims.NewCustomer) iter.Seq2[cims.NewCustomer, error] {
	return func(yield func(cims.NewCustomer, error) bool) {
		for _, lead := range leads {
			if !yield(lead, nil) {
				return
			}
		}
	}
}

func (d *database) addMany(t *testing.T, n int) []cims.Customer {
	t.Helper()
	customers, err := d.crm.AddCustomers(t.Context(), system, batchOf(n), nil)
	require.NoError(t, err)
	require.Len(t, customers, n)
	return customers
}

// importInOrder: an import assigns as many single leads would be assigned.
func importInOrder(t *testing.T, d *database) {
	s := ids(d.sellers(t, "A", "B", "C"), userID)
	require.Equal(t, s[:1], d.turns(t, 1))
	leads := batchOf(1204)
	leads[7] = cims.NewCustomer{FullName: " Aziza ", PhoneNumber: "+998 90 123 45 67", Platform: "x", Username: "y", Notes: "z", StatusName: "Need to Call"}
	boss := d.actor(t, cims.RoleCEO, "Boss")
	var progress []int
	customers, err := d.crm.AddCustomers(t.Context(), boss, leads, func(stored int) { progress = append(progress, stored) })
	require.NoError(t, err)
	require.IsIncreasing(t, progress)
	require.Greater(t, len(progress), 1)
	require.Equal(t, len(leads), progress[len(progress)-1])
	for i, customer := range customers {
		require.Equal(t, s[(i+1)%3], ownerID(customer), i)
		if i > 0 {
			require.Greater(t, customer.ID, customers[i-1].ID)
		}
	}
	require.Equal(t, []int64{s[2], s[0], s[1]}, d.turns(t, 3), "and it goes on from there")
	for _, i := range []int{0, 7, 600, 1203} {
		require.Equal(t, customers[i], d.customer(t, customers[i].ID))
		events := d.history(t, customers[i].ID)
		require.Len(t, events, 2)
		require.Equal(t, cims.CauseCreated, events[0].Cause)
		require.Equal(t, new(boss.User().ID), events[0].By)
		require.Equal(t, cims.CauseAutomatic, events[1].Cause)
	}
	require.Equal(t, "Aziza", customers[7].FullName)
	require.Equal(t, "need_to_call", customers[7].StatusName)
	d.requireConsistentEach(t, 100)
}

// importUneven: managers get leads in the order of their turns.
func importUneven(t *testing.T, d *database) {
	s := ids(d.sellers(t, "A", "B"), userID)
	d.turns(t, 11)
	late := d.sellers(t, "C")[0].ID // joins at the floor
	d.addMany(t, 1000)
	leads := d.leadsOf(t)
	require.LessOrEqual(t, leads[s[0]]-leads[s[1]], 1)
	require.Contains(t, []int{333, 334}, leads[late])
	require.Equal(t, 1011, leads[s[0]]+leads[s[1]]+leads[late])
	d.requireConsistentEach(t, 100)
}

func importWeights(t *testing.T, d *database) {
	s := ids(d.sellers(t, "A", "B", "C"), userID)
	d.setManager(t, s[0], cims.SalesManagerUpdate{Weight: new(17)}) // divides no turn evenly
	d.setManager(t, s[2], cims.SalesManagerUpdate{Paused: new(true)})
	d.addMany(t, 18*60)
	require.Equal(t, map[int64]int{s[0]: 17 * 60, s[1]: 60, s[2]: 0}, d.leadsOf(t))
	owners := d.turns(t, 18)
	require.Equal(t, 17, count(owners, s[0]))
	d.setManager(t, s[2], cims.SalesManagerUpdate{Paused: new(false)})
	require.LessOrEqual(t, count(d.turns(t, 4), s[2]), 2, "who returns is not flooded")
}

func importAllOrNothing(t *testing.T, d *database) {
	s := ids(d.sellers(t, "A", "B"), userID)
	before, err := d.Rotation(t.Context())
	require.NoError(t, err)
	leads := batchOf(1100)
	for field, spoil := range map[string]func(*cims.NewCustomer){
		"full_name":       func(c *cims.NewCustomer) { c.FullName = " " },
		"status_name":     func(c *cims.NewCustomer) { c.StatusName = "no_such" },
		"idempotency_key": func(c *cims.NewCustomer) { c.IdempotencyKey = "key" },
	} {
		for _, place := range []int{0, 1067} {
			spoiled := append([]cims.NewCustomer{}, leads...)
			spoil(&spoiled[place])
			_, err := d.crm.AddCustomers(t.Context(), system, spoiled, nil)
			require.ErrorIs(t, err, cims.ErrInvalid)
			var refused *cims.LeadError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, place, refused.Index)
			var why *cims.Error
			require.ErrorAs(t, err, &why)
			require.Equal(t, field, why.Fields[0].Field)
		}
	}
	broken := errors.New("broken")
	n, err := d.crm.ImportCustomers(t.Context(), system, func(yield func(cims.NewCustomer, error) bool) {
		for i, lead := range leads {
			if i == 900 {
				yield(cims.NewCustomer{}, broken)
				return
			}
			if !yield(lead, nil) {
				return
			}
		}
	}, nil)
	require.ErrorIs(t, err, broken)
	require.Zero(t, n)
	require.Empty(t, d.customers(t, cims.CustomerFilter{}))
	after, err := d.Rotation(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, before.Members, after.Members)
	require.Equal(t, s, d.turns(t, 2), "nobody's turn is lost")

	n, err = d.crm.ImportCustomers(t.Context(), system, sequence(leads), nil)
	require.NoError(t, err)
	require.Equal(t, len(leads), n)
}

func importWaits(t *testing.T, d *database) {
	for _, customer := range d.addMany(t, 620) {
		require.Nil(t, customer.SalesManager)
		require.Nil(t, customer.Assignment)
	}
	s := ids(d.sellers(t, "A"), userID)
	require.Eventually(t, func() bool {
		waiting, err := d.Unassigned(t.Context(), cims.UnassignedQuery{Waiting: true, Limit: 1})
		require.NoError(t, err)
		return len(waiting) == 0
	}, patience, time.Millisecond)
	require.Equal(t, map[int64]int{s[0]: 620}, d.leadsOf(t))
}

func importRefusals(t *testing.T, d *database) {
	own := d.holder(t, "own", cims.LeadsWriteOwn)
	_, err := d.crm.AddCustomers(t.Context(), own, batchOf(1), nil)
	require.ErrorIs(t, err, cims.ErrForbidden)
	_, err = d.crm.AddCustomers(t.Context(), cims.Actor{}, nil, nil)
	require.ErrorIs(t, err, cims.ErrForbidden)
	customers, err := d.crm.AddCustomers(t.Context(), system, nil, nil)
	require.NoError(t, err)
	require.Empty(t, customers)
	closed := d.manager(t, d.open(t), nil)
	require.NoError(t, closed.Close(t.Context()))
	_, err = closed.AddCustomers(t.Context(), system, batchOf(1), nil)
	require.ErrorIs(t, err, cims.ErrClosed)
	for _, broken := range []error{io.ErrUnexpectedEOF, context.DeadlineExceeded} { // which is not the database's
		_, err = d.crm.ImportCustomers(t.Context(), system, func(yield func(cims.NewCustomer, error) bool) {
			if yield(cims.NewCustomer{FullName: "Aziza"}, nil) {
				yield(cims.NewCustomer{}, broken)
			}
		}, nil)
		require.Equal(t, broken, err)
	}
	require.Empty(t, d.customers(t, cims.CustomerFilter{}))
}

func importsWhileLeadsStream(t *testing.T, d *database) {
	const imports, size, callers, leads = 3, 701, 6, 60
	s := ids(d.sellers(t, "A", "B", "C", "D", "E"), userID)
	processes := d.processes(t, 1)
	stop := d.watch(t, s)
	requireAll(t, together(imports+callers, func(i int) error {
		crm := processes[i%len(processes)]
		if i < imports {
			n, err := crm.ImportCustomers(t.Context(), system, sequence(batchOf(size)), nil)
			if err == nil && n != size {
				err = fmt.Errorf("%d imported", n)
			}
			return err
		}
		for range leads {
			if _, err := crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Lead"}); err != nil {
				return err
			}
		}
		return nil
	}))
	stop()
	total := 0
	for _, n := range d.leadsOf(t) {
		total += n
		require.Contains(t, []int{492, 493}, n)
	}
	require.Equal(t, imports*size+callers*leads, total)
	d.requireConsistentEach(t, 50)
}

// deactivationDuringImport: where the database lets somebody be deactivated
// while an import is under way, the import gives that manager nothing.
func deactivationDuringImport(t *testing.T, d *database) {
	s := d.sellers(t, "A", "B", "C")
	other := d.processes(t, 1)[1]
	left := make(chan struct{})
	var leaving error
	once, returned := false, false
	leads := batchOf(1200)
	customers := 0
	_, err := d.crm.ImportCustomers(t.Context(), system, func(yield func(cims.NewCustomer, error) bool) {
		for i, lead := range leads {
			if i == 1100 && !once {
				once = true
				go func() {
					defer close(left)
					_, leaving = other.UpdateUser(context.WithoutCancel(t.Context()), system, s[1].ID, cims.UserUpdate{Active: new(false)})
				}()
				select {
				case <-left:
				case <-time.After(300 * time.Millisecond): // on some databases it has to wait for the import
				}
			}
			if !yield(lead, nil) {
				return
			}
			customers = i + 1
		}
		select {
		case <-left:
			returned = true
		default: // it takes effect now or later
		}
	}, nil)
	require.NoError(t, err)
	require.Equal(t, len(leads), customers)
	<-left
	require.NoError(t, leaving)
	owned := map[int64]int{}
	for _, customer := range d.customers(t, cims.CustomerFilter{}) {
		owned[ownerID(customer)]++
	}
	want := map[int64]int{s[0].ID: 600, s[2].ID: 600}
	if !returned && owned[s[1].ID] > 0 {
		want = map[int64]int{s[0].ID: 400, s[1].ID: 400, s[2].ID: 400}
	}
	require.Equal(t, want, owned)
	d.requireConsistentEach(t, 100)
}
