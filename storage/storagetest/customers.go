package storagetest

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

var customerTests = []test{
	{"Customers_Add", addCustomer},
	{"Customers_AddRefusals", addCustomerRefusals},
	{"Customers_AddUnderOwn", addUnderOwn},
	{"Customers_KeepOwn", keepOwn},
	{"Customers_AddForSomebody", addForSomebody},
	{"Customers_InitialStatus", initialStatus},
	{"Customers_SetStatus", setStatus},
	{"Customers_SetStatusRefusals", setStatusRefusals},
	{"Customers_Assignment", customerAssignment},
	{"Customers_List", listCustomers},
	{"Customers_ListByPhone", listByPhone},
	{"Customers_ListRefusals", listCustomersRefusals},
	{"Customers_PagesWhileOthersAreAdded", pagesUnderWay},
}

func addCustomer(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	boss := d.actor(t, cims.RoleCEO, "Boss")
	before := d.clock.now()
	customer, err := d.crm.AddCustomer(t.Context(), boss, cims.NewCustomer{
		FullName: " Aziza Karimova ", PhoneNumber: " +998 90 123 45 67 ", Platform: " Instagram ", Username: " @aziza ",
		Notes: " first\n\tsecond ", StatusName: " Need to Call ",
	})
	require.NoError(t, err)
	require.True(t, customer.CreatedAt.After(before) && customer.CreatedAt.Before(d.clock.now()), "by the clock")
	require.NotNil(t, customer.Assignment)
	require.NotZero(t, customer.Assignment.ID)
	require.Equal(t, cims.Customer{
		ID: customer.ID, FullName: "Aziza Karimova", PhoneNumber: "+998 90 123 45 67", Platform: "Instagram", Username: "@aziza",
		Notes: " first\n\tsecond ", StatusName: "need_to_call", CreatedAt: customer.CreatedAt, UpdatedAt: customer.CreatedAt,
		SalesManager: &cims.Person{ID: sellers[0].ID, Email: sellers[0].Email, Name: sellers[0].Name, Surname: sellers[0].Surname},
		Assignment: &cims.Assignment{
			ID: customer.Assignment.ID, CustomerID: customer.ID, SalesManagerID: sellers[0].ID,
			AssignedAt: customer.CreatedAt, Active: true, // by nobody
		},
	}, customer)
	require.Equal(t, customer, d.customer(t, customer.ID))
	read, err := d.crm.Customer(t.Context(), boss, customer.ID)
	require.NoError(t, err)
	require.Equal(t, customer, read)

	events := d.history(t, customer.ID)
	require.Len(t, events, 2)
	require.Equal(t, cims.Event{
		ID: events[0].ID, At: customer.CreatedAt, Kind: cims.StatusEvent, ToStatus: "need_to_call",
		By: new(boss.User().ID), Cause: cims.CauseCreated, Owner: &sellers[0].ID,
	}, events[0])
	require.Equal(t, cims.Event{
		ID: events[1].ID, At: customer.CreatedAt, Kind: cims.AssignmentEvent, ToManager: &sellers[0].ID,
		Cause: cims.CauseAutomatic, Owner: events[1].Owner,
	}, events[1])

	customer, err = d.crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "A"})
	require.NoError(t, err, "nothing but the name is needed")
	require.Equal(t, cims.StatusContacted, customer.StatusName)
	require.Equal(t, sellers[1].ID, ownerID(customer))
	require.Nil(t, d.history(t, customer.ID)[0].By, "by trusted code")
}

