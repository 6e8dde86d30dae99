package cims

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// BacklogResult says what AssignBacklog did.
type BacklogResult struct {
	Assigned int // got a sales manager
	Waiting  int // would have, but nobody is eligible: they wait now
}

// AssignBacklog hands out the customers that were left without a sales manager
// before this library came, oldest first. It needs leads:assign. It works in
// transactions of some hundreds; when it returns an error, what Assigned counts
// has been done. Where another program assigns the same ones at the same time, some
// may be left.
func (m *Manager) AssignBacklog(ctx context.Context, actor Actor) (BacklogResult, error) {
	var result BacklogResult
	if err := actor.need(LeadsAssign); err != nil {
		return result, err
	}
	for {
		assigned, waiting, err := m.assignUnassigned(ctx, false, actor)
		result.Assigned += assigned
		result.Waiting += waiting
		if err != nil || assigned+waiting == 0 {
			return result, hostCause(err)
		}
	}
}

// assignUnassigned hands out up to a batch of those who wait, or of those who
// were left without, oldest first. It returns how many got somebody and how
// many wait now: none where nobody is left.
func (m *Manager) assignUnassigned(ctx context.Context, waiting bool, actor Actor) (assigned, left int, err error) {
	const attempts = 10 // somebody else takes them faster, or a list that isn't true would have us look for ever
	for taken, n := true, 0; taken && err == nil && n < attempts; n++ {
		assigned, left, taken, err = m.tryUnassigned(ctx, waiting, actor)
	}
	return assigned, left, err
}

// tryUnassigned also tells whether the older program has just given all of them
// to somebody, so that others may be left.
func (m *Manager) tryUnassigned(ctx context.Context, waiting bool, actor Actor) (assigned, left int, taken bool, err error) {
	err = m.storage.Update(ctx, func(ctx context.Context, tx Tx) error {
		assigned, left, taken = 0, 0, false
		pool, err := tx.LockRotation(ctx)
		if err != nil {
			return err
		}
		if waiting && !policy.AnyPresent(pool.State, m.now()) {
			return nil
		}
		ids, err := tx.Unassigned(ctx, UnassignedQuery{Waiting: waiting, Limit: batchSize})
		if err != nil || len(ids) == 0 {
			return err
		}
		_, assigned, left, err = m.assignAll(ctx, tx, actor, pool, ids, CauseAutomatic, func(c Customer) bool { return c.SalesManager == nil })
		taken = assigned+left == 0
		return err
	})
	return assigned, left, taken, err
}

var waitingLeads = System("waiting leads")

// lookForWaiting is called when somebody may have become eligible.
func (m *Manager) lookForWaiting() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// work runs until the Manager is closed: it assigns waiting leads as soon as
// somebody is eligible, whichever process made it so, and forgets old
// idempotency keys.
func (m *Manager) work(ctx context.Context) {
	defer close(m.closed)
	tick := time.NewTicker(m.config.WaitingInterval)
	defer tick.Stop()
	var forgotten time.Time
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		case <-tick.C:
		}
		begin := time.Now()
		err := runIsolated(func() error { return m.assignWaiting(ctx) })
		if err == nil && m.now().Sub(forgotten) > time.Hour {
			forgotten = m.now()
			err = m.forgetKeys(ctx)
		}
		// A fault that lasts is said once, not every second.
		if err != nil && !failing && ctx.Err() == nil {
			m.config.Logger.ErrorContext(ctx, "cims: waiting leads can't be assigned", "error", hostCause(err))
		}
		failing = err != nil
		// A hook that refuses thousands would have us hold the rotation's lock all the time.
		rest := m.config.WaitingInterval
		if isHostError(err) {
			rest = max(rest, 10*time.Since(begin))
		}
		tick.Reset(rest)
	}
}

// assignWaiting looks without a lock first, so that the usual case, nobody
// waits, costs next to nothing.
func (m *Manager) assignWaiting(ctx context.Context) error {
	for {
		ids, err := m.storage.Unassigned(ctx, UnassignedQuery{Waiting: true, Limit: 1})
		if err != nil || len(ids) == 0 {
			return err
		}
		pool, err := m.storage.Rotation(ctx)
		if err != nil || !policy.AnyPresent(pool.State, m.now()) {
			return err
		}
		var assigned int
		err = runIsolated(func() (err error) {
			assigned, _, err = m.assignUnassigned(ctx, true, waitingLeads)
			return err
		})
		if isHostError(err) {
			return m.assignEach(ctx)
		}
		if err != nil || assigned == 0 {
			return err
		}
		m.config.Logger.InfoContext(ctx, "cims: waiting leads assigned", "leads", assigned)
	}
}

// assignEach assigns the waiting leads one by one, and passes over those that a
// hook refuses: they are tried again, and keep no others waiting. It returns why
// the first of them was refused.
func (m *Manager) assignEach(ctx context.Context) (refusal error) {
	refused := map[int64]bool{}
	for {
		ids, err := m.storage.Unassigned(ctx, UnassignedQuery{Waiting: true, Limit: len(refused) + batchSize})
		if err != nil {
			return err
		}
		ids = slices.DeleteFunc(ids, func(id int64) bool { return refused[id] })
		if len(ids) == 0 {
			return refusal
		}
		for _, id := range ids {
			request := &autoAssignment{customerID: id, actor: waitingLeads}
			err := runIsolated(func() error { return m.autoAssign(ctx, []*autoAssignment{request}) })
			switch {
			case err == nil && !request.found:
				refused[id] = true // deleted just now, or the list isn't true
			case err == nil && request.assignment == nil:
				return refusal // nobody is eligible any more
			case err != nil && !isHostError(err):
				return err
			case err != nil:
				refused[id] = true
				refusal = cmp.Or(refusal, error(&hostError{fmt.Errorf("customer %d: %w", id, hostCause(err))}))
			}
		}
	}
}

func (m *Manager) forgetKeys(ctx context.Context) error {
	for {
		forgotten := 0
		err := m.update(ctx, func(ctx context.Context, tx Tx) error {
			var err error
			forgotten, err = tx.ForgetKeys(ctx, m.now().Add(-keyLifetime), batchSize)
			return err
		})
		if err != nil || forgotten < batchSize {
			return err
		}
	}
}
