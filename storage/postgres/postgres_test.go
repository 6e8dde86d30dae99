package postgres_test

import (
	"database/sql"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/internal/pgtest"
	"github.com/cimskit/cims/storage/postgres"
	"github.com/cimskit/cims/storage/storagetest"
)

func TestStorage(t *testing.T) {
	t.Parallel()
	template := databases(t, "")
	storagetest.Run(t, func(t *testing.T) storagetest.Open {
		url := template.URL(t)
		return func(t *testing.T) cims.Storage { return open(t, url) }
	})
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	pgtest.Need(t)
	storagetest.RunMigrate(t, func(t *testing.T) storagetest.Open {
		url := pgtest.URL(t)
		return func(t *testing.T) cims.Storage { return open(t, url) }
	})
}

// databases returns databases in which the statements of a host have run, and then Migrate.
func databases(t *testing.T, statements string, options ...postgres.Option) *pgtest.Template {
	t.Helper()
	return pgtest.NewTemplate(t, func(url string) {
		pgtest.Execute(t, url, statements)
		migrated(t, open(t, url, options...))
	})
}

func open(t *testing.T, url string, options ...postgres.Option) *postgres.Storage {
	t.Helper()
	store, err := postgres.Open(t.Context(), url, options...)
	require.NoError(t, err)
	return store
}

func host(t *testing.T, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	db.SetMaxOpenConns(20)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func TestNewRefusesBackslashEscapes(t *testing.T) {
	t.Parallel()
	_, err := postgres.New(host(t, pgtest.URL(t)+"&standard_conforming_strings=off"))
	require.ErrorContains(t, err, "standard_conforming_strings")
}

func TestOpenTellsWhatIsWrongWithoutThePassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"postgres://cims:secret-word@127.0.0.1:notaport/crm",
		"postgres://cims:secret-word@127.0.0.1:1/crm?connect_timeout=1",
	} {
		_, err := postgres.Open(t.Context(), url)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "secret-word")
	}
	_, err := postgres.Open(t.Context(), "postgres://127.0.0.1:1/crm?connect_timeout=1")
	require.ErrorIs(t, err, cims.ErrUnavailable)
}

// TestCustomersGoOnWhereTheHostDeletesSome: also that at which a page ended.
func TestCustomersGoOnWhereTheHostDeletesSome(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	store := open(t, url)
	defer func() { require.NoError(t, store.Close()) }()
	db := host(t, url)
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
			_, err := db.ExecContext(t.Context(), "DELETE FROM customer WHERE id BETWEEN $1 AND $2", after-10, after+10)
			require.NoError(t, err)
		}
	}
	require.Equal(t, len(leads)-10, came)
}
