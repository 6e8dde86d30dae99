package transfer_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/internal/legacy"
	"github.com/cimskit/cims/internal/pgtest"
	"github.com/cimskit/cims/storage/migration"
	"github.com/cimskit/cims/storage/postgres"
	"github.com/cimskit/cims/storage/sqlite"
	"github.com/cimskit/cims/storage/transfer"
)

func TestMain(m *testing.M) {
	if from := os.Getenv(fromSetting); from != "" {
		os.Exit(work(from, os.Getenv(toSetting)))
	}
	os.Exit(m.Run())
}

var system = cims.System("transfer test")

// place makes the URL of a database that is not there yet.
type place func(t *testing.T) string

func inSQLite(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "crm.db") }

func inPostgres(t *testing.T) string { return pgtest.URL(t) }

// way is from where to where.
type way struct {
	name     string
	from, to place
}

var (
	across = []way{{"SQLite to PostgreSQL", inSQLite, inPostgres}, {"PostgreSQL to SQLite", inPostgres, inSQLite}}
	within = []way{{"SQLite to SQLite", inSQLite, inSQLite}, {"PostgreSQL to PostgreSQL", inPostgres, inPostgres}}
)

// eachWay runs a test from a migrated database to a migrated one.
func eachWay(t *testing.T, ways []way, test func(t *testing.T, from, to database)) {
	t.Helper()
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			test(t, migrated(t, way.from(t)), migrated(t, way.to(t)))
		})
	}
}

// database is a Storage and its URL.
type database struct {
	transfer.Storage
	url string
}

func open(ctx context.Context, url string) (transfer.Storage, error) {
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		return sqlite.Open(ctx, path)
	}
	return postgres.Open(ctx, url)
}

