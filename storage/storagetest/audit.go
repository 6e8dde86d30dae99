package storagetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

var auditTests = []test{
	{"Audit_HasWhatSomebodyDid", auditHasWhatWasDone},
	{"Audit_LeavesToTheHistoryWhatIsThere", auditLeavesHistory},
	{"Audit_IsOfTheTransaction", auditIsOfTheTransaction},
	{"Audit_NamesTheRequest", auditNamesTheRequest},
	{"Audit_IsFiltered", auditIsFiltered},
	{"Audit_ComesInPages", auditComesInPages},
	{"Audit_OrderSurvivesTheClock", auditOrder},
	{"Audit_IsForThoseWhoMay", auditPermission},
}

func (d *database) audit(t *testing.T, filter cims.AuditFilter) []cims.AuditEntry {
	t.Helper()
	page, err := d.crm.Audit(t.Context(), system, filter, cims.PageRequest{Limit: 200})
	require.NoError(t, err)
	return page.Items
}

// requireAudit compares the newest entries, the newest first, and returns them.
func (d *database) requireAudit(t *testing.T, want ...string) []cims.AuditEntry {
	t.Helper()
	entries := d.audit(t, cims.AuditFilter{})
	var got []string
	for _, e := range entries[:min(len(want), len(entries))] {
		got = append(got, fmt.Sprintf("%s %s", e.Entity, e.Action))
	}
	require.Equal(t, want, got)
	return entries
}

// fields reads one state of an entry.
func fields(t *testing.T, state json.RawMessage) map[string]any {
	t.Helper()
	var read map[string]any
	require.NoError(t, json.Unmarshal(state, &read))
	return read
}

