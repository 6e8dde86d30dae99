package postgres_test

import (
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/internal/pgtest"
	"github.com/cimskit/cims/storage/postgres"
	"github.com/cimskit/cims/storage/storagetest"
)

// TestWithTx runs in transactions of the pool of a host that has set some things
// otherwise.
func TestWithTx(t *testing.T) {
	t.Parallel()
	template := databases(t, "")
	storagetest.RunJoins(t, func(t *testing.T) (storagetest.Open, storagetest.Host) {
		url := template.URL(t)
		pool := hostPool(t, url+"&timezone=Asia/Kolkata&default_query_exec_mode=exec")
		open := func(t *testing.T) cims.Storage { return open(t, url) }
		return open, func(t *testing.T) storagetest.HostTx {
			tx, err := pool.Begin(t.Context())
			require.NoError(t, err)
			return storagetest.HostTx{
				Join:     func(crm *cims.Manager) *cims.Manager { return postgres.WithTx(crm, tx) },
				Exec:     func(statement string) error { _, err := tx.Exec(t.Context(), statement); return err },
				Commit:   func() error { return tx.Commit(t.Context()) },
				Rollback: func() error { return tx.Rollback(t.Context()) },
			}
		}
	})
}

func TestWithTxOfDatabaseSQL(t *testing.T) {
	t.Parallel()
	template := databases(t, "")
	storagetest.RunJoins(t, func(t *testing.T) (storagetest.Open, storagetest.Host) {
		url := template.URL(t)
		db := host(t, url)
		open := func(t *testing.T) cims.Storage { return open(t, url) }
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

func hostPool(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func TestWithTxRefusesASnapshot(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), pgtest.URL(t)
	store := open(t, url)
	defer func() { require.NoError(t, store.Close()) }()
	require.NoError(t, store.Migrate(ctx))
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, crm.Close(ctx)) }()
	us := cims.System("test")

	pool := hostPool(t, url)
	for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
		tx, err := pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: level})
		require.NoError(t, err)
		joined := postgres.WithTx(crm, tx)
		_, err = joined.AddCustomer(ctx, us, cims.NewCustomer{FullName: "Aziza"})
		require.ErrorIs(t, err, cims.ErrIsolation)
		require.ErrorContains(t, err, string(level))
		_, err = joined.SalesManagers(ctx, us)
		require.ErrorIs(t, err, cims.ErrIsolation)
		_, err = tx.Exec(ctx, "CREATE TABLE still_usable (id INTEGER)")
		require.NoError(t, err)
		require.NoError(t, tx.Rollback(ctx))
	}
	db := host(t, url)
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
	require.NoError(t, err)
	_, err = crm.WithTx(tx).AddCustomer(ctx, us, cims.NewCustomer{FullName: "Aziza"})
	require.ErrorIs(t, err, cims.ErrIsolation)
	require.NoError(t, tx.Rollback())

	_, err = crm.Join("no transaction").AddCustomer(ctx, us, cims.NewCustomer{FullName: "Aziza"})
	require.ErrorContains(t, err, "not a string")
}

func TestAnOrderAndItsLead(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), pgtest.URL(t)
	store := open(t, url)
	defer func() { require.NoError(t, store.Close()) }()
	require.NoError(t, store.Migrate(ctx))
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, crm.Close(ctx)) }()
	pool, us := hostPool(t, url), cims.System("shop")
	_, err = pool.Exec(ctx, "CREATE TABLE orders (title TEXT NOT NULL, customer_id BIGINT NOT NULL REFERENCES customer (id))")
	require.NoError(t, err)
	title := "a website"
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		lead, err := postgres.WithTx(crm, tx).AddCustomer(ctx, us, cims.NewCustomer{FullName: "Bekzod Toshev"})
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "INSERT INTO orders (title, customer_id) VALUES ($1, $2)", title, lead.ID)
		return err
	})
	require.NoError(t, err)
	var name string
	require.NoError(t, pool.QueryRow(ctx, "SELECT c.full_name FROM orders AS o JOIN customer AS c ON c.id = o.customer_id").Scan(&name))
	require.Equal(t, "Bekzod Toshev", name)
}