func opened(t *testing.T, url string) database {
	t.Helper()
	store, err := open(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return database{store, url}
}

func migrated(t *testing.T, url string) database {
	t.Helper()
	d := opened(t, url)
	require.NoError(t, d.Migrate(t.Context()))
	return d
}

// raw opens the database beside the library.
func (d database) raw(t *testing.T) *sql.DB {
	t.Helper()
	driver, source := "pgx", d.url
	if path, ok := strings.CutPrefix(d.url, "sqlite:"); ok {
		driver, source = "sqlite", "file:"+path+"?_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)&_time_format=sqlite&_timezone=UTC"
	}
	db, err := sql.Open(driver, source)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func (d database) exec(t *testing.T, statements ...string) {
	t.Helper()
	db := d.raw(t)
	for _, statement := range statements {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
}

// manager makes a Manager that leaves waiting leads alone.
func (d database) manager(t *testing.T) *cims.Manager {
	t.Helper()
	crm, err := cims.New(nobodyWaits{d.Storage}, &cims.Config{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, crm.Close(ctx))
	})
	return crm
}

type nobodyWaits struct{ cims.Storage }

func (nobodyWaits) Unassigned(context.Context, cims.UnassignedQuery) ([]int64, error) {
	return nil, nil
}

const awkward = "O'Brien \"quoted\" \\ back\\slash ? 👩‍👩‍👧 %_ Ғўзал"

// fill makes rows of all kinds, by the public API.
func fill(t *testing.T, d database) {
	t.Helper()
	ctx, crm := t.Context(), d.manager(t)
	must := func(_ any, err error) { t.Helper(); require.NoError(t, err) }
	user := func(name, role string, inactive bool) cims.User {
		u, err := crm.CreateUser(ctx, system, cims.NewUser{
			Email: name + "@example.com", Name: name, Surname: awkward[:20], RoleName: role, Inactive: inactive,
		})
		require.NoError(t, err)
		return u
	}
	lead := func(in cims.NewCustomer) cims.Customer {
		c, err := crm.AddCustomer(ctx, system, in)
		require.NoError(t, err)
		return c
	}
	must(crm.CreateStatus(ctx, system, cims.NewStatus{Name: "negotiating", DisplayName: awkward, Description: awkward, Color: "#FF0000", Order: 7}))
	must(crm.CreateStatus(ctx, system, cims.NewStatus{Name: "asleep", DisplayName: "Asleep", Inactive: true}))
	gone, err := crm.CreateStatus(ctx, system, cims.NewStatus{Name: "gone", DisplayName: "Gone"})
	require.NoError(t, err)
	must(crm.CreateRole(ctx, system, cims.NewRole{Name: "auditor", DisplayName: awkward, Permissions: []cims.Permission{cims.AuditRead, cims.LeadsRead}}))

	lead(cims.NewCustomer{FullName: "Waiting from before"})
	ceo := user("ceo", cims.RoleCEO, false)
	user("auditor", "auditor", true)
	var team []cims.User
	for _, name := range []string{"aziza", "bekzod", "dilnoza", "farrukh"} {
		team = append(team, user(name, cims.RoleSalesManager, false))
	}
	must(crm.SetSalesManager(ctx, system, team[1].ID, cims.SalesManagerUpdate{Weight: new(3)}))
	boss, err := crm.ActorByID(ctx, ceo.ID)
	require.NoError(t, err)
	var leads []cims.Customer
	for i := range 25 {
		key := 'Z' - i
		if i%2 == 1 { // which languages sort differently than bytes
			key += 'a' - 'A'
		}
		leads = append(leads, lead(cims.NewCustomer{FullName: fmt.Sprintf("Lead %d", i), IdempotencyKey: fmt.Sprintf("key-%c", key)}))
	}
	leads = append(leads,
		lead(cims.NewCustomer{FullName: awkward, PhoneNumber: "+998 90", Platform: awkward, Username: "u\\", Notes: strings.Repeat(awkward+"\ttab\n", 50)}),
		lead(cims.NewCustomer{FullName: "Gone soon", StatusName: "gone"}))
	must(crm.SetStatus(ctx, boss, leads[0].ID, cims.StatusProjectStarted, awkward))
	must(crm.SetStatus(ctx, system, leads[0].ID, "negotiating", ""))
	must(crm.Assign(ctx, boss, leads[1].ID, team[0].ID))
	must(crm.Assign(ctx, boss, leads[1].ID, team[2].ID))
	require.NoError(t, crm.DeleteStatus(ctx, boss, gone.ID, cims.Deletion{MoveTo: "negotiating"}))
	must(crm.UpdateUser(ctx, boss, team[3].ID, cims.UserUpdate{Active: new(false), Leads: cims.RedistributeLeads}))
	must(crm.SetSalesManager(ctx, system, team[2].ID, cims.SalesManagerUpdate{Paused: new(true)}))
	for _, u := range team[:2] {
		must(crm.UpdateUser(ctx, boss, u.ID, cims.UserUpdate{Active: new(false)}))
	}
	lead(cims.NewCustomer{FullName: "Waiting"})
	for _, u := range team[:2] {
		must(crm.UpdateUser(ctx, boss, u.ID, cims.UserUpdate{Active: new(true)}))
	}
	must(crm.SetSalesManager(ctx, system, team[2].ID, cims.SalesManagerUpdate{Paused: new(false)}))

	// The host writes without the library.
	d.exec(
		t,
		`INSERT INTO customer (full_name, status_name, created_at) VALUES ('Їх власний', 'contacted', '2024-02-29 23:59:59.000001+00:00')`,
		`INSERT INTO customer (full_name, status_name, created_at) VALUES ('Theirs, assigned by them', 'contacted', '2024-02-29 23:59:59.1+00:00')`,
		`INSERT INTO sales_manager_assignment (customer_id, sales_manager_id, assigned_at)
			SELECT max(id), (SELECT min(id) FROM "user" WHERE role_name = 'sales_manager'), '2024-03-01 00:00:00+00:00' FROM customer`,
		`UPDATE sales_manager_assignment SET is_active = FALSE WHERE id = (SELECT min(id) FROM sales_manager_assignment)`,
		`UPDATE sales_manager_assignment SET customer_created_at = NULL WHERE id = (SELECT min(id) + 1 FROM sales_manager_assignment)`,
		`UPDATE customer SET updated_at = NULL WHERE id IN (SELECT customer_id FROM sales_manager_assignment WHERE id < 10)`,
		`DELETE FROM customer WHERE id = (SELECT max(id) FROM customer) - 2`,
	)
	last := lead(cims.NewCustomer{FullName: "The last"})
	d.exec(t, fmt.Sprintf(`DELETE FROM customer WHERE id = %d`, last.ID)) // whose id must not come again
}

var tables = []string{
	"assignment_history", "cims_audit", "cims_idempotency", "cims_unassigned", "customer", "customer_status", "customer_status_history",
	"sales_manager_assignment", "sales_manager_counter", "sales_manager_rotation", "user", "user_role",
}

// dump reads all tables of ours with plain SQL: a line for each row.
func (d database) dump(t *testing.T) map[string][]string {
	t.Helper()
	db, all := d.raw(t), map[string][]string{}
	for _, table := range tables {
		all[table] = dumpTable(t, db, table)
	}
	return all
}

// relations are the names of all that there is.
func (d database) relations(t *testing.T) []string {
	t.Helper()
	query := "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(current_schema())) ORDER BY 1"
	if strings.HasPrefix(d.url, "sqlite:") {
		query = "SELECT name FROM sqlite_master ORDER BY 1"
	}
	rows, err := d.raw(t).QueryContext(t.Context(), query)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	names := []string{}
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		names = append(names, name)
	}
	require.NoError(t, rows.Err())
	return names
}

func dumpTable(t *testing.T, db *sql.DB, table string) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `SELECT * FROM "`+table+`"`) //nolint:gosec // one of the list above
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	columns, err := rows.Columns()
	require.NoError(t, err)
	lines := []string{}
	for rows.Next() {
		values, holders := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			holders[i] = &values[i]
		}
		require.NoError(t, rows.Scan(holders...))
		fields := []string{}
		for i, value := range values {
			switch v := value.(type) {
			case time.Time:
				value = v.UTC().Format(time.RFC3339Nano)
			case bool: // one of the drivers knows numbers only
				value = int64(0)
				if v {
					value = int64(1)
				}
			}
			if columns[i] != "search_name" {
				fields = append(fields, fmt.Sprintf("%s=%T:%#v", columns[i], value, value))
			}
		}
		slices.Sort(fields)
		lines = append(lines, strings.Join(fields, " "))
	}
	require.NoError(t, rows.Err())
	slices.Sort(lines)
	return lines
}

