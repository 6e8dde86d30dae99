package storagetest

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

var statusTests = []test{
	{"Statuses_Defaults", statusDefaults},
	{"Statuses_Create", createStatus},
	{"Statuses_CreateRefusals", createStatusRefusals},
	{"Statuses_Names", statusNames},
	{"Statuses_List", listStatuses},
	{"Statuses_Update", updateStatus},
	{"Statuses_UpdateRefusals", updateStatusRefusals},
	{"Statuses_Delete", deleteStatus},
	{"Statuses_DeleteInUse", deleteStatusInUse},
	{"Statuses_DeleteAndMove", deleteStatusAndMove},
	{"Statuses_DeleteAndMoveRefusals", deleteStatusAndMoveRefusals},
}

func statusDefaults(t *testing.T, d *database) {
	statuses, err := d.crm.Statuses(t.Context(), system, cims.StatusFilter{})
	require.NoError(t, err)
	expected := []struct {
		name  string
		color cims.Text
	}{
		{"contacted", "#3B82F6"},
		{"project_started", "#10B981"},
		{"continuing", "#F59E0B"},
		{"finished", "#8B5CF6"},
		{"rejected", "#EF4444"},
		{"need_to_call", "#F97316"},
	}
	require.Len(t, statuses, len(expected))
	for i, status := range statuses {
		require.Equal(t, expected[i].name, status.Name)
		require.Equal(t, expected[i].color, status.Color)
		require.Equal(t, i+1, status.Order)
		require.True(t, status.Active)
		require.True(t, status.System)
		require.NotEmpty(t, status.DisplayName)
		require.NotZero(t, status.ID)
		require.WithinDuration(t, time.Now(), status.CreatedAt, time.Hour)
		require.False(t, status.UpdatedAt.IsZero())
		status.ID, status.CreatedAt, status.UpdatedAt = 0, time.Time{}, time.Time{}
		require.Equal(t, cims.SystemStatuses()[i], status)
	}
}

func createStatus(t *testing.T, d *database) {
	before := d.clock.now()
	status, err := d.crm.CreateStatus(t.Context(), system, cims.NewStatus{
		Name: "  Offer Sent ", DisplayName: "  Offer sent ", Description: "One\n\ttwo", Color: "#aBc", Order: 7, Inactive: true,
	})
	require.NoError(t, err)
	require.NotZero(t, status.ID)
	require.True(t, status.CreatedAt.After(before) && status.CreatedAt.Before(d.clock.now()), "by the clock")
	require.Equal(t, cims.Status{
		ID: status.ID, Name: "offer_sent", DisplayName: "Offer sent", Description: "One\n\ttwo", Color: "#aBc", Order: 7,
		CreatedAt: status.CreatedAt, UpdatedAt: status.CreatedAt,
	}, status)
	require.Equal(t, status, d.statusNamed(t, "offer_sent"))

	status, err = d.crm.CreateStatus(t.Context(), system, cims.NewStatus{Name: "plain", DisplayName: "Plain"})
	require.NoError(t, err)
	require.Equal(t, cims.Status{
		ID: status.ID, Name: "plain", DisplayName: "Plain", Active: true, CreatedAt: status.CreatedAt, UpdatedAt: status.CreatedAt,
	}, status)
	require.Equal(t, status, d.statusNamed(t, "plain"))
}