func addCustomerRefusals(t *testing.T, d *database) {
	_, err := d.crm.CreateStatus(t.Context(), system, cims.NewStatus{Name: "inactive", DisplayName: "I", Inactive: true})
	require.NoError(t, err)
	for _, c := range []struct {
		in     cims.NewCustomer
		faults []string
	}{
		{cims.NewCustomer{}, []string{"full_name:required"}},
		{cims.NewCustomer{FullName: "  "}, []string{"full_name:required"}},
		{cims.NewCustomer{FullName: strings.Repeat("ў", 501)}, []string{"full_name:length"}},
		{cims.NewCustomer{FullName: "a\nb"}, []string{"full_name:text"}},
		{cims.NewCustomer{FullName: "a\x00"}, []string{"full_name:text"}},
		{cims.NewCustomer{FullName: "a\xff"}, []string{"full_name:text"}},
		{cims.NewCustomer{
			FullName: "A", PhoneNumber: strings.Repeat("1", 51), Platform: strings.Repeat("a", 256),
			Username: strings.Repeat("a", 256), Notes: strings.Repeat("a", 10_001),
		}, []string{"phone_number:length", "platform:length", "username:length", "notes:length"}},
		{cims.NewCustomer{FullName: "A", PhoneNumber: "\x01", Platform: "\x02", Username: "\x7f", Notes: "\x00"}, []string{
			"phone_number:text", "platform:text", "username:text", "notes:text",
		}},
		{cims.NewCustomer{FullName: "A", StatusName: "nowhere"}, []string{"status_name:unknown"}},
		{cims.NewCustomer{FullName: "A", StatusName: "inactive"}, []string{"status_name:unknown"}},
		{cims.NewCustomer{FullName: "A", StatusName: "a\x00b"}, []string{"status_name:unknown"}},
		{cims.NewCustomer{FullName: "A", StatusName: "a\xffb"}, []string{"status_name:unknown"}},
		{cims.NewCustomer{FullName: "A", IdempotencyKey: strings.Repeat("k", 256)}, []string{"idempotency_key:length"}},
		{cims.NewCustomer{FullName: "A", IdempotencyKey: "a b"}, []string{"idempotency_key:text"}},
		{cims.NewCustomer{FullName: "A", IdempotencyKey: "ключ"}, []string{"idempotency_key:text"}},
	} {
		_, err := d.crm.AddCustomer(t.Context(), system, c.in)
		requireInvalid(t, err, c.faults...)
	}
	require.Empty(t, d.customers(t, cims.CustomerFilter{}))
}

// addUnderOwn: a sales manager adds leads in the initial status only, and by default
// the rotation decides.
func addUnderOwn(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	me := d.actorOf(t, sellers[1].ID)
	for _, status := range []string{"", "Contacted"} {
		lead, err := d.crm.AddCustomer(t.Context(), me, cims.NewCustomer{FullName: "A", StatusName: status})
		require.NoError(t, err)
		require.Equal(t, "contacted", lead.StatusName)
		require.Nil(t, lead.Assignment.AssignedBy)
	}
	require.Equal(t, map[int64]int{sellers[0].ID: 1, sellers[1].ID: 1}, d.leadsOf(t), "in turn")
	refused := func(crm *cims.Manager, status string, rule cims.FieldRule) {
		t.Helper()
		for _, key := range []string{"", "key"} {
			_, err := crm.AddCustomer(t.Context(), me, cims.NewCustomer{FullName: "A", StatusName: status, IdempotencyKey: key})
			requireInvalid(t, err, "status_name:"+string(rule))
		}
	}
	refused(d.crm, "project_started", cims.RuleChoice)
	refused(d.crm, "nowhere", cims.RuleUnknown)
	// It is the initial status of the moment that counts.
	other := d.manager(t, d.Storage, &cims.Config{InitialStatus: "continuing"})
	refused(other, "contacted", cims.RuleChoice)
	elsewhere := d.manager(t, d.Storage, &cims.Config{InitialStatus: "absent"})
	refused(elsewhere, "continuing", cims.RuleChoice)
	for crm, status := range map[*cims.Manager]string{other: "continuing", elsewhere: "contacted"} {
		_, err := crm.AddCustomer(t.Context(), me, cims.NewCustomer{FullName: "A", StatusName: status})
		require.NoError(t, err)
	}
	// Beside one that is refused, others are added.
	boss := d.actor(t, cims.RoleCEO, "Boss")
	errs := together(8, func(i int) error {
		_, err := d.crm.AddCustomer(t.Context(), []cims.Actor{me, boss}[i%2], cims.NewCustomer{FullName: "A", StatusName: "finished"})
		return err
	})
	for i, err := range errs {
		if i%2 == 0 {
			requireInvalid(t, err, "status_name:choice")
		} else {
			require.NoError(t, err)
		}
	}
	require.Len(t, d.customers(t, cims.CustomerFilter{Status: "finished"}), 4)
}

