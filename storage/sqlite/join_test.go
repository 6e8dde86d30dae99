package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/sqlite"
	"github.com/cimskit/cims/storage/storagetest"
)

// TestWithTx has a host with connections of its own to our file.
func TestWithTx(t *testing.T) {
	t.Parallel()
	storagetest.RunJoins(t, func(t *testing.T) (storagetest.Open, storagetest.Host) {
		path := filepath.Join(t.TempDir(), "crm.db")
		open := func(t *testing.T) cims.Storage {
			store, err := sqlite.Open(t.Context(), path)
			require.NoError(t, err)
			return store
		}
		db := openFile(t, path, "?_pragma=foreign_keys(1)&_pragma=busy_timeout(30000)&_txlock=immediate")
		return open, func(t *testing.T) storagetest.HostTx {
			tx, err := db.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			return storagetest.HostTx{
				Join:     func(crm *cims.Manager) *cims.Manager { return crm.WithTx(tx) },
				Exec:     func(statement string) error { _, err := tx.ExecContext(t.Context(), statement); return err },
				Commit:   tx.Commit,
				Rollback: tx.Rollback,
			}
		}
	})
}

func TestWithTxRefusesConnectionsThatDoNotCheckForeignKeys(t *testing.T) {
	t.Parallel()
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "crm.db")
	store, err := sqlite.Open(ctx, path)
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	require.NoError(t, store.Migrate(ctx))
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, crm.Close(ctx)) }()
	tx, err := openFile(t, path, "").BeginTx(ctx, nil)
	require.NoError(t, err)
	_, err = crm.WithTx(tx).AddCustomer(ctx, cims.System("test"), cims.NewCustomer{FullName: "Aziza"})
	require.ErrorContains(t, err, "foreign_keys(1)")
	require.NoError(t, tx.Rollback())
	_, err = crm.Join("no transaction").AddCustomer(ctx, cims.System("test"), cims.NewCustomer{FullName: "Aziza"})
	require.ErrorContains(t, err, "not a string")
}