func createStatusRefusals(t *testing.T, d *database) {
	for _, c := range []struct {
		in     cims.NewStatus
		faults []string
	}{
		{cims.NewStatus{}, []string{"name:required", "display_name:required"}},
		{cims.NewStatus{Name: " ", DisplayName: " \t "}, []string{"name:required", "display_name:required"}},
		{cims.NewStatus{Name: "a-b", DisplayName: "A"}, []string{"name:name"}},
		{cims.NewStatus{Name: "a\u200bb", DisplayName: "A"}, []string{"name:name"}},
		{cims.NewStatus{Name: "a\u0000", DisplayName: "A"}, []string{"name:name"}},
		{cims.NewStatus{Name: "a\xff", DisplayName: "A\xff"}, []string{"name:name", "display_name:text"}},
		{cims.NewStatus{Name: strings.Repeat("ў", 101), DisplayName: "A"}, []string{"name:length"}},
		{cims.NewStatus{Name: "a", DisplayName: strings.Repeat("ў", 256)}, []string{"display_name:length"}},
		{cims.NewStatus{Name: "a", DisplayName: "A\nB"}, []string{"display_name:text"}},
		{cims.NewStatus{Name: "a", DisplayName: "A", Description: strings.Repeat("ў", 2001)}, []string{"description:length"}},
		{cims.NewStatus{Name: "a", DisplayName: "A", Description: "\x00"}, []string{"description:text"}},
		{cims.NewStatus{Name: "a", DisplayName: "A", Color: "red"}, []string{"color:color"}},
		{cims.NewStatus{Name: "a", DisplayName: "A", Color: "#12345"}, []string{"color:color"}},
		{cims.NewStatus{Name: "a", DisplayName: "A", Color: "#12345g"}, []string{"color:color"}},
		{cims.NewStatus{Name: "a", DisplayName: "A", Color: "3B82F6"}, []string{"color:color"}},
		{cims.NewStatus{Name: "a", DisplayName: "A", Order: -1}, []string{"order:range"}},
		{cims.NewStatus{Name: "a", DisplayName: "A", Order: 1_000_001}, []string{"order:range"}},
		{
			cims.NewStatus{Name: "?", Description: "\x01", Color: "#", Order: -1},
			[]string{"name:name", "display_name:required", "description:text", "color:color", "order:range"},
		},
	} {
		_, err := d.crm.CreateStatus(t.Context(), system, c.in)
		requireInvalid(t, err, c.faults...)
	}
	d.status(t, "taken")
	for _, name := range []string{"taken", " TAKEN ", "Taken", "contacted", "Need to CALL"} {
		_, err := d.crm.CreateStatus(t.Context(), system, cims.NewStatus{Name: name, DisplayName: "A"})
		require.ErrorIs(t, err, cims.ErrExists, name)
	}
	statuses, err := d.Statuses(t.Context())
	require.NoError(t, err)
	require.Len(t, statuses, 7)
}

func statusNames(t *testing.T, d *database) {
	for given, stored := range map[string]string{
		"Янги Мижоз":               "янги_мижоз",
		"顧客":                       "顧客",
		"عميل":                     "عميل",
		"٣":                        "٣",
		"a  b":                     "a__b",
		"_":                        "_",
		"ÄÖ":                       "äö",
		strings.Repeat("Ў", 100):   strings.Repeat("ў", 100),
		"\u00a0with nbsp around\t": "", // a tab is a control character
	} {
		status, err := d.crm.CreateStatus(t.Context(), system, cims.NewStatus{Name: given, DisplayName: "A"})
		if stored == "" {
			requireInvalid(t, err, "name:name")
			continue
		}
		require.NoError(t, err, given)
		require.Equal(t, stored, status.Name)
		// The same, given in any of its forms.
		lead := d.leadIn(t, "Aziza", given)
		require.Equal(t, stored, lead.StatusName)
	}
}

func listStatuses(t *testing.T, d *database) {
	for _, in := range []cims.NewStatus{
		{Name: "z_first", DisplayName: "Z", Order: 0},
		{Name: "b_tie", DisplayName: "B", Order: 3, Inactive: true},
		{Name: "a_tie", DisplayName: "A", Order: 3},
		{Name: "last", DisplayName: "L", Order: 1_000_000},
	} {
		_, err := d.crm.CreateStatus(t.Context(), system, in)
		require.NoError(t, err)
	}
	list := func(active *bool) []string {
		statuses, err := d.crm.Statuses(t.Context(), system, cims.StatusFilter{Active: active})
		require.NoError(t, err)
		var names []string
		for _, status := range statuses {
			names = append(names, status.Name)
		}
		return names
	}
	require.Equal(t, []string{
		"z_first", "contacted", "project_started", "continuing", "b_tie", "a_tie", "finished", "rejected", "need_to_call", "last",
	}, list(nil), "by order, then id")
	require.Equal(t, []string{
		"z_first", "contacted", "project_started", "continuing", "a_tie", "finished", "rejected", "need_to_call", "last",
	}, list(new(true)))
	require.Equal(t, []string{"b_tie"}, list(new(false)))
}

