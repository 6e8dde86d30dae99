package storagetest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

var historyTests = []test{
	{"History_Pages", historyPages},
	{"History_OwnersOfThatMoment", historyOwners},
	{"History_StaysInOrder", historyOrder},
	{"History_OrderSurvivesAnotherClock", historyOfAnotherClock},
}

func historyPages(t *testing.T, d *database) {
	d.sellers(t, "Anvar")
	lead, other := d.lead(t, "Aziza"), d.lead(t, "Other")
	for i := range 11 {
		_, err := d.crm.SetStatus(t.Context(), system, lead.ID, []string{"finished", "contacted"}[i%2], "")
		require.NoError(t, err)
	}
	whole := d.history(t, lead.ID)
	require.Len(t, whole, 13)
	for _, limit := range []int{1, 2, 5, 12, 13, 14} {
		var found []cims.Event
		page := cims.PageRequest{Limit: limit}
		for {
			part, err := d.crm.History(t.Context(), system, lead.ID, page)
			require.NoError(t, err)
			found = append(found, part.Items...)
			if part.Next == "" {
				break
			}
			require.Len(t, part.Items, limit)
			page.Cursor = part.Next
		}
		require.Equal(t, whole, found, "pages of %d", limit)
	}
	require.Len(t, d.history(t, other.ID), 2)

	part, err := d.crm.History(t.Context(), system, lead.ID, cims.PageRequest{Limit: 1})
	require.NoError(t, err)
	for _, cursor := range []string{
		"!", "aA", part.Next + "AA", "aC4xLjIuMw", // h.1.2.3: no such kind
		"aC4xLi0xLjM", // h.1.-1.3
		"aC45MjIzMzcyMDM2ODU0Nzc1ODA3LjAuMQ",
	} {
		_, err := d.crm.History(t.Context(), system, lead.ID, cims.PageRequest{Cursor: cursor})
		requireInvalid(t, err, "cursor:format")
	}
	_, err = d.crm.History(t.Context(), system, lead.ID, cims.PageRequest{Limit: 201})
	requireInvalid(t, err, "limit:range")
}

// historyOwners: a later reassignment moves no credit.
func historyOwners(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	boss := d.actor(t, cims.RoleCEO, "Boss")
	lead := d.lead(t, "Aziza")
	set := func(status string) {
		_, err := d.crm.SetStatus(t.Context(), system, lead.ID, status, "")
		require.NoError(t, err)
	}
	set("continuing")
	_, err := d.crm.Assign(t.Context(), boss, lead.ID, sellers[1].ID)
	require.NoError(t, err)
	set("finished")
	a, b := sellers[0].ID, sellers[1].ID
	events := d.history(t, lead.ID)
	require.Len(t, events, 5)
	for i, expected := range []cims.Event{
		{Kind: cims.StatusEvent, ToStatus: "contacted", Cause: cims.CauseCreated, Owner: &a},
		{Kind: cims.AssignmentEvent, ToManager: &a, Cause: cims.CauseAutomatic, Owner: &a},
		{Kind: cims.StatusEvent, FromStatus: "contacted", ToStatus: "continuing", Cause: cims.CauseManual, Owner: &a},
		{Kind: cims.AssignmentEvent, FromManager: &a, ToManager: &b, By: new(boss.User().ID), Cause: cims.CauseManual, Owner: &b},
		{Kind: cims.StatusEvent, FromStatus: "continuing", ToStatus: "finished", Cause: cims.CauseManual, Owner: &b},
	} {
		expected.ID, expected.At = events[i].ID, events[i].At
		require.Equal(t, expected, events[i])
	}
}

