// Package bench compares the library with a floor, bare statements of the driver, in the
// same run. Only their ratio is meaningful, since machines differ and are shared.
// ./scripts/bench runs everything and prints a table.
//
//	go test -run '^$' -bench Intake -benchtime 1x ./bench
package bench

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/internal/pgtest"
	"github.com/cimskit/cims/storage/postgres"
	"github.com/cimskit/cims/storage/sqlite"
)

var trusted = cims.System("bench")

const (
	rounds = 11
	span   = 200 * time.Millisecond // duration of one measurement
)

// contender adds one lead.
type contender func(ctx context.Context, i int) error

// BenchmarkIntake measures new leads against the floor. The floor inserts a customer and an
// assignment without rotation, history or counts. It uses the same tables, keys and indexes,
// and the fewest statements that the driver allows. Run it with -benchtime 1x, since it
// measures its own time.
func BenchmarkIntake(b *testing.B) {
	for _, database := range []struct {
		name string
		open func(b *testing.B, managers int) (crm *cims.Manager, floor contender)
	}{
		{"PostgreSQL", onPostgres},
		{"SQLite-FULL", func(b *testing.B, managers int) (*cims.Manager, contender) {
			b.Helper()
			return onSQLite(b, managers, sqlite.SynchronousFull)
		}},
		{"SQLite-NORMAL", func(b *testing.B, managers int) (*cims.Manager, contender) {
			b.Helper()
			return onSQLite(b, managers, sqlite.SynchronousNormal)
		}},
	} {
		for _, managers := range []int{5, 50} {
			for _, callers := range []int{1, 4, 16, 64} {
				b.Run(fmt.Sprintf("%s/managers=%d/callers=%d", database.name, managers, callers), func(b *testing.B) {
					crm, floor := database.open(b, managers)
					ours := func(ctx context.Context, i int) error {
						_, err := crm.AddCustomer(ctx, trusted, cims.NewCustomer{FullName: leadName(i), PhoneNumber: leadPhone(i)})
						return err
					}
					for b.Loop() {
						compare(b, callers, floor, ours)
					}
					requireFair(b, crm)
				})
			}
		}
	}
}

func leadName(i int) string  { return fmt.Sprintf("Lead %d", i) }
func leadPhone(i int) string { return fmt.Sprintf("+99890%07d", i) }

// compare runs both alternately and reports the medians and their ratio.
func compare(b *testing.B, callers int, floor, ours contender) {
	b.Helper()
	compareRates(b,
		func(span time.Duration) float64 { return run(b, callers, floor, span) },
		func(span time.Duration) float64 { return run(b, callers, ours, span) })
}

func compareRates(b *testing.B, floor, ours func(span time.Duration) float64) {
	b.Helper()
	floor(span / 4) // to warm up
	ours(span / 4)
	var floors, rates, ratios []float64
	for range rounds {
		f, o := floor(span), ours(span)
		floors, rates, ratios = append(floors, f), append(rates, o), append(ratios, o/f)
	}
	b.ReportMetric(median(floors), "floor-leads/s")
	b.ReportMetric(median(rates), "leads/s")
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(slices.Max(ratios)-slices.Min(ratios), "ratio-spread")
	b.ReportMetric(0, "ns/op") // has no meaning here
}

func median[T cmp.Ordered](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}

// run returns the leads per second that a number of callers add.
func run(b *testing.B, callers int, take contender, span time.Duration) float64 {
	b.Helper()
	rate, err := rateOf(b.Context(), callers, take, span)
	require.NoError(b, err)
	return rate
}

// requireFair checks that the rotation was fair.
func requireFair(b *testing.B, crm *cims.Manager) {
	b.Helper()
	managers, err := crm.SalesManagers(context.Background(), trusted)
	require.NoError(b, err)
	lowest, highest := managers[0].AssignedLeads, managers[0].AssignedLeads
	for _, m := range managers {
		lowest, highest = min(lowest, m.AssignedLeads), max(highest, m.AssignedLeads)
	}
	require.LessOrEqual(b, highest-lowest, 1)
	b.ReportMetric(float64(highest-lowest), "lead-spread")
}

