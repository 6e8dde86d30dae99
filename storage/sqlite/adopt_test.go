package sqlite_test

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/migration"
	"github.com/cimskit/cims/storage/sqlite"
)

// hostSchemas are tables as hosts have them.
var hostSchemas = map[string]string{
	"bare": `
		CREATE TABLE customer (id INTEGER PRIMARY KEY, full_name TEXT, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
		CREATE TABLE "user" (id INTEGER PRIMARY KEY, email TEXT);`,
	"own names": `
		CREATE TABLE IF NOT EXISTS "Customer" (
			"id" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, -- the key
			full_name VARCHAR(200) NOT NULL,
			phone_number VARCHAR(20),
			company_id INTEGER NOT NULL DEFAULT 7,
			status_name TEXT COLLATE NOCASE DEFAULT 'Contacted',
			score REAL NOT NULL,
			photo BLOB,
			created_at DATETIME NOT NULL,
			updated_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
			CHECK (company_id > 0) -- and so on
		);
		CREATE INDEX customer_company ON "Customer" (company_id, status_name);
		CREATE TRIGGER customer_touched AFTER UPDATE ON "Customer" BEGIN UPDATE "Customer" SET updated_at = 'touched by ' || NEW.full_name WHERE id = NEW.id; END;
		CREATE TABLE [User] (id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT, surname TEXT NOT NULL, password TEXT NOT NULL, role_name, is_active BOOLEAN);`,
	"strict": `
		CREATE TABLE customer (id INTEGER PRIMARY KEY, full_name TEXT NOT NULL, created_at TEXT NOT NULL, FOREIGN KEY (id) REFERENCES customer (id)) STRICT;
		CREATE TABLE "user" (id INTEGER PRIMARY KEY, email TEXT NOT NULL) STRICT;
		CREATE UNIQUE INDEX user_email ON "user" (email);`,
	"customer alone": `
		CREATE TABLE customer (id INTEGER PRIMARY KEY AUTOINCREMENT, full_name TEXT NOT NULL, notes TEXT NOT NULL DEFAULT '', phone_number TEXT NOT NULL DEFAULT '', created_at TIMESTAMP NOT NULL);`,
	"user alone": `
		CREATE TABLE "user" (id INTEGER PRIMARY KEY AUTOINCREMENT, email TEXT NOT NULL UNIQUE, name TEXT NOT NULL, surname TEXT, is_active INTEGER, role_name TEXT, hash TEXT NOT NULL);`,
}

// hostRows fills hostSchemas.
var hostRows = map[string]string{
	"bare": `
		INSERT INTO customer (id, full_name, created_at) VALUES (-3, 'Aziza', '2024-01-01 10:00:00'), (5, NULL, '2024-01-01 10:00:00'), (9, 'ЁЛКА', '2024-05-01T10:00:00Z');
		INSERT INTO "user" VALUES (1, 'a@example.com'), (2, NULL), (3, NULL);`,
	"own names": `
		INSERT INTO Customer (full_name, phone_number, status_name, score, photo, created_at, updated_at) VALUES
			('Aziza', '1', 'Contacted', 1.5, x'00ff', '2024-01-01 10:00:00', '2024-01-01 10:00:00'),
			('Bekzod', '2', ' Big  Deal ', 1e300, NULL, '2024-01-02 10:00:00', '2024-01-01 10:00:00'),
			('Ўктам', '3', NULL, -1, 'text', '2024-01-03 10:00:00.123', '2024-01-01 10:00:00'),
			('Дилноза', NULL, '', 0, NULL, '2024-01-03 10:00:00.123', '2024-01-01 10:00:00'),
			('Farrukh', NULL, 'REJECTED', 0, NULL, '2024-01-04 10:00:00', '2024-01-01 10:00:00'),
			('Gulnora', NULL, 'ЯНГИ мижоз', 0, NULL, '2024-01-04 10:00:00', '2024-01-01 10:00:00'),
			('Hasan', NULL, 'rejected', 0, NULL, '2024-01-04 10:00:00', '2024-01-01 10:00:00');
		INSERT INTO User (email, name, surname, password, role_name, is_active) VALUES
			('boss@example.com', 'Boss', 'B', 'x', 'CEO', 1), ('seller@example.com', 'Seller', 'S', 'x', 'Sales Manager', 1),
			('gone@example.com', 'Gone', 'G', 'x', 'sales_manager', NULL), ('who@example.com', NULL, 'W', 'x', NULL, 1),
			('blank@example.com', 'Blank', 'B', 'x', '  ', 1), ('cook@example.com', 'Cook', 'C', 'x', 'Cook', 0), ('odd@example.com', 'Odd', 'O', 'x', 42, 1);`,
	"strict": `
		INSERT INTO customer VALUES (1, 'Aziza', '2024-01-01 10:00:00'), (2, 'Bekzod', '2024-01-01 10:00:00.5+00:00');
		INSERT INTO "user" VALUES (1, 'a@example.com');`,
	"customer alone": `INSERT INTO customer (full_name, created_at) VALUES ('Aziza', '2024-01-01 10:00:00');`,
	"user alone":     `INSERT INTO "user" (email, name, is_active, hash, role_name) VALUES ('a@example.com', 'A', NULL, 'x', 'ceo');`,
}