// historyOrder: later events are listed later, also by a clock that is coarse or was
// set back.
func historyOrder(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	doomed := d.status(t, "doomed")
	lead := d.leadIn(t, "Aziza", "doomed")
	d.clock.stop()
	steps := []func() error{
		func() error {
			_, err := d.crm.Assign(t.Context(), system, lead.ID, sellers[1].ID)
			return err
		},
		func() error {
			_, err := d.crm.UpdateUser(t.Context(), system, sellers[1].ID, cims.UserUpdate{Active: new(false), Leads: cims.RedistributeLeads})
			return err
		},
		func() error {
			return d.crm.DeleteStatus(t.Context(), system, doomed.ID, cims.Deletion{MoveTo: "continuing"})
		},
		func() error {
			_, err := d.crm.SetStatus(t.Context(), system, lead.ID, "finished", "")
			return err
		},
		func() error {
			_, err := d.crm.UpdateUser(t.Context(), system, sellers[1].ID, cims.UserUpdate{Active: new(true)})
			return err
		},
		func() error {
			_, err := d.crm.UpdateUser(t.Context(), system, sellers[0].ID, cims.UserUpdate{Active: new(false), Leads: cims.RedistributeLeads})
			return err
		},
		func() error {
			_, err := d.crm.SetStatus(t.Context(), system, lead.ID, "rejected", "")
			return err
		},
	}
	var times []time.Time
	for i, step := range steps {
		if i%2 == 1 {
			d.clock.add(-time.Minute)
		}
		require.NoError(t, step())
		times = append(times, d.customer(t, lead.ID).UpdatedAt)
	}
	require.IsNonDecreasing(t, micros(times))
	a, b := sellers[0].ID, sellers[1].ID
	type step struct {
		cause     cims.Cause
		from, to  string
		give, get int64
	}
	var found []step
	for _, event := range d.history(t, lead.ID) {
		found = append(found, step{event.Cause, event.FromStatus, event.ToStatus, value(event.FromManager), value(event.ToManager)})
	}
	require.Equal(t, []step{
		{cause: cims.CauseCreated, to: "doomed"},
		{cause: cims.CauseAutomatic, get: a},
		{cause: cims.CauseManual, give: a, get: b},
		{cause: cims.CauseRedistributed, give: b, get: a},
		{cause: cims.CauseMoved, from: "doomed", to: "continuing"},
		{cause: cims.CauseManual, from: "continuing", to: "finished"},
		{cause: cims.CauseRedistributed, give: a, get: b},
		{cause: cims.CauseManual, from: "finished", to: "rejected"},
	}, found)
}

func micros(times []time.Time) []int64 {
	list := make([]int64, len(times))
	for i, at := range times {
		list[i] = at.UnixMicro()
	}
	return list
}

// historyOfAnotherClock has events in it whose times go back, as another program's
// clock may have had them.
func historyOfAnotherClock(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	lead := d.lead(t, "Aziza")
	for n, status := range []string{"continuing", "finished", "rejected", "contacted"} {
		_, err := d.crm.SetStatus(t.Context(), system, lead.ID, status, "")
		require.NoError(t, err)
		_, err = d.crm.Assign(t.Context(), system, lead.ID, sellers[(n+1)%2].ID)
		require.NoError(t, err)
	}
	want := d.history(t, lead.ID)
	require.NotEmpty(t, want)
	changed := false
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		executor, ok := tx.(cims.Executor)
		if !ok {
			return nil // its times are the Manager's
		}
		changed = true
		for _, statement := range []string{
			"UPDATE customer_status_history SET changed_at = '2021-05-04 10:00:00+00:00' WHERE to_status = 'finished'",
			"UPDATE customer_status_history SET changed_at = '2020-05-04 10:00:00+00:00' WHERE to_status = 'rejected'",
			"UPDATE assignment_history SET changed_at = '2022-05-04 10:00:00+00:00' WHERE id = (SELECT max(id) FROM assignment_history)",
		} {
			if _, err := executor.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
	got := d.history(t, lead.ID) // in small pages
	if !changed {
		require.Equal(t, want, got)
		return
	}
	require.True(t, slices.IsSortedFunc(got, func(a, b cims.Event) int { return a.At.Compare(b.At) }))
	ofKind := func(events []cims.Event, kind cims.EventKind) []int64 {
		return ids(slices.DeleteFunc(slices.Clone(events), func(e cims.Event) bool { return e.Kind != kind }), func(e cims.Event) int64 { return e.ID })
	}
	for _, kind := range []cims.EventKind{cims.StatusEvent, cims.AssignmentEvent} {
		require.Equal(t, ofKind(want, kind), ofKind(got, kind))
	}
}
