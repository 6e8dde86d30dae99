package storagetest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

var conversionTests = []test{
	{"Conversion_ReachedAndCurrent", conversionModes},
	{"Conversion_LastAndManager", conversionOfSome},
	{"Conversion_DefaultCohort", conversionDefaults},
	{"Conversion_Target", conversionTarget},
	{"Conversion_ExcludeOwn", conversionExcludeOwn},
	{"Conversion_WithoutLeadsRead", conversionWithoutLeadsRead},
	{"Conversion_Refusals", conversionRefusals},
}

func (d *database) rate(t *testing.T, query cims.ConversionQuery) cims.Conversion {
	t.Helper()
	got, err := d.crm.ConversionRate(t.Context(), system, query)
	require.NoError(t, err)
	return got
}

func (d *database) set(t *testing.T, customer int64, statuses ...string) {
	t.Helper()
	for _, status := range statuses {
		_, err := d.crm.SetStatus(t.Context(), system, customer, status, "")
		require.NoError(t, err)
	}
}

func conversionModes(t *testing.T, d *database) {
	require.Equal(t, cims.Conversion{}, d.rate(t, cims.ConversionQuery{}))
	require.Zero(t, d.rate(t, cims.ConversionQuery{}).Rate())
	d.set(t, d.lead(t, "There").ID, "project_started")
	d.set(t, d.lead(t, "Moved on").ID, "project_started", "finished")
	d.set(t, d.lead(t, "Twice").ID, "project_started", "contacted", "project_started", "rejected")
	d.leadIn(t, "Came in there", "project_started")
	d.lead(t, "Never")
	d.lead(t, "Never")
	doomed := d.status(t, "doomed")
	d.leadIn(t, "Moved there", "doomed")
	require.NoError(t, d.crm.DeleteStatus(t.Context(), system, doomed.ID, cims.Deletion{MoveTo: "project_started"}))

	got := d.rate(t, cims.ConversionQuery{})
	require.Equal(t, cims.Conversion{Total: 7, Count: 5}, got)
	require.InDelta(t, 71.43, got.Rate(), 0)
	require.Equal(t, got, d.rate(t, cims.ConversionQuery{Mode: cims.Reached, Target: " Project Started ", Last: 100}))
	got = d.rate(t, cims.ConversionQuery{Mode: cims.Current})
	require.Equal(t, cims.Conversion{Total: 7, Count: 3}, got)
	require.InDelta(t, 42.86, got.Rate(), 0)
	require.Equal(t, cims.Conversion{Total: 7, Count: 1}, d.rate(t, cims.ConversionQuery{Target: "finished"}))
	require.Equal(t, cims.Conversion{Total: 7, Count: 5}, d.rate(t, cims.ConversionQuery{Target: "contacted"}), "all but those who began elsewhere")
	require.Equal(t, cims.Conversion{Total: 7, Count: 2}, d.rate(t, cims.ConversionQuery{Target: "contacted", Mode: cims.Current}))
	// An inactive status can be asked for, it only takes no new customers.
	odd := d.status(t, "odd")
	d.set(t, d.lead(t, "Odd").ID, "odd")
	_, err := d.crm.UpdateStatus(t.Context(), system, odd.ID, cims.StatusUpdate{Active: new(false)})
	require.NoError(t, err)
	require.Equal(t, cims.Conversion{Total: 8, Count: 1}, d.rate(t, cims.ConversionQuery{Target: "odd"}))
}