// hostFile makes a file with tables of a host's.
func hostFile(t *testing.T, statements ...string) (path string, db *sql.DB) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "host.db")
	db = openFile(t, path, "?_pragma=busy_timeout(60000)") // like most hosts, it checks no foreign keys
	for _, s := range statements {
		run(t, db, s)
	}
	return path, db
}

func run(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), query, args...)
	require.NoError(t, err, query)
}

func openStorage(t *testing.T, path string) *sqlite.Storage {
	t.Helper()
	store, err := sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

// dump returns all rows of a query, each value with its type.
func dump(t *testing.T, db *sql.DB, query string) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	require.NoError(t, err, query)
	defer func() { require.NoError(t, rows.Close()) }()
	columns, err := rows.Columns()
	require.NoError(t, err)
	var text strings.Builder
	cells, to := make([]any, len(columns)), make([]any, len(columns))
	for i := range cells {
		to[i] = &cells[i]
	}
	for rows.Next() {
		require.NoError(t, rows.Scan(to...))
		fmt.Fprintf(&text, "%#v\n", cells)
	}
	require.NoError(t, rows.Err())
	return text.String()
}

// everything returns the schema and the rows of the host's tables.
func everything(t *testing.T, db *sql.DB) string {
	t.Helper()
	text := dump(t, db, "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name <> 'sqlite_sequence' ORDER BY type, name")
	for table := range strings.Lines(dump(t, db, "SELECT name FROM sqlite_master WHERE type = 'table' AND lower(name) IN ('customer', 'user') ORDER BY name")) {
		name := strings.Split(table, `"`)[1]
		var columns []string
		for column := range strings.Lines(dump(t, db, "SELECT name FROM pragma_table_info('"+name+"')")) {
			column = strings.Split(column, `"`)[1]
			columns = append(columns, "typeof("+column+")", "+"+column)
		}
		text += dump(t, db, "SELECT "+strings.Join(columns, ", ")+` FROM "`+name+`" ORDER BY id`)
	}
	return text
}

func requireRight(t *testing.T, store *sqlite.Storage) {
	t.Helper()
	report, err := store.Verify(t.Context(), migration.VerifyOptions{})
	require.NoError(t, err)
	require.True(t, report.OK(), report.String())
	require.Empty(t, report.Notes)
}

func TestHostTablesAreAdoptedAndGivenBack(t *testing.T) {
	t.Parallel()
	for name, schema := range hostSchemas {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, db := hostFile(t, schema, hostRows[name])
			before := everything(t, db)
			store := openStorage(t, path)
			for range 2 { // and again after a rollback
				plan, err := store.Plan(t.Context())
				require.NoError(t, err)
				require.Equal(t, migration.Host, plan.State)
				require.Len(t, plan.Steps, 5)
				require.Equal(t, before, everything(t, db), "a plan changes nothing")

				require.NoError(t, store.Migrate(t.Context()))
				require.NoError(t, store.Ready(t.Context()))
				requireRight(t, store)
				plan, err = store.Plan(t.Context())
				require.NoError(t, err)
				require.Equal(t, migration.Plan{State: migration.Current}, plan)

				if strings.Contains(name, "alone") {
					run(t, db, `DELETE FROM "user" WHERE email IS NULL`)
				}
				err = store.Rollback(t.Context(), migration.RollbackOptions{})
				if name == "user alone" {
					require.NoError(t, err, "there are no customers to be lost")
				}
				require.NoError(t, err)
				require.Equal(t, before, everything(t, db))
				require.NoError(t, store.Rollback(t.Context(), migration.RollbackOptions{}), "nothing is left to be done")
			}
		})
	}
}

