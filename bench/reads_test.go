package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/internal/pgtest"
	"github.com/cimskit/cims/storage/postgres"
	"github.com/cimskit/cims/storage/sqlite"
)

const (
	leadsVariable = "CIMS_BENCH_LEADS" // numbers of leads of the databases; the first is the reference
	defaultLeads  = "1000,100000,2000000"

	samples = 300 // per operation and database
)

// filled is a database with many leads.
type filled struct {
	crm     *cims.Manager
	leads   int
	manager int64  // a sales manager
	used    int64  // the id of a status with a tenth of the leads
	rare    int64  // the id of a status with fifty leads
	deep    string // the cursor of the hundredth page
	made    int    // number of created statuses, to delete
}

const page = 9 // a size at which 1,000 leads have a hundredth page

// operation is an operation to measure, with its preparation.
type operation struct {
	name    string
	prepare func(ctx context.Context, f *filled) (int64, error)
	do      func(ctx context.Context, f *filled, prepared int64) error
}

// lead returns a lead from the middle of the list.
func (f *filled) lead() int64 { return int64(f.leads / 2) }

// listing returns the operation that reads one page of customers.
func listing(name string, ask func(f *filled) (cims.CustomerFilter, cims.PageRequest)) operation {
	return operation{name: name, do: func(ctx context.Context, f *filled, _ int64) error {
		filter, request := ask(f)
		list, err := f.crm.Customers(ctx, trusted, filter, request)
		if err == nil && len(list.Items) == 0 {
			return fmt.Errorf("%s: an empty page", name)
		}
		return err
	}}
}

func operations() []operation {
	return []operation{
		{name: "assign", do: func(ctx context.Context, f *filled, _ int64) error {
			_, err := f.crm.AddCustomer(ctx, trusted, cims.NewCustomer{FullName: "New lead", PhoneNumber: "+998900000000"})
			return err
		}},
		{name: "conversion", do: func(ctx context.Context, f *filled, _ int64) error {
			_, err := f.crm.ConversionRate(ctx, trusted, cims.ConversionQuery{})
			return err
		}},
		{name: "conversion-of-one", do: func(ctx context.Context, f *filled, _ int64) error {
			_, err := f.crm.ConversionRate(ctx, trusted, cims.ConversionQuery{SalesManagerID: &f.manager})
			return err
		}},
		{name: "managers", do: func(ctx context.Context, f *filled, _ int64) error {
			_, err := f.crm.SalesManagers(ctx, trusted)
			return err
		}},
		{name: "delete-used-status", do: func(ctx context.Context, f *filled, _ int64) error {
			return wantInUse(f.crm.DeleteStatus(ctx, trusted, f.rare, cims.Deletion{}))
		}},
		// It counts up to 1,000 leads, but the database with a thousand has only a hundred.
		{name: "delete-much-used-status", do: func(ctx context.Context, f *filled, _ int64) error {
			return wantInUse(f.crm.DeleteStatus(ctx, trusted, f.used, cims.Deletion{}))
		}},
		{
			name: "delete-unused-status",
			prepare: func(ctx context.Context, f *filled) (int64, error) {
				f.made++
				status, err := f.crm.CreateStatus(ctx, trusted, cims.NewStatus{Name: fmt.Sprintf("s%d", f.made), DisplayName: "S"})
				return status.ID, err
			},
			do: func(ctx context.Context, f *filled, id int64) error {
				return f.crm.DeleteStatus(ctx, trusted, id, cims.Deletion{})
			},
		},
		listing("first-page", func(*filled) (filter cims.CustomerFilter, request cims.PageRequest) { return filter, request }),
		listing("page-1", func(*filled) (cims.CustomerFilter, cims.PageRequest) {
			return cims.CustomerFilter{}, cims.PageRequest{Limit: page}
		}),
		listing("page-100", func(f *filled) (cims.CustomerFilter, cims.PageRequest) {
			return cims.CustomerFilter{}, cims.PageRequest{Limit: page, Cursor: f.deep}
		}),
		listing("by-status", func(*filled) (cims.CustomerFilter, cims.PageRequest) {
			return cims.CustomerFilter{Status: usedStatus}, cims.PageRequest{}
		}),
		listing("by-manager", func(f *filled) (cims.CustomerFilter, cims.PageRequest) {
			return cims.CustomerFilter{SalesManagerID: &f.manager}, cims.PageRequest{}
		}),
		listing("by-phone", func(f *filled) (cims.CustomerFilter, cims.PageRequest) {
			return cims.CustomerFilter{Prefix: leadPhone(int(f.lead()))}, cims.PageRequest{}
		}),
		listing("by-start-of-11-names", func(f *filled) (cims.CustomerFilter, cims.PageRequest) {
			return cims.CustomerFilter{Prefix: fmt.Sprintf("lead %d", f.lead()/10)}, cims.PageRequest{}
		}),
		listing("by-start-of-all-names", func(*filled) (cims.CustomerFilter, cims.PageRequest) {
			return cims.CustomerFilter{Prefix: "lead"}, cims.PageRequest{}
		}),
		{name: "customer", do: func(ctx context.Context, f *filled, _ int64) error {
			_, err := f.crm.Customer(ctx, trusted, f.lead())
			return err
		}},
		{name: "history", do: func(ctx context.Context, f *filled, _ int64) error {
			_, err := f.crm.History(ctx, trusted, f.lead(), cims.PageRequest{})
			return err
		}},
	}
}

