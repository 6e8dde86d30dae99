package storagetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

var iteratorTests = []test{
	{"Iterators_ListEverything", iterateAll},
	{"Iterators_Refusals", iterateRefusals},
	{"Iterators_BreakReadsNoFurther", iterateBreak},
	{"Iterators_OthersWriteMeanwhile", iterateUnderWay},
	{"Iterators_EndAfterAnError", iterateError},
	{"Iterators_EndWithTheContext", iterateContext},
}

// pageSize is how many items an iterator reads at a time.
const pageSize = 200

// collect ranges over all of a list.
func collect[T any](t *testing.T, list iter.Seq2[T, error]) []T {
	t.Helper()
	var items []T
	for item, err := range list {
		require.NoError(t, err)
		items = append(items, item)
	}
	return items
}

// failure ranges over a list that has to end with an error, and returns how many
// items came before.
func failure[T any](t *testing.T, list iter.Seq2[T, error]) (before int, failed error) {
	t.Helper()
	for item, err := range list {
		require.NoError(t, failed, "nothing comes after an error")
		if failed = err; err == nil {
			before++
			continue
		}
		require.Zero(t, item)
	}
	require.Error(t, failed)
	return before, failed
}

// watched counts the readings of lists and can fail from one of them on.
type watched struct {
	cims.Storage
	reads  int // of pages
	most   int // rows in one
	failAt int // the reading that fails; 0 for none
}

var errBroken = errors.New("broken")

func (w *watched) watch(limit int) error {
	w.reads++
	w.most = max(w.most, limit)
	if w.reads == w.failAt {
		return errBroken
	}
	return nil
}

func (w *watched) Customers(ctx context.Context, query cims.CustomerQuery) ([]cims.Customer, error) {
	if err := w.watch(query.Limit); err != nil {
		return nil, err
	}
	return w.Storage.Customers(ctx, query)
}

func (w *watched) Users(ctx context.Context, query cims.UserQuery) ([]cims.User, error) {
	if err := w.watch(query.Limit); err != nil {
		return nil, err
	}
	return w.Storage.Users(ctx, query)
}

func (w *watched) History(ctx context.Context, query cims.HistoryQuery) ([]cims.Event, error) {
	if err := w.watch(query.Limit); err != nil {
		return nil, err
	}
	return w.Storage.History(ctx, query)
}

