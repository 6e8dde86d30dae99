package cims

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// maxBatch is how many new leads share one transaction at most.
	maxBatch = 256
	// maxQueue is how many callers may wait for theirs at most.
	maxQueue = 10_000
	// batchTime bounds a transaction that several callers share.
	batchTime = 30 * time.Second
)

// intake is one new lead on its way in.
type intake struct {
	in  Customer // what is to be stored
	by  *int64
	key Key // empty without an idempotency key

	ctx      context.Context //nolint:containedctx // of the caller, who waits for it
	done     chan struct{}
	customer Customer // the answer
	err      error
}

// gatherer lets new leads that arrive while a transaction is under way wait for
// it and go together in the next one, as a database's group commit does: they
// share the rotation's lock. Who comes alone waits for nobody.
type gatherer struct {
	run func(ctx context.Context, batch []*intake) error

	mu     sync.Mutex
	queue  []*intake
	busy   bool          // a goroutine is at work
	idle   chan struct{} // closed when it has ended
	closed bool
}

// do takes one lead in. A caller whose context ends while it is still in the
// queue is left out; one whose transaction is under way is told that the
// outcome is unknown.
func (g *gatherer) do(ctx context.Context, request *intake) error {
	request.ctx = ctx
	if err := g.join(request); err != nil {
		return err
	}
	select {
	case <-request.done:
		return request.err
	case <-ctx.Done():
	}
	if g.leave(request) {
		return &Error{Kind: ErrUnavailable, Err: ctx.Err()}
	}
	select {
	case <-request.done: // just now
		return request.err
	default:
		return &Error{Kind: ErrOutcomeUnknown, Err: ctx.Err()}
	}
}

func (g *gatherer) join(request *intake) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return ErrClosed
	case len(g.queue) >= maxQueue:
		return &Error{Kind: ErrUnavailable, Reason: ReasonTooMany}
	}
	g.queue = append(g.queue, request)
	if !g.busy {
		g.busy, g.idle = true, make(chan struct{})
		go g.work()
	}
	return nil
}

// leave takes a request out of the queue, if it is still in it.
func (g *gatherer) leave(request *intake) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, other := range g.queue {
		if other == request {
			g.queue = append(g.queue[:i], g.queue[i+1:]...)
			return true
		}
	}
	return false
}

// work runs one batch after another until nobody waits.
func (g *gatherer) work() {
	for {
		batch := g.take()
		if batch == nil {
			return
		}
		g.flush(batch)
	}
}

func (g *gatherer) take() []*intake {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) == 0 {
		g.busy = false
		close(g.idle)
		return nil
	}
	n := min(len(g.queue), maxBatch)
	batch := g.queue[:n:n]
	g.queue = g.queue[n:]
	return batch
}

// flush runs a batch. What fails together, other than for the database, is
// tried one by one, so that a bad lead harms only its own caller.
func (g *gatherer) flush(batch []*intake) {
	if len(batch) > 1 {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(batch[0].ctx), batchTime)
		err := g.run(ctx, batch)
		cancel()
		if err == nil || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrOutcomeUnknown) {
			for _, request := range batch {
				request.err = err
				close(request.done)
			}
			return
		}
	}
	for _, request := range batch {
		request.err = g.run(request.ctx, []*intake{request})
		close(request.done)
	}
}

