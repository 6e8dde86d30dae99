package cims

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Hook is told of each change inside the transaction that makes it: what it writes
// through tx is committed with the change, or is not. That is the place for an
// outbox or a log of the host's own:
//
//	func(ctx context.Context, tx cims.Executor, change cims.Change) error {
//		_, err := tx.Exec(ctx, "INSERT INTO outbox (id, subject) VALUES ($1, $2)", change.ID.String(), change.Action)
//		return err
//	}
//
// An error, or a panic, undoes the change and is the caller's, and nobody else's,
// also where callers share a transaction. The error is wrapped, so that errors.Is
// and errors.As find it. One that tx.Exec returns has to be returned: it may have
// aborted the transaction. Since callers of AddCustomer and AutoAssign may share
// one, ctx has no values of theirs there but WithRequestID's, except in a Manager of
// WithTx.
//
// A hook should do nothing else: it runs under the rotation's lock, and again, with
// other ids, where the transaction has to be repeated. Nothing is told of what
// other programs do. With hooks leads that arrive at once still share transactions,
// but in more round trips.
type Hook func(ctx context.Context, tx Executor, change Change) error

// Change is something that a Manager has done.
type Change struct {
	ID       uuid.UUID // version 7: later ones sort after earlier ones
	At       time.Time
	Actor    Actor // who did it, or on whose behalf the rotation did
	Action   Action
	Entity   Entity // what it was done to, and with EntityID which
	EntityID int64

	// Before and After are a Status, Role, User, Customer or SalesManager, as Entity
	// says: nil where there was none before, or is none after. json.Marshal writes
	// them in the form that the HTTP API and the audit log have.
	Before, After any

	Cause  Cause  // of a change of a customer
	Reason string // given for a change of a customer's status
	MoveTo string // of a deletion: the status or role where those went who had it

	RequestID string // of WithRequestID; empty for none
}

// Action is what was done.
type Action string

// The actions. A customer is never updated otherwise than by getting another
// status or another sales manager.
const (
	ActionCreated  Action = "created"
	ActionUpdated  Action = "updated"
	ActionDeleted  Action = "deleted"
	ActionStatus   Action = "status"   // a customer's status was changed
	ActionAssigned Action = "assigned" // a customer's sales manager was, also to nobody
)

// tell writes changes that have just been made in tx into the audit log, and runs
// the hooks on them.
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
				return &statementError{err} // the database's, which may be worth another try
			default:
				return &hostError{err}
			}
		}
	}
	return nil
}

// tellAssigned tells of leads that may have got another sales manager, or none.
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

// created is what to tell of a new lead.
func created(lead Customer) Change {
	return Change{
		Action: ActionCreated, Entity: EntityCustomer, EntityID: lead.ID, After: lead, At: lead.CreatedAt, Cause: CauseCreated,
	}
}

// hookExecutor knows whether a statement has failed, after which its transaction
// can't go on.
type hookExecutor struct {
	tx     Tx
	failed bool
}

func (e *hookExecutor) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	on, ok := e.tx.(Executor)
	if !ok {
		return 0, fmt.Errorf("cims: a %T runs no statements of the host's", e.tx)
	}
	n, err := on.Exec(ctx, query, args...)
	e.failed = e.failed || err != nil
	return n, err
}
