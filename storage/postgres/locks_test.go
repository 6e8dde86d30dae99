package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/internal/pgtest"
	"github.com/cimskit/cims/storage/postgres"
)

// TestRightsAndRotationAreTwoLocks leaves transactions of a host open: one that has
// edited a role doesn't keep leads waiting, nor does one that has added a lead keep
// the edit of a role waiting.
func TestRightsAndRotationAreTwoLocks(t *testing.T) {
	t.Parallel()
	pgtest.Need(t)
	url := pgtest.URL(t)
	store := open(t, url)
	require.NoError(t, store.Migrate(t.Context()))
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, crm.Close(context.Background())) }()
	pool, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	defer pool.Close()

	us := cims.System("test")
	_, err = crm.CreateUser(t.Context(), us, cims.NewUser{Email: "a@example.com", Name: "A", Surname: "A", RoleName: cims.RoleSalesManager})
	require.NoError(t, err)
	role, err := crm.CreateRole(t.Context(), us, cims.NewRole{Name: "guest", DisplayName: "Guest"})
	require.NoError(t, err)
	edit := func(ctx context.Context, crm *cims.Manager, name string) error {
		_, err := crm.UpdateRole(ctx, us, role.ID, cims.RoleUpdate{DisplayName: &name})
		return err
	}
	add := func(ctx context.Context, crm *cims.Manager) error {
		_, err := crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: "Lead"})
		return err
	}
	// whileOpen runs do beside a transaction that has done first.
	whileOpen := func(first func(crm *cims.Manager) error, do func(ctx context.Context) error) error {
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		defer func() { require.NoError(t, tx.Rollback(context.Background())) }()
		require.NoError(t, first(postgres.WithTx(crm, tx)))
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		return do(ctx)
	}

	require.NoError(t, whileOpen(
		func(joined *cims.Manager) error { return edit(t.Context(), joined, "Edited") },
		func(ctx context.Context) error { return add(ctx, crm) },
	))
	require.NoError(t, whileOpen(
		func(joined *cims.Manager) error { return add(t.Context(), joined) },
		func(ctx context.Context) error { return edit(ctx, crm, "Edited again") },
	))
	require.Error(t, whileOpen(
		func(joined *cims.Manager) error { return add(t.Context(), joined) },
		func(ctx context.Context) error { return add(ctx, crm) },
	), "the rotation is one lock")
	require.Error(t, whileOpen(
		func(joined *cims.Manager) error {
			_, err := joined.CreateRole(t.Context(), us, cims.NewRole{Name: "other", DisplayName: "Other"})
			return err
		},
		func(ctx context.Context) error { return edit(ctx, crm, "Edited at last") },
	), "rights are one lock")
}