func auditHasWhatWasDone(t *testing.T, d *database) {
	ctx := t.Context()
	ceo := d.actor(t, cims.RoleCEO, "Cyrus")
	me := ceo.User()

	status, err := d.crm.CreateStatus(ctx, ceo, cims.NewStatus{Name: "trial", DisplayName: "<b>Trial</b>", Color: "#fff"})
	require.NoError(t, err)
	entry := d.requireAudit(t, "status created")[0]
	require.Equal(t, &cims.Person{ID: me.ID, Email: me.Email, Name: me.Name, Surname: me.Surname}, entry.By)
	require.Empty(t, entry.System)
	require.Equal(t, status.ID, entry.EntityID)
	require.Equal(t, status.CreatedAt, entry.At)
	require.EqualValues(t, 7, entry.ChangeID.Version())
	require.Nil(t, entry.Before)
	require.Equal(t, map[string]any{
		"id": float64(status.ID), "name": "trial", "display_name": "<b>Trial</b>", "description": nil, "color": "#fff",
		"order": 0.0, "is_active": true, "is_system": false,
		"created_at": status.CreatedAt.Format(time.RFC3339Nano), "updated_at": status.UpdatedAt.Format(time.RFC3339Nano),
	}, fields(t, entry.After))
	_, err = d.crm.UpdateStatus(ctx, ceo, status.ID, cims.StatusUpdate{Order: new(9)})
	require.NoError(t, err)
	entry = d.requireAudit(t, "status updated", "status created")[0]
	require.Equal(t, []any{0.0, 9.0}, []any{fields(t, entry.Before)["order"], fields(t, entry.After)["order"]})
	_, err = d.crm.UpdateStatus(ctx, ceo, status.ID, cims.StatusUpdate{Order: new(9)})
	require.NoError(t, err)
	require.Len(t, d.audit(t, cims.AuditFilter{Entity: cims.EntityStatus}), 2, "nothing has changed")
	anvar := d.user(t, cims.RoleSalesManager, "Anvar")
	lead := d.lead(t, "Aziza")
	_, err = d.crm.SetStatus(ctx, ceo, lead.ID, "trial", "")
	require.NoError(t, err)
	require.NoError(t, d.crm.DeleteStatus(ctx, ceo, status.ID, cims.Deletion{MoveTo: "Finished"}))
	entry = d.requireAudit(t, "status deleted", "user created", "status updated", "status created")[0]
	require.Nil(t, entry.After)
	require.Equal(t, "trial", fields(t, entry.Before)["name"])
	require.Equal(t, "finished", entry.MoveTo)

	role, err := d.crm.CreateRole(ctx, ceo, cims.NewRole{Name: "auditor", DisplayName: "Auditor", Permissions: []cims.Permission{cims.AuditRead}})
	require.NoError(t, err)
	_, err = d.crm.UpdateRole(ctx, ceo, role.ID, cims.RoleUpdate{Permissions: &[]cims.Permission{}})
	require.NoError(t, err)
	entry = d.requireAudit(t, "role updated", "role created")[0]
	require.Equal(t, []any{"audit:read"}, fields(t, entry.Before)["permissions"])
	require.Equal(t, []any{}, fields(t, entry.After)["permissions"])
	olim, err := d.crm.CreateUser(ctx, ceo, newUser("auditor", "Olim"))
	require.NoError(t, err)
	require.Equal(t, "auditor", fields(t, d.requireAudit(t, "user created")[0].After)["role_name"])
	require.NoError(t, d.crm.DeleteRole(ctx, ceo, role.ID, cims.Deletion{MoveTo: "member"}))
	entries := d.requireAudit(t, "role deleted", "user updated")
	require.Equal(t, "member", entries[0].MoveTo)
	require.Equal(t, olim.ID, entries[1].EntityID)
	require.Equal(t, []any{"auditor", "member"}, []any{fields(t, entries[1].Before)["role_name"], fields(t, entries[1].After)["role_name"]})

	botir := d.user(t, cims.RoleSalesManager, "Botir")
	_, err = d.crm.SetSalesManager(ctx, ceo, anvar.ID, cims.SalesManagerUpdate{Weight: new(3), Paused: new(true)})
	require.NoError(t, err)
	entry = d.requireAudit(t, "sales_manager updated")[0]
	require.Equal(t, []any{1.0, false}, []any{fields(t, entry.Before)["weight"], fields(t, entry.Before)["paused"]})
	require.Equal(t, []any{3.0, true}, []any{fields(t, entry.After)["weight"], fields(t, entry.After)["paused"]})
	_, err = d.crm.Assign(ctx, ceo, lead.ID, botir.ID)
	require.NoError(t, err)
	entry = d.requireAudit(t, "customer assigned")[0]
	require.Equal(t, lead.ID, entry.EntityID)
	require.Equal(t, cims.CauseManual, entry.Cause)
	require.Equal(t, map[string]any{
		"sales_manager": map[string]any{"id": float64(botir.ID), "email": botir.Email, "name": botir.Name, "surname": botir.Surname},
	}, fields(t, entry.After))
	_, err = d.crm.UpdateUser(ctx, ceo, botir.ID, cims.UserUpdate{Active: new(false), Leads: cims.RedistributeLeads})
	require.NoError(t, err)
	entry = d.requireAudit(t, "customer assigned", "user updated")[0]
	require.Equal(t, cims.CauseRedistributed, entry.Cause)
	require.NotNil(t, fields(t, entry.Before)["sales_manager"])
	require.Equal(t, map[string]any{"sales_manager": nil}, fields(t, entry.After), "nobody is left")
}

func auditLeavesHistory(t *testing.T, d *database) {
	ctx := t.Context()
	ceo := d.actor(t, cims.RoleCEO, "Cyrus")
	waits := d.lead(t, "Waits")
	d.sellers(t, "Anvar")
	before := len(d.audit(t, cims.AuditFilter{}))
	lead, err := d.crm.AddCustomer(ctx, ceo, cims.NewCustomer{FullName: "Aziza"})
	require.NoError(t, err)
	_, err = d.crm.SetStatus(ctx, ceo, lead.ID, "finished", "")
	require.NoError(t, err)
	eventually(t, "the waiting lead to be assigned", func() bool { return d.customer(t, waits.ID).SalesManager != nil })
	left := d.insert(t, cims.Customer{}, cims.Customer{})
	_, err = d.crm.AutoAssign(ctx, system, left[0])
	require.NoError(t, err)
	require.Len(t, d.audit(t, cims.AuditFilter{}), before, "all of that is in the leads' histories")

	_, err = d.crm.AutoAssign(ctx, ceo, left[1])
	require.NoError(t, err)
	entry := d.requireAudit(t, "customer assigned")[0]
	require.Equal(t, cims.CauseAutomatic, entry.Cause, "but a user has asked for this")
	require.Equal(t, ceo.User().ID, entry.By.ID)
}

