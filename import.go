package cims

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/cimskit/cims/internal/work"
	"github.com/cimskit/cims/rotation"
)

// importChunk is the approximate number of leads that one statement stores.
const importChunk = 500

// LeadError reports an invalid lead among several.
type LeadError struct {
	Index int   // the index of the lead, from 0
	Err   error // an *Error
}

// Error describes the error in English, for logs and developers.
func (e *LeadError) Error() string { return fmt.Sprintf("lead %d: %v", e.Index, e.Err) }

// Unwrap returns e.Err.
func (e *LeadError) Unwrap() error { return e.Err }

// AddCustomers stores new leads, all of them or none, and gives each a sales manager
// as AddCustomer does, in order. The leads must not have idempotency
// keys or sales managers.
//
// If progress is not nil, AddCustomers calls it from time to time with the number of
// leads stored so far. The number starts again if the transaction is retried.
//
// AddCustomers needs leads:write. For an invalid lead it returns a *LeadError that
// wraps ErrInvalid.
func (m *Manager) AddCustomers(ctx context.Context, actor Actor, in []NewCustomer, progress func(stored int)) ([]Customer, error) {
	leads := func(yield func(NewCustomer, error) bool) {
		for _, lead := range in {
			if !yield(lead, nil) {
				return
			}
		}
	}
	var customers []Customer
	_, err := m.importLeads(ctx, actor, leads, progress, func(begun int, stored []*Lead) {
		customers = customers[:begun]
		for _, lead := range stored {
			customers = append(customers, lead.Customer)
		}
	})
	if err != nil {
		return nil, err
	}
	return customers, nil
}

// ImportCustomers is like AddCustomers for leads that don't fit in memory. It
// returns the number of leads stored.
//
// ImportCustomers ranges over leads again if the transaction is retried, so they
// must be the same each time. If leads yields an error, ImportCustomers returns it
// and stores nothing.
//
// Other leads are still assigned during an import, since it usually takes the
// rotation's lock only at its end. SQLite has a single writer, so there they wait.
func (m *Manager) ImportCustomers(
	ctx context.Context, actor Actor, leads iter.Seq2[NewCustomer, error], progress func(stored int),
) (int, error) {
	return m.importLeads(ctx, actor, leads, progress, func(int, []*Lead) {})
}

// errTeamChanged means that the present members differ from those at the start of
// the import.
var errTeamChanged = errors.New("cims: the team changed during an import")

// importLeads calls each with every chunk that it stores, and the number of leads
// stored before it.
func (m *Manager) importLeads(
	ctx context.Context, actor Actor, leads iter.Seq2[NewCustomer, error], progress func(int), each func(int, []*Lead),
) (stored int, err error) {
	if err := actor.need(LeadsWrite); err != nil {
		return 0, err
	}
	if !m.intakes.open() {
		return 0, &Error{Kind: ErrClosed}
	}
	if progress == nil {
		progress = func(int) {}
	}
	attempt := func(lockFirst bool) error {
		return m.update(work.With(ctx, work.Import), func(ctx context.Context, tx Tx) error {
			run := importRun{manager: m, tx: tx, actor: actor, progress: progress, each: each, gained: map[int64]int{}}
			err := run.all(ctx, actor, leads, lockFirst)
			stored = run.stored
			return err
		})
	}
	if err = attempt(false); errors.Is(err, errTeamChanged) {
		err = attempt(true) // under the lock the team stays
	}
	if err != nil {
		return 0, err
	}
	return stored, nil
}

// importRun is one attempt of an import.
//
// It deals whole rounds, which leave all credits unchanged (see rotation.Round). So
// it needs no lock for them. The rest, less than a round, is decided under the lock
// like any other leads.
type importRun struct {
	manager  *Manager
	tx       Tx
	actor    Actor
	progress func(int)
	each     func(int, []*Lead)

	round  []Person // the members of a round, in order; empty if nobody is eligible
	rounds int64
	gained map[int64]int
	stored int
}

