package sqlstore

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/internal/work"
)

type auditRow struct {
	ID        int64
	ChangeID  string
	At        time.Time
	RequestID string
	UserID    *int64
	Email     string
	Name      string
	Surname   string
	System    string
	Action    string
	Entity    string
	EntityID  int64
	Cause     string
	MoveTo    string
	OldState  string
	NewState  string
}

func (r auditRow) entry() (cims.AuditEntry, error) {
	change, err := uuid.Parse(r.ChangeID)
	entry := cims.AuditEntry{
		ID: r.ID, ChangeID: change, At: r.At.UTC(), RequestID: r.RequestID, System: r.System,
		Action: cims.Action(r.Action), Entity: cims.Entity(r.Entity), EntityID: r.EntityID, Cause: cims.Cause(r.Cause), MoveTo: r.MoveTo,
	}
	if r.UserID != nil {
		entry.By = &cims.Person{ID: *r.UserID, Email: r.Email, Name: r.Name, Surname: r.Surname}
	}
	if r.OldState != "" {
		entry.Before = json.RawMessage(r.OldState)
	}
	if r.NewState != "" {
		entry.After = json.RawMessage(r.NewState)
	}
	return entry, err
}

// Audit implements cims.Reader.
func (q *queries) Audit(ctx context.Context, query cims.AuditQuery) ([]cims.AuditEntry, error) {
	ctx = work.With(ctx, work.Heavy)
	where := new(conditions)
	if query.BeforeID != nil {
		where.add("id < ?", *query.BeforeID)
	}
	if query.Entity != "" {
		where.add("entity = ?", query.Entity)
	}
	if query.EntityID != nil {
		where.add("entity_id = ?", *query.EntityID)
	}
	if query.By != nil {
		where.add("user_id = ?", *query.By)
	}
	if query.Action != "" {
		where.add("action = ?", query.Action)
	}
	if query.RequestID != "" {
		where.add("request_id = ?", query.RequestID)
	}
	if !query.Since.IsZero() {
		where.add("at >= ?", query.Since)
	}
	if !query.Until.IsZero() {
		where.add("at < ?", query.Until)
	}
	list, err := rows[auditRow](ctx, q, `SELECT id, change_id, at, COALESCE(request_id, '') AS request_id,
		user_id, COALESCE(email, '') AS email, COALESCE(name, '') AS name, COALESCE(surname, '') AS surname, COALESCE(system, '') AS system,
		action, entity, entity_id, COALESCE(cause, '') AS cause, COALESCE(move_to, '') AS move_to,
		COALESCE(old_state, '') AS old_state, COALESCE(new_state, '') AS new_state
		FROM cims_audit`+where.text()+" ORDER BY id DESC LIMIT ?", append(where.args, query.Limit)...)
	if err != nil {
		return nil, err
	}
	entries := make([]cims.AuditEntry, len(list))
	for i, r := range list {
		if entries[i], err = r.entry(); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// AppendAudit implements cims.Tx.
func (q tx) AppendAudit(ctx context.Context, entries []cims.AuditEntry) error {
	t := table{name: "cims_audit", columns: []string{
		"change_id", "at", "request_id", "user_id", "email", "name", "surname", "system",
		"action", "entity", "entity_id", "cause", "move_to", "old_state", "new_state",
	}}
	for _, e := range entries {
		var by cims.Person
		var id *int64
		if e.By != nil {
			by, id = *e.By, &e.By.ID
		}
		t.add(e.ChangeID.String(), e.At, null(e.RequestID), id, null(by.Email), null(by.Name), null(by.Surname), null(e.System),
			e.Action, e.Entity, e.EntityID, null(string(e.Cause)), null(e.MoveTo), null(string(e.Before)), null(string(e.After)))
	}
	return q.execInsert(ctx, t)
}
