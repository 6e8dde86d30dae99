package cims

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/cimskit/cims/rotation"
)

// importChunk is about how many leads of an import one statement stores.
const importChunk = 500

// LeadError says which of several leads is refused, and why.
type LeadError struct {
	Index int   // the lead's place, counted from 0
	Err   error // an *Error
}

// Error words it in English, for logs and developers.
func (e *LeadError) Error() string { return fmt.Sprintf("lead %d: %v", e.Index, e.Err) }

// Unwrap gives errors.Is and errors.As the reason.
func (e *LeadError) Unwrap() error { return e.Err }

// AddCustomers stores many new leads in one call, all of them or none, and
// gives each its sales manager as AddCustomer does, in their order. Progress, if
// not nil, is told now and then how many are stored so far; it begins again
// where the database has the transaction repeated. The leads have no
// idempotency keys. It needs leads:write. It returns ErrInvalid in a *LeadError
// that says which lead is refused.
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

// ImportCustomers is AddCustomers for more leads than should be in memory at
// once, and returns how many there were. It ranges over leads more than once
// where the transaction has to be repeated; they have to be the same each time.
// An error that they yield ends the import, nothing is stored, and it is
// returned. While leads are being stored others get theirs all the same: the
// rotation's lock is held for the last moment only. (SQLite has one writer: a
// transaction keeps others waiting there.)
func (m *Manager) ImportCustomers(
	ctx context.Context, actor Actor, leads iter.Seq2[NewCustomer, error], progress func(stored int),
) (int, error) {
	return m.importLeads(ctx, actor, leads, progress, func(int, []*Lead) {})
}

// errTeamChanged means that other members are present than when the import began.
var errTeamChanged = errors.New("cims: the rotation's team has changed during an import")

// importLeads hands what it stores to each, with how many came before.
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
	run := func(lockFirst bool) error {
		return m.update(ctx, func(ctx context.Context, tx Tx) error {
			b := bulk{manager: m, tx: tx, actor: actor, progress: progress, each: each, gained: map[int64]int{}}
			err := b.all(ctx, actor, leads, lockFirst)
			stored = b.stored
			return err
		})
	}
	if err = run(false); errors.Is(err, errTeamChanged) {
		err = run(true) // nobody can change them now
	}
	if err != nil {
		return 0, err
	}
	return stored, nil
}

// bulk is one run of an import.
//
// It deals whole rounds, which leave all credits as they are (see rotation.Round):
// so it needs no lock for them, however the rotation moves meanwhile. What is left
// at the end, less than a round, is decided under the lock as any leads are.
type bulk struct {
	manager  *Manager
	tx       Tx
	actor    Actor
	progress func(int)
	each     func(int, []*Lead)

	round  []Person // whose turn it is in a round; empty: nobody is eligible
	rounds int64
	gained map[int64]int
	stored int
}

func (b *bulk) all(ctx context.Context, actor Actor, leads iter.Seq2[NewCustomer, error], lockFirst bool) error {
	read := b.tx.Rotation
	if lockFirst {
		read = b.tx.LockRotation
	}
	pool, err := read(ctx)
	if err != nil {
		return err
	}
	at := b.manager.now()
	round := policy.Round(pool.State, at)
	for _, id := range round {
		b.round = append(b.round, pool.People[id])
	}
	size := max(len(round), 1)
	chunk := max(importChunk/size, 1) * size
	pending := make([]*Lead, 0, chunk)
	statuses := map[string]string{}
	for in, err := range leads {
		if err != nil {
			return &hostError{err}
		}
		lead, err := b.lead(ctx, actor, in, statuses)
		if errors.Is(err, ErrInvalid) {
			return &LeadError{Index: b.stored + len(pending), Err: err}
		}
		if err != nil {
			return err
		}
		lead.Customer.CreatedAt, lead.Customer.UpdatedAt = at, at
		if pending = append(pending, lead); len(pending) == chunk {
			if err := b.storeRounds(ctx, pending); err != nil {
				return err
			}
			pending = pending[:0]
		}
	}
	whole := len(pending) / size * size
	if err := b.storeRounds(ctx, pending[:whole]); err != nil {
		return err
	}
	if !lockFirst {
		if pool, err = b.tx.LockRotation(ctx); err != nil {
			return err
		}
		now := policy.Round(pool.State, at)
		if slices.Sort(now); !slices.Equal(now, slices.Sorted(slices.Values(round))) {
			return errTeamChanged
		}
	}
	return b.finish(ctx, pool, pending[whole:], at)
}

// lead checks one lead as AddCustomer does.
func (b *bulk) lead(ctx context.Context, actor Actor, in NewCustomer, statuses map[string]string) (*Lead, error) {
	if in.IdempotencyKey != "" {
		return nil, invalid(FieldError{Field: "idempotency_key", Rule: RuleReadOnly})
	}
	request, err := newLeadRequest(actor, in)
	if err != nil {
		return nil, err
	}
	lead := &Lead{Customer: request.in, By: actor.id()}
	lead.Customer.StatusName, err = b.manager.statusOf(ctx, b.tx, statuses, request.in.StatusName)
	return lead, err
}

// storeRounds stores leads that are some number of whole rounds.
func (b *bulk) storeRounds(ctx context.Context, leads []*Lead) error {
	for i, lead := range leads {
		if len(b.round) == 0 {
			lead.Waiting = true
			continue
		}
		lead.Customer.SalesManager = new(b.round[i%len(b.round)])
	}
	if len(b.round) > 0 {
		b.rounds += int64(len(leads) / len(b.round))
	}
	return b.store(ctx, leads)
}

func (b *bulk) store(ctx context.Context, leads []*Lead) error {
	if len(leads) == 0 {
		return nil
	}
	if err := b.tx.InsertLeads(ctx, leads); err != nil {
		if refused, ok := errors.AsType[*LeadError](err); ok {
			return &LeadError{Index: b.stored + refused.Index, Err: refused.Err}
		}
		return err
	}
	for id, n := range gained(leads) {
		b.gained[id] += n
	}
	for _, lead := range leads {
		if err := b.manager.record(ctx, b.tx, b.actor, created(lead.Customer)); err != nil {
			return err
		}
	}
	b.each(b.stored, leads)
	b.stored += len(leads)
	b.progress(b.stored)
	return nil
}

// finish stores what is less than a round, and the rotation. The lock is held.
func (b *bulk) finish(ctx context.Context, pool Rotation, rest []*Lead, at time.Time) error {
	after := pool.clone()
	policy.SkipRounds(&after.State, b.rounds, at)
	turns := policy.Batch(&after.State, at)
	for _, lead := range rest {
		lead.Customer.SalesManager = after.person(turns.Decide(rotation.Lead{}).Member)
	}
	if err := b.store(ctx, rest); err != nil {
		return err
	}
	return saveTurns(ctx, b.tx, pool, after, b.gained)
}