func TestPlanListsWhatIsOdd(t *testing.T) {
	t.Parallel()
	path, _ := hostFile(t, hostSchemas["own names"], hostRows["own names"])
	plan, err := openStorage(t, path).Plan(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 7, plan.Steps[2].Rows)
	require.EqualValues(t, 7, plan.Steps[3].Rows)
	text := plan.String()
	for _, want := range []string{
		"customer.status_name: 1 rows say “Contacted”\n    → makes it “contacted”",
		"customer.status_name: 1 rows say “ Big  Deal ”\n    → makes an inactive entry “big__deal” of it",
		"customer.status_name: 1 rows hold NULL\n    → makes it “contacted”",
		"customer.status_name: 1 rows say “”\n    → makes it “contacted”",
		"customer.status_name: 1 rows say “REJECTED”\n    → makes it “rejected”",
		"user.role_name: 1 rows say “CEO”\n    → makes it “ceo”",
		"user.role_name: 1 rows say “Cook”\n    → makes an inactive entry “cook” of it",
		"user.role_name: 1 rows say “42”\n    → makes an inactive entry “42” of it",
		"user.role_name: 1 rows say “  ”\n    → makes it NULL",
		"user.role_name: 2 rows hold none",
		"user.is_active: 1 rows hold NULL\n    → nothing: it means inactive",
	} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "“rejected”\n    →")
}

func TestAdoptedRowsAreSeenThroughTheAPI(t *testing.T) {
	t.Parallel()
	ctx, us := t.Context(), cims.System("test")
	path, db := hostFile(t, hostSchemas["own names"], hostRows["own names"])
	store := openStorage(t, path)
	require.NoError(t, store.Migrate(ctx))
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, crm.Close(context.WithoutCancel(ctx))) }()

	statuses := map[string]string{}
	for cursor := ""; ; { // a page of one: each has to find its place again
		page, err := crm.Customers(ctx, us, cims.CustomerFilter{}, cims.PageRequest{Limit: 1, Cursor: cursor})
		require.NoError(t, err)
		for _, c := range page.Items {
			require.NotContains(t, statuses, c.FullName)
			statuses[c.FullName] = c.StatusName
			history, err := crm.History(ctx, us, c.ID, cims.PageRequest{})
			require.NoError(t, err)
			require.Len(t, history.Items, 1)
			require.Equal(t, cims.CauseMigrated, history.Items[0].Cause)
			require.Equal(t, c.StatusName, history.Items[0].ToStatus)
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	require.Equal(t, map[string]string{
		"Aziza": "contacted", "Bekzod": "big__deal", "Ўктам": "contacted", "Дилноза": "contacted",
		"Farrukh": "rejected", "Gulnora": "янги_мижоз", "Hasan": "rejected",
	}, statuses)
	found, err := crm.Customers(ctx, us, cims.CustomerFilter{Prefix: "ўКТ"}, cims.PageRequest{})
	require.NoError(t, err)
	require.Len(t, found.Items, 1)

	all, err := crm.Statuses(ctx, us, cims.StatusFilter{Active: new(bool)})
	require.NoError(t, err)
	require.Len(t, all, 2, "the names that nothing had are inactive statuses")
	users := map[string]string{}
	page, err := crm.Users(ctx, us, cims.UserFilter{}, cims.PageRequest{})
	require.NoError(t, err)
	for _, u := range page.Items {
		users[u.Email] = fmt.Sprint(u.RoleName, u.Active)
	}
	require.Equal(t, map[string]string{
		"boss@example.com": "ceotrue", "seller@example.com": "sales_managertrue", "gone@example.com": "sales_managerfalse",
		"who@example.com": "true", "blank@example.com": "true", "cook@example.com": "cookfalse", "odd@example.com": "42true",
	}, users)

	waiting, err := store.Unassigned(ctx, cims.UnassignedQuery{Waiting: true, Limit: 10})
	require.NoError(t, err)
	require.Empty(t, waiting, "nobody is flooded on the first day")
	left, err := store.Unassigned(ctx, cims.UnassignedQuery{Limit: 10})
	require.NoError(t, err)
	require.Len(t, left, 7)

	lead, err := crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: "New"})
	require.NoError(t, err)
	require.Equal(t, "seller@example.com", lead.SalesManager.Email)
	requireRight(t, store)

	// Names that have not changed since are restored, and others are not.
	_, err = crm.SetStatus(ctx, us, found.Items[0].ID, "finished", "")
	require.NoError(t, err)
	require.NoError(t, store.Rollback(ctx, migration.RollbackOptions{}))
	require.Equal(t, `[]interface {}{"Contacted"}
[]interface {}{" Big  Deal "}
[]interface {}{"finished"}
[]interface {}{""}
[]interface {}{"REJECTED"}
[]interface {}{"ЯНГИ мижоз"}
[]interface {}{"rejected"}
[]interface {}{"contacted"}
`, dump(t, db, "SELECT +status_name FROM customer ORDER BY id"))
}

