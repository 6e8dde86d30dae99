package sqlite_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/migration"
)

// TestNothingRunsWithoutTheLock deletes the row that is the rotation's lock under a running
// Manager, and repairs it.
func TestNothingRunsWithoutTheLock(t *testing.T) {
	t.Parallel()
	path, db := hostFile(t)
	store := openStorage(t, path)
	require.NoError(t, store.Migrate(t.Context()))
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, crm.Close(context.Background())) })
	user, err := crm.CreateUser(t.Context(), cims.System("test"), cims.NewUser{Email: "a@example.com", Name: "A", Surname: "A", RoleName: "sales_manager"})
	require.NoError(t, err)
	_, err = crm.AddCustomer(t.Context(), cims.System("test"), cims.NewCustomer{FullName: "Before"})
	require.NoError(t, err)
	run(t, db, "DELETE FROM sales_manager_counter")
	for range 2 {
		_, err = crm.AddCustomer(t.Context(), cims.System("test"), cims.NewCustomer{FullName: "Meanwhile"})
		require.ErrorIs(t, err, cims.ErrUnavailable)
		require.ErrorContains(t, err, "sales_manager_counter is empty")
		_, err = crm.UpdateUser(t.Context(), cims.System("test"), user.ID, cims.UserUpdate{Active: new(false)})
		require.ErrorIs(t, err, cims.ErrUnavailable)
		require.ErrorIs(t, crm.Ready(t.Context()), cims.ErrUnavailable)
	}
	found, err := store.Repair(t.Context(), migration.RepairOptions{})
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.NoError(t, crm.Ready(t.Context()))
	lead, err := crm.AddCustomer(t.Context(), cims.System("test"), cims.NewCustomer{FullName: "After"})
	require.NoError(t, err)
	require.Equal(t, user.ID, lead.SalesManager.ID)
}
