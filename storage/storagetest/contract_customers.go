package storagetest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

func contractCustomers(t *testing.T, d *database) {
	at := noon.Add(999_999 * time.Microsecond)
	tashkent := time.FixedZone("Asia/Tashkent", 5*60*60)
	full := cims.Customer{
		FullName: "Aziza Karimova", PhoneNumber: "+998 90 123-45-67", Platform: "Instagram", Username: "@aziza",
		Notes: "Line\nline\ttab", StatusName: "rejected", CreatedAt: at, UpdatedAt: at,
	}
	elsewhere := cims.Customer{FullName: "Zone", CreatedAt: at.In(tashkent)}
	old := cims.Customer{FullName: "Old", CreatedAt: time.Date(1970, 1, 1, 0, 0, 0, 1000, time.UTC)}
	late := cims.Customer{FullName: "Late", CreatedAt: time.Date(2099, 12, 31, 23, 59, 59, 999_999_000, time.UTC)}
	inserted := d.insert(t, full, elsewhere, old, late)
	require.Len(t, inserted, 4)
	require.IsIncreasing(t, inserted)

	full.ID = inserted[0]
	require.Equal(t, full, d.customer(t, full.ID))
	got := d.customer(t, inserted[1])
	require.Equal(t, at, got.CreatedAt, "in UTC")
	require.Equal(t, at, got.UpdatedAt)
	require.Equal(t, old.CreatedAt, d.customer(t, inserted[2]).CreatedAt)
	require.Equal(t, late.CreatedAt, d.customer(t, inserted[3]).CreatedAt)
	require.Len(t, d.history(t, full.ID), 1, "its creation")

	_, err := d.Customer(t.Context(), inserted[3]+1000)
	require.ErrorIs(t, err, cims.ErrNotFound)

	seller := d.sellers(t, "Anvar")[0]
	assigned := d.changeOwners(t, cims.OwnerChange{
		CustomerID: full.ID, CustomerCreatedAt: at, To: &seller.ID, Cause: cims.CauseManual, At: at.Add(2 * time.Hour),
	})
	got = d.customer(t, full.ID)
	person := &cims.Person{ID: seller.ID, Email: seller.Email, Name: seller.Name, Surname: seller.Surname}
	require.Equal(t, person, got.SalesManager)
	require.Equal(t, &assigned[0], got.Assignment)
	list, err := d.Customers(t.Context(), cims.CustomerQuery{Status: "rejected", Limit: 5})
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, got, list[0])
}

// contractCustomerPages: pages follow each other without a gap or a double, also
// where many customers were created at the same moment, and ids don't rise with
// the time of creation.
func contractCustomerPages(t *testing.T, d *database) {
	var customers []cims.Customer
	for i := range 23 {
		at := noon.Add(-time.Duration(i/7) * time.Microsecond) // the first are the newest
		customers = append(customers, cims.Customer{FullName: fmt.Sprint(i), CreatedAt: at})
	}
	inserted := d.insert(t, customers...)
	for i := range customers {
		customers[i].ID = inserted[i]
	}
	slices.SortFunc(customers, func(a, b cims.Customer) int {
		if order := b.CreatedAt.Compare(a.CreatedAt); order != 0 {
			return order
		}
		return int(b.ID - a.ID)
	})
	for _, limit := range []int{1, 2, 5, 7, 23, 100} {
		var got []cims.Customer
		query := cims.CustomerQuery{Limit: limit}
		for {
			part, err := d.Customers(t.Context(), query)
			require.NoError(t, err)
			require.LessOrEqual(t, len(part), limit)
			got = append(got, part...)
			if len(part) < limit {
				break
			}
			last := part[limit-1]
			query.After = &cims.CustomerPosition{CreatedAt: last.CreatedAt, ID: last.ID}
		}
		require.Equal(t, ids(customers, customerID), ids(got, customerID), "pages of %d", limit)
	}
	// The customer at a position need not exist.
	part, err := d.Customers(t.Context(), cims.CustomerQuery{
		Limit: 100, After: &cims.CustomerPosition{CreatedAt: noon.Add(-time.Microsecond), ID: math.MaxInt64},
	})
	require.NoError(t, err)
	require.Equal(t, ids(customers[7:], customerID), ids(part, customerID))
}