// view is the content of a CRM as the public API returns it.
func view(t *testing.T, crm *cims.Manager) map[string]any {
	t.Helper()
	ctx, seen := t.Context(), map[string]any{}
	keep := func(name string, value any, err error) {
		t.Helper()
		require.NoError(t, err, name)
		require.NotEmpty(t, value, name)
		seen[name] = value
	}
	statuses, err := crm.Statuses(ctx, system, cims.StatusFilter{})
	keep("statuses", statuses, err)
	roles, err := crm.Roles(ctx, system, cims.RoleFilter{})
	keep("roles", roles, err)
	users, err := crm.Users(ctx, system, cims.UserFilter{}, cims.PageRequest{Limit: 200})
	keep("users", users, err)
	customers, err := crm.Customers(ctx, system, cims.CustomerFilter{}, cims.PageRequest{Limit: 200})
	keep("customers", customers, err)
	waiting, err := crm.Customers(ctx, system, cims.CustomerFilter{Unassigned: true}, cims.PageRequest{Limit: 200})
	keep("unassigned", waiting, err)
	named, err := crm.Customers(ctx, system, cims.CustomerFilter{Prefix: "O'BRI"}, cims.PageRequest{Limit: 200})
	keep("found by name", named, err)
	for _, c := range customers.Items {
		one, err := crm.Customer(ctx, system, c.ID)
		keep(fmt.Sprint("customer ", c.ID), one, err)
		history, err := crm.History(ctx, system, c.ID, cims.PageRequest{Limit: 200})
		require.NoError(t, err)
		seen[fmt.Sprint("history ", c.ID)] = history
	}
	managers, err := crm.SalesManagers(ctx, system)
	keep("managers", managers, err)
	next, err := crm.NextSalesManagers(ctx, system, 20)
	keep("next", next, err)
	rate, err := crm.ConversionRate(ctx, system, cims.ConversionQuery{})
	keep("conversion", rate, err)
	return seen
}

