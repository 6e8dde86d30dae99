package sqlite_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/sqlite"
)

// TestImportsLeaveConnections holds imports open, more than the host's pool has connections.
// All reads still get theirs.
func TestImportsLeaveConnections(t *testing.T) {
	t.Parallel()
	db := openFile(t, filepath.Join(t.TempDir(), "crm.db"), "?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)")
	db.SetMaxOpenConns(2)
	store, err := sqlite.New(db)
	require.NoError(t, err)
	require.NoError(t, store.Migrate(t.Context()))
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	us := cims.System("test")

	const many = 4
	slow, stop := context.WithCancel(t.Context())
	begun, ended := make(chan struct{}, many), make(chan error, many)
	for range many {
		go func() {
			_, err := crm.ImportCustomers(slow, us, func(yield func(cims.NewCustomer, error) bool) {
				begun <- struct{}{}
				<-slow.Done()
				yield(cims.NewCustomer{}, errors.New("no leads"))
			}, nil)
			ended <- err
		}()
	}
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 20 {
		require.NoError(t, store.Ready(ctx))
		_, err = crm.Statuses(ctx, us, cims.StatusFilter{})
		require.NoError(t, err)
	}
	stop()
	for range many {
		require.Error(t, <-ended)
	}
	_, err = crm.AddCustomer(t.Context(), us, cims.NewCustomer{FullName: "Lead"})
	require.NoError(t, err)
	require.NoError(t, crm.Close(context.Background()))
}