func prepare(b *testing.B, store cims.Storage, managers int) (*cims.Manager, []int64) {
	b.Helper()
	require.NoError(b, store.Migrate(b.Context()))
	crm, err := cims.New(store, nil)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, crm.Close(context.Background())) })
	ids := make([]int64, managers)
	for i := range ids {
		user, err := crm.CreateUser(b.Context(), trusted, cims.NewUser{
			Email: fmt.Sprintf("m%d@example.com", i), Name: fmt.Sprintf("M%d", i), Surname: "M", RoleName: cims.RoleSalesManager,
		})
		require.NoError(b, err)
		ids[i] = user.ID
	}
	return crm, ids
}

const floorOnPostgres = `WITH lead AS (
	INSERT INTO customer (full_name, phone_number, status_name, created_at, updated_at, cims_version) VALUES ($1, $2, 'contacted', $3, $3, 1) RETURNING id
) INSERT INTO sales_manager_assignment (customer_id, sales_manager_id, assigned_at, is_active, customer_created_at, cims_version)
	SELECT id, $4, $3, TRUE, $3, 1 FROM lead RETURNING id, customer_id`

func onPostgres(b *testing.B, managers int) (*cims.Manager, contender) {
	b.Helper()
	return postgresAt(b, pgtest.URL(b), managers)
}

func postgresAt(b *testing.B, url string, managers int) (*cims.Manager, contender) {
	b.Helper()
	url += "&pool_max_conns=64"
	store, err := postgres.Open(b.Context(), url)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, store.Close()) })
	crm, ids := prepare(b, store, managers)
	pool, err := pgxpool.New(b.Context(), url)
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	return crm, func(ctx context.Context, i int) error {
		var assignment, customer int64
		row := pool.QueryRow(ctx, floorOnPostgres, leadName(i), leadPhone(i), time.Now(), ids[i%len(ids)])
		return row.Scan(&assignment, &customer)
	}
}

func onSQLite(b *testing.B, managers int, synchronous sqlite.Option) (*cims.Manager, contender) {
	b.Helper()
	path := filepath.Join(b.TempDir(), "crm.db")
	store, err := sqlite.Open(b.Context(), path, synchronous)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, store.Close()) })
	crm, ids := prepare(b, store, managers)
	return crm, floorOnSQLite(b, path, synchronous, ids)
}

// floorOnSQLite writes to a separate file with the same schema. In one file, the connections
// of the floor and the library would wait for each other.
func floorOnSQLite(b *testing.B, path string, synchronous sqlite.Option, ids []int64) contender {
	b.Helper()
	path += ".floor"
	store, err := sqlite.Open(b.Context(), path, synchronous)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, store.Close()) })
	prepare(b, store, len(ids))
	level := map[sqlite.Option]string{sqlite.SynchronousFull: "FULL", sqlite.SynchronousNormal: "NORMAL"}[synchronous]
	db := openSQLite(b, path, "_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)&_pragma=synchronous("+level+")&_txlock=immediate&_time_format=sqlite&_timezone=UTC")
	customer, err := db.PrepareContext(b.Context(), `INSERT INTO customer (full_name, phone_number, status_name, created_at, updated_at, search_name, cims_version)
		VALUES (?1, ?2, 'contacted', ?3, ?3, ?4, 1)`)
	require.NoError(b, err)
	assignment, err := db.PrepareContext(b.Context(), `INSERT INTO sales_manager_assignment
		(customer_id, sales_manager_id, assigned_at, is_active, customer_created_at, cims_version) VALUES (?1, ?2, ?3, TRUE, ?3, 1)`)
	require.NoError(b, err)
	return func(ctx context.Context, i int) error {
		ctx = context.WithoutCancel(ctx) // the driver starts a goroutine for each statement if ctx can end
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		now := time.Now().UTC()
		result, err := tx.StmtContext(ctx, customer).ExecContext(ctx, leadName(i), leadPhone(i), now, leadName(i)) //nolint:sqlclosecheck // closed with tx
		if err == nil {
			var id int64
			if id, err = result.LastInsertId(); err == nil {
				_, err = tx.StmtContext(ctx, assignment).ExecContext(ctx, id, ids[i%len(ids)], now) //nolint:sqlclosecheck // closed with tx
			}
		}
		if err != nil {
			_ = tx.Rollback()
			return err
		}
		return tx.Commit()
	}
}

// openSQLite opens a file with the bare driver and one connection.
func openSQLite(b *testing.B, path, settings string) *sql.DB {
	b.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?"+settings)
	require.NoError(b, err)
	db.SetMaxOpenConns(1)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	return db
}