// close lets nobody in any more and waits until everybody is out.
func (g *gatherer) close(ctx context.Context) error {
	g.mu.Lock()
	g.closed = true
	busy, idle := g.busy, g.idle
	g.mu.Unlock()
	if !busy {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// takeIn takes new leads in, in one transaction and in their order: each with
// its first history row and its sales manager.
func (m *Manager) takeIn(ctx context.Context, requests []*intake) error {
	done, err := m.takeInFast(ctx, requests)
	if done || err != nil {
		return err
	}
	return m.storage.Update(ctx, func(ctx context.Context, tx Tx) error {
		return m.takeInCarefully(ctx, tx, requests)
	})
}

// takeInFast leaves everything that may be refused to takeInCarefully.
func (m *Manager) takeInFast(ctx context.Context, requests []*intake) (bool, error) {
	fast, ok := m.storage.(Intaker)
	if !ok {
		return false, nil
	}
	leads := make([]*Lead, len(requests))
	for i, request := range requests {
		if request.key.Key != "" {
			return false, nil
		}
		leads[i] = &Lead{Customer: request.in, By: request.by}
		if request.in.StatusName == "" {
			leads[i].Customer.StatusName = m.config.InitialStatus
		}
		if !possibleName(leads[i].Customer.StatusName) {
			return false, nil
		}
	}
	ok, err := fast.Intake(ctx, leads, func(pool Rotation) Rotation { return m.decide(pool, leads) })
	if ok {
		for i, lead := range leads {
			requests[i].customer = lead.Customer
		}
	}
	return ok, err
}

// decide says who gets each of some new leads.
func (m *Manager) decide(pool Rotation, leads []*Lead) Rotation {
	picks, after := next(pool, len(leads))
	at := m.now()
	for i, lead := range leads {
		lead.Customer.CreatedAt, lead.Customer.UpdatedAt = at, at
		lead.Customer.SalesManager, lead.Waiting = nil, picks == nil
		if picks != nil {
			lead.Customer.SalesManager = new(after.Members[picks[i]].Person)
		}
	}
	return after.changedFrom(pool)
}

func (m *Manager) takeInCarefully(ctx context.Context, tx Tx, requests []*intake) error {
	// Keys are claimed before the lock is taken: who waits for a key must not
	// keep the rotation from the one that is about to store it.
	fresh, err := m.claimKeys(ctx, tx, requests)
	if err != nil || len(fresh) == 0 {
		return err
	}
	leads := make([]*Lead, len(fresh))
	statuses := map[string]string{}
	for i, request := range fresh {
		leads[i] = &Lead{Customer: request.in, By: request.by}
		if leads[i].Customer.StatusName, err = m.statusOf(ctx, tx, statuses, request.in.StatusName); err != nil {
			return err
		}
	}
	pool, err := tx.LockRotation(ctx)
	if err != nil {
		return err
	}
	if err := tx.Intake(ctx, m.decide(pool, leads), leads); err != nil {
		return err
	}
	for i, lead := range leads {
		fresh[i].customer = lead.Customer
	}
	return saveKeys(ctx, tx, fresh)
}

// statusOf is the status of a new customer, looked up once in a batch.
func (m *Manager) statusOf(ctx context.Context, tx Tx, known map[string]string, name string) (string, error) {
	if status, ok := known[name]; ok {
		return status, nil
	}
	use := m.initialStatus
	if name != "" {
		use = func(ctx context.Context, tx Tx) (Status, error) { return m.useStatus(ctx, tx, name, "status_name") }
	}
	status, err := use(ctx, tx)
	known[name] = status.Name
	return status.Name, err
}

// claimKeys answers the requests that were made before and returns the others.
func (m *Manager) claimKeys(ctx context.Context, tx Tx, requests []*intake) ([]*intake, error) {
	var fresh []*intake
	for _, request := range requests {
		if request.key.Key == "" {
			fresh = append(fresh, request)
			continue
		}
		request.key.At = m.now()
		kept, err := tx.ClaimKey(ctx, request.key, request.key.At.Add(-keyLifetime))
		switch {
		case err != nil:
			return nil, err
		case kept == nil:
			fresh = append(fresh, request)
		case kept.Fingerprint != request.key.Fingerprint:
			return nil, &Error{Kind: ErrKeyReused, Name: request.key.Key}
		default:
			if err := json.Unmarshal(kept.Result, &request.customer); err != nil {
				return nil, fmt.Errorf("cims: the answer kept for idempotency key %q: %w", request.key.Key, err)
			}
		}
	}
	return fresh, nil
}

func saveKeys(ctx context.Context, tx Tx, requests []*intake) error {
	for _, request := range requests {
		if request.key.Key == "" {
			continue
		}
		var err error
		if request.key.Result, err = json.Marshal(request.customer); err != nil {
			return err
		}
		if err := tx.SaveKey(ctx, request.key); err != nil {
			return err
		}
	}
	return nil
}