// TestCopiesAreEqual also continues with the copy. The next turn, new ids and answers to
// repeated requests are those of the source.
func TestCopiesAreEqual(t *testing.T) {
	t.Parallel()
	eachWay(t, slices.Concat(across, within), func(t *testing.T, from, to database) {
		ctx := t.Context()
		fill(t, from)
		before := from.dump(t)
		require.NoError(t, transfer.Copy(ctx, from, to, nil))
		require.NoError(t, to.Ready(ctx))
		require.NoError(t, to.Migrate(ctx))
		require.Equal(t, before, to.dump(t))
		require.Equal(t, before, from.dump(t))
		source, target := from.manager(t), to.manager(t)
		require.Equal(t, view(t, source), view(t, target))

		for _, in := range []cims.NewCustomer{
			{FullName: "Lead 3", IdempotencyKey: "key-w"},
			{FullName: "New 1"},
			{FullName: "New 2"},
			{FullName: "New 3"},
		} {
			theirs, err := source.AddCustomer(ctx, system, in)
			require.NoError(t, err)
			ours, err := target.AddCustomer(ctx, system, in)
			require.NoError(t, err)
			require.Equal(t, theirs.ID, ours.ID)
			require.Equal(t, theirs.SalesManager, ours.SalesManager)
		}
		for _, crm := range []*cims.Manager{source, target} {
			status, err := crm.CreateStatus(ctx, system, cims.NewStatus{Name: "late", DisplayName: "Late"})
			require.NoError(t, err)
			require.Equal(t, int64(10), status.ID, "9 was deleted, and does not come again")
			user, err := crm.CreateUser(ctx, system, cims.NewUser{Email: "late@example.com", Name: "L", Surname: "L", RoleName: cims.RoleCEO})
			require.NoError(t, err)
			require.Equal(t, int64(7), user.ID)
			_, err = crm.AssignBacklog(ctx, system)
			require.NoError(t, err)
		}
	})
}

func TestThereAndBack(t *testing.T) {
	t.Parallel()
	first, second, third := migrated(t, inSQLite(t)), migrated(t, inPostgres(t)), migrated(t, inSQLite(t))
	fill(t, first)
	require.NoError(t, transfer.Copy(t.Context(), first, second, nil))
	require.NoError(t, transfer.Copy(t.Context(), second, third, nil))
	require.Equal(t, first.dump(t), third.dump(t))
	require.Equal(t, view(t, first.manager(t)), view(t, third.manager(t)))
}

// TestOnHostConnections copies with a single connection of the host. No statement may need
// another connection.
func TestOnHostConnections(t *testing.T) {
	t.Parallel()
	one := func(d database) transfer.Storage {
		db := d.raw(t)
		db.SetMaxOpenConns(1)
		var store transfer.Storage
		var err error
		if strings.HasPrefix(d.url, "sqlite:") {
			store, err = sqlite.New(db)
		} else {
			store, err = postgres.New(db)
		}
		require.NoError(t, err)
		return store
	}
	eachWay(t, slices.Concat(across, within), func(t *testing.T, from, to database) {
		fill(t, from)
		source := one(from)
		require.ErrorIs(t, transfer.Copy(t.Context(), source, source, nil), transfer.ErrNotEmpty)
		require.NoError(t, transfer.Copy(t.Context(), source, one(to), nil))
		require.Equal(t, from.dump(t), to.dump(t))
	})
}

// TestProgress: each table is copied and compared to its end.
func TestProgress(t *testing.T) {
	t.Parallel()
	from, to := migrated(t, inSQLite(t)), migrated(t, inSQLite(t))
	fill(t, from)
	last := map[bool]map[string]transfer.Progress{false: {}, true: {}}
	require.NoError(t, transfer.Copy(t.Context(), from, to, func(p transfer.Progress) {
		require.GreaterOrEqual(t, p.Done, last[p.Verifying][p.Table].Done)
		last[p.Verifying][p.Table] = p
	}))
	for _, done := range last {
		require.ElementsMatch(t, tables, slices.Collect(maps.Keys(done)))
		for table, lines := range from.dump(t) {
			require.Equal(t, int64(len(lines)), done[table].Total)
			require.Equal(t, int64(len(lines)), done[table].Done)
		}
	}
}

