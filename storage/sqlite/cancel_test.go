package sqlite_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/sqlite"
)

var system = cims.System("test")

func openNew(t *testing.T) (*sqlite.Storage, *cims.Manager) {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "crm.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, crm.Close(context.Background())) })
	return store, crm
}

// TestCallersWhoGiveUp checks that a canceled call never leaves the writing connection in a
// transaction. All later calls would fail.
func TestCallersWhoGiveUp(t *testing.T) {
	t.Parallel()
	store, crm := openNew(t)
	require.NoError(t, store.Migrate(t.Context()))
	lead, err := crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Aziza"})
	require.NoError(t, err)
	for n := range 6000 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(300))*time.Microsecond) //nolint:gosec // no secret
		if n%10 > 0 {
			_, _ = crm.SetStatus(ctx, system, lead.ID, []string{"contacted", "finished"}[n%2], "") // may be in time or not
		} else {
			_, _ = crm.AddCustomer(ctx, system, cims.NewCustomer{FullName: "Bobur"})
		}
		cancel()
		if n%50 == 0 {
			_, err := crm.CreateStatus(t.Context(), system, cims.NewStatus{Name: "contacted", DisplayName: "Contacted"})
			require.ErrorIs(t, err, cims.ErrExists)
		}
	}
}

// TestIntakeAfterAFailure checks that a failed intake works again once its cause is gone.
func TestIntakeAfterAFailure(t *testing.T) {
	t.Parallel()
	t.Run("before Migrate", func(t *testing.T) {
		t.Parallel()
		store, crm := openNew(t)
		_, err := crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Aziza"})
		require.Error(t, err)
		require.NoError(t, store.Migrate(t.Context()))
		_, err = crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Aziza"})
		require.NoError(t, err)
	})
	t.Run("while the writer is busy", func(t *testing.T) {
		t.Parallel()
		store, crm := openNew(t)
		require.NoError(t, store.Migrate(t.Context()))
		busy, free := make(chan struct{}), make(chan struct{})
		var wait sync.WaitGroup
		wait.Go(func() {
			_ = store.Update(t.Context(), func(context.Context, cims.Tx) error { // nothing fails in there
				close(busy)
				<-free
				return nil
			})
		})
		<-busy
		for n := range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			_, err := crm.AddCustomer(ctx, system, cims.NewCustomer{FullName: fmt.Sprint("gave up ", n)})
			cancel()
			require.Error(t, err)
		}
		close(free)
		wait.Wait()
		lead, err := crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Aziza"})
		require.NoError(t, err)
		var names []string
		for customer, err := range crm.AllCustomers(t.Context(), system, cims.CustomerFilter{}) {
			require.NoError(t, err)
			names = append(names, customer.FullName)
		}
		require.Equal(t, []string{lead.FullName}, names, "who gave up while waiting is not stored later")
	})
}
