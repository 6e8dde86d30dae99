package sqlite_test

import (
	"database/sql"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/sqlite"
	"github.com/cimskit/cims/storage/storagetest"
)

func TestStorage(t *testing.T) {
	t.Parallel()
	create := func(t *testing.T) storagetest.Open {
		path := filepath.Join(t.TempDir(), "crm 100%.db")
		return func(t *testing.T) cims.Storage {
			store, err := sqlite.Open(t.Context(), path)
			require.NoError(t, err)
			return store
		}
	}
	storagetest.Run(t, create)
	storagetest.RunMigrate(t, create)
}

// TestStorageOnOneConnection checks that no read uses another connection during a
// transaction. With one connection it would wait for itself.
func TestStorageOnOneConnection(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(t *testing.T) storagetest.Open {
		path := filepath.Join(t.TempDir(), "crm.db")
		return func(t *testing.T) cims.Storage {
			db := openFile(t, path, "?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)")
			db.SetMaxOpenConns(1)
			store, err := sqlite.New(db)
			require.NoError(t, err)
			return store
		}
	})
}

func openFile(t *testing.T, path, parameters string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+parameters)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func TestNewRefusesConnectionsThatDoNotCheckForeignKeys(t *testing.T) {
	t.Parallel()
	_, err := sqlite.New(openFile(t, filepath.Join(t.TempDir(), "crm.db"), ""))
	require.ErrorContains(t, err, "foreign_keys(1)")
}

func TestOpenRefusesWhatIsNoFile(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", ":memory:", "file::memory:?cache=shared"} {
		_, err := sqlite.Open(t.Context(), path)
		require.ErrorContains(t, err, "file", path)
	}
	_, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "no such folder", "crm.db"))
	require.ErrorContains(t, err, "no such folder")
}

func TestReadyBeforeMigrate(t *testing.T) {
	t.Parallel()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "crm.db"))
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	require.Error(t, store.Ready(t.Context()))
	require.NoError(t, store.Migrate(t.Context()))
	require.NoError(t, store.Ready(t.Context()))
}

// Programs that start together on a new file may meet while one switches it to WAL.
func TestNewFileIsOpenedByManyAtOnce(t *testing.T) {
	t.Parallel()
	for range 20 {
		path := filepath.Join(t.TempDir(), "crm.db")
		var group sync.WaitGroup
		failed := make([]error, 8)
		for i := range failed {
			group.Go(func() {
				store, err := sqlite.Open(t.Context(), path)
				if err == nil {
					err = errors.Join(store.Migrate(t.Context()), store.Close())
				}
				failed[i] = err
			})
		}
		group.Wait()
		require.NoError(t, errors.Join(failed...))
	}
}

// TestCustomersGoOnWhereTheHostDeletesSome: also that at which a page ended.
func TestCustomersGoOnWhereTheHostDeletesSome(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "crm.db")
	store, err := sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	db := openFile(t, path, "?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)")
	require.NoError(t, store.Migrate(t.Context()))
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, crm.Close(t.Context())) }()
	leads := make([]cims.NewCustomer, 250)
	for i := range leads {
		leads[i].FullName = "Lead"
	}
	stored, err := crm.AddCustomers(t.Context(), cims.System("test"), leads, nil)
	require.NoError(t, err)
	came, after := 0, stored[len(stored)-1].ID+1
	for customer, err := range crm.AllCustomers(t.Context(), cims.System("test"), cims.CustomerFilter{}) {
		require.NoError(t, err)
		require.Less(t, customer.ID, after)
		after = customer.ID
		if came++; came == 200 {
			_, err := db.ExecContext(t.Context(), "DELETE FROM customer WHERE id BETWEEN ? AND ?", after-10, after+10)
			require.NoError(t, err)
		}
	}
	require.Equal(t, len(leads)-10, came)
}