func (r *importRun) all(ctx context.Context, actor Actor, leads iter.Seq2[NewCustomer, error], lockFirst bool) error {
	read := r.tx.Rotation
	if lockFirst {
		read = r.tx.LockRotation
	}
	state, err := read(ctx)
	if err != nil {
		return err
	}
	at := r.manager.now()
	round := policy.Round(state.State, at)
	for _, id := range round {
		r.round = append(r.round, state.People[id])
	}
	size := max(len(round), 1)
	chunk := max(importChunk/size, 1) * size
	pending := make([]*Lead, 0, chunk)
	statuses := map[string]string{}
	for in, err := range leads {
		if err != nil {
			return &hostError{err}
		}
		lead, err := r.lead(ctx, actor, in, statuses)
		if errors.Is(err, ErrInvalid) {
			return &LeadError{Index: r.stored + len(pending), Err: err}
		}
		if err != nil {
			return err
		}
		lead.Customer.CreatedAt, lead.Customer.UpdatedAt = at, at
		if pending = append(pending, lead); len(pending) == chunk {
			if err := r.storeRounds(ctx, pending); err != nil {
				return err
			}
			pending = pending[:0]
		}
	}
	whole := len(pending) / size * size
	if err := r.storeRounds(ctx, pending[:whole]); err != nil {
		return err
	}
	if !lockFirst {
		if state, err = r.tx.LockRotation(ctx); err != nil {
			return err
		}
		now := policy.Round(state.State, at)
		if slices.Sort(now); !slices.Equal(now, slices.Sorted(slices.Values(round))) {
			return errTeamChanged
		}
	}
	return r.finish(ctx, state, pending[whole:], at)
}

// lead checks one lead as AddCustomer does.
func (r *importRun) lead(ctx context.Context, actor Actor, in NewCustomer, statuses map[string]string) (*Lead, error) {
	if in.IdempotencyKey != "" {
		return nil, invalid(FieldError{Field: "idempotency_key", Rule: RuleReadOnly})
	}
	if in.SalesManagerID != nil {
		return nil, invalid(FieldError{Field: "sales_manager_id", Rule: RuleReadOnly})
	}
	request, err := newLeadRequest(actor, in)
	if err != nil {
		return nil, err
	}
	lead := &Lead{Customer: request.in, By: actor.id()}
	lead.Customer.StatusName, err = r.manager.statusOf(ctx, r.tx, statuses, request.in.StatusName)
	return lead, err
}

// storeRounds stores leads whose number is a multiple of a round.
func (r *importRun) storeRounds(ctx context.Context, leads []*Lead) error {
	for i, lead := range leads {
		if len(r.round) == 0 {
			lead.Waiting = true
			continue
		}
		lead.Customer.SalesManager = new(r.round[i%len(r.round)])
	}
	if len(r.round) > 0 {
		r.rounds += int64(len(leads) / len(r.round))
	}
	return r.store(ctx, leads)
}

func (r *importRun) store(ctx context.Context, leads []*Lead) error {
	if len(leads) == 0 {
		return nil
	}
	if err := r.tx.InsertLeads(ctx, leads); err != nil {
		if refused, ok := errors.AsType[*LeadError](err); ok {
			return &LeadError{Index: r.stored + refused.Index, Err: refused.Err}
		}
		return err
	}
	for id, n := range gained(leads) {
		r.gained[id] += n
	}
	for _, lead := range leads {
		if err := r.manager.record(ctx, r.tx, r.actor, created(lead.Customer)); err != nil {
			return err
		}
	}
	r.each(r.stored, leads)
	r.stored += len(leads)
	r.progress(r.stored)
	return nil
}

// finish stores the rest of the leads, less than a round, and the rotation. The
// caller holds the rotation's lock.
func (r *importRun) finish(ctx context.Context, state Rotation, rest []*Lead, at time.Time) error {
	after := state.clone()
	policy.SkipRounds(&after.State, r.rounds, at)
	turns := policy.Batch(&after.State, at)
	for _, lead := range rest {
		lead.Customer.SalesManager = after.person(turns.Decide(rotation.Lead{}).Member)
	}
	if err := r.store(ctx, rest); err != nil {
		return err
	}
	return saveTurns(ctx, r.tx, state, after, r.gained)
}
