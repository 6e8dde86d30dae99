package cims

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/cimskit/cims/internal/work"
)

const (
	// maxBatch is the largest number of calls that share a transaction.
	maxBatch = 256
	// maxQueue is the largest number of calls that may wait.
	maxQueue = 10_000
	// batchTime bounds a transaction. Otherwise, on a dead connection, a caller
	// without a deadline would block all others forever.
	batchTime = 30 * time.Second
	// maxYields is how many times in a row awaitServed yields in vain.
	maxYields = 100
)

// gatherer combines concurrent calls, as a database's group commit does. Calls that
// arrive while a transaction runs share the next one, and with it the rotation's
// lock. A single call doesn't wait.
type gatherer[T any] struct {
	// run carries out all of a batch or nothing. It stores each result in its
	// request.
	run func(ctx context.Context, batch []*T) error
	// alone makes each call a batch of its own, run in the caller's goroutine.
	alone bool

	mu     sync.Mutex
	queue  []*call[T]
	busy   bool          // a goroutine runs work
	idle   chan struct{} // closed when that goroutine ends
	closed bool
}

// call is a call of do that waits for its result.
type call[T any] struct {
	ctx     context.Context //nolint:containedctx // the caller waits in do
	request *T
	done    chan struct{}
	err     error
}

// do carries out one request. If ctx ends while the call is in the queue, do removes
// it and returns ErrUnavailable. If ctx ends during the transaction, do returns
// ErrOutcomeUnknown.
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
	case <-c.done: // finished in the meantime
		return c.result()
	default:
		return &Error{Kind: ErrOutcomeUnknown, Err: ctx.Err()}
	}
}

// result returns the error of the call. It panics if the call panicked, as if the
// caller had run the transaction itself.
func (c *call[T]) result() error {
	if fault, ok := errors.AsType[*panicked](c.err); ok {
		panic(fault)
	}
	return hostCause(c.err)
}

// hookContext returns the context for the hooks of one call. If calls share the
// transaction, ctx belongs to all of them, so only the request id is in it.
func (g *gatherer[T]) hookContext(ctx context.Context, requestID string) context.Context {
	if g.alone {
		return ctx
	}
	return WithRequestID(withoutValues{ctx}, requestID)
}

type withoutValues struct{ context.Context } //nolint:containedctx // it is a context

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

// leave removes a call from the queue. It reports whether the call was there.
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

// work runs one batch after another until the queue is empty.
func (g *gatherer[T]) work() {
	for {
		batch := g.take()
		if batch == nil {
			return
		}
		g.flush(batch)
		g.awaitServed(len(batch))
	}
}

// awaitServed gives the callers of the last batch time to make another call, as long
// as their number grows. Otherwise the first one back would get a transaction of its
// own, and the others would wait for it. In vain it takes a few microseconds.
func (g *gatherer[T]) awaitServed(served int) {
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

// flush runs a batch. If it fails, but not because of the database, flush runs its
// halves. So an invalid request or a failing hook affects only its own caller, and costs
// the others few transactions.
func (g *gatherer[T]) flush(batch []*call[T]) {
	if len(batch) > 1 {
		requests := make([]*T, len(batch))
		for i, c := range batch {
			requests[i] = c.request
		}
		err := g.try(context.Background(), requests)
		down := errors.Is(err, ErrUnavailable) && !errors.Is(err, work.ErrRaised)
		if err == nil || down || errors.Is(err, ErrOutcomeUnknown) {
			for _, c := range batch {
				c.err = err
				close(c.done)
			}
			return
		}
		half := len(batch) / 2
		g.flush(batch[:half])
		g.flush(batch[half:])
		return
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

// open reports whether the gatherer accepts calls.
func (g *gatherer[T]) open() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.closed
}

// close makes the gatherer refuse new calls and waits for those that it has.
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