func auditIsOfTheTransaction(t *testing.T, d *database) {
	ctx, refused := t.Context(), errors.New("refused")
	before := len(d.audit(t, cims.AuditFilter{}))
	crm := d.manager(t, d.Storage, &cims.Config{Hooks: []cims.Hook{
		func(_ context.Context, _ cims.Executor, change cims.Change) error {
			if change.RequestID == "refused" {
				return refused
			}
			return nil
		},
	}})
	_, err := crm.CreateStatus(cims.WithRequestID(ctx, "refused"), system, cims.NewStatus{Name: "trial", DisplayName: "Trial"})
	require.ErrorIs(t, err, refused)
	require.Len(t, d.audit(t, cims.AuditFilter{}), before, "what is undone was not done")
	_, err = crm.CreateStatus(ctx, cims.System("setup"), cims.NewStatus{Name: "trial", DisplayName: "Trial"})
	require.NoError(t, err)
	entry := d.requireAudit(t, "status created")[0]
	require.Equal(t, "setup", entry.System)
	require.Nil(t, entry.By)
	_, err = crm.CreateStatus(ctx, system, cims.NewStatus{Name: "trial", DisplayName: "Trial"})
	require.ErrorIs(t, err, cims.ErrExists)
	require.Len(t, d.audit(t, cims.AuditFilter{}), before+1)
}

func auditNamesTheRequest(t *testing.T, d *database) {
	ctx := t.Context()
	ceo := d.actor(t, cims.RoleCEO, "Cyrus")
	var requestIDs []string
	crm := d.manager(t, d.Storage, &cims.Config{Hooks: []cims.Hook{
		func(_ context.Context, _ cims.Executor, change cims.Change) error {
			requestIDs = append(requestIDs, change.RequestID)
			return nil
		},
	}})
	_, err := crm.CreateStatus(cims.WithRequestID(ctx, "first-1"), ceo, cims.NewStatus{Name: "trial", DisplayName: "Trial"})
	require.NoError(t, err)
	_, err = crm.AddCustomer(cims.WithRequestID(ctx, "second_2"), ceo, cims.NewCustomer{FullName: "Aziza"})
	require.NoError(t, err)
	d.sellers(t, "Anvar")
	id := d.insert(t, cims.Customer{})[0]
	_, err = crm.AutoAssign(cims.WithRequestID(ctx, "vm/v5Pa4BSHuC-000051"), ceo, id)
	require.NoError(t, err)
	require.Equal(t, []string{"first-1", "second_2", "vm/v5Pa4BSHuC-000051"}, requestIDs)
	require.Len(t, d.audit(t, cims.AuditFilter{RequestID: "vm/v5Pa4BSHuC-000051"}), 1)
	require.Equal(t, "vm/v5Pa4BSHuC-000051", d.requireAudit(t, "customer assigned")[0].RequestID)
	require.Equal(t, "trial", fields(t, d.audit(t, cims.AuditFilter{RequestID: "first-1"})[0].After)["name"])
	_, err = crm.CreateStatus(cims.WithRequestID(ctx, "no id\n"), ceo, cims.NewStatus{Name: "other", DisplayName: "Other"})
	require.NoError(t, err)
	require.Empty(t, d.requireAudit(t, "status created")[0].RequestID)
}

