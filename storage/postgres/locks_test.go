package postgres_test

import (
	"context"
	"fmt"
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

// TestLockedStatusKeepsNoOtherLeadWaiting leaves a host's transaction open that has edited
// a status. A lead in that status waits, and leads in others don't.
func TestLockedStatusKeepsNoOtherLeadWaiting(t *testing.T) {
	t.Parallel()
	template, us := databases(t, ""), cims.System("test")
	for _, known := range []bool{false, true} {
		t.Run(fmt.Sprintf("the waiting one knows the rotation: %t", known), func(t *testing.T) {
			t.Parallel()
			url := template.URL(t)
			pool, err := pgxpool.New(t.Context(), url)
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			var crm [2]*cims.Manager
			for i := range crm {
				store := open(t, url)
				t.Cleanup(func() { require.NoError(t, store.Close()) })
				crm[i], err = cims.New(store, nil)
				require.NoError(t, err)
			}
			statuses, err := crm[0].Statuses(t.Context(), us, cims.StatusFilter{})
			require.NoError(t, err)
			locked, free := statuses[0], statuses[1]
			if known {
				_, err = crm[1].AddCustomer(t.Context(), us, cims.NewCustomer{FullName: "First"})
				require.NoError(t, err)
			}
			tx, err := pool.Begin(t.Context())
			require.NoError(t, err)
			defer func() { _ = tx.Rollback(context.Background()) }() // if the test fails
			name := "Edited"
			_, err = postgres.WithTx(crm[0], tx).UpdateStatus(t.Context(), us, locked.ID, cims.StatusUpdate{DisplayName: &name})
			require.NoError(t, err)
			waits := make(chan error, 1)
			go func() {
				_, err := crm[1].AddCustomer(t.Context(), us, cims.NewCustomer{FullName: "Waits", StatusName: locked.Name})
				waits <- err
			}()
			require.Eventually(t, func() bool {
				var waiting bool
				err := pool.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')").Scan(&waiting)
				return err == nil && waiting
			}, time.Minute, time.Millisecond)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			for range 2 {
				_, err = crm[0].AddCustomer(ctx, us, cims.NewCustomer{FullName: "Lead", StatusName: free.Name})
				require.NoError(t, err)
			}
			require.NoError(t, tx.Commit(t.Context()))
			require.NoError(t, <-waits)
			for i := range crm {
				require.NoError(t, crm[i].Close(t.Context()))
			}
		})
	}
}