// staff stores n users of the role member.
func (d *database) staff(t *testing.T, n int) {
	t.Helper()
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		for i := range n {
			_, err := tx.InsertUser(ctx, cims.User{
				Email: fmt.Sprintf("member%03d@example.com", i), Name: "Member", Surname: "Karimov", RoleName: "member", Active: true,
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// wander gives a customer a history of more than a page, and returns its id.
func (d *database) wander(t *testing.T) int64 {
	t.Helper()
	id := d.bulk(t, 1, cims.StatusContacted)[0]
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		for i := range pageSize + 10 {
			names := []string{cims.StatusContacted, "finished"}
			err := tx.ChangeStatuses(ctx, []cims.StatusChange{{
				CustomerID: id, From: names[i%2], To: names[1-i%2], Cause: cims.CauseManual, At: d.clock.now(),
			}})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return id
}

func iterateAll(t *testing.T, d *database) {
	require.Empty(t, collect(t, d.crm.AllCustomers(t.Context(), system, cims.CustomerFilter{})))
	require.Empty(t, collect(t, d.crm.AllUsers(t.Context(), system, cims.UserFilter{})))

	sellers := d.sellers(t, "Anvar", "Botir")
	d.staff(t, pageSize)
	d.bulk(t, 2*pageSize, "finished") // whole pages
	d.bulk(t, 50, "rejected")
	lead, wanderer := d.lead(t, "Aziza"), d.wander(t)

	all := d.customers(t, cims.CustomerFilter{})
	require.Len(t, all, 2*pageSize+52)
	list := d.crm.AllCustomers(t.Context(), system, cims.CustomerFilter{})
	require.Equal(t, all, collect(t, list))
	require.Equal(t, all, collect(t, list), "each loop begins anew")
	require.Len(t, collect(t, d.crm.AllCustomers(t.Context(), system, cims.CustomerFilter{Status: "finished"})), 2*pageSize)

	require.Len(t, collect(t, d.crm.AllUsers(t.Context(), system, cims.UserFilter{})), pageSize+2)
	require.Len(t, collect(t, d.crm.AllUsers(t.Context(), system, cims.UserFilter{Role: "member"})), pageSize)
	require.Equal(t, sellers, collect(t, d.crm.AllUsers(t.Context(), system, cims.UserFilter{Role: cims.RoleSalesManager})))

	history := d.history(t, wanderer)
	require.Len(t, history, pageSize+11)
	require.Equal(t, history, collect(t, d.crm.AllHistory(t.Context(), system, wanderer)))

	me := d.actorOf(t, ownerID(lead))
	require.Equal(t, []int64{lead.ID}, ids(collect(t, d.crm.AllCustomers(t.Context(), me, cims.CustomerFilter{})), customerID), "one's own")
}

// iterateRefusals: an iterator yields the refusal of its list, once.
func iterateRefusals(t *testing.T, d *database) {
	lead := d.lead(t, "Aziza")
	seller := d.actor(t, cims.RoleSalesManager, "Anvar")
	nobody := cims.Actor{}
	for _, refused := range []error{
		second(failure(t, d.crm.AllCustomers(t.Context(), nobody, cims.CustomerFilter{}))),
		second(failure(t, d.crm.AllUsers(t.Context(), seller, cims.UserFilter{}))),
		second(failure(t, d.crm.AllHistory(t.Context(), nobody, lead.ID))),
	} {
		requireForbidden(t, refused, cims.ReasonPermission)
	}
	requireInvalid(t, second(failure(t, d.crm.AllCustomers(t.Context(), system, cims.CustomerFilter{Status: "nowhere"}))), "status:unknown")
	requireInvalid(t, second(failure(t, d.crm.AllUsers(t.Context(), system, cims.UserFilter{Role: "nobody"}))), "role:unknown")
	require.ErrorIs(t, second(failure(t, d.crm.AllHistory(t.Context(), system, absent))), cims.ErrNotFound)
}

func second[A, B any](_ A, b B) B { return b }

// iterateBreak: a list is read a page at a time, and only as far as the loop goes.
func iterateBreak(t *testing.T, d *database) {
	d.bulk(t, 2*pageSize+1, "finished")
	store := &watched{Storage: d.Storage}
	crm := d.manager(t, store, nil)
	for stop, reads := range map[int]int{1: 1, pageSize: 1, pageSize + 1: 2, 2 * pageSize: 2, 2*pageSize + 1: 3} {
		store.reads = 0
		list := crm.AllCustomers(t.Context(), system, cims.CustomerFilter{})
		require.Zero(t, store.reads, "nothing is read before the loop")
		n := 0
		for _, err := range list {
			require.NoError(t, err)
			if n++; n == stop {
				break
			}
		}
		require.Equal(t, stop, n)
		require.Equal(t, reads, store.reads, "up to item %d", stop)
	}
	require.Equal(t, pageSize+1, store.most, "one more, to know whether it is the last")

	// Between its items others can write, also where there is one connection.
	next, stop := iter.Pull2(crm.AllCustomers(t.Context(), system, cims.CustomerFilter{}))
	_, err, more := next()
	require.True(t, more)
	require.NoError(t, err)
	d.lead(t, "Meanwhile")
	stop()
}

// iterateUnderWay: while a list is ranged over, others add to it and take from it,
// also the entry at which a page ended. Entries that stay come exactly once.
func iterateUnderWay(t *testing.T, d *database) {
	all := d.bulk(t, 2*pageSize+50, "finished")
	newest := func(place int) int64 { return all[len(all)-1-place] } // of the list, counted from 0
	var came []int64
	for customer, err := range d.crm.AllCustomers(t.Context(), system, cims.CustomerFilter{Status: "finished"}) {
		require.NoError(t, err)
		came = append(came, customer.ID)
		if len(came) == pageSize {
			d.bulk(t, 3, "finished") // the newest, which would have come first
			for _, place := range []int{pageSize - 1, pageSize, pageSize + 7} {
				_, err := d.crm.SetStatus(t.Context(), system, newest(place), "rejected", "")
				require.NoError(t, err)
			}
		}
	}
	var expected []int64
	for place := range all {
		if place != pageSize && place != pageSize+7 {
			expected = append(expected, newest(place))
		}
	}
	require.Equal(t, expected, came)

	// Entries added behind the present page come at the end.
	d.staff(t, pageSize+1)
	users := 0
	for user, err := range d.crm.AllUsers(t.Context(), system, cims.UserFilter{}) {
		require.NoError(t, err)
		if users++; users == 1 {
			d.user(t, "member", "Late")
		}
		require.Equal(t, users == pageSize+2, user.Name == "Late", "the last")
	}
	require.Equal(t, pageSize+2, users)

	wanderer, events := d.wander(t), 0
	for event, err := range d.crm.AllHistory(t.Context(), system, wanderer) {
		require.NoError(t, err)
		if events++; events == 1 {
			_, err := d.crm.SetStatus(t.Context(), system, wanderer, "rejected", "")
			require.NoError(t, err)
		}
		require.Equal(t, events == pageSize+12, event.ToStatus == "rejected", "the last")
	}
	require.Equal(t, pageSize+12, events)
}

// iterateError: the entries before a failure come, then the failure, then nothing.
func iterateError(t *testing.T, d *database) {
	d.bulk(t, 2*pageSize+1, "finished")
	d.staff(t, pageSize+1)
	wanderer := d.wander(t)
	store := &watched{Storage: d.Storage, failAt: 2}
	crm := d.manager(t, store, nil)

	came, err := failure(t, crm.AllCustomers(t.Context(), system, cims.CustomerFilter{}))
	require.Equal(t, pageSize, came)
	require.ErrorIs(t, err, errBroken)
	store.reads = 0
	came, err = failure(t, crm.AllUsers(t.Context(), system, cims.UserFilter{}))
	require.Equal(t, pageSize, came)
	require.ErrorIs(t, err, errBroken)
	store.reads = 0
	came, err = failure(t, crm.AllHistory(t.Context(), system, wanderer))
	require.Equal(t, pageSize, came)
	require.ErrorIs(t, err, errBroken)
	require.Equal(t, 2, store.reads, "nothing is tried again")

	// A right that is lost in the middle ends it too: each page asks anew.
	seller := d.actor(t, cims.RoleSalesManager, "Anvar")
	d.own(t, seller.User().ID, wanderer)
	came = 0
	for _, failed := range d.crm.AllHistory(t.Context(), seller, wanderer) {
		if err = failed; err != nil {
			break
		}
		if came++; came == 1 {
			d.own(t, d.user(t, cims.RoleSalesManager, "Botir").ID, wanderer)
		}
	}
	require.Equal(t, pageSize, came)
	require.ErrorIs(t, err, cims.ErrNotFound)
}

// iterateContext: when the context ends, the loop ends with its error, also in the
// middle of a page.
func iterateContext(t *testing.T, d *database) {
	d.bulk(t, pageSize+1, "finished")
	for _, stop := range []int{0, 1, 3, pageSize} {
		ctx, cancel := context.WithCancel(t.Context())
		if stop == 0 {
			cancel()
		}
		came := 0
		var ended error
		for _, err := range d.crm.AllCustomers(ctx, system, cims.CustomerFilter{}) {
			require.NoError(t, ended)
			if ended = err; err != nil {
				continue
			}
			if came++; came == stop {
				cancel()
			}
		}
		cancel()
		require.Equal(t, stop, came)
		require.ErrorIs(t, ended, context.Canceled)
	}
}