func auditIsFiltered(t *testing.T, d *database) {
	ctx := t.Context()
	ceo := d.actor(t, cims.RoleCEO, "Cyrus")
	status, err := d.crm.CreateStatus(ctx, ceo, cims.NewStatus{Name: "trial", DisplayName: "Trial"})
	require.NoError(t, err)
	_, err = d.crm.UpdateStatus(ctx, ceo, status.ID, cims.StatusUpdate{Order: new(1)})
	require.NoError(t, err)
	olim := d.user(t, "member", "Olim") // by the system
	ids := func(filter cims.AuditFilter) (found []string) {
		for _, e := range d.audit(t, filter) {
			found = append(found, fmt.Sprintf("%s %s %d", e.Entity, e.Action, e.EntityID))
		}
		return found
	}
	created, updated := fmt.Sprintf("status created %d", status.ID), fmt.Sprintf("status updated %d", status.ID)
	require.Equal(t, []string{updated, created}, ids(cims.AuditFilter{Entity: cims.EntityStatus}))
	require.Equal(t, []string{updated, created}, ids(cims.AuditFilter{By: new(ceo.User().ID)}))
	require.Equal(t, []string{updated}, ids(cims.AuditFilter{Action: cims.ActionUpdated}))
	require.Equal(t, []string{fmt.Sprintf("user created %d", olim.ID)}, ids(cims.AuditFilter{Entity: cims.EntityUser, EntityID: &olim.ID}))
	require.Empty(t, ids(cims.AuditFilter{Entity: cims.EntityRole}))
	require.Empty(t, ids(cims.AuditFilter{By: new(int64(987654))}))
	require.Empty(t, ids(cims.AuditFilter{RequestID: "none"}))

	entry := d.audit(t, cims.AuditFilter{Action: cims.ActionUpdated})[0]
	only := cims.AuditFilter{Entity: cims.EntityStatus, Since: entry.At.In(time.FixedZone("Tashkent", 5*60*60))}
	require.Equal(t, []string{updated}, ids(only), "since is inclusive")
	only = cims.AuditFilter{Entity: cims.EntityStatus, Until: entry.At}
	require.Equal(t, []string{created}, ids(only), "until is not")

	_, err = d.crm.Audit(ctx, ceo, cims.AuditFilter{
		Entity: "assignment", Action: "status", RequestID: "\x00",
		Since: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC), Until: time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC),
	}, cims.PageRequest{Cursor: "x"})
	requireInvalid(t, err, "cursor:format", "entity:choice", "action:choice", "request_id:format", "since:format", "until:format")
}

func auditComesInPages(t *testing.T, d *database) {
	ctx := t.Context()
	for i := range 7 {
		_, err := d.crm.CreateStatus(ctx, system, cims.NewStatus{Name: fmt.Sprintf("s%d", i), DisplayName: "S"})
		require.NoError(t, err)
	}
	var got []string
	request := cims.PageRequest{Limit: 3}
	for {
		page, err := d.crm.Audit(ctx, system, cims.AuditFilter{Entity: cims.EntityStatus}, request)
		require.NoError(t, err)
		for _, e := range page.Items {
			got = append(got, fields(t, e.After)["name"].(string)) //nolint:forcetypeassert // or the test fails
		}
		if request.Cursor = page.Next; page.Next == "" {
			break
		}
		_, err = d.crm.CreateStatus(ctx, system, cims.NewStatus{Name: fmt.Sprintf("later%d", len(got)), DisplayName: "S"})
		require.NoError(t, err)
	}
	require.Equal(t, []string{"s6", "s5", "s4", "s3", "s2", "s1", "s0"}, got, "what comes meanwhile moves nothing")
	count := 0
	for _, err := range d.crm.AllAudit(ctx, system, cims.AuditFilter{Entity: cims.EntityStatus}) {
		require.NoError(t, err)
		count++
	}
	require.Equal(t, 9, count)
}

func auditOrder(t *testing.T, d *database) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	crm := d.manager(t, d.Storage, &cims.Config{Clock: func() time.Time { return now }})
	for _, name := range []string{"first", "second"} {
		_, err := crm.CreateStatus(t.Context(), system, cims.NewStatus{Name: name, DisplayName: name})
		require.NoError(t, err)
		now = now.Add(-time.Hour)
	}
	entries := d.audit(t, cims.AuditFilter{Entity: cims.EntityStatus})
	require.Equal(t, "second", fields(t, entries[0].After)["name"])
	require.Greater(t, entries[0].ID, entries[1].ID)
	require.True(t, entries[0].At.Before(entries[1].At))
}

func auditPermission(t *testing.T, d *database) {
	for _, role := range cims.SystemRoles() {
		_, err := d.crm.Audit(t.Context(), d.actor(t, role.Name, role.Name), cims.AuditFilter{}, cims.PageRequest{})
		if role.Name == cims.RoleCEO {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, cims.ErrForbidden, role.Name)
		}
	}
	_, err := d.crm.Audit(t.Context(), d.holder(t, "auditor", cims.AuditRead), cims.AuditFilter{}, cims.PageRequest{})
	require.NoError(t, err)
}