func conversionOfSome(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	a, b := sellers[0].ID, sellers[1].ID
	d.clock.stop() // all of one moment: then by id
	var leads []cims.Customer
	for range 6 { // Anvar and Botir in turn
		leads = append(leads, d.lead(t, "Lead"))
	}
	for _, i := range []int{0, 1, 4} {
		d.set(t, leads[i].ID, "project_started")
	}
	require.Equal(t, cims.Conversion{Total: 6, Count: 3}, d.rate(t, cims.ConversionQuery{}))
	require.Equal(t, cims.Conversion{Total: 1, Count: 0}, d.rate(t, cims.ConversionQuery{Last: 1}))
	require.Equal(t, cims.Conversion{Total: 2, Count: 1}, d.rate(t, cims.ConversionQuery{Last: 2}))
	require.Equal(t, cims.Conversion{Total: 5, Count: 2}, d.rate(t, cims.ConversionQuery{Last: 5}))
	require.Equal(t, cims.Conversion{Total: 6, Count: 3}, d.rate(t, cims.ConversionQuery{Last: 100_000}))
	require.Equal(t, cims.Conversion{Total: 3, Count: 2}, d.rate(t, cims.ConversionQuery{SalesManagerID: &a}))
	require.Equal(t, cims.Conversion{Total: 3, Count: 1}, d.rate(t, cims.ConversionQuery{SalesManagerID: &b}))
	// The newest two of that manager's, not that manager's of the newest two.
	require.Equal(t, cims.Conversion{Total: 2, Count: 1}, d.rate(t, cims.ConversionQuery{SalesManagerID: &a, Last: 2}))
	require.Equal(t, cims.Conversion{Total: 2, Count: 0}, d.rate(t, cims.ConversionQuery{SalesManagerID: &b, Last: 2}))

	// The present manager counts.
	d.own(t, b, leads[0].ID)
	require.Equal(t, cims.Conversion{Total: 2, Count: 1}, d.rate(t, cims.ConversionQuery{SalesManagerID: &a}))
	require.Equal(t, cims.Conversion{Total: 4, Count: 2}, d.rate(t, cims.ConversionQuery{SalesManagerID: &b}))
	require.Equal(t, cims.Conversion{Total: 2, Count: 0}, d.rate(t, cims.ConversionQuery{SalesManagerID: &b, Last: 2}), "by creation, not by assignment")
	// Also of one that has left, and of a user without leads.
	_, err := d.crm.UpdateUser(t.Context(), system, b, cims.UserUpdate{Active: new(false)})
	require.NoError(t, err)
	require.Equal(t, cims.Conversion{Total: 4, Count: 2}, d.rate(t, cims.ConversionQuery{SalesManagerID: &b}))
	none := d.user(t, "member", "None").ID
	require.Equal(t, cims.Conversion{}, d.rate(t, cims.ConversionQuery{SalesManagerID: &none}))
}

func conversionDefaults(t *testing.T, d *database) {
	oldest := d.bulk(t, 30, "contacted")
	newest := d.bulk(t, 100, "contacted")
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		var changes []cims.StatusChange
		for _, id := range append(oldest[:20:20], newest[:33]...) {
			changes = append(changes, cims.StatusChange{
				CustomerID: id, From: "contacted", To: "project_started", Cause: cims.CauseManual, At: d.clock.now(),
			})
		}
		return tx.ChangeStatuses(ctx, changes)
	})
	got := d.rate(t, cims.ConversionQuery{})
	require.Equal(t, cims.Conversion{Total: 100, Count: 33}, got, "the last 100")
	require.InDelta(t, 33, got.Rate(), 0)
	require.Equal(t, cims.Conversion{Total: 130, Count: 53}, d.rate(t, cims.ConversionQuery{Last: 1000}))
}

func conversionTarget(t *testing.T, d *database) {
	crm := d.manager(t, d.Storage, &cims.Config{ConversionTarget: " Finished "})
	d.leadIn(t, "Done", "finished")
	d.leadIn(t, "Begun", "project_started")
	d.leadIn(t, "Begun", "project_started")
	for target, count := range map[string]int{"": 1, "project_started": 2} {
		got, err := crm.ConversionRate(t.Context(), system, cims.ConversionQuery{Target: target})
		require.NoError(t, err)
		require.Equal(t, cims.Conversion{Total: 3, Count: count}, got)
	}
}

