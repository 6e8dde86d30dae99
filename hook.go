package cims

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Hook is a function of the host that a Manager calls for each change, inside the
// transaction of the change. Writes through tx are committed or rolled back with
// it. A typical hook fills an outbox:
//
//	func(ctx context.Context, tx cims.Executor, change cims.Change) error {
//		_, err := tx.Exec(ctx, "INSERT INTO outbox (id, subject) VALUES ($1, $2)", change.ID.String(), change.Action)
//		return err
//	}
//
// An error or a panic of a hook undoes the change. The caller whose change it was
// gets it, and no other caller is affected. The error is wrapped, for errors.Is
// and errors.As. A hook must return an error of tx.Exec, since it may have aborted
// the transaction.
//
// A new lead that the rotation gave out is one change. One whose owner the input or
// Config.OwnLeads names is two: it is created, then assigned.
//
// Calls of AddCustomer and AutoAssign may share a transaction. There, ctx has no
// values of the caller except its request id. In a Manager of WithTx it has all.
//
// A hook should only write through tx. It may run under the rotation's lock, and it
// runs again, with other ids, if the transaction is retried. Hooks are not called
// for changes by other programs. They make the intake of leads slower, since it
// then needs more round trips.
type Hook func(ctx context.Context, tx Executor, change Change) error

// Change describes a change that a Manager made.
type Change struct {
	ID       uuid.UUID // version 7: later ones sort after earlier ones
	At       time.Time
	Actor    Actor // the actor of the call; the rotation acts on its behalf
	Action   Action
	Entity   Entity // the kind of the changed entity
	EntityID int64  // its id

	// Before and After are a Status, Role, User, Customer or SalesManager,
	// according to Entity. Before is nil for a new entity, After for a deleted
	// one. Their JSON form is that of the HTTP API and the audit log.
	Before, After any

	Cause  Cause  // for a change of a customer
	Reason string // for a change of a customer's status, as given to SetStatus
	MoveTo string // for a deletion: the status or role that replaced the deleted one

	RequestID string // from WithRequestID; empty for none
}

// Action is the kind of a Change.
type Action string

// Actions. Changes of a customer are ActionCreated, ActionStatus and
// ActionAssigned.
const (
	ActionCreated  Action = "created"
	ActionUpdated  Action = "updated"
	ActionDeleted  Action = "deleted"
	ActionStatus   Action = "status"   // the customer got another status, or a reason for the present one
	ActionAssigned Action = "assigned" // the customer got another sales manager, or lost it
)

// record writes changes that tx made to the audit log and runs the hooks.
func (m *Manager) record(ctx context.Context, tx Tx, actor Actor, changes ...Change) error {
	for part := range slices.Chunk(changes, batchSize) {
		if err := m.recordBatch(ctx, tx, actor, part); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) recordBatch(ctx context.Context, tx Tx, actor Actor, changes []Change) error {
	var recorded []Change
	var entries []AuditEntry
	for _, change := range changes {
		audited := change.audited(actor)
		if !audited && len(m.config.Hooks) == 0 {
			continue
		}
		var err error
		if change.ID, err = uuid.NewV7(); err != nil {
			return err
		}
		change.Actor, change.RequestID = actor, RequestID(ctx)
		if change.At.IsZero() {
			change.At = m.now()
		}
		recorded = append(recorded, change)
		if audited {
			entries = append(entries, change.entry())
		}
	}
	if len(entries) > 0 {
		if err := tx.AppendAudit(ctx, entries); err != nil {
			return err
		}
	}
	return m.runHooks(ctx, tx, recorded)
}

func (m *Manager) runHooks(ctx context.Context, tx Tx, changes []Change) error {
	if len(m.config.Hooks) == 0 {
		return nil
	}
	executor := &hookExecutor{tx: tx}
	for _, change := range changes {
		for _, hook := range m.config.Hooks {
			err := hook(ctx, executor, change)
			if err == nil {
				continue
			}
			err = fmt.Errorf("cims: hook: %w", err)
			switch {
			case ctx.Err() != nil:
				return err
			case executor.failed:
				return &statementError{err} // the storage may retry after an error of the database
			default:
				return &hostError{err}
			}
		}
	}
	return nil
}

// recordAssignments records the leads whose owner differs between before and after.
func (m *Manager) recordAssignments(ctx context.Context, tx Tx, actor Actor, before, after []Customer, cause Cause) error {
	var changes []Change
	for i, lead := range after {
		if was, is := before[i].owner(), lead.owner(); (was == nil && is == nil) || (was != nil && is != nil && *was == *is) {
			continue
		}
		changes = append(changes, Change{
			Action: ActionAssigned, Entity: EntityCustomer, EntityID: lead.ID,
			Before: before[i], After: lead, At: lead.UpdatedAt, Cause: cause,
		})
	}
	return m.record(ctx, tx, actor, changes...)
}

// created returns the change that adds a lead.
func created(lead Customer) Change {
	return Change{
		Action: ActionCreated, Entity: EntityCustomer, EntityID: lead.ID, After: lead, At: lead.CreatedAt, Cause: CauseCreated,
	}
}

// hookExecutor remembers whether a statement failed. Its transaction can't go on
// then.
type hookExecutor struct {
	tx     Tx
	failed bool
}

func (e *hookExecutor) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	on, ok := e.tx.(Executor)
	if !ok {
		return 0, fmt.Errorf("cims: %T runs no statements of hooks", e.tx)
	}
	n, err := on.Exec(ctx, query, args...)
	e.failed = e.failed || err != nil
	return n, err
}