func contractCustomerFilter(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	inserted := d.insert(t,
		cims.Customer{FullName: "Олга Иванова", PhoneNumber: "+998901", StatusName: "finished"},
		cims.Customer{FullName: "Aziza Karimova", PhoneNumber: "998902"},
		cims.Customer{FullName: "AZIZ", PhoneNumber: "+998903", StatusName: "finished"},
		cims.Customer{FullName: "50% off_er", PhoneNumber: "_1"},
		cims.Customer{FullName: `back\slash 'quote' "two"`},
		cims.Customer{FullName: "Ўткир", StatusName: "finished"},
	)
	d.changeOwners(t,
		cims.OwnerChange{CustomerID: inserted[0], CustomerCreatedAt: noon, To: &sellers[0].ID, Cause: cims.CauseManual, At: noon},
		cims.OwnerChange{CustomerID: inserted[1], CustomerCreatedAt: noon, To: &sellers[1].ID, Cause: cims.CauseManual, At: noon},
		cims.OwnerChange{CustomerID: inserted[2], CustomerCreatedAt: noon, To: &sellers[0].ID, Cause: cims.CauseManual, At: noon},
		cims.OwnerChange{CustomerID: inserted[3], CustomerCreatedAt: noon, Cause: cims.CauseAutomatic, At: noon},
	)
	for _, c := range []struct {
		why   string
		query cims.CustomerQuery
		found []int // places in inserted, newest first
	}{
		{"all", cims.CustomerQuery{}, []int{5, 4, 3, 2, 1, 0}},
		{"limit", cims.CustomerQuery{Limit: 2}, []int{5, 4}},
		{"status", cims.CustomerQuery{Status: "finished"}, []int{5, 2, 0}},
		{"unknown status", cims.CustomerQuery{Status: "nothing"}, nil},
		{"owner", cims.CustomerQuery{SalesManagerID: &sellers[0].ID}, []int{2, 0}},
		{"unknown owner", cims.CustomerQuery{SalesManagerID: new(sellers[1].ID + 1000)}, nil},
		{"unassigned, waiting or not", cims.CustomerQuery{Unassigned: true}, []int{5, 4, 3}},
		{"unassigned and an owner", cims.CustomerQuery{Unassigned: true, SalesManagerID: &sellers[0].ID}, nil},
		{"Cyrillic in another case", cims.CustomerQuery{Prefix: "ол"}, []int{0}},
		{"Cyrillic, all capitals", cims.CustomerQuery{Prefix: "ОЛГА ИВ"}, []int{0}},
		{"Uzbek Cyrillic in another case", cims.CustomerQuery{Prefix: "ўт"}, []int{5}},
		{"any case", cims.CustomerQuery{Prefix: "aZiZ"}, []int{2, 1}},
		{"not the middle of a name", cims.CustomerQuery{Prefix: "Karimova"}, nil},
		{"phone number", cims.CustomerQuery{Prefix: "+99890"}, []int{2, 0}},
		{"not the middle of a number", cims.CustomerQuery{Prefix: "903"}, nil},
		{"% is a letter", cims.CustomerQuery{Prefix: "%"}, nil},
		{"% is found", cims.CustomerQuery{Prefix: "50%"}, []int{3}},
		{"% does not stand for more", cims.CustomerQuery{Prefix: "5%"}, nil},
		{"_ is a letter", cims.CustomerQuery{Prefix: "_"}, []int{3}},
		{"_ does not stand for more", cims.CustomerQuery{Prefix: "_ziz"}, nil},
		{"backslash", cims.CustomerQuery{Prefix: `back\s`}, []int{4}},
		{"quotes", cims.CustomerQuery{Prefix: `BACK\SLASH 'quote' "t`}, []int{4}},
		{"the whole name", cims.CustomerQuery{Prefix: "aziza karimova"}, []int{1}},
		{"more than the name", cims.CustomerQuery{Prefix: "aziza karimova1"}, nil},
		{"all together", cims.CustomerQuery{Prefix: "a", Status: "finished", SalesManagerID: &sellers[0].ID}, []int{2}},
		{"all together, after", cims.CustomerQuery{
			Status: "finished", SalesManagerID: &sellers[0].ID, Limit: 1,
			After: &cims.CustomerPosition{CreatedAt: noon, ID: inserted[2]},
		}, []int{0}},
		{"prefix, after", cims.CustomerQuery{Prefix: "+99890", After: &cims.CustomerPosition{CreatedAt: noon, ID: inserted[2]}}, []int{0}},
	} {
		if c.query.Limit == 0 {
			c.query.Limit = 100
		}
		expected := []int64{}
		for _, i := range c.found {
			expected = append(expected, inserted[i])
		}
		got, err := d.Customers(t.Context(), c.query)
		require.NoError(t, err, c.why)
		require.Equal(t, expected, ids(got, customerID), c.why)
	}
}

func contractCounts(t *testing.T, d *database) {
	d.bulk(t, 7, "finished")
	d.user(t, "member", "One")
	d.user(t, "member", "Two")
	for _, c := range []struct{ limit, customers, users int }{{100, 7, 2}, {7, 7, 2}, {6, 6, 2}, {1, 1, 1}} {
		customers, err := d.CountCustomers(t.Context(), "finished", c.limit)
		require.NoError(t, err)
		require.Equal(t, c.customers, customers)
		users, err := d.CountUsers(t.Context(), "member", c.limit)
		require.NoError(t, err)
		require.Equal(t, c.users, users)
	}
	customers, err := d.CountCustomers(t.Context(), "contacted", 5)
	require.NoError(t, err)
	require.Zero(t, customers)
	users, err := d.CountUsers(t.Context(), "nobody", 5)
	require.NoError(t, err)
	require.Zero(t, users)
}

func contractLockCustomers(t *testing.T, d *database) {
	seller := d.sellers(t, "Anvar")[0]
	inserted := d.insert(t, cims.Customer{FullName: "1"}, cims.Customer{FullName: "2"}, cims.Customer{FullName: "3"})
	assigned := d.changeOwners(t, cims.OwnerChange{
		CustomerID: inserted[0], CustomerCreatedAt: noon, To: &seller.ID, Cause: cims.CauseManual, At: noon,
	})
	var locked, none []cims.Customer
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		var err error
		if none, err = tx.LockCustomers(ctx, []int64{inserted[2] + 1000}); err != nil {
			return err
		}
		locked, err = tx.LockCustomers(ctx, []int64{inserted[2], inserted[2] + 1000, inserted[0]})
		return err
	})
	require.Empty(t, none)
	require.Equal(t, []int64{inserted[0], inserted[2]}, ids(locked, customerID), "those that exist, by id")
	require.Equal(t, seller.ID, ownerID(locked[0]))
	require.Equal(t, &assigned[0], locked[0].Assignment)
	require.Nil(t, locked[1].SalesManager)
	require.Nil(t, locked[1].Assignment)
	require.Equal(t, "3", locked[1].FullName)
	require.Equal(t, noon, locked[1].CreatedAt)
}