func TestMigrateRefusesTablesThatItCannotWorkWith(t *testing.T) {
	t.Parallel()
	const fine = `CREATE TABLE customer (id INTEGER PRIMARY KEY, full_name TEXT, created_at TIMESTAMP`
	for want, schema := range map[string]string{
		"customer.id: it is not INTEGER PRIMARY KEY":                    `CREATE TABLE customer (id BIGINT PRIMARY KEY, full_name TEXT, created_at TIMESTAMP)`,
		"customer.id: it is not INTEGER PRIMARY":                        `CREATE TABLE customer (id INTEGER, full_name TEXT, created_at TIMESTAMP)`,
		"customer.id: it is not INTEGER":                                `CREATE TABLE customer (id INTEGER PRIMARY KEY, full_name TEXT, created_at TIMESTAMP) WITHOUT ROWID`,
		"user.id: it is not INTEGER PRIMARY KEY":                        `CREATE TABLE "user" (uid INTEGER PRIMARY KEY, id TEXT, email TEXT)`,
		"user.id: it is not":                                            `CREATE TABLE "user" (id INTEGER PRIMARY KEY DESC, email TEXT)`,
		"customer.created_at: there is no such column":                  `CREATE TABLE customer (id INTEGER PRIMARY KEY, full_name TEXT)`,
		"user.email: there is no such column":                           `CREATE TABLE "user" (id INTEGER PRIMARY KEY, mail TEXT)`,
		"customer.Notes: the column's name is written like this":        fine + `, Notes TEXT)`,
		"customer.search_name: the column is there, but not of cims":    fine + `, search_name TEXT)`,
		"customer.notes: the column is generated":                       fine + `, notes TEXT AS (full_name))`,
		"customer.status_name: the column is of type INTEGER":           fine + `, status_name INTEGER)`,
		"customer.status_name: the column references another table":     `CREATE TABLE s (n TEXT PRIMARY KEY);` + fine + `, status_name TEXT REFERENCES s (n))`,
		"customer.updated_at: the column is of type BIGINT":             fine + `, updated_at BIGINT)`,
		"customer.created_at: 2 rows hold no time in text":              fine + `); INSERT INTO customer VALUES (1, 'a', 'yesterday'), (2, 'b', 1735689600), (3, 'c', '2024-01-01 10:00:00')`,
		"customer.created_at: 1 rows hold none":                         fine + `); INSERT INTO customer VALUES (1, 'a', NULL)`,
		"user.is_active: the column is of type TEXT":                    `CREATE TABLE "user" (id INTEGER PRIMARY KEY, email TEXT, is_active TEXT)`,
		"user.is_active: 1 rows hold neither 0 nor 1 nor NULL":          `CREATE TABLE "user" (id INTEGER PRIMARY KEY, email TEXT, is_active BOOLEAN); INSERT INTO "user" VALUES (1, 'a', 'yes')`,
		"user.email: 2 rows have an email that another row has too":     `CREATE TABLE "user" (id INTEGER PRIMARY KEY, email TEXT); INSERT INTO "user" VALUES (1, 'a'), (2, 'a')`,
		"user.role_name: 1 rows hold no name":                           `CREATE TABLE "user" (id INTEGER PRIMARY KEY, email TEXT, role_name TEXT NOT NULL); INSERT INTO "user" VALUES (1, 'a', '')`,
		"customer: it is a view":                                        `CREATE VIEW customer AS SELECT 1 AS id`,
		"customer_status: this table exists and doesn't belong to cims": `CREATE TABLE customer_status (id INTEGER PRIMARY KEY)`,
	} {
		path, db := hostFile(t, schema)
		store := openStorage(t, path)
		before := everything(t, db)
		require.ErrorContains(t, store.Migrate(t.Context()), want)
		require.Equal(t, before, everything(t, db), "nothing was changed")
		plan, err := store.Plan(t.Context())
		require.NoError(t, err)
		require.Contains(t, plan.String(), want)
		require.Contains(t, plan.String(), "Migrate refuses")
	}
}