func wantInUse(err error) error {
	if err == nil {
		return fmt.Errorf("want %w", cims.ErrInUse)
	}
	if known, ok := err.(*cims.Error); ok && known.Kind == cims.ErrInUse { //nolint:errorlint // the outermost is meant
		return nil
	}
	return err
}

// BenchmarkReads measures each operation on a small and a large database alternately. Its
// cost must not grow with the number of leads. CIMS_BENCH_LEADS sets these numbers.
func BenchmarkReads(b *testing.B) {
	for _, database := range []struct {
		name string
		fill func(b *testing.B, leads int) *cims.Manager
	}{{"PostgreSQL", filledPostgres}, {"SQLite", filledSQLite}} {
		b.Run(database.name, func(b *testing.B) {
			var databases []*filled
			for _, leads := range sizes(b) {
				databases = append(databases, open(b, database.fill(b, leads), leads))
			}
			for _, op := range operations() {
				for _, large := range databases[1:] {
					b.Run(fmt.Sprintf("%s/leads=%d", op.name, large.leads), func(b *testing.B) {
						for b.Loop() {
							compareLatency(b, op, databases[0], large)
						}
					})
				}
			}
		})
	}
}

func sizes(b *testing.B) []int {
	b.Helper()
	text := os.Getenv(leadsVariable)
	if text == "" {
		text = defaultLeads
	}
	var list []int
	for field := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(field)
		require.NoError(b, err, leadsVariable)
		list = append(list, n)
	}
	require.Greater(b, len(list), 1, "%s: want at least two sizes", leadsVariable)
	return list
}