// conversionExcludeOwn: leads that their owner added can be left out.
func conversionExcludeOwn(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	a, b := sellers[0].ID, sellers[1].ID
	crm := d.manager(t, d.Storage, &cims.Config{OwnLeads: cims.KeepOwnLeads})
	add := func(crm *cims.Manager, actor cims.Actor) int64 {
		lead, err := crm.AddCustomer(t.Context(), actor, cims.NewCustomer{FullName: "Lead"})
		require.NoError(t, err)
		return lead.ID
	}
	rest := []int64{add(d.crm, system), add(d.crm, system)} // Anvar's and Botir's
	own := add(crm, d.actorOf(t, a))
	rotated := add(d.crm, d.actorOf(t, a)) // Anvar has the turn
	require.Equal(t, a, ownerID(d.customer(t, rotated)))
	others := add(d.crm, d.actorOf(t, a)) // Botir's
	waiting := d.bulk(t, 1, "contacted")[0]
	for _, id := range []int64{rest[1], own, rotated, waiting} {
		d.set(t, id, "project_started")
	}
	require.Equal(t, cims.Conversion{Total: 6, Count: 4}, d.rate(t, cims.ConversionQuery{}))
	require.Equal(t, cims.Conversion{Total: 4, Count: 2}, d.rate(t, cims.ConversionQuery{ExcludeOwn: true}))
	require.Equal(t, cims.Conversion{Total: 3, Count: 2}, d.rate(t, cims.ConversionQuery{ExcludeOwn: true, Last: 3, Mode: cims.Current}), "the newest of the others")
	require.Equal(t, cims.Conversion{Total: 1, Count: 0}, d.rate(t, cims.ConversionQuery{ExcludeOwn: true, SalesManagerID: &a}))
	require.Equal(t, cims.Conversion{Total: 2, Count: 1}, d.rate(t, cims.ConversionQuery{ExcludeOwn: true, SalesManagerID: &b, Last: 1000}))
	d.own(t, a, others) // its adder owns it now
	require.Equal(t, cims.Conversion{Total: 3, Count: 2}, d.rate(t, cims.ConversionQuery{ExcludeOwn: true}))
}

// conversionWithoutLeadsRead: no two answers tell the status of a colleague's lead.
func conversionWithoutLeadsRead(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	a, b := sellers[0].ID, sellers[1].ID
	for range 50 {
		d.lead(t, "Lead")
	}
	me, reader := d.actorOf(t, a), d.holder(t, "reader", cims.AnalyticsRead, cims.LeadsRead)
	for _, c := range []struct {
		query  cims.ConversionQuery
		total  int
		faults []string
	}{
		{cims.ConversionQuery{}, 50, nil},
		{cims.ConversionQuery{Last: 20}, 20, nil},
		{cims.ConversionQuery{Last: 40, Mode: cims.Current, Target: "contacted"}, 40, nil},
		{cims.ConversionQuery{Last: 7, SalesManagerID: &a, Mode: cims.Current}, 7, nil},
		{cims.ConversionQuery{SalesManagerID: &a, ExcludeOwn: true}, 25, nil},
		{cims.ConversionQuery{Last: 1}, 0, []string{"last:multiple"}},
		{cims.ConversionQuery{Last: 30}, 0, []string{"last:multiple"}},
		{cims.ConversionQuery{Last: 20, ExcludeOwn: true}, 0, []string{"own:choice"}},
	} {
		got, err := d.crm.ConversionRate(t.Context(), me, c.query)
		if c.faults != nil {
			requireInvalid(t, err, c.faults...)
			got, err = d.crm.ConversionRate(t.Context(), reader, c.query)
			require.NoError(t, err)
			require.NotZero(t, got.Total)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.total, got.Total)
	}
	for _, id := range []int64{b, absent} { // the same for both
		_, err := d.crm.ConversionRate(t.Context(), me, cims.ConversionQuery{SalesManagerID: &id, Last: 20})
		requireForbidden(t, err, cims.ReasonPermission)
	}
	_, err := d.crm.ConversionRate(t.Context(), reader, cims.ConversionQuery{SalesManagerID: &b, Last: 7})
	require.NoError(t, err)
}

func conversionRefusals(t *testing.T, d *database) {
	for _, c := range []struct {
		query  cims.ConversionQuery
		faults []string
	}{
		{cims.ConversionQuery{Last: -1}, []string{"last:range"}},
		{cims.ConversionQuery{Last: 100_001}, []string{"last:range"}},
		{cims.ConversionQuery{Mode: "ever"}, []string{"mode:choice"}},
		{cims.ConversionQuery{Target: "nowhere"}, []string{"target:unknown"}},
		{cims.ConversionQuery{Target: "a\x00"}, []string{"target:name"}},
		{cims.ConversionQuery{Last: -5, Mode: "x", Target: "?"}, []string{"last:range", "mode:choice", "target:name"}},
	} {
		_, err := d.crm.ConversionRate(t.Context(), system, c.query)
		requireInvalid(t, err, c.faults...)
	}
	_, err := d.crm.ConversionRate(t.Context(), system, cims.ConversionQuery{SalesManagerID: new(int64(absent))})
	require.ErrorIs(t, err, cims.ErrNotFound)
}