func TestGuardsOfAdoptedTables(t *testing.T) {
	t.Parallel()
	ctx, us := t.Context(), cims.System("test")
	path, db := hostFile(t, hostSchemas["own names"], hostRows["own names"])
	store := openStorage(t, path)
	require.NoError(t, store.Migrate(ctx))
	for _, query := range []string{
		"UPDATE customer SET status_name = 'no such' WHERE id = 1",
		"INSERT INTO customer (full_name, score, created_at, status_name) VALUES ('x', 1, '2024-01-01', 'no such')",
		`UPDATE "user" SET role_name = 'no such' WHERE id = 1`,
		`INSERT INTO "user" (email, surname, password, role_name) VALUES ('x', 'x', 'x', 'no such')`,
		"DELETE FROM customer_status WHERE name = 'rejected'",
		"UPDATE customer_status SET name = 'other' WHERE name = 'rejected'",
		"INSERT OR REPLACE INTO customer_status (id, name, display_name, created_at, updated_at) SELECT id, 'other', 'x', '', '' FROM customer_status WHERE name = 'rejected'",
		"DELETE FROM user_role WHERE name = 'ceo'",
		"UPDATE user_role SET name = 'other' WHERE name = 'ceo'",
		"INSERT OR REPLACE INTO user_role (id, name, display_name, created_at, updated_at) SELECT id, 'other', 'x', '', '' FROM user_role WHERE name = 'ceo'",
	} {
		_, err := db.ExecContext(ctx, query)
		require.ErrorContains(t, err, "FOREIGN KEY constraint failed", query)
	}
	run(t, db, "UPDATE customer_status SET name = 'other' WHERE name = 'need_to_call'")
	run(t, db, "DELETE FROM customer_status WHERE name = 'other'")
	requireRight(t, store)

	// A status that others put a customer into can't go away through the API either.
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, crm.Close(context.WithoutCancel(ctx))) }()
	status, err := crm.CreateStatus(ctx, us, cims.NewStatus{Name: "mine", DisplayName: "Mine"})
	require.NoError(t, err)
	run(t, db, "UPDATE customer SET status_name = 'mine' WHERE id = 1")
	err = store.Update(ctx, func(ctx context.Context, tx cims.Tx) error { return tx.DeleteStatus(ctx, status.ID) })
	require.ErrorIs(t, err, cims.ErrInUse)
	role, err := crm.CreateRole(ctx, us, cims.NewRole{Name: "mine", DisplayName: "Mine"})
	require.NoError(t, err)
	run(t, db, `UPDATE "user" SET role_name = 'mine' WHERE id = 1`)
	err = store.Update(ctx, func(ctx context.Context, tx cims.Tx) error { return tx.DeleteRole(ctx, role.ID) })
	require.ErrorIs(t, err, cims.ErrInUse)
}