func TestTargetHasToBeNew(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"customer":         `INSERT INTO customer (full_name, status_name, created_at) VALUES ('X', 'contacted', '2024-02-29 23:59:59+00:00')`,
		"user":             `INSERT INTO "user" (email, name, surname) VALUES ('e', 'n', 's')`,
		"customer_status":  `INSERT INTO customer_status (name, display_name, created_at, updated_at) VALUES ('x', 'x', '2024-02-29 23:59:59+00:00', '2024-02-29 23:59:59+00:00')`,
		"user_role":        `UPDATE user_role SET display_name = 'Boss', updated_at = '2034-02-28 23:59:59+00:00' WHERE name = 'ceo'`,
		"cims_idempotency": `INSERT INTO cims_idempotency VALUES ('a', 'b', 'c', 'd', '2024-02-29 23:59:59+00:00')`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachWay(t, across, func(t *testing.T, from, to database) {
				to.exec(t, statement)
				before := to.dump(t)
				err := transfer.Copy(t.Context(), from, to, nil)
				require.ErrorIs(t, err, transfer.ErrNotEmpty)
				require.ErrorContains(t, err, `"`+name+`"`)
				require.Equal(t, before, to.dump(t))
				require.NoError(t, to.Ready(t.Context()))
			})
		})
	}
}

// TestCheck refuses before the target is migrated, and leaves it as it is.
func TestCheck(t *testing.T) {
	t.Parallel()
	from := migrated(t, inSQLite(t))
	from.exec(t, `ALTER TABLE "user" ADD COLUMN phone VARCHAR(20)`, `ALTER TABLE customer ADD COLUMN score DOUBLE PRECISION`)
	fill(t, from)
	hosts := `CREATE TABLE "user" (id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE, phone TEXT); CREATE TABLE customer (id INTEGER PRIMARY KEY, full_name TEXT NOT NULL, created_at TIMESTAMP NOT NULL);`
	for name, place := range map[string]place{"SQLite": inSQLite, "PostgreSQL": inPostgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hosts := hosts
			if name == "PostgreSQL" {
				hosts = strings.ReplaceAll(hosts, "INTEGER PRIMARY KEY", "SERIAL PRIMARY KEY")
			}
			for prepared, says := range map[string]string{
				"": "",
				hosts + `INSERT INTO customer VALUES (1, 'Somebody', '2025-02-07 12:00:00')`: `its table "customer" has rows`,
				hosts + `INSERT INTO "user" (id, email) VALUES (1, 'somebody@example.com')`:  `its table "user" has rows`,
				hosts: "",
			} {
				to := opened(t, place(t))
				if prepared != "" {
					to.exec(t, strings.SplitAfter(prepared, ";")...)
				}
				there := to.relations(t)
				left, err := transfer.Check(t.Context(), from, to)
				if says == "" {
					require.NoError(t, err)
					require.Empty(t, left)
				} else {
					require.ErrorIs(t, err, transfer.ErrNotEmpty)
					require.ErrorContains(t, err, says)
				}
				require.Equal(t, there, to.relations(t), "nothing is made")
				if says == "" {
					require.NoError(t, to.Migrate(t.Context()))
					_, err := transfer.Check(t.Context(), from, to)
					require.NoError(t, err)
					require.NoError(t, transfer.Copy(t.Context(), from, to, nil))
				}
			}
			itself, err := transfer.Check(t.Context(), from, opened(t, from.url))
			require.ErrorIs(t, err, transfer.ErrNotEmpty)
			require.Empty(t, itself)
		})
	}
}

// TestCheckListsAllThatHasNoPlace, in a database without any table yet, too.
func TestCheckListsAllThatHasNoPlace(t *testing.T) {
	t.Parallel()
	url := inPostgres(t)
	pgtest.Execute(t, url, legacy.Deployed)
	from := migrated(t, url)
	for _, place := range []place{inSQLite, inPostgres} {
		to := opened(t, place(t))
		left, err := transfer.Check(t.Context(), from, to)
		for _, column := range []string{`"password" of table "user"`, `"is_staff" of table "user"`, `"conversation_language" of table "customer"`} {
			require.ErrorContains(t, err, column)
		}
		require.NotContains(t, err.Error(), "cims_version")
		require.Equal(t, []string{
			`the column "role" of the table "user": what counts is the name that is beside it`,
			`the column "status" of the table "customer": what counts is the name that is beside it`,
			`the table "finance": it is not of cims`, `the table "message": it is not of cims`,
		}, left)
		require.Empty(t, to.relations(t))
	}
}

func TestADatabaseIsNotCopiedIntoItself(t *testing.T) {
	t.Parallel()
	from := migrated(t, inSQLite(t))
	before := from.dump(t)
	require.ErrorIs(t, transfer.Copy(t.Context(), from, opened(t, from.url), nil), transfer.ErrNotEmpty)
	require.Equal(t, before, from.dump(t))
}