// keepOwn: a lead that a sales manager adds is its own, and takes no turn.
func keepOwn(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	a, b := sellers[0].ID, sellers[1].ID
	crm := d.manager(t, d.Storage, &cims.Config{OwnLeads: cims.KeepOwnLeads})
	me := d.actorOf(t, a)
	_, err := crm.SetSalesManager(t.Context(), system, a, cims.SalesManagerUpdate{Paused: new(true)})
	require.NoError(t, err)
	own, err := crm.AddCustomer(t.Context(), me, cims.NewCustomer{FullName: "Own", IdempotencyKey: "key"})
	require.NoError(t, err)
	require.Equal(t, a, ownerID(own), "also in a pause")
	require.Equal(t, own, d.customer(t, own.ID))
	require.Equal(t, a, value(own.Assignment.AssignedBy))
	again, err := crm.AddCustomer(t.Context(), me, cims.NewCustomer{FullName: "Own", IdempotencyKey: "key"})
	require.NoError(t, err)
	require.Equal(t, own, again)
	events := d.history(t, own.ID)
	require.Len(t, events, 2)
	require.Equal(t, cims.Event{
		ID: events[1].ID, At: own.UpdatedAt, Kind: cims.AssignmentEvent, ToManager: &a, By: &a, Cause: cims.CauseOwn, Owner: &a,
	}, events[1])
	require.Equal(t, cims.CauseOwn, d.requireAudit(t, "customer assigned")[0].Cause)
	_, err = crm.SetSalesManager(t.Context(), system, a, cims.SalesManagerUpdate{Paused: new(false)})
	require.NoError(t, err)

	// Own leads change nobody's turn.
	for range 3 {
		own, err := crm.AddCustomer(t.Context(), me, cims.NewCustomer{FullName: "Own"})
		require.NoError(t, err)
		require.Equal(t, a, ownerID(own))
	}
	for range 4 {
		_, err := crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Lead"})
		require.NoError(t, err)
	}
	require.Equal(t, map[int64]int{a: 4 + 2, b: 2}, d.leadsOf(t))
	waiting, err := d.Unassigned(t.Context(), cims.UnassignedQuery{Limit: 10})
	require.NoError(t, err)
	require.Empty(t, waiting)

	// A user that doesn't sell, or may write all leads, adds for the rotation.
	clerk := d.holder(t, "clerk", cims.LeadsWriteOwn)
	for _, actor := range []cims.Actor{clerk, d.actor(t, cims.RoleCEO, "Boss")} {
		lead, err := crm.AddCustomer(t.Context(), actor, cims.NewCustomer{FullName: "Lead"})
		require.NoError(t, err)
		require.Nil(t, lead.Assignment.AssignedBy)
	}
	require.Equal(t, map[int64]int{a: 7, b: 3}, d.leadsOf(t))
}

// addForSomebody: the input names the sales manager, as for somebody who has walked in.
func addForSomebody(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	b := sellers[1].ID
	boss := d.actor(t, cims.RoleCEO, "Boss")
	in := cims.NewCustomer{FullName: "Walk-in", StatusName: "continuing", SalesManagerID: &b, IdempotencyKey: "key"}
	lead, err := d.crm.AddCustomer(t.Context(), boss, in)
	require.NoError(t, err)
	require.Equal(t, b, ownerID(lead))
	require.Equal(t, lead, d.customer(t, lead.ID))
	require.Equal(t, boss.User().ID, value(lead.Assignment.AssignedBy))
	require.Equal(t, cims.CauseManual, d.history(t, lead.ID)[1].Cause)
	require.Equal(t, boss.User().ID, d.requireAudit(t, "customer assigned")[0].By.ID)
	again, err := d.crm.AddCustomer(t.Context(), boss, in)
	require.NoError(t, err)
	require.Equal(t, lead, again)
	in.SalesManagerID = &sellers[0].ID
	_, err = d.crm.AddCustomer(t.Context(), boss, in)
	require.ErrorIs(t, err, cims.ErrKeyReused)
	in.SalesManagerID, in.IdempotencyKey = &b, ""
	require.Equal(t, sellers[0].ID, ownerID(d.lead(t, "Next")), "it took no turn")

	// Unless the company wants that.
	taking := d.manager(t, d.Storage, &cims.Config{ManualTakesTurn: true})
	_, err = taking.AddCustomer(t.Context(), boss, in)
	require.NoError(t, err)
	require.Equal(t, sellers[0].ID, ownerID(d.lead(t, "Next")), "the turn of the other is taken")

	for _, id := range []int64{boss.User().ID, absent, 0, -1} {
		in.SalesManagerID = &id
		_, err = d.crm.AddCustomer(t.Context(), boss, in)
		require.ErrorIs(t, err, cims.ErrNotFound)
	}
	in.SalesManagerID = &b
	_, err = d.crm.AddCustomer(t.Context(), d.holder(t, "writer", cims.LeadsWrite), in)
	requireForbidden(t, err, cims.ReasonPermission)
	_, err = d.crm.AddCustomers(t.Context(), boss, []cims.NewCustomer{in}, nil)
	requireInvalid(t, err, "sales_manager_id:read_only")
	require.Len(t, d.customers(t, cims.CustomerFilter{}), 4)
}

