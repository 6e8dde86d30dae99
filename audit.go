package cims

import (
	"context"
	"encoding/json"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// AuditEntry records a change of a status, a role, a user, a sales manager's place
// in the rotation, or a customer's assignment. It is written in the transaction of
// the change, and the databases refuse to change or delete it. It holds the ids and
// names as they were at that time.
//
// The audit log doesn't record new customers, their changes of status, or the
// assignments that the rotation makes on its own. Those are in their History.
type AuditEntry struct {
	ID        int64     // ascends from entry to entry, even when the clock is set back
	ChangeID  uuid.UUID // the Change.ID that Config.Hooks received
	At        time.Time
	RequestID string // from WithRequestID; empty for none

	By     *Person // the user who did it; nil for System
	System string  // the name given to System; empty for a user

	Action   Action
	Entity   Entity
	EntityID int64
	Cause    Cause  // set for a customer's assignment
	MoveTo   string // the status or role that replaced a deleted one

	// Before and After are the JSON form of the entity. Before is nil for a new
	// entity, After for a deleted one. For a customer they hold only the sales
	// manager: {"sales_manager": {"id": …}}, or {"sales_manager": null}.
	Before, After json.RawMessage
}

// AuditFilter selects entries of the audit log. A zero field matches all.
type AuditFilter struct {
	Entity    Entity
	EntityID  *int64
	By        *int64 // the id of the user who did it
	Action    Action
	RequestID string
	Since     time.Time // inclusive
	Until     time.Time // exclusive
}

var (
	auditedEntities = []Entity{EntityStatus, EntityRole, EntityUser, EntitySalesManager, EntityCustomer}
	auditedActions  = []Action{ActionCreated, ActionUpdated, ActionDeleted, ActionAssigned}
)

// Audit returns a page of the audit log, newest entries first. It needs audit:read.
// It returns ErrInvalid for a malformed page request or filter.
func (m *Manager) Audit(ctx context.Context, actor Actor, filter AuditFilter, page PageRequest) (Page[AuditEntry], error) {
	if err := actor.need(AuditRead); err != nil {
		return Page[AuditEntry]{}, err
	}
	var check checks
	cursor := check.page(page, 'a', 1)
	if filter.Entity != "" && !slices.Contains(auditedEntities, filter.Entity) {
		check.add("entity", RuleChoice)
	}
	if filter.Action != "" && !slices.Contains(auditedActions, filter.Action) {
		check.add("action", RuleChoice)
	}
	if filter.RequestID != "" && !validRequestID(filter.RequestID) {
		check.add("request_id", RuleFormat)
	}
	filter.Since, filter.Until = check.time("since", filter.Since), check.time("until", filter.Until)
	if err := check.err(); err != nil {
		return Page[AuditEntry]{}, err
	}
	query := AuditQuery{AuditFilter: filter}
	if cursor != nil {
		query.BeforeID = &cursor[0]
	}
	return paginate(page, func(limit int) ([]AuditEntry, error) {
		query.Limit = limit
		return m.storage.Audit(ctx, query)
	}, func(e AuditEntry) string { return encodeCursor('a', e.ID) })
}

// AllAudit returns an iterator over all entries that Audit lists. It works as
// AllCustomers does.
func (m *Manager) AllAudit(ctx context.Context, actor Actor, filter AuditFilter) iter.Seq2[AuditEntry, error] {
	return allPages(ctx, func(page PageRequest) (Page[AuditEntry], error) { return m.Audit(ctx, actor, filter, page) })
}

// audited reports whether the audit log records a change. Of a customer's changes it
// records only assignments, and none that the rotation makes on its own.
func (c Change) audited(by Actor) bool {
	switch {
	case c.Entity != EntityCustomer:
		return true
	case c.Action != ActionAssigned:
		return false
	default:
		return c.Cause != CauseAutomatic || by.system == ""
	}
}

// entry returns a change as the audit log keeps it.
func (c Change) entry() AuditEntry {
	entry := AuditEntry{
		ChangeID: c.ID, At: c.At, RequestID: c.RequestID, System: c.Actor.system,
		Action: c.Action, Entity: c.Entity, EntityID: c.EntityID, Cause: c.Cause, MoveTo: c.MoveTo,
		Before: auditJSON(c.Before), After: auditJSON(c.After),
	}
	if user := c.Actor.user; c.Actor.system == "" {
		entry.By = &Person{ID: user.ID, Email: user.Email, Name: user.Name, Surname: user.Surname}
	}
	return entry
}

// auditJSON returns the JSON form of an entity; for a customer, of its sales manager
// only. It returns nil for nil.
func auditJSON(entity any) json.RawMessage {
	if entity == nil {
		return nil
	}
	if customer, ok := entity.(Customer); ok {
		entity = struct {
			SalesManager *Person `json:"sales_manager"`
		}{customer.SalesManager}
	}
	return mustMarshal(entity)
}

type requestIDKey struct{}

// WithRequestID returns a context that carries the id of a request, for the audit
// log and Config.Hooks. Package httpapi calls it for its routes. An id consists of
// 1 to 128 ASCII letters, digits, ".", "_", "-", "/", "+" and "=", as the ids of
// common middlewares do. For any other id WithRequestID returns ctx unchanged.
func WithRequestID(ctx context.Context, id string) context.Context {
	if !validRequestID(id) {
		return ctx
	}
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID returns the request id that WithRequestID added to ctx, or "".
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

func validRequestID(id string) bool {
	return id != "" && len(id) <= 128 && !strings.ContainsFunc(id, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-/+=", r))
	})
}