// TestHostWritesBesideUs checks that later writes of the host are recorded.
func TestHostWritesBesideUs(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"own names", "none"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			path, db := hostFile(t, hostSchemas[name])
			store := openStorage(t, path)
			require.NoError(t, store.Migrate(ctx))
			password, score := "", ""
			if name == "own names" {
				password, score = ", password", ", score"
			}
			fill := func(extra string) string {
				if extra == "" {
					return ""
				}
				return ", 1"
			}
			run(t, db, `INSERT INTO "user" (email, name, surname, role_name`+password+`) VALUES ('s@example.com', 'S', 'S', 'Sales Manager'`+fill(password)+`)`)
			if name == "own names" {
				run(t, db, "DROP TRIGGER customer_touched")
			}
			insert := "INSERT INTO customer (full_name, status_name, created_at" + score + ") VALUES (?, ?, '2024-01-01 10:00:00'" + fill(score) + ")"
			run(t, db, insert, "ABC", "Finished")
			run(t, db, insert, "Second", "contacted")
			customer, err := store.Customer(ctx, 1)
			require.NoError(t, err)
			require.Equal(t, "finished", customer.StatusName)
			require.Equal(t, "[]interface {}{\"abc\"}\n[]interface {}{\"second\"}\n", dump(t, db, "SELECT search_name FROM customer ORDER BY id"))
			require.Equal(t, "[]interface {}{1, 1, 1}\n[]interface {}{2, 1, 1}\n", strings.ReplaceAll(dump(t, db,
				`SELECT customer_id, CAST(waiting AS INTEGER),
				(julianday(due_at) - julianday('now')) * 86400 BETWEEN 30 AND 61 FROM cims_unassigned ORDER BY customer_id`), "int64", ""))

			run(t, db, "UPDATE customer SET status_name = 'Rejected', full_name = 'ЎКТАМ', updated_at = '2024-01-05 10:00:00' WHERE id = 1")
			run(t, db, "UPDATE customer SET status_name = status_name, notes = 'x' WHERE id = 2")
			history, err := store.History(ctx, cims.HistoryQuery{CustomerID: 1, Limit: 10})
			require.NoError(t, err)
			require.Len(t, history, 2)
			require.Equal(t, cims.CauseExternal, history[0].Cause)
			require.Equal(t, "finished", history[0].ToStatus)
			require.Equal(t, cims.CauseExternal, history[1].Cause)
			require.Equal(t, [2]string{"finished", "rejected"}, [2]string{history[1].FromStatus, history[1].ToStatus})
			after := cims.EventPosition{At: history[0].At, Kind: history[0].Kind, ID: history[0].ID}
			rest, err := store.History(ctx, cims.HistoryQuery{CustomerID: 1, Limit: 10, After: &after})
			require.NoError(t, err)
			require.Equal(t, history[1:], rest, "a cursor finds its place at a time that a trigger wrote")

			// Ours is not recorded twice, not even without a change of updated_at.
			require.NoError(t, store.Update(ctx, func(ctx context.Context, tx cims.Tx) error {
				return tx.ChangeStatuses(ctx, []cims.StatusChange{{CustomerID: 1, From: "rejected", To: "continuing", Cause: cims.CauseManual, At: time.Date(2024, 1, 5, 10, 0, 0, 0, time.UTC)}})
			}))
			requireRight(t, store)
			require.Equal(t, "[]interface {}{3}\n", strings.ReplaceAll(dump(t, db, "SELECT count(*) FROM customer_status_history WHERE customer_id = 1"), "int64", ""))

			run(t, db, "INSERT INTO sales_manager_assignment (customer_id, sales_manager_id, assigned_at) VALUES (1, 1, '2024-01-01 10:00:00'), (2, 1, '2024-01-01 10:00:00')")
			requireRight(t, store)
			history, err = store.History(ctx, cims.HistoryQuery{CustomerID: 2, Limit: 10})
			require.NoError(t, err)
			require.Equal(t, cims.AssignmentEvent, history[len(history)-1].Kind)
			require.Equal(t, cims.CauseExternal, history[len(history)-1].Cause)
			run(t, db, `INSERT INTO "user" (email, name, surname, role_name`+password+`) VALUES ('t@example.com', 'T', 'T', 'sales_manager'`+fill(password)+`)`)
			for _, change := range []struct {
				query    string
				from, to int64
			}{
				{"UPDATE sales_manager_assignment SET sales_manager_id = 2, assigned_at = '2024-01-02 10:00:00' WHERE customer_id = 2", 1, 2},
				{"UPDATE sales_manager_assignment SET is_active = FALSE WHERE customer_id = 2", 2, 0},
				{"UPDATE sales_manager_assignment SET is_active = TRUE, sales_manager_id = 1 WHERE customer_id = 2", 0, 1},
				{"DELETE FROM sales_manager_assignment WHERE customer_id = 2", 1, 0},
				{"INSERT INTO sales_manager_assignment (customer_id, sales_manager_id, assigned_at) VALUES (2, 2, '2024-01-03 10:00:00')", 0, 2},
			} {
				run(t, db, change.query)
				requireRight(t, store)
				history, err = store.History(ctx, cims.HistoryQuery{CustomerID: 2, Limit: 20})
				require.NoError(t, err)
				history = slices.DeleteFunc(history, func(e cims.Event) bool { return e.Kind != cims.AssignmentEvent })
				last := slices.MaxFunc(history, func(a, b cims.Event) int { return cmp.Compare(a.ID, b.ID) })
				require.Equal(t, cims.CauseExternal, last.Cause, change.query)
				require.Equal(t, [2]int64{change.from, change.to}, [2]int64{orZero(last.FromManager), orZero(last.ToManager)}, change.query)
			}
			run(t, db, "DELETE FROM customer WHERE id = 2")
			requireRight(t, store)
			run(t, db, `DELETE FROM "user" WHERE id = 1`)
			requireRight(t, store)
			require.Equal(t, "[]interface {}{1}\n", strings.ReplaceAll(dump(t, db, "SELECT customer_id FROM cims_unassigned WHERE waiting"), "int64", ""))
		})
	}
}

func orZero(id *int64) int64 {
	if id == nil {
		return 0
	}
	return *id
}