// listByPhone: digits find a number with a plus sign too, since that is a space in a
// query that nobody escaped.
func listByPhone(t *testing.T, d *database) {
	for _, phone := range []string{"+998901234567", "998 90 765 43 21", "+7 495", "", "+", "x998"} {
		_, err := d.crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Lead " + phone, PhoneNumber: phone})
		require.NoError(t, err)
	}
	for prefix, count := range map[string]int{
		" 998": 2, "998": 2, "+998": 1, " 998901": 1, "998 9": 1, "+998 9": 0, "7": 1, "+7": 1, "+": 3, "++998": 0, "x": 1, "98": 0, "lead +": 3,
	} {
		require.Len(t, d.customers(t, cims.CustomerFilter{Prefix: prefix}), count, "%q", prefix)
	}
}

func initialStatus(t *testing.T, d *database) {
	var logged bytes.Buffer
	other := d.manager(t, d.Storage, &cims.Config{InitialStatus: " Fresh Lead ", Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	added := func(crm *cims.Manager) string {
		customer, err := crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "A"})
		require.NoError(t, err)
		return customer.StatusName
	}
	require.ErrorIs(t, other.Ready(t.Context()), cims.ErrNotFound)
	require.Equal(t, "contacted", added(other), "what is absent can't be: the first active one by order")
	require.Equal(t, "contacted", added(other))
	require.Equal(t, 1, strings.Count(logged.String(), "Config.InitialStatus is no active status"), &logged)
	require.Contains(t, logged.String(), "configured=fresh_lead used=contacted")
	fresh := d.status(t, "fresh_lead")
	require.NoError(t, other.Ready(t.Context()))
	require.Equal(t, "fresh_lead", added(other))
	require.Equal(t, "contacted", added(d.crm))

	// While it is inactive: the first active one by order, then id.
	for _, in := range []cims.NewStatus{
		{Name: "second", DisplayName: "S", Order: 0}, {Name: "third", DisplayName: "T", Order: 0},
	} {
		_, err := d.crm.CreateStatus(t.Context(), system, in)
		require.NoError(t, err)
	}
	_, err := d.crm.UpdateStatus(t.Context(), system, fresh.ID, cims.StatusUpdate{Active: new(false)})
	require.NoError(t, err)
	require.Equal(t, "second", added(other))
	require.Equal(t, "contacted", added(d.crm))
	_, err = d.crm.UpdateStatus(t.Context(), system, d.statusNamed(t, "second").ID, cims.StatusUpdate{Order: new(9)})
	require.NoError(t, err)
	require.Equal(t, "third", added(other))
	_, err = d.crm.UpdateStatus(t.Context(), system, fresh.ID, cims.StatusUpdate{Active: new(true)})
	require.NoError(t, err)
	require.Equal(t, "fresh_lead", added(other))
}

