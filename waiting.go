package cims

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// BacklogResult is the result of AssignBacklog.
type BacklogResult struct {
	Assigned int // customers that got a sales manager
	Waiting  int // customers that now wait, since nobody is eligible
}

// AssignBacklog assigns the customers that had no sales manager before cims was
// installed, oldest first. It needs leads:assign.
//
// AssignBacklog works in transactions of up to 500 customers. If it returns an
// error, the customers in the result are assigned all the same. Some customers may
// be left if another program assigns customers at the same time.
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

// assignUnassigned hands out up to a batch of waiting leads, or of the backlog, oldest
// first. It returns the numbers of leads that got a sales manager and of those that
// wait. Both are 0 if no lead is left.
func (m *Manager) assignUnassigned(ctx context.Context, waiting bool, actor Actor) (assigned, left int, err error) {
	const attempts = 10 // bounds the search if another program is faster or the list is wrong
	for taken, n := true, 0; taken && err == nil && n < attempts; n++ {
		assigned, left, taken, err = m.tryUnassigned(ctx, waiting, actor)
	}
	return assigned, left, err
}

// tryUnassigned also reports whether another program assigned all of its leads in the
// meantime, so that others may be left.
func (m *Manager) tryUnassigned(ctx context.Context, waiting bool, actor Actor) (assigned, left int, taken bool, err error) {
	err = m.storage.Update(ctx, func(ctx context.Context, tx Tx) error {
		assigned, left, taken = 0, 0, false
		state, err := tx.LockRotation(ctx)
		if err != nil {
			return err
		}
		if waiting && !policy.AnyPresent(state.State, m.now()) {
			return nil
		}
		ids, err := tx.Unassigned(ctx, UnassignedQuery{Waiting: waiting, Limit: batchSize})
		if err != nil || len(ids) == 0 {
			return err
		}
		_, assigned, left, err = m.assignAll(ctx, tx, actor, state, ids, CauseAutomatic, func(c Customer) bool { return c.SalesManager == nil })
		taken = assigned+left == 0
		return err
	})
	return assigned, left, taken, err
}

var waitingLeads = System("waiting leads")

// lookForWaiting makes work look for waiting leads now, since a member may have become
// eligible.
func (m *Manager) lookForWaiting() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// work assigns waiting leads and deletes expired idempotency keys until the Manager is
// closed.
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
		// A lasting fault is logged once, not at each tick.
		if err != nil && !failing && ctx.Err() == nil {
			m.config.Logger.ErrorContext(ctx, "cims: can't assign waiting leads", "error", hostCause(err))
		}
		failing = err != nil
		// A hook that refuses thousands of leads must not occupy the rotation's lock.
		rest := m.config.WaitingInterval
		if isHostError(err) {
			rest = max(rest, 10*time.Since(begin))
		}
		tick.Reset(rest)
	}
}

// assignWaiting first looks without a lock, since usually no lead waits.
func (m *Manager) assignWaiting(ctx context.Context) error {
	for {
		ids, err := m.storage.Unassigned(ctx, UnassignedQuery{Waiting: true, Limit: 1})
		if err != nil || len(ids) == 0 {
			return err
		}
		state, err := m.storage.Rotation(ctx)
		if err != nil || !policy.AnyPresent(state.State, m.now()) {
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

// assignEach assigns the waiting leads one by one and passes over those that a hook
// refuses. It returns the first refusal.
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
				refused[id] = true // deleted in the meantime, or the list is wrong
			case err == nil && request.assignment == nil:
				return refusal // nobody is eligible now
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