func updateStatus(t *testing.T, d *database) {
	status, err := d.crm.CreateStatus(t.Context(), system, cims.NewStatus{
		Name: "a", DisplayName: "A", Description: "About", Color: "#123", Order: 5,
	})
	require.NoError(t, err)
	update := func(update cims.StatusUpdate) {
		t.Helper()
		before := status.UpdatedAt
		got, err := d.crm.UpdateStatus(t.Context(), system, status.ID, update)
		require.NoError(t, err)
		require.True(t, got.UpdatedAt.After(before))
		status.UpdatedAt = got.UpdatedAt
		require.Equal(t, status, got)
		require.Equal(t, status, d.statusNamed(t, "a"))
	}
	// Each field alone: the others stay.
	status.DisplayName = "B"
	update(cims.StatusUpdate{DisplayName: new(" B ")})
	status.Description = "More"
	update(cims.StatusUpdate{Description: new("More")})
	status.Color = "#aabbcc"
	update(cims.StatusUpdate{Color: new("#aabbcc")})
	status.Order = 6
	update(cims.StatusUpdate{Order: new(6)})
	status.Active = false
	update(cims.StatusUpdate{Active: new(false)})
	status.Description = ""
	update(cims.StatusUpdate{Description: new("")})
	status.Color = ""
	update(cims.StatusUpdate{Color: new("")})
	status.Order = 0
	update(cims.StatusUpdate{Order: new(0)})
	status.Active, status.Order, status.DisplayName = true, 1, "C"
	update(cims.StatusUpdate{Active: new(true), Order: new(1), DisplayName: new("C")})

	same, err := d.crm.UpdateStatus(t.Context(), system, status.ID, cims.StatusUpdate{
		DisplayName: new("C"), Description: new(""), Color: new(""), Order: new(1), Active: new(true),
	})
	require.NoError(t, err)
	require.Equal(t, status, same, "values that equal the present ones change nothing, the time neither")
	require.Equal(t, status, d.statusNamed(t, "a"))

	d.clock.add(-time.Hour)
	status.Order = 2
	update(cims.StatusUpdate{Order: new(2)}) // a later time also when the clock was set back

	contacted := d.statusNamed(t, cims.StatusContacted)
	got, err := d.crm.UpdateStatus(t.Context(), system, contacted.ID, cims.StatusUpdate{
		DisplayName: new("Yangi"), Active: new(true), Order: new(100),
	})
	require.NoError(t, err, "a system status can be edited")
	require.Equal(t, "Yangi", got.DisplayName)
	require.True(t, got.System)
}

