package cims

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"
)

const (
	// maxBatch is how many callers share one transaction at most.
	maxBatch = 256
	// maxQueue is how many callers may wait for theirs at most.
	maxQueue = 10_000
	// batchTime bounds a transaction, which others wait for: on a connection that
	// has fallen silent, a caller without a deadline would hold them up for ever.
	batchTime = 30 * time.Second
	// maxYields is how often in a row letReturn looks in vain.
	maxYields = 100
)

// gatherer lets calls that arrive while a transaction is under way wait for it
// and go together in the next one, as a database's group commit does: they
// share the rotation's lock. Who comes alone waits for nobody.
type gatherer[T any] struct {
	// run carries out all of a batch or nothing, and leaves each answer in its
	// request.
	run func(ctx context.Context, batch []*T) error
	// alone: each call is a batch by itself, run by its caller.
	alone bool

	mu     sync.Mutex
	queue  []*call[T]
	busy   bool          // a goroutine is at work
	idle   chan struct{} // closed when it has ended
	closed bool
}

// call is one caller's request on its way through a gatherer.
type call[T any] struct {
	ctx     context.Context //nolint:containedctx // of the caller, who waits for it
	request *T
	done    chan struct{}
	err     error
}

// do carries out one request. A caller whose context ends while it is still in
// the queue is left out; one whose transaction is under way is told that the
// outcome is unknown.
func (g *gatherer[T]) do(ctx context.Context, request *T) error {
	if g.alone {
		if !g.open() {
			return &Error{Kind: ErrClosed}
		}
		return hostCause(g.run(ctx, []*T{request}))
	}
	c := &call[T]{ctx: ctx, request: request, done: make(chan struct{})}
	if err := g.join(c); err != nil {
		return err
	}
	select {
	case <-c.done:
		return c.result()
	case <-ctx.Done():
	}
	if g.leave(c) {
		return &Error{Kind: ErrUnavailable, Err: ctx.Err()}
	}
	select {
	case <-c.done: // just now
		return c.result()
	default:
		return &Error{Kind: ErrOutcomeUnknown, Err: ctx.Err()}
	}
}

// result is the call's error. A panic is the caller's own again, as if it had
// run the transaction itself.
func (c *call[T]) result() error {
	if fault, ok := errors.AsType[*panicked](c.err); ok {
		panic(fault)
	}
	return hostCause(c.err)
}

// shared is a context for hooks: where callers share a transaction without any
// values, since they would be another caller's, but the id of its request.
func (g *gatherer[T]) shared(ctx context.Context, requestID string) context.Context {
	if g.alone {
		return ctx
	}
	return WithRequestID(withoutValues{ctx}, requestID)
}

type withoutValues struct{ context.Context } //nolint:containedctx // is one

func (withoutValues) Value(any) any { return nil }

func (g *gatherer[T]) join(c *call[T]) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return &Error{Kind: ErrClosed}
	case len(g.queue) >= maxQueue:
		return &Error{Kind: ErrUnavailable, Reason: ReasonOverloaded}
	}
	g.queue = append(g.queue, c)
	if !g.busy {
		g.busy, g.idle = true, make(chan struct{})
		go g.work()
	}
	return nil
}

// leave takes a call out of the queue, if it is still in it.
func (g *gatherer[T]) leave(c *call[T]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.queue, c)
	if i < 0 {
		return false
	}
	g.queue = slices.Delete(g.queue, i, i+1)
	return true
}

// work runs one batch after another until nobody waits.
func (g *gatherer[T]) work() {
	for {
		batch := g.take()
		if batch == nil {
			return
		}
		g.flush(batch)
		g.letReturn(len(batch))
	}
}

// letReturn lets those who have just been served run first, as long as more and
// more of them are back with another request: or else the first one back would go
// alone, and all others would wait for it. Where nobody comes it takes a few
// microseconds.
func (g *gatherer[T]) letReturn(served int) {
	back := g.waiting()
	all := back + served
	for yields := 0; back < all && yields < maxYields; yields++ {
		runtime.Gosched()
		if now := g.waiting(); now != back {
			back, yields = now, 0
		}
	}
}

func (g *gatherer[T]) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.queue)
}

func (g *gatherer[T]) take() []*call[T] {
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
// tried one by one, so that a bad request, or a hook that fails for one, harms
// only its own caller.
func (g *gatherer[T]) flush(batch []*call[T]) {
	if len(batch) > 1 {
		requests := make([]*T, len(batch))
		for i, c := range batch {
			requests[i] = c.request
		}
		err := g.try(context.Background(), requests)
		if err == nil || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrOutcomeUnknown) {
			for _, c := range batch {
				c.err = err
				close(c.done)
			}
			return
		}
	}
	for _, c := range batch {
		c.err = g.try(c.ctx, []*T{c.request})
		close(c.done)
	}
}

// try runs a batch within batchTime.
func (g *gatherer[T]) try(ctx context.Context, requests []*T) error {
	ctx, cancel := context.WithTimeout(ctx, batchTime)
	defer cancel()
	return runIsolated(func() error { return g.run(ctx, requests) })
}

// open tells whether anybody is still let in.
func (g *gatherer[T]) open() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.closed
}

// close lets nobody in any more and waits until everybody is out.
func (g *gatherer[T]) close(ctx context.Context) error {
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