func TestBothHaveToBeMigrated(t *testing.T) {
	t.Parallel()
	ready, bare := migrated(t, inSQLite(t)), opened(t, inSQLite(t))
	require.ErrorContains(t, transfer.Copy(t.Context(), bare, ready, nil), "the source: ")
	require.ErrorContains(t, transfer.Copy(t.Context(), ready, bare, nil), "the target: ")
	require.NoError(t, ready.Ready(t.Context()))
}

// atEnd runs something when all is copied and nothing is compared yet.
func atEnd(do func()) func(transfer.Progress) {
	var once sync.Once
	return func(p transfer.Progress) {
		if p.Table == "cims_idempotency" && p.Done == p.Total && !p.Verifying {
			once.Do(do)
		}
	}
}

// TestDifferencesAreFound checks that the comparison names the first row that differs and
// the side that was changed, and that the next copy starts over.
func TestDifferencesAreFound(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		statement string
		says      string
		target    bool
	}{
		"changed in the target": {`UPDATE customer SET notes = 'x' WHERE id = 5`, `table "customer", id 5 differs in notes: another program has written to the target`, true},
		"missing in the target": {`DELETE FROM customer_status_history WHERE id = 7`, `table "customer_status_history", id 7 is missing in the target: another program`, true},
		"only in the target": {
			`INSERT INTO assignment_history (id, customer_id, cause, changed_at) VALUES (99999, 1, 'manual', '2024-02-29 23:59:59+00:00')`,
			`table "assignment_history", id 99999 is in the target only: another program`, true,
		},
		"a time by a microsecond": {`UPDATE customer SET created_at = '2024-02-29 23:59:59.000002+00:00' WHERE created_at = '2024-02-29 23:59:59.000001+00:00'`, `differs in created_at: another program`, true},
		"NULL for an empty text":  {`UPDATE customer SET username = '' WHERE id = 3`, `table "customer", id 3 differs in username: another program`, true},
		"a key":                   {`DELETE FROM cims_idempotency WHERE key = 'key-F'`, `table "cims_idempotency", scope system:transfer test customers, key key-F is missing in the target`, true},
		"changed in the source":   {`UPDATE "user" SET surname = 'x' WHERE id = 2`, `table "user", id 2 differs in surname: the source was changed`, false},
		"deleted in the source":   {`DELETE FROM customer_status_history WHERE id = 7`, `id 7 is in the target only: the source was changed`, false},
		"added in the source": {
			`INSERT INTO customer_status_history (id, customer_id, to_status, cause, changed_at) VALUES (99999, 1, 'x', 'manual', '2024-02-29 23:59:59+00:00')`,
			`id 99999 is missing in the target: the source was changed`, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachWay(t, across, func(t *testing.T, from, to database) {
				fill(t, from)
				err := transfer.Copy(t.Context(), from, to, atEnd(func() {
					if test.target {
						to.exec(t, test.statement)
					} else {
						from.exec(t, test.statement)
					}
				}))
				require.ErrorIs(t, err, transfer.ErrDiffers)
				require.ErrorContains(t, err, test.says)
				require.ErrorIs(t, to.Ready(t.Context()), transfer.ErrUnfinished)

				require.NoError(t, transfer.Copy(t.Context(), from, to, nil))
				require.NoError(t, to.Ready(t.Context()))
				require.Equal(t, from.dump(t), to.dump(t))
			})
		})
	}
}