func setStatus(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	me := d.actorOf(t, sellers[0].ID)
	lead := d.lead(t, "Aziza")
	at := lead.UpdatedAt
	change := func(actor cims.Actor, status, reason string) cims.Customer {
		t.Helper()
		got, err := d.crm.SetStatus(t.Context(), actor, lead.ID, status, reason)
		require.NoError(t, err)
		require.Equal(t, got, d.customer(t, lead.ID))
		require.Equal(t, lead.CreatedAt, got.CreatedAt)
		return got
	}
	got := change(me, " Need to Call ", "asked\nfor it")
	require.Equal(t, "need_to_call", got.StatusName)
	require.True(t, got.UpdatedAt.After(at))
	at = got.UpdatedAt

	// To where it is already: nothing happens, but a reason is kept.
	require.Equal(t, got, change(me, "need_to_call", ""))
	require.Len(t, d.history(t, lead.ID), 3)
	noted := change(me, "need_to_call", "again")
	require.Equal(t, "need_to_call", noted.StatusName)
	require.True(t, noted.UpdatedAt.After(at))
	events := d.history(t, lead.ID)
	require.Equal(t, cims.Event{
		ID: events[3].ID, At: noted.UpdatedAt, Kind: cims.NoteEvent,
		By: &sellers[0].ID, Cause: cims.CauseManual, Reason: "again", Owner: &sellers[0].ID,
	}, events[3])
	for page := (cims.PageRequest{Limit: 1}); len(events) > 0; events = events[1:] { // a cursor may stand on it
		part, err := d.crm.History(t.Context(), system, lead.ID, page)
		require.NoError(t, err)
		require.Equal(t, events[:1], part.Items)
		page.Cursor = part.Next
	}

	d.own(t, sellers[1].ID, lead.ID)
	d.clock.add(-48 * time.Hour)
	got = change(system, "finished", "")
	require.True(t, got.UpdatedAt.After(at), "also when the clock was set back")
	d.clock.stop()
	for _, status := range []string{"contacted", "finished", "contacted"} {
		change(system, status, "")
	}

	var steps []string
	events = d.history(t, lead.ID)
	for _, event := range events {
		if event.Kind == cims.StatusEvent {
			steps = append(steps, event.FromStatus+">"+event.ToStatus)
		}
	}
	require.Equal(t, []string{
		">contacted", "contacted>need_to_call", "need_to_call>finished", "finished>contacted", "contacted>finished", "finished>contacted",
	}, steps)
	require.Equal(t, cims.Event{
		ID: events[2].ID, At: at, Kind: cims.StatusEvent, FromStatus: "contacted", ToStatus: "need_to_call",
		By: &sellers[0].ID, Cause: cims.CauseManual, Reason: "asked\nfor it", Owner: &sellers[0].ID,
	}, events[2])
	require.Equal(t, sellers[1].ID, value(events[5].Owner), "the owner of that moment")
	require.Nil(t, events[5].By)

	// A customer can leave an inactive status.
	closed := d.status(t, "closed")
	change(system, "closed", "")
	_, err := d.crm.UpdateStatus(t.Context(), system, closed.ID, cims.StatusUpdate{Active: new(false)})
	require.NoError(t, err)
	require.Equal(t, "closed", d.customer(t, lead.ID).StatusName)
	change(system, "closed", "for good")
	change(system, "finished", "")
}

func setStatusRefusals(t *testing.T, d *database) {
	_, err := d.crm.CreateStatus(t.Context(), system, cims.NewStatus{Name: "inactive", DisplayName: "I", Inactive: true})
	require.NoError(t, err)
	lead := d.lead(t, "Aziza")
	for _, c := range []struct {
		status, reason string
		faults         []string
	}{
		{"", "", []string{"status_name:required"}},
		{" ", strings.Repeat("ў", 2001), []string{"status_name:required", "reason:length"}},
		{"finished", "\x00", []string{"reason:text"}},
		{"nowhere", "", []string{"status_name:unknown"}},
		{"inactive", "", []string{"status_name:unknown"}},
		{"a\x00b", "", []string{"status_name:unknown"}},
		{"a\xffb", "", []string{"status_name:unknown"}},
	} {
		_, err := d.crm.SetStatus(t.Context(), system, lead.ID, c.status, c.reason)
		requireInvalid(t, err, c.faults...)
	}
	for _, id := range []int64{lead.ID + 1000, 0, -1} {
		_, err = d.crm.SetStatus(t.Context(), system, id, "finished", "")
		require.ErrorIs(t, err, cims.ErrNotFound)
		_, err = d.crm.Customer(t.Context(), system, id)
		require.ErrorIs(t, err, cims.ErrNotFound)
		_, err = d.crm.History(t.Context(), system, id, cims.PageRequest{})
		require.ErrorIs(t, err, cims.ErrNotFound)
	}
	require.Equal(t, lead, d.customer(t, lead.ID))
	require.Len(t, d.history(t, lead.ID), 1)
}