// contractAudit holds AppendAudit and Audit to their comments.
func contractAudit(t *testing.T, d *database) {
	ctx := t.Context()
	full := cims.AuditEntry{
		ChangeID: uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057"), At: noon, RequestID: "r-1",
		By:     &cims.Person{ID: 3, Email: "a@b", Name: "Anvar", Surname: "O‘"},
		Action: cims.ActionAssigned, Entity: cims.EntityCustomer, EntityID: 1 << 40, Cause: cims.CauseManual, MoveTo: "x",
		Before: json.RawMessage(`{"z": 1,  "a": "é\u0001?"}`), After: json.RawMessage(`null`),
	}
	bare := cims.AuditEntry{ChangeID: uuid.Max, At: noon.Add(time.Microsecond), System: "test", Action: cims.ActionDeleted, Entity: cims.EntityRole, EntityID: 7}
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		require.NoError(t, tx.AppendAudit(ctx, nil))
		if err := tx.AppendAudit(ctx, []cims.AuditEntry{full, bare}); err != nil {
			return err
		}
		seen, err := tx.Audit(ctx, cims.AuditQuery{Limit: 5})
		require.Len(t, seen, 2, "a transaction sees its own")
		return err
	})
	got, err := d.Audit(ctx, cims.AuditQuery{Limit: 5})
	require.NoError(t, err)
	require.Len(t, got, 2)
	require.Greater(t, got[0].ID, got[1].ID)
	bare.ID, full.ID = got[0].ID, got[1].ID
	require.Equal(t, []cims.AuditEntry{bare, full}, got, "to the letter")
	got[1].By.Name, got[1].Before[0] = "changed", 'X'
	again, err := d.Audit(ctx, cims.AuditQuery{Limit: 5})
	require.NoError(t, err)
	require.Equal(t, []cims.AuditEntry{bare, full}, again)

	one, err := d.Audit(ctx, cims.AuditQuery{Limit: 1})
	require.NoError(t, err)
	require.Equal(t, []cims.AuditEntry{bare}, one)
	older, err := d.Audit(ctx, cims.AuditQuery{BeforeID: &bare.ID, Limit: 5})
	require.NoError(t, err)
	require.Equal(t, []cims.AuditEntry{full}, older)
	none, err := d.Audit(ctx, cims.AuditQuery{AuditFilter: cims.AuditFilter{Since: noon, Until: noon}, Limit: 5})
	require.NoError(t, err)
	require.Empty(t, none)

	refused := errors.New("refused")
	require.ErrorIs(t, d.Update(ctx, func(ctx context.Context, tx cims.Tx) error {
		return errors.Join(tx.AppendAudit(ctx, []cims.AuditEntry{bare}), refused)
	}), refused)
	again, err = d.Audit(ctx, cims.AuditQuery{Limit: 5})
	require.NoError(t, err)
	require.Len(t, again, 2)

	// And nobody changes it behind its back, where there are statements to do it with.
	for _, statement := range []string{
		"UPDATE cims_audit SET name = 'somebody else'", "DELETE FROM cims_audit", "TRUNCATE cims_audit",
		fmt.Sprintf("INSERT INTO cims_audit SELECT * FROM cims_audit WHERE id = %d ON CONFLICT (id) DO UPDATE SET name = 'x'", full.ID),
		fmt.Sprintf("REPLACE INTO cims_audit SELECT * FROM cims_audit WHERE id = %d", full.ID),
	} {
		require.Error(t, d.Update(ctx, func(ctx context.Context, tx cims.Tx) error {
			executor, ok := tx.(cims.Executor)
			if !ok {
				return refused
			}
			_, err := executor.Exec(ctx, "CREATE VIEW cims_copy AS SELECT 1 AS source") // as if a copy were under way
			require.NoError(t, err)
			_, err = executor.Exec(ctx, statement)
			return err
		}), statement)
	}
	again, err = d.Audit(ctx, cims.AuditQuery{Limit: 5})
	require.NoError(t, err)
	require.Equal(t, []cims.AuditEntry{bare, full}, again)
	require.True(t, slices.IsSortedFunc(again, func(a, b cims.AuditEntry) int { return int(b.ID - a.ID) }))
}
