package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/postgres"
)

// TestSlowWorkLeavesConnections holds imports and reads over many leads open, more than the
// pool has connections. All others still get theirs.
func TestSlowWorkLeavesConnections(t *testing.T) {
	t.Parallel()
	template := databases(t, "")
	for _, size := range []int{2, 4} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			url := template.URL(t)
			slowWork(t, url, open(t, fmt.Sprintf("%s&pool_max_conns=%d", url, size)))
		})
		t.Run(fmt.Sprintf("%d of the host", size), func(t *testing.T) {
			t.Parallel()
			url := template.URL(t)
			db := host(t, url)
			db.SetMaxOpenConns(size)
			store, err := postgres.New(db)
			require.NoError(t, err)
			slowWork(t, url, store)
		})
	}
}

// patience bounds waiting for what comes at once.
const patience = 20 * time.Second

func slowWork(t *testing.T, url string, store cims.Storage) {
	t.Helper()
	// The search for waiting leads reads histories, which are locked below.
	crm, err := cims.New(store, &cims.Config{WaitingInterval: time.Hour})
	require.NoError(t, err)
	us := cims.System("test")
	user, err := crm.CreateUser(t.Context(), us, cims.NewUser{Email: "a@example.com", Name: "A", Surname: "A", RoleName: cims.RoleSalesManager})
	require.NoError(t, err)

	const many = 8
	slow, stop := context.WithCancel(t.Context())
	ended := make(chan error, many)
	begun := make(chan struct{}, many)
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
	everyoneElse(t, crm, store, user.ID)
	stop()
	for range many {
		require.Error(t, <-ended)
	}

	// Nobody can read the history.
	db := host(t, url)
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), "LOCK TABLE customer_status_history IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	slow, stop = context.WithCancel(t.Context())
	for range many {
		go func() {
			_, err := crm.ConversionRate(slow, us, cims.ConversionQuery{Last: 100_000})
			ended <- err
		}()
	}
	require.Eventually(t, func() bool {
		var waiting bool
		err := db.QueryRowContext(t.Context(), "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'customer_status_history'::regclass)").Scan(&waiting)
		return err == nil && waiting
	}, patience, time.Millisecond)
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = crm.ConversionRate(short, us, cims.ConversionQuery{Last: 100_000})
	require.ErrorIs(t, err, cims.ErrUnavailable)
	reads(t, crm, store, user.ID)
	stop()
	for range many {
		require.ErrorIs(t, <-ended, cims.ErrUnavailable)
	}
	require.NoError(t, tx.Rollback())
	everyoneElse(t, crm, store, user.ID)
	require.NoError(t, crm.Close(context.Background()))
	require.NoError(t, store.Close())
}

func everyoneElse(t *testing.T, crm *cims.Manager, store cims.Storage, user int64) {
	t.Helper()
	reads(t, crm, store, user)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := crm.AddCustomer(ctx, cims.System("test"), cims.NewCustomer{FullName: "Lead"})
	require.NoError(t, err)
}

func reads(t *testing.T, crm *cims.Manager, store cims.Storage, user int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, store.Ready(ctx))
	_, err := store.Account(ctx, user)
	require.NoError(t, err)
	_, err = crm.Statuses(ctx, cims.System("test"), cims.StatusFilter{})
	require.NoError(t, err)
}