// TestUnfinishedIsNotUsed checks that an unfinished copy can't be used, neither directly nor
// as the source or target of another copy.
func TestUnfinishedIsNotUsed(t *testing.T) {
	t.Parallel()
	eachWay(t, across, func(t *testing.T, from, to database) {
		fill(t, from)
		ctx, cancel := context.WithCancel(t.Context())
		err := transfer.Copy(ctx, from, to, func(p transfer.Progress) {
			if p.Table == "sales_manager_assignment" {
				cancel()
			}
		})
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, to.Ready(t.Context()), transfer.ErrUnfinished)
		require.ErrorIs(t, to.Migrate(t.Context()), transfer.ErrUnfinished)
		require.ErrorIs(t, to.manager(t).Ready(t.Context()), transfer.ErrUnfinished)
		other := migrated(t, inSQLite(t))
		require.ErrorIs(t, transfer.Copy(t.Context(), to, other, nil), transfer.ErrUnfinished)
		require.ErrorIs(t, transfer.Copy(t.Context(), other, to, nil), transfer.ErrNotEmpty)
		_, err = transfer.Check(t.Context(), other, to)
		require.ErrorIs(t, err, transfer.ErrNotEmpty)
		_, err = transfer.Check(t.Context(), from, to)
		require.NoError(t, err)
		plan, err := to.Storage.(interface {
			Plan(ctx context.Context) (migration.Plan, error)
		}).Plan(t.Context())
		require.NoError(t, err)
		require.Equal(t, migration.Unfinished, plan.State)
		require.Contains(t, plan.String(), "This is an unfinished copy of another database.")
		require.NoError(t, transfer.Copy(t.Context(), from, to, nil))
		require.Equal(t, from.dump(t), to.dump(t))
	})
}

func TestOfTwoCopiesOneWorks(t *testing.T) {
	t.Parallel()
	eachWay(t, across, func(t *testing.T, from, to database) {
		fill(t, from)
		again := opened(t, to.url)
		var inner error
		err := transfer.Copy(t.Context(), from, to, func(p transfer.Progress) {
			if p.Table == "customer" && p.Done == 0 && !p.Verifying {
				inner = transfer.Copy(t.Context(), from, again, nil)
			}
		})
		require.NoError(t, inner)
		require.ErrorIs(t, err, transfer.ErrTaken)
		require.NoError(t, to.Ready(t.Context()))
		require.Equal(t, from.dump(t), to.dump(t))
	})
}

func TestTwoCopiesAtOnce(t *testing.T) {
	t.Parallel()
	eachWay(t, slices.Concat(across, within), func(t *testing.T, from, to database) {
		fill(t, from)
		errs := make([]error, 4)
		var group sync.WaitGroup
		for i := range errs {
			from, to := opened(t, from.url), opened(t, to.url)
			group.Go(func() { errs[i] = transfer.Copy(t.Context(), from, to, nil) })
		}
		group.Wait()
		succeeded := 0
		for _, err := range errs {
			if err == nil {
				succeeded++
			} else if !errors.Is(err, transfer.ErrTaken) {
				require.ErrorIs(t, err, transfer.ErrNotEmpty, "it came when another had finished")
			}
		}
		require.Equal(t, 1, succeeded, errs)
		require.NoError(t, to.Ready(t.Context()))
		require.Equal(t, from.dump(t), to.dump(t))
	})
}

// TestHostColumns checks that a host's additional columns are copied if the target has them.
// Otherwise they are not lost silently.
func TestHostColumns(t *testing.T) {
	t.Parallel()
	eachWay(t, across, func(t *testing.T, from, to database) {
		fill(t, from)
		from.exec(t, `ALTER TABLE "user" ADD COLUMN phone VARCHAR(20)`, `ALTER TABLE customer ADD COLUMN score DOUBLE PRECISION`)
		from.exec(t, `UPDATE customer SET score = 0.1 WHERE id = 3`)
		err := transfer.Copy(t.Context(), from, to, nil)
		require.ErrorContains(t, err, `column "score" of table "customer" holds data, and the target has no such column`)
		require.NoError(t, to.Ready(t.Context()), "nothing was written")

		to.exec(t, `ALTER TABLE customer ADD COLUMN score DOUBLE PRECISION`, `ALTER TABLE customer ADD COLUMN more INTEGER NOT NULL DEFAULT 3`)
		require.NoError(t, transfer.Copy(t.Context(), from, to, nil))
		var score float64
		var more int
		require.NoError(t, to.raw(t).QueryRowContext(t.Context(), `SELECT score, more FROM customer WHERE id = 3`).Scan(&score, &more))
		require.InDelta(t, 0.1, score, 0)
		require.Equal(t, 3, more)
	})
}