func updateStatusRefusals(t *testing.T, d *database) {
	status := d.status(t, "a")
	for _, c := range []struct {
		in     cims.StatusUpdate
		faults []string
	}{
		{cims.StatusUpdate{}, []string{"body:no_field"}},
		{cims.StatusUpdate{DisplayName: new("")}, []string{"display_name:required"}},
		{cims.StatusUpdate{DisplayName: new(" ")}, []string{"display_name:required"}},
		{cims.StatusUpdate{DisplayName: new("a\x00")}, []string{"display_name:text"}},
		{cims.StatusUpdate{Color: new("blue")}, []string{"color:color"}},
		{cims.StatusUpdate{Order: new(-1)}, []string{"order:range"}},
		{cims.StatusUpdate{Description: new(strings.Repeat("a", 2001)), Order: new(1_000_001)}, []string{"description:length", "order:range"}},
	} {
		_, err := d.crm.UpdateStatus(t.Context(), system, status.ID, c.in)
		requireInvalid(t, err, c.faults...)
	}
	_, err := d.crm.UpdateStatus(t.Context(), system, status.ID+1000, cims.StatusUpdate{Order: new(1)})
	require.ErrorIs(t, err, cims.ErrNotFound)
	_, err = d.crm.UpdateStatus(t.Context(), system, -1, cims.StatusUpdate{Order: new(1)})
	require.ErrorIs(t, err, cims.ErrNotFound)
	for _, name := range []string{"contacted", "project_started"} {
		entry := d.statusNamed(t, name)
		_, err = d.crm.UpdateStatus(t.Context(), system, entry.ID, cims.StatusUpdate{Active: new(false), Order: new(50)})
		requireForbidden(t, err, cims.ReasonSystemEntry)
		require.Equal(t, entry, d.statusNamed(t, name), "nothing of it is done")
	}
	require.Equal(t, status, d.statusNamed(t, "a"))

	// Of the system ones only those that Config names have to stay active, and they do
	// whoever made them.
	other := d.manager(t, d.Storage, &cims.Config{InitialStatus: "a", ConversionTarget: "finished"})
	for _, name := range []string{"a", "finished"} {
		_, err = other.UpdateStatus(t.Context(), system, d.statusNamed(t, name).ID, cims.StatusUpdate{Active: new(false)})
		requireForbidden(t, err, cims.ReasonSystemEntry)
		requireForbidden(t, other.DeleteStatus(t.Context(), system, d.statusNamed(t, name).ID, cims.Deletion{}), cims.ReasonSystemEntry)
	}
	for _, name := range []string{"contacted", "project_started", "need_to_call"} {
		got, err := other.UpdateStatus(t.Context(), system, d.statusNamed(t, name).ID, cims.StatusUpdate{Active: new(false)})
		require.NoError(t, err)
		require.False(t, got.Active)
		require.Equal(t, got, d.statusNamed(t, name))
	}
	require.NoError(t, d.Migrate(t.Context()))
	require.False(t, d.statusNamed(t, "need_to_call").Active, "a migration leaves it so")
}

func deleteStatus(t *testing.T, d *database) {
	status := d.status(t, "a")
	require.NoError(t, d.crm.DeleteStatus(t.Context(), system, status.ID, cims.Deletion{}))
	statuses, err := d.Statuses(t.Context())
	require.NoError(t, err)
	require.Len(t, statuses, 6)
	require.ErrorIs(t, d.crm.DeleteStatus(t.Context(), system, status.ID, cims.Deletion{}), cims.ErrNotFound)
	require.ErrorIs(t, d.crm.DeleteStatus(t.Context(), system, status.ID, cims.Deletion{MoveTo: "finished"}), cims.ErrNotFound)
	for _, entry := range statuses {
		for _, how := range []cims.Deletion{{}, {MoveTo: "finished"}} {
			requireForbidden(t, d.crm.DeleteStatus(t.Context(), system, entry.ID, how), cims.ReasonSystemEntry)
		}
	}
	again := d.status(t, "a")
	require.NotEqual(t, status.ID, again.ID, "an id is not used again")
}

func deleteStatusInUse(t *testing.T, d *database) {
	status := d.status(t, "used")
	for _, c := range []struct {
		add, count int
		isMinimum  bool
	}{{1, 1, false}, {999, 1000, false}, {1, 1000, true}, {50, 1000, true}} {
		d.bulk(t, c.add, "used")
		requireInUse(t, d.crm.DeleteStatus(t.Context(), system, status.ID, cims.Deletion{}), c.count, c.isMinimum)
	}
	count, err := d.CountCustomers(t.Context(), "used", 5000)
	require.NoError(t, err)
	require.Equal(t, 1051, count, "nothing is deleted")
	require.Equal(t, status, d.statusNamed(t, "used"))

	// An inactive one is in use just the same.
	_, err = d.crm.UpdateStatus(t.Context(), system, status.ID, cims.StatusUpdate{Active: new(false)})
	require.NoError(t, err)
	requireInUse(t, d.crm.DeleteStatus(t.Context(), system, status.ID, cims.Deletion{}), 1000, true)

	require.NoError(t, d.crm.DeleteStatus(t.Context(), system, status.ID, cims.Deletion{MoveTo: "finished"}))
	count, err = d.CountCustomers(t.Context(), "finished", 5000)
	require.NoError(t, err)
	require.Equal(t, 1051, count)
}

