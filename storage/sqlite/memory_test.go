package sqlite_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/sqlite"
)

// Both functions are in docs/embedding.md, for the tests of a host.

// newCRM makes a CRM in a file that goes away with the test.
func newCRM(t *testing.T) *cims.Manager {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "crm.db"), sqlite.SynchronousNormal)
	require.NoError(t, err)
	require.NoError(t, store.Migrate(t.Context()))
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, crm.Close(context.Background()))
		require.NoError(t, store.Close())
	})
	return crm
}

// newCRMInMemory needs no file. It has one connection, since each has a separate database.
func newCRMInMemory(t *testing.T) *cims.Manager {
	t.Helper()
	db, err := sql.Open("sqlite", ":memory:?_pragma=foreign_keys(1)")
	require.NoError(t, err)
	db.SetMaxOpenConns(1)
	store, err := sqlite.New(db)
	require.NoError(t, err)
	require.NoError(t, store.Migrate(t.Context()))
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, crm.Close(context.Background()))
		require.NoError(t, db.Close())
	})
	return crm
}

func TestCRMForTests(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) *cims.Manager{"file": newCRM, "memory": newCRMInMemory} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			crm, us := open(t), cims.System("test")
			_, err := crm.CreateUser(t.Context(), us, cims.NewUser{Email: "anvar@example.com", Name: "Anvar", Surname: "Karimov", RoleName: cims.RoleSalesManager})
			require.NoError(t, err)
			lead, err := crm.AddCustomer(t.Context(), us, cims.NewCustomer{FullName: "Aziza Karimova"})
			require.NoError(t, err)
			require.Equal(t, "Anvar", lead.SalesManager.Name)
			lead, err = crm.Customer(t.Context(), us, lead.ID)
			require.NoError(t, err)
			require.Equal(t, "Anvar", lead.SalesManager.Name)
		})
	}
}
