package storagetest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

func migrateTwice(t *testing.T, d *database) {
	require.NoError(t, d.Ready(t.Context()))
	custom := d.status(t, "custom")
	contacted := d.statusNamed(t, cims.StatusContacted)
	_, err := d.crm.UpdateStatus(t.Context(), system, contacted.ID, cims.StatusUpdate{
		DisplayName: new("Yangi mijoz"), Color: new(""), Order: new(77),
	})
	require.NoError(t, err)
	member := d.roleNamed(t, "member")
	_, err = d.crm.UpdateRole(t.Context(), system, member.ID, cims.RoleUpdate{Permissions: &[]cims.Permission{}})
	require.NoError(t, err)
	lead := d.lead(t, "Aziza")
	statuses, err := d.Statuses(t.Context())
	require.NoError(t, err)
	roles, err := d.Roles(t.Context())
	require.NoError(t, err)

	require.NoError(t, d.Migrate(t.Context()))
	again := d.open(t)
	require.NoError(t, again.Migrate(t.Context()))

	require.NoError(t, again.Ready(t.Context()))
	afterStatuses, err := again.Statuses(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, statuses, afterStatuses, "what was edited stays edited")
	afterRoles, err := again.Roles(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, roles, afterRoles)
	require.Contains(t, afterStatuses, custom)
	require.Equal(t, lead.FullName, d.customer(t, lead.ID).FullName)
}

// migrateAtOnce starts several processes on a database that is empty yet.
func migrateAtOnce(t *testing.T, open Open) {
	stores := make([]cims.Storage, 4)
	for i := range stores {
		stores[i] = open(t)
		t.Cleanup(func() { require.NoError(t, stores[i].Close()) })
	}
	require.ErrorContains(t, stores[0].Ready(t.Context()), "run Migrate", "the schema is not there yet")
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, stores[0].Migrate(canceled))
	require.Error(t, stores[0].Ready(t.Context()))

	requireAll(t, together(len(stores), func(i int) error {
		if err := stores[i].Migrate(t.Context()); err != nil {
			return err
		}
		return stores[i].Ready(t.Context()) // complete on return
	}))
	for _, store := range stores {
		statuses, err := store.Statuses(t.Context())
		require.NoError(t, err)
		require.Len(t, statuses, 6)
		roles, err := store.Roles(t.Context())
		require.NoError(t, err)
		require.Len(t, roles, 5)
		rotation, err := store.Rotation(t.Context())
		require.NoError(t, err)
		require.Empty(t, rotation.Members)
		require.Zero(t, rotation.Turn)
	}
}