// TestHostTables: a host's own tables, with columns that have to be filled.
func TestHostTables(t *testing.T) {
	t.Parallel()
	from, url := migrated(t, inSQLite(t)), inPostgres(t)
	fill(t, from)
	pgtest.Execute(t, url, `CREATE TYPE kind AS ENUM ('small', 'big');
		CREATE TABLE "user" (id SERIAL PRIMARY KEY, email VARCHAR(255) NOT NULL UNIQUE, name VARCHAR(255) NOT NULL, surname VARCHAR(255) NOT NULL,
			is_active BOOLEAN NOT NULL, password TEXT NOT NULL);
		CREATE TABLE customer (id SERIAL PRIMARY KEY, full_name VARCHAR(500) NOT NULL, phone_number VARCHAR(50), platform VARCHAR(255), username VARCHAR(255),
			notes TEXT, created_at TIMESTAMP NOT NULL, kind kind NOT NULL, amount NUMERIC NOT NULL, data JSONB NOT NULL)`)
	to := migrated(t, url)
	require.NoError(t, transfer.Copy(t.Context(), from, to, nil))
	require.Equal(t, view(t, from.manager(t)), view(t, to.manager(t)))
	var kinds, passwords int
	require.NoError(t, to.raw(t).QueryRowContext(t.Context(), `SELECT count(*) FROM customer WHERE kind = 'small' AND amount = 0 AND data = '{}'`).Scan(&kinds))
	require.NoError(t, to.raw(t).QueryRowContext(t.Context(), `SELECT count(*) FROM "user" WHERE password <> ''`).Scan(&passwords))
	dump := from.dump(t)
	require.Len(t, dump["customer"], kinds)
	require.Len(t, dump["user"], passwords)

	// And on into another place, where the columns have to be made.
	back := migrated(t, inSQLite(t))
	require.ErrorContains(t, transfer.Copy(t.Context(), to, back, nil), `"password"`)
	back.exec(t, `ALTER TABLE "user" ADD COLUMN password TEXT`, `ALTER TABLE customer ADD COLUMN kind TEXT`,
		`ALTER TABLE customer ADD COLUMN amount TEXT`, `ALTER TABLE customer ADD COLUMN data TEXT`)
	require.NoError(t, transfer.Copy(t.Context(), to, back, nil))
	require.Equal(t, view(t, from.manager(t)), view(t, back.manager(t)))
}

// TestOlderProgram checks that an older program's database can be copied. The target needs no
// enums, since the names hold the same values.
func TestOlderProgram(t *testing.T) {
	t.Parallel()
	for name, statements := range map[string]string{"enums only": legacy.EnumOnly, "deployed": legacy.Deployed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := inPostgres(t)
			pgtest.Execute(t, url, statements)
			from, to := migrated(t, url), migrated(t, inSQLite(t))
			refused := transfer.Copy(t.Context(), from, to, nil)
			require.ErrorContains(t, refused, "the target has no such column: add it there first")
			addColumns(t, from, to)
			require.NoError(t, transfer.Copy(t.Context(), from, to, nil))
			require.Equal(t, from.dump(t)["sales_manager_rotation"], to.dump(t)["sales_manager_rotation"])
			source, target := from.manager(t), to.manager(t)
			theirs, err := source.Customers(t.Context(), system, cims.CustomerFilter{}, cims.PageRequest{Limit: 200})
			require.NoError(t, err)
			ours, err := target.Customers(t.Context(), system, cims.CustomerFilter{}, cims.PageRequest{Limit: 200})
			require.NoError(t, err)
			require.NotEmpty(t, ours.Items)
			require.Equal(t, theirs, ours)
		})
	}
}

// addColumns adds the columns that only an older program's tables have to the target.
func addColumns(t *testing.T, from, to database) {
	t.Helper()
	rows, err := from.raw(t).QueryContext(t.Context(), `SELECT table_name, column_name, CASE data_type WHEN 'USER-DEFINED' THEN 'text' ELSE data_type END
		FROM information_schema.columns AS c WHERE table_schema = current_schema() AND table_name IN ('customer', 'user')
		AND NOT (table_name, column_name) IN (('customer', 'status'), ('user', 'role'))`)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	for rows.Next() {
		var table, column, typ string
		require.NoError(t, rows.Scan(&table, &column, &typ))
		var there bool
		require.NoError(t, to.raw(t).QueryRowContext(t.Context(), `SELECT count(*) FROM pragma_table_info(?) WHERE name = ?`, table, column).Scan(&there))
		if !there {
			to.exec(t, fmt.Sprintf(`ALTER TABLE %q ADD COLUMN %q %s`, table, column, typ))
		}
	}
	require.NoError(t, rows.Err())
}