func TestVerifyFindsEachFault(t *testing.T) {
	t.Parallel()
	path, db := hostFile(t, hostSchemas["own names"], hostRows["own names"])
	store := openStorage(t, path)
	require.NoError(t, store.Migrate(t.Context()))
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	_, err = crm.AddCustomer(t.Context(), cims.System("test"), cims.NewCustomer{FullName: "New"})
	require.NoError(t, err)
	require.NoError(t, crm.Close(t.Context()))
	run(t, db, "DROP TRIGGER customer_touched")
	requireRight(t, store)
	const unguarded = "DROP TRIGGER cims_customer_status_update; DROP TRIGGER cims_status_changed; DROP TRIGGER cims_user_role_update; DROP TRIGGER cims_role_named; DROP TRIGGER cims_full_name_changed; DROP TRIGGER cims_customer_deleted; DROP TRIGGER cims_assignment_deleted; "
	for query, check := range map[string]string{ //nolint:gosec // no secrets
		"UPDATE customer SET score = score + 1 WHERE id = 1":                                                                  "customer rows as they were",
		"UPDATE customer SET photo = CAST(photo AS TEXT) WHERE id = 1":                                                        "customer rows as they were",
		"UPDATE customer SET company_id = 8 WHERE id = 3":                                                                     "customer rows as they were",
		"DELETE FROM customer WHERE id = 2":                                                                                   "customer rows as they were",
		"ALTER TABLE customer DROP COLUMN photo":                                                                              "customer rows as they were",
		`UPDATE "user" SET password = 'y' WHERE id = 1`:                                                                       "user rows as they were",
		`UPDATE "user" SET is_active = 0 WHERE id = 3`:                                                                        "user rows as they were",
		unguarded + "UPDATE customer SET status_name = 'no such' WHERE id = 1":                                                "customers' statuses exist",
		unguarded + "UPDATE customer SET status_name = NULL WHERE id = 1":                                                     "customers' statuses exist",
		unguarded + `UPDATE "user" SET role_name = 'no such' WHERE id = 1`:                                                    "users' roles exist",
		unguarded + "DELETE FROM customer WHERE id = 8":                                                                       "assignments are of customers and users",
		"UPDATE sales_manager_rotation SET assigned_leads_count = assigned_leads_count + 1":                                   "managers' counts equal their assignments",
		"DELETE FROM cims_unassigned WHERE customer_id = 1":                                                                   "exactly the unassigned are in cims_unassigned",
		"INSERT INTO cims_unassigned (customer_id, customer_created_at, waiting) VALUES (8, '', 0)":                           "exactly the unassigned are in cims_unassigned",
		"INSERT INTO cims_unassigned (customer_id, customer_created_at, waiting) VALUES (99, '', 0)":                          "exactly the unassigned are in cims_unassigned",
		"DELETE FROM customer_status_history WHERE customer_id = 1":                                                           "histories end in the status",
		"UPDATE customer_status_history SET to_status = 'finished' WHERE customer_id = 1":                                     "histories end in the status",
		"UPDATE customer SET search_name = NULL WHERE id = 3":                                                                 "customers are found by their names",
		"DROP INDEX cims_customer_name":                                                                                       "tables, indexes and triggers",
		"DROP INDEX cims_customer_name; CREATE INDEX cims_customer_name ON customer (full_name)":                              "tables, indexes and triggers",
		"UPDATE customer_status SET is_system = 0 WHERE name = 'finished'":                                                    "the system's statuses and roles are marked as such",
		"UPDATE user_role SET is_system = 0 WHERE name = 'ceo'":                                                               "the system's statuses and roles are marked as such",
		"UPDATE user_role SET permissions = '' WHERE name = 'ceo'":                                                            "the CEO may do everything",
		"DELETE FROM sales_manager_counter":                                                                                   "the rotation has its counter",
		"DROP TABLE sales_manager_counter":                                                                                    "the rotation has its counter",
		"ALTER TABLE sales_manager_counter DROP COLUMN turn":                                                                  "tables, indexes and triggers",
		"DROP TRIGGER cims_status_used_delete":                                                                                "tables, indexes and triggers",
		"DROP TABLE cims_idempotency":                                                                                         "tables, indexes and triggers",
		"DROP INDEX cims_customer_name; ALTER TABLE customer RENAME COLUMN notes TO remarks; ALTER TABLE customer ADD d TEXT": "tables, indexes and triggers",
	} {
		spoiled := filepath.Join(t.TempDir(), "spoiled.db")
		run(t, db, "VACUUM INTO ?", spoiled)
		run(t, openFile(t, spoiled, ""), query)
		store := openStorage(t, spoiled)
		report, err := store.Verify(t.Context(), migration.VerifyOptions{})
		require.NoError(t, err, query)
		found := false
		for _, c := range report.Checks {
			found = found || (c.Name == check && c.Fault != "")
		}
		require.True(t, found, "%s\n%s", query, report)
		running, err := store.Verify(t.Context(), migration.VerifyOptions{WhileRunning: true})
		require.NoError(t, err)
		if strings.HasSuffix(check, "as they were") {
			require.True(t, running.OK() || strings.Contains(query, "DELETE"), "%s\n%s", query, running)
			require.Len(t, running.Notes, 1)
		} else {
			require.False(t, running.OK(), query)
		}
		if !repairable[check] || strings.Contains(query, "DROP") {
			continue
		}
		would, err := store.Repair(t.Context(), migration.RepairOptions{DryRun: true})
		require.NoError(t, err, query)
		require.NotEmpty(t, would, query)
		again, err := store.Verify(t.Context(), migration.VerifyOptions{})
		require.NoError(t, err)
		require.Equal(t, report, again, "a dry run changes nothing")
		did, err := store.Repair(t.Context(), migration.RepairOptions{})
		require.NoError(t, err, query)
		require.Equal(t, would, did)
		requireRight(t, store)
	}
}