func customerAssignment(t *testing.T, d *database) {
	lead := d.lead(t, "Aziza")
	_, _, err := d.crm.Assignment(t.Context(), system, lead.ID)
	var refusal *cims.Error
	require.ErrorAs(t, err, &refusal)
	require.ErrorIs(t, err, cims.ErrNotFound)
	require.Equal(t, cims.ReasonNoSalesManager, refusal.Reason)
	_, _, err = d.crm.Assignment(t.Context(), system, lead.ID+1000)
	require.ErrorAs(t, err, &refusal)
	require.ErrorIs(t, err, cims.ErrNotFound)
	require.Empty(t, refusal.Reason)

	seller := d.sellers(t, "Anvar")[0]
	boss := d.actor(t, cims.RoleCEO, "Boss")
	lead = d.lead(t, "Second")
	assignment, person, err := d.crm.Assignment(t.Context(), system, lead.ID)
	require.NoError(t, err)
	require.Equal(t, *lead.Assignment, assignment)
	require.Equal(t, *lead.SalesManager, person)
	require.Nil(t, assignment.AssignedBy)

	other := d.sellers(t, "Botir")[0]
	made, err := d.crm.Assign(t.Context(), boss, lead.ID, other.ID)
	require.NoError(t, err)
	assignment, person, err = d.crm.Assignment(t.Context(), system, lead.ID)
	require.NoError(t, err)
	require.Equal(t, made, assignment)
	require.Equal(t, boss.User().ID, value(assignment.AssignedBy))
	require.Equal(t, other.ID, person.ID)
	require.NotEqual(t, seller.ID, person.ID)

	// An owner who has left the company still is the owner, until reassigned.
	_, err = d.crm.UpdateUser(t.Context(), system, other.ID, cims.UserUpdate{Active: new(false), Name: new("Renamed")})
	require.NoError(t, err)
	_, person, err = d.crm.Assignment(t.Context(), system, lead.ID)
	require.NoError(t, err)
	require.Equal(t, "Renamed", person.Name)
}

func listCustomers(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	d.clock.stop() // all of the same moment
	var leads []cims.Customer
	for i := range 9 {
		customer, err := d.crm.AddCustomer(t.Context(), system, cims.NewCustomer{
			FullName: fmt.Sprintf("Lead %d", i), PhoneNumber: fmt.Sprintf("+99890%d", i), StatusName: []string{"contacted", "finished"}[i%2],
		})
		require.NoError(t, err)
		leads = append([]cims.Customer{customer}, leads...) // the newest first
	}
	pick := func(keep func(cims.Customer) bool) []int64 {
		list := []int64{}
		for _, lead := range leads {
			if keep(lead) {
				list = append(list, lead.ID)
			}
		}
		return list
	}
	for _, c := range []struct {
		why    string
		filter cims.CustomerFilter
		keep   func(cims.Customer) bool
	}{
		{"all", cims.CustomerFilter{}, func(cims.Customer) bool { return true }},
		{"status", cims.CustomerFilter{Status: " Finished "}, func(c cims.Customer) bool { return c.StatusName == "finished" }},
		{"owner", cims.CustomerFilter{SalesManagerID: &sellers[1].ID}, func(c cims.Customer) bool { return ownerID(c) == sellers[1].ID }},
		{"unassigned", cims.CustomerFilter{Unassigned: true}, func(cims.Customer) bool { return false }},
		{"name", cims.CustomerFilter{Prefix: " lEaD 3"}, func(c cims.Customer) bool { return c.FullName == "Lead 3" }},
		{"number", cims.CustomerFilter{Prefix: "+998904"}, func(c cims.Customer) bool { return c.FullName == "Lead 4" }},
		{
			"together",
			cims.CustomerFilter{Prefix: "lead", Status: "contacted", SalesManagerID: &sellers[0].ID},
			func(c cims.Customer) bool { return c.StatusName == "contacted" && ownerID(c) == sellers[0].ID },
		},
	} {
		expected := pick(c.keep)
		for limit := 1; limit <= len(expected)+1; limit++ {
			found, page := []int64{}, cims.PageRequest{Limit: limit}
			for pages := 1; ; pages++ {
				part, err := d.crm.Customers(t.Context(), system, c.filter, page)
				require.NoError(t, err, c.why)
				found = append(found, ids(part.Items, customerID)...)
				if part.Next == "" {
					require.Equal(t, max(1, (len(expected)+limit-1)/limit), pages, "%s by %d: no empty page at the end", c.why, limit)
					break
				}
				require.Len(t, part.Items, limit)
				page.Cursor = part.Next
			}
			require.Equal(t, expected, found, "%s by %d", c.why, limit)
		}
	}
	// 50 unless asked otherwise.
	d.bulk(t, 60, "rejected")
	part, err := d.crm.Customers(t.Context(), system, cims.CustomerFilter{}, cims.PageRequest{})
	require.NoError(t, err)
	require.Len(t, part.Items, 50)
	require.NotEmpty(t, part.Next)
}

