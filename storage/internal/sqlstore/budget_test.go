package sqlstore

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims/internal/work"
)

func TestBudget(t *testing.T) {
	t.Parallel()
	// most is how many connections of a pool each kind gets while it is alone.
	for n, most := range map[int][work.Kinds]int{
		0:  {100, 100, 1, 1},
		1:  {1, 1, 1, 1},
		2:  {2, 2, 1, 1},
		3:  {2, 3, 1, 1},
		4:  {3, 4, 1, 1},
		16: {12, 16, 4, 4},
	} {
		for kind := range work.Kinds {
			b := &Budget{size: func() int { return n }}
			for b.held[kind] < 100 && b.fits(kind) {
				_, err := b.Take(t.Context(), kind)
				require.NoError(t, err)
			}
			require.Equal(t, most[kind], b.held[kind], "pool of %d, kind %d", n, kind)
		}
	}
}

// TestBudgetGivesTurns checks that slow work leaves connections to others, and that whoever
// waits gets a connection in the order of arrival.
func TestBudgetGivesTurns(t *testing.T) {
	t.Parallel()
	b := &Budget{size: func() int { return 2 }}
	free, err := b.Take(t.Context(), work.Import)
	require.NoError(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.Take(ended, work.Heavy)
	require.ErrorIs(t, err, context.Canceled)
	release, err := b.Take(t.Context(), work.SignIn)
	require.NoError(t, err)

	got := make(chan work.Kind)
	for i, kind := range []work.Kind{work.Import, work.Ordinary, work.SignIn} {
		go func() {
			done, err := b.Take(t.Context(), kind)
			if err == nil {
				got <- kind
				done()
			}
		}()
		require.Eventually(t, func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return int(b.arrived) == i+2 //nolint:gosec // few
		}, patience, tick)
	}
	release()
	require.Equal(t, work.Ordinary, <-got, "the import before it still waits for the other one")
	require.Equal(t, work.SignIn, <-got)
	free()
	require.Equal(t, work.Import, <-got)
	require.Eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.held == [work.Kinds]int{}
	}, patience, tick)
}

const (
	patience = 10 * time.Second
	tick     = time.Millisecond
)