// repairable are the checks that hold after Repair.
var repairable = map[string]bool{
	"managers' counts equal their assignments":      true,
	"exactly the unassigned are in cims_unassigned": true,
	"histories end in the status":                   true,
	"customers are found by their names":            true,
	"the rotation has its counter":                  true,
}

func TestRollbackDoesNotDeleteWhatIsAllOurs(t *testing.T) {
	t.Parallel()
	path, db := hostFile(t)
	store := openStorage(t, path)
	plan, err := store.Plan(t.Context())
	require.NoError(t, err)
	require.Equal(t, migration.Empty, plan.State)
	report, err := store.Verify(t.Context(), migration.VerifyOptions{})
	require.NoError(t, err)
	require.False(t, report.OK(), "it is not migrated")
	require.NoError(t, store.Migrate(t.Context()))
	requireRight(t, store)
	require.ErrorContains(t, store.Rollback(t.Context(), migration.RollbackOptions{}), "all of cims")
	require.NoError(t, store.Ready(t.Context()))
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	_, err = crm.CreateUser(t.Context(), cims.System("test"), cims.NewUser{Email: "a@example.com", Name: "A", Surname: "A", RoleName: "sales_manager"})
	require.NoError(t, err)
	_, err = crm.AddCustomer(t.Context(), cims.System("test"), cims.NewCustomer{FullName: "A"})
	require.NoError(t, err)
	require.NoError(t, crm.Close(t.Context()))
	require.ErrorContains(t, store.Rollback(t.Context(), migration.RollbackOptions{}), "would be lost with its 1 rows")
	require.NoError(t, store.Rollback(t.Context(), migration.RollbackOptions{Force: true}))
	require.Empty(t, everything(t, db))
	require.Error(t, store.Ready(t.Context()))
	require.NoError(t, store.Migrate(t.Context()))
	requireRight(t, store)
}

func TestHostWritesWhileManyMigrate(t *testing.T) {
	t.Parallel()
	const rows = 30_000
	path, db := hostFile(t, hostSchemas["own names"], "DROP TRIGGER customer_touched")
	manyCustomers(t, db, rows)
	stores := make([]*sqlite.Storage, 3)
	for i := range stores {
		stores[i] = openStorage(t, path)
	}
	failed := make([]error, len(stores))
	var migrating, host sync.WaitGroup
	stop := make(chan struct{})
	host.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			_, err := db.ExecContext(t.Context(), "INSERT INTO customer (full_name, score, created_at) VALUES ('host', 1, '2024-01-01 10:00:00')")
			if err == nil {
				_, err = db.ExecContext(t.Context(), "UPDATE customer SET status_name = 'FINISHED' WHERE id = ?", rows-i)
			}
			if err != nil {
				t.Error(err)
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	var mu sync.Mutex
	var seen []migration.Progress
	for i, store := range stores {
		migrating.Go(func() {
			failed[i] = store.MigrateWithProgress(t.Context(), func(p migration.Progress) {
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, p)
			})
		})
	}
	migrating.Wait()
	close(stop)
	host.Wait()
	require.NoError(t, errors.Join(failed...))
	require.NotEmpty(t, seen)
	for _, p := range seen {
		require.LessOrEqual(t, p.Done, p.Total)
	}
	report, err := stores[1].Verify(t.Context(), migration.VerifyOptions{WhileRunning: true})
	require.NoError(t, err)
	require.True(t, report.OK(), report.String())
}

// manyCustomers are rows with all kinds of names.
func manyCustomers(t *testing.T, db *sql.DB, rows int) {
	t.Helper()
	run(t, db, `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		INSERT INTO customer (full_name, status_name, score, created_at)
		SELECT 'ИМЯ ' || i, CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN 'Contacted' WHEN 2 THEN 'Deal ' || i % 7 ELSE 'rejected' END, i / 3.0,
			strftime('%Y-%m-%d %H:%M:%S', 1700000000 + i / 10, 'unixepoch') FROM n`, rows)
}