func listCustomersRefusals(t *testing.T, d *database) {
	d.bulk(t, 3, "contacted")
	first, err := d.crm.Customers(t.Context(), system, cims.CustomerFilter{}, cims.PageRequest{Limit: 1})
	require.NoError(t, err)
	d.user(t, "member", "One")
	d.user(t, "member", "Two")
	users, err := d.crm.Users(t.Context(), system, cims.UserFilter{}, cims.PageRequest{Limit: 1})
	require.NoError(t, err)

	cursors := []string{
		users.Next, // of another list
		first.Next + "A", first.Next[1:], first.Next + "=", " " + first.Next, strings.ToLower(first.Next) + "!",
		"!", "AAAA", "Yw", "Yy4x", "Yy4xLjIuMw", "Yy4uLg", "Yy54Lnk", strings.Repeat("A", 10_000), "\x00", "\xff",
		"Yy45MjIzMzcyMDM2ODU0Nzc1ODA3LjE",  // c.9223372036854775807.1
		"Yy4tOTIyMzM3MjAzNjg1NDc3NTgwOC4x", // c.-9223372036854775808.1
		"Yy45OTk5OTk5OTk5OTk5OTk5OTk5OS4x", // c.99999999999999999999.1
	}
	for _, cursor := range cursors {
		_, err := d.crm.Customers(t.Context(), system, cims.CustomerFilter{}, cims.PageRequest{Cursor: cursor})
		requireInvalid(t, err, "cursor:format")
	}
	for _, c := range []struct {
		filter cims.CustomerFilter
		page   cims.PageRequest
		faults []string
	}{
		{cims.CustomerFilter{Status: "nowhere"}, cims.PageRequest{}, []string{"status:unknown"}},
		{cims.CustomerFilter{Status: "a\x00"}, cims.PageRequest{}, []string{"status:unknown"}},
		{cims.CustomerFilter{Prefix: strings.Repeat("ў", 256)}, cims.PageRequest{}, []string{"q:length"}},
		{cims.CustomerFilter{Prefix: "a\x00"}, cims.PageRequest{Limit: -1, Cursor: "?"}, []string{"q:text", "limit:range", "cursor:format"}},
		{cims.CustomerFilter{}, cims.PageRequest{Limit: 201}, []string{"limit:range"}},
	} {
		_, err := d.crm.Customers(t.Context(), system, c.filter, c.page)
		requireInvalid(t, err, c.faults...)
	}
	_, err = d.crm.Customers(t.Context(), system, cims.CustomerFilter{SalesManagerID: new(int64(absent))}, cims.PageRequest{})
	require.ErrorIs(t, err, cims.ErrNotFound)
	_, err = d.crm.Customers(t.Context(), system, cims.CustomerFilter{}, cims.PageRequest{Limit: 200, Cursor: first.Next})
	require.NoError(t, err)
}

// pagesUnderWay: customers added between two pages neither shift nor repeat the rest.
func pagesUnderWay(t *testing.T, d *database) {
	old := d.bulk(t, 10, "contacted")
	var found []int64
	page := cims.PageRequest{Limit: 3}
	for {
		part, err := d.crm.Customers(t.Context(), system, cims.CustomerFilter{}, page)
		require.NoError(t, err)
		found = append(found, ids(part.Items, customerID)...)
		if part.Next == "" {
			break
		}
		page.Cursor = part.Next
		d.bulk(t, 2, "contacted")
	}
	require.Len(t, found, len(old))
	for i, id := range found {
		require.Equal(t, old[len(old)-1-i], id)
	}
}