func deleteStatusAndMove(t *testing.T, d *database) {
	boss := d.actor(t, cims.RoleCEO, "Boss")
	seller := d.sellers(t, "Anvar")[0]
	status := d.status(t, "leaving")
	owned, elsewhere := d.leadIn(t, "Owned", "leaving"), d.leadIn(t, "Elsewhere", "rejected")
	alone := d.bulk(t, 1, "leaving")[0]

	require.NoError(t, d.crm.DeleteStatus(t.Context(), boss, status.ID, cims.Deletion{MoveTo: " Need to Call "}))

	for id, owner := range map[int64]int64{owned.ID: seller.ID, alone: 0} {
		customer := d.customer(t, id)
		require.Equal(t, "need_to_call", customer.StatusName)
		require.Equal(t, owner, ownerID(customer))
		events := d.history(t, id)
		last := events[len(events)-1]
		require.Equal(t, owner, value(last.Owner))
		require.Equal(t, cims.Event{
			ID: last.ID, At: last.At, Kind: cims.StatusEvent, FromStatus: "leaving", ToStatus: "need_to_call",
			By: new(boss.User().ID), Cause: cims.CauseMoved, Owner: last.Owner,
		}, last)
		require.Equal(t, customer.UpdatedAt, last.At)
		require.True(t, last.At.After(customer.CreatedAt))
	}
	require.Len(t, d.history(t, alone), 2)
	require.Len(t, d.history(t, elsewhere.ID), 2)
	require.Equal(t, "rejected", d.customer(t, elsewhere.ID).StatusName)
	statuses, err := d.Statuses(t.Context())
	require.NoError(t, err)
	require.Len(t, statuses, 6)

	// Nobody to move is fine too.
	empty := d.status(t, "empty")
	require.NoError(t, d.crm.DeleteStatus(t.Context(), boss, empty.ID, cims.Deletion{MoveTo: "finished"}))

	// The order of events stays true when the clock was set back.
	status = d.status(t, "leaving_again")
	lead := d.leadIn(t, "Late", "leaving_again")
	d.clock.add(-time.Hour)
	require.NoError(t, d.crm.DeleteStatus(t.Context(), boss, status.ID, cims.Deletion{MoveTo: "finished"}))
	events := d.history(t, lead.ID)
	require.Equal(t, cims.CauseCreated, events[0].Cause, "an event came before the creation")
	require.Equal(t, cims.CauseMoved, events[len(events)-1].Cause)
}

func deleteStatusAndMoveRefusals(t *testing.T, d *database) {
	status := d.status(t, "leaving")
	lead := d.leadIn(t, "Aziza", "leaving")
	_, err := d.crm.CreateStatus(t.Context(), system, cims.NewStatus{Name: "inactive", DisplayName: "I", Inactive: true})
	require.NoError(t, err)
	for target, fault := range map[string]string{
		"inactive": "move_to:unknown", "nowhere": "move_to:unknown", "leaving": "move_to:choice", "LEAVING": "move_to:choice",
		"a\x00": "move_to:unknown", "a\xff": "move_to:unknown",
	} {
		requireInvalid(t, d.crm.DeleteStatus(t.Context(), system, status.ID, cims.Deletion{MoveTo: target}), fault)
	}
	require.Equal(t, "leaving", d.customer(t, lead.ID).StatusName)
	require.Len(t, d.history(t, lead.ID), 1)
	require.Equal(t, status, d.statusNamed(t, "leaving"))
}