// compareLatency reports the medians on both databases and their ratio.
func compareLatency(b *testing.B, op operation, small, large *filled) {
	b.Helper()
	const (
		parts   = 5
		enough  = 3 * time.Second // limit for one part with slow operations
		fewest  = 5
		warmUps = samples / parts / 10
	)
	var smalls, larges []time.Duration
	var ratios []float64
	for range parts {
		var s, l []time.Duration
		begin := time.Now()
		for i := 0; i < samples/parts && (len(l) < fewest || time.Since(begin) < enough); i++ {
			st, lt := once(b, op, small), once(b, op, large)
			if i >= warmUps {
				s, l = append(s, st), append(l, lt)
			}
		}
		ratios = append(ratios, float64(median(l))/float64(median(s)))
		smalls, larges = append(smalls, s...), append(larges, l...)
	}
	b.ReportMetric(micros(median(smalls)), "floor-p50-µs")
	b.ReportMetric(micros(median(larges)), "p50-µs")
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(slices.Max(ratios)-slices.Min(ratios), "ratio-spread")
	b.ReportMetric(0, "ns/op") // has no meaning here
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func once(b *testing.B, op operation, f *filled) time.Duration {
	b.Helper()
	var prepared int64
	if op.prepare != nil {
		var err error
		prepared, err = op.prepare(b.Context(), f)
		require.NoError(b, err)
	}
	begin := time.Now()
	err := op.do(b.Context(), f, prepared)
	took := time.Since(begin)
	require.NoError(b, err)
	return took
}

// open returns a Manager over a filled database, and finds the hundredth page.
func open(b *testing.B, crm *cims.Manager, leads int) *filled {
	b.Helper()
	f := &filled{crm: crm, leads: leads}
	managers, err := f.crm.SalesManagers(b.Context(), trusted)
	require.NoError(b, err)
	f.manager = managers[0].ID
	statuses, err := f.crm.Statuses(b.Context(), trusted, cims.StatusFilter{})
	require.NoError(b, err)
	for _, s := range statuses {
		switch s.Name {
		case usedStatus:
			f.used = s.ID
		case rareStatus:
			f.rare = s.ID
		}
	}
	for range 99 {
		list, err := f.crm.Customers(b.Context(), trusted, cims.CustomerFilter{}, cims.PageRequest{Limit: page, Cursor: f.deep})
		require.NoError(b, err)
		f.deep = list.Next
	}
	require.NotEmpty(b, f.deep)
	return f
}

const (
	fillManagers = 5             // of a thousand leads, each owns more than a hundred
	usedStatus   = "negotiating" // not a system status, so that it may be deleted
	rareStatus   = "visited"
)

// The leads came one every five seconds, in the order of their ids, the last one now. One in
// ten is in usedStatus, fifty are in rareStatus, and some have advanced. Each has a history
// and an assignment, and counts for its manager.
const (
	fillPostgres = `
BEGIN;
CREATE TEMPORARY TABLE team ON COMMIT DROP AS SELECT id, row_number() OVER (ORDER BY id) - 1 AS place FROM "user";
INSERT INTO customer (full_name, phone_number, status_name, created_at, updated_at, cims_version)
SELECT 'Lead ' || i, '+99890' || lpad(i::text, 7, '0'),
	CASE WHEN i <= 50 THEN '%[4]s' WHEN i %% 10 = 0 THEN '%[2]s' WHEN i %% 10 = 1 THEN 'project_started' ELSE 'contacted' END, at, at, 1
FROM (SELECT i, now() - (%[1]d - i) * interval '5 seconds' AS at FROM generate_series(1, %[1]d) AS i) AS lead ORDER BY i;
INSERT INTO sales_manager_assignment (customer_id, sales_manager_id, assigned_at, is_active, customer_created_at, cims_version)
SELECT c.id, team.id, c.created_at, TRUE, c.created_at, 1 FROM customer AS c JOIN team ON team.place = c.id %% %[3]d ORDER BY c.id;
INSERT INTO customer_status_history (customer_id, to_status, cause, owner_id, changed_at)
SELECT c.id, 'contacted', 'created', a.sales_manager_id, c.created_at
FROM customer AS c JOIN sales_manager_assignment AS a ON a.customer_id = c.id ORDER BY c.id;
INSERT INTO customer_status_history (customer_id, from_status, to_status, cause, owner_id, changed_at)
SELECT c.id, 'contacted', c.status_name, 'manual', a.sales_manager_id, c.created_at
FROM customer AS c JOIN sales_manager_assignment AS a ON a.customer_id = c.id WHERE c.status_name <> 'contacted' ORDER BY c.id;
INSERT INTO sales_manager_rotation (sales_manager_id, assigned_leads_count)
SELECT sales_manager_id, count(*) FROM sales_manager_assignment GROUP BY 1
ON CONFLICT (sales_manager_id) DO UPDATE SET assigned_leads_count = excluded.assigned_leads_count;
COMMIT`

	fillSQLite = `
CREATE TEMPORARY TABLE team AS SELECT id, row_number() OVER (ORDER BY id) - 1 AS place FROM "user";
INSERT INTO customer (full_name, phone_number, status_name, created_at, updated_at, search_name, cims_version)
WITH RECURSIVE series (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM series WHERE i < %[1]d)
SELECT 'Lead ' || i, printf('+99890%%07d', i),
	CASE WHEN i <= 50 THEN '%[4]s' WHEN i %% 10 = 0 THEN '%[2]s' WHEN i %% 10 = 1 THEN 'project_started' ELSE 'contacted' END, at, at, 'lead ' || i, 1
FROM (SELECT i, strftime('%%Y-%%m-%%d %%H:%%M:%%S+00:00', 'now', printf('-%%d seconds', 5 * (%[1]d - i))) AS at FROM series);
INSERT INTO sales_manager_assignment (customer_id, sales_manager_id, assigned_at, is_active, customer_created_at, cims_version)
SELECT c.id, team.id, c.created_at, TRUE, c.created_at, 1 FROM customer AS c JOIN team ON team.place = c.id %% %[3]d;
INSERT INTO customer_status_history (customer_id, to_status, cause, owner_id, changed_at)
SELECT c.id, 'contacted', 'created', a.sales_manager_id, c.created_at
FROM customer AS c JOIN sales_manager_assignment AS a ON a.customer_id = c.id;
INSERT INTO customer_status_history (customer_id, from_status, to_status, cause, owner_id, changed_at)
SELECT c.id, 'contacted', c.status_name, 'manual', a.sales_manager_id, c.created_at
FROM customer AS c JOIN sales_manager_assignment AS a ON a.customer_id = c.id WHERE c.status_name <> 'contacted';
INSERT INTO sales_manager_rotation (sales_manager_id, assigned_leads_count)
SELECT sales_manager_id, count(*) FROM sales_manager_assignment WHERE TRUE GROUP BY 1
ON CONFLICT (sales_manager_id) DO UPDATE SET assigned_leads_count = excluded.assigned_leads_count`
)

func filledPostgres(b *testing.B, leads int) *cims.Manager {
	b.Helper()
	url := pgtest.URL(b)
	store, err := postgres.Open(b.Context(), url)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, store.Close()) })
	crm, _ := prepare(b, store, fillManagers)
	makeStatuses(b, crm)
	conn, err := pgx.Connect(b.Context(), url)
	require.NoError(b, err)
	defer func() { require.NoError(b, conn.Close(context.Background())) }()
	for _, statements := range []string{
		fmt.Sprintf(fillPostgres, leads, usedStatus, fillManagers, rareStatus),
		// Foreign keys come last. While a table is known to be empty, PostgreSQL plans
		// their checks as scans, and keeps these plans.
		"VACUUM ANALYZE customer, sales_manager_assignment, customer_status_history, assignment_history",
		"CHECKPOINT",
	} {
		_, err = conn.PgConn().Exec(b.Context(), statements).ReadAll()
		require.NoError(b, err)
	}
	return crm
}

func filledSQLite(b *testing.B, leads int) *cims.Manager {
	b.Helper()
	path := filepath.Join(b.TempDir(), "crm.db")
	store, err := sqlite.Open(b.Context(), path)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, store.Close()) })
	crm, _ := prepare(b, store, fillManagers)
	makeStatuses(b, crm)
	// An interruption loses nothing of value. The generated rows satisfy the foreign
	// keys.
	db := openSQLite(b, path, "_pragma=busy_timeout(5000)&_pragma=synchronous(OFF)&_pragma=cache_size(-500000)")
	_, err = db.ExecContext(b.Context(), "BEGIN IMMEDIATE;"+fmt.Sprintf(fillSQLite, leads, usedStatus, fillManagers, rareStatus)+"; COMMIT; PRAGMA wal_checkpoint(TRUNCATE)")
	require.NoError(b, err)
	return crm
}

func makeStatuses(b *testing.B, crm *cims.Manager) {
	b.Helper()
	for _, name := range []string{usedStatus, rareStatus} {
		_, err := crm.CreateStatus(b.Context(), trusted, cims.NewStatus{Name: name, DisplayName: name})
		require.NoError(b, err)
	}
}
