package sqlstore

import (
	"context"
	"database/sql"
	"slices"
	"sync"

	"github.com/cimskit/cims/internal/work"
)

// Budget shares a pool of connections among kinds of work, so that none takes what the
// others need. A nil Budget has no bounds.
type Budget struct {
	size func() int // 0 if unknown

	mu      sync.Mutex
	held    [work.Kinds]int
	waiting [work.Kinds][]*place
	arrived uint64
}

// place is a place in a queue. Its channel is closed when the connection may be taken.
type place struct {
	number uint64
	turn   chan struct{}
}

// unknownSize is assumed for a pool without a limit, which may be one of pgxpool's with the
// smallest default size.
const unknownSize = 4

// NewBudget returns a Budget for a pool. It follows later changes of the pool's size.
func NewBudget(db *sql.DB) *Budget {
	return &Budget{size: func() int { return db.Stats().MaxOpenConnections }}
}

// fits reports whether the limits allow another connection for a kind. A quarter of the
// connections is kept for SignIn. Heavy and Import get a quarter each, at least one, and
// together no more than half. One connection serves all kinds in turn.
func (b *Budget) fits(kind work.Kind) bool {
	n := b.size()
	slow := b.held[work.Heavy] + b.held[work.Import]
	if kind == work.Heavy || kind == work.Import {
		of := n
		if of == 0 {
			of = unknownSize
		}
		if b.held[kind] >= max(of/4, 1) || slow >= max(of/2, 1) {
			return false
		}
	}
	rest := slow + b.held[work.Ordinary]
	return n == 0 || rest+b.held[work.SignIn] < n && (kind == work.SignIn || rest < n-(n+1)/4)
}

// Take waits until a connection may be taken for a kind of work, or ctx ends. The caller
// calls done when the connection is free again.
func (b *Budget) Take(ctx context.Context, kind work.Kind) (done func(), err error) {
	if b == nil {
		return func() {}, nil
	}
	done = func() { b.free(kind) }
	b.mu.Lock()
	if len(b.waiting[kind]) == 0 && b.fits(kind) {
		b.held[kind]++
		b.mu.Unlock()
		return done, nil
	}
	b.arrived++
	p := &place{b.arrived, make(chan struct{})}
	b.waiting[kind] = append(b.waiting[kind], p)
	b.mu.Unlock()
	select {
	case <-p.turn:
		return done, nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.waiting[kind], p); i >= 0 {
		b.waiting[kind] = slices.Delete(b.waiting[kind], i, i+1)
	} else {
		b.held[kind]-- // its turn came meanwhile
		b.next()
	}
	return nil, ctx.Err()
}

func (b *Budget) free(kind work.Kind) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held[kind]--
	b.next()
}

// next gives free connections to whoever has waited longest among those who fit.
func (b *Budget) next() {
	for {
		first := work.Kinds
		for kind := range work.Kinds {
			queue := b.waiting[kind]
			if len(queue) > 0 && b.fits(kind) && (first == work.Kinds || queue[0].number < b.waiting[first][0].number) {
				first = kind
			}
		}
		if first == work.Kinds {
			return
		}
		b.held[first]++
		close(b.waiting[first][0].turn)
		b.waiting[first] = slices.Delete(b.waiting[first], 0, 1)
	}
}
