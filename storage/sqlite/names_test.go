package sqlite_test

import (
	"database/sql"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/migration"
	"github.com/cimskit/cims/storage/sqlite"
	"github.com/cimskit/cims/storage/storagetest"
	"github.com/cimskit/cims/storage/transfer"
)

// otherNames are a host's tables whose columns have other names. What is called
// name, notes and id there is something else; so is the status, and a table that
// is called as ours are.
const otherNames = `
	CREATE TABLE staff (
		number INTEGER PRIMARY KEY AUTOINCREMENT, mail TEXT NOT NULL UNIQUE, "Given Name" TEXT NOT NULL, family TEXT NOT NULL,
		enabled BOOLEAN NOT NULL DEFAULT TRUE, name TEXT NOT NULL, id TEXT NOT NULL DEFAULT 'none', password TEXT NOT NULL
	);
	CREATE TABLE leads (
		status INTEGER NOT NULL DEFAULT 7, region TEXT NOT NULL, notes JSON NOT NULL, came TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
		updated_at TIMESTAMP, "order" TEXT NOT NULL, phone TEXT NOT NULL DEFAULT '', remark TEXT, found_by INTEGER REFERENCES staff,
		lead_id INTEGER PRIMARY KEY AUTOINCREMENT
	);
	CREATE INDEX leads_region ON leads (region);
	CREATE TRIGGER shout AFTER INSERT ON leads BEGIN UPDATE leads SET region = upper(region) WHERE lead_id = NEW.lead_id; END;`

const otherRows = `
	INSERT INTO staff (mail, "Given Name", family, name, password) VALUES ('old@example.com', 'Old', 'Hand', 'oldie', 'x');
	INSERT INTO leads (region, "order", notes, found_by, came) SELECT 'west', 'Lead ' || value, '{}', 1, '2024-01-01 10:00:00' FROM json_each('[1,2,3,4,5]');`

var (
	leads = sqlite.Table{Name: "leads", Columns: map[string]string{
		"id": "lead_id", "full_name": "order", "phone_number": "phone", "notes": "remark", "created_at": "came",
	}}
	staff = sqlite.Table{Name: "staff", Columns: map[string]string{
		"id": "number", "email": "mail", "name": "Given Name", "surname": "family", "is_active": "enabled",
	}}
)

func otherOptions() []sqlite.Option {
	return []sqlite.Option{sqlite.Customers(leads), sqlite.Users(staff)}
}

// hosted is a host's file with rows in it.
type hosted struct {
	options          []sqlite.Option
	schema           string
	customers, users string // its tables
}

// hostsOfOtherNames has, beside those, tables that are called as ours and whose
// columns are not: no view could stand for them in the one schema there is.
func hostsOfOtherNames() map[string]hosted {
	ours := strings.NewReplacer("leads", "customer", "staff", `"user"`).Replace(otherNames + otherRows)
	return map[string]hosted{
		"Tables":  {otherOptions(), otherNames + otherRows, "leads", "staff"},
		"Columns": {[]sqlite.Option{sqlite.Customers(sqlite.Table{Columns: leads.Columns}), sqlite.Users(sqlite.Table{Columns: staff.Columns})}, ours, "customer", `"user"`},
	}
}

func openWith(t *testing.T, path string, options ...sqlite.Option) *sqlite.Storage {
	t.Helper()
	store, err := sqlite.Open(t.Context(), path, options...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

// all is the schema and the rows of a host's tables.
func (h hosted) all(t *testing.T, db *sql.DB) string {
	t.Helper()
	return dump(t, db, "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name <> 'sqlite_sequence' ORDER BY type, name") +
		dump(t, db, "SELECT * FROM "+h.customers+" ORDER BY lead_id") + dump(t, db, "SELECT * FROM "+h.users+" ORDER BY number")
}

func causes(t *testing.T, crm *cims.Manager, id int64) []cims.Cause {
	t.Helper()
	events, err := crm.History(t.Context(), cims.System("test"), id, cims.PageRequest{})
	require.NoError(t, err)
	var list []cims.Cause
	for _, event := range events.Items {
		list = append(list, event.Cause)
	}
	return list
}

func TestOtherNamesThereAndBack(t *testing.T) {
	t.Parallel()
	for name, h := range hostsOfOtherNames() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, us := t.Context(), cims.System("test")
			path, db := hostFile(t, h.schema)
			before := h.all(t, db)
			store := openWith(t, path, h.options...)
			plan, err := store.Plan(ctx)
			require.NoError(t, err)
			require.Equal(t, migration.Host, plan.State)
			require.EqualValues(t, 5, plan.Steps[3].Rows)
			require.Equal(t, before, h.all(t, db), "a plan changes nothing")

			require.NoError(t, store.Migrate(ctx))
			require.NoError(t, store.Migrate(ctx), "again")
			require.NoError(t, store.Ready(ctx))
			requireRight(t, store)
			run(t, db, "UPDATE "+h.customers+` SET region = 'south' WHERE lead_id = 1`)
			report, err := store.Verify(ctx, migration.VerifyOptions{})
			require.NoError(t, err)
			require.False(t, report.OK())
			require.Contains(t, report.String(), strings.Trim(h.customers, `"`)+" rows as they were", "it names the host's table")
			run(t, db, "UPDATE "+h.customers+` SET region = 'WEST' WHERE lead_id = 1`)

			crm, err := cims.New(store, nil)
			require.NoError(t, err)
			adopted, err := crm.Customers(ctx, us, cims.CustomerFilter{Unassigned: true}, cims.PageRequest{})
			require.NoError(t, err)
			require.Len(t, adopted.Items, 5)
			for _, lead := range adopted.Items {
				require.Contains(t, lead.FullName, "Lead ")
				require.Equal(t, "contacted", lead.StatusName)
				require.Equal(t, 2024, lead.CreatedAt.Year())
				require.Empty(t, lead.Notes, "what is called notes is not")
				require.Equal(t, []cims.Cause{"migrated"}, causes(t, crm, lead.ID))
			}

			run(t, db, "INSERT INTO "+h.customers+` (region, "order", notes, status_name) VALUES ('east', 'Their own', '{}', 'Need to Call')`)
			theirs, err := crm.Customers(ctx, us, cims.CustomerFilter{Prefix: "their"}, cims.PageRequest{})
			require.NoError(t, err)
			require.Len(t, theirs.Items, 1)
			require.Equal(t, "need_to_call", theirs.Items[0].StatusName)
			require.Equal(t, []cims.Cause{"external"}, causes(t, crm, theirs.Items[0].ID))
			run(t, db, "UPDATE "+h.customers+` SET status_name = 'Rejected', "order" = 'They' WHERE "order" = 'Their own'`)
			theirs, err = crm.Customers(ctx, us, cims.CustomerFilter{Prefix: "they"}, cims.PageRequest{})
			require.NoError(t, err)
			require.Equal(t, "rejected", theirs.Items[0].StatusName)
			require.Equal(t, []cims.Cause{"external", "external"}, causes(t, crm, theirs.Items[0].ID))

			manager, err := crm.CreateUser(ctx, us, cims.NewUser{Email: "new@example.com", Name: "New", Surname: "Hand", RoleName: "sales_manager"})
			require.NoError(t, err)
			lead, err := crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: "Ours", Notes: "a note"})
			require.NoError(t, err)
			require.Equal(t, manager.ID, lead.SalesManager.ID)
			require.Equal(t, "[]interface {}{\"Ours\", \"a note\", \"{}\", \"\"}\n",
				dump(t, db, `SELECT "order", remark, +notes, region FROM `+h.customers+` WHERE remark IS NOT NULL`))
			_, err = crm.SetStatus(ctx, us, lead.ID, "finished", "")
			require.NoError(t, err)
			for _, refused := range []string{
				"DELETE FROM customer_status WHERE name = 'finished'", "UPDATE " + h.customers + " SET status_name = 'nothing'",
				"DELETE FROM user_role WHERE name = 'sales_manager'", "UPDATE " + h.users + " SET role_name = 'nothing'",
			} {
				_, err := db.ExecContext(ctx, refused)
				require.ErrorContains(t, err, "FOREIGN KEY constraint failed", refused)
			}
			requireRight(t, store)

			require.NoError(t, crm.Close(ctx))
			require.NoError(t, store.Rollback(ctx, migration.RollbackOptions{}))
			run(t, db, "DELETE FROM "+h.customers+" WHERE lead_id > 5")
			run(t, db, "DELETE FROM "+h.users+" WHERE mail = 'new@example.com'")
			require.Equal(t, before, h.all(t, db), "all is as it was")
			require.NoError(t, store.Migrate(ctx), "and may begin anew")
			requireRight(t, store)
		})
	}
}

// TestNamesInColumnsOfOtherNames has statuses and roles, in all kinds of writing,
// in columns that are called otherwise; and connections of the host's.
func TestNamesInColumnsOfOtherNames(t *testing.T) {
	t.Parallel()
	ctx, us := t.Context(), cims.System("test")
	path, db := hostFile(t, hostSchemas["own names"], hostRows["own names"], `
		ALTER TABLE Customer RENAME TO leads;
		ALTER TABLE leads RENAME COLUMN status_name TO stage;
		ALTER TABLE User RENAME TO staff;
		ALTER TABLE staff RENAME COLUMN id TO number;
		ALTER TABLE staff RENAME COLUMN role_name TO post;`)
	const stages, posts = "SELECT +stage FROM leads ORDER BY id", "SELECT +post FROM staff ORDER BY number"
	before := dump(t, db, stages) + dump(t, db, posts)
	conn := openFile(t, path, "?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)")
	conn.SetMaxOpenConns(1)
	store, err := sqlite.New(conn,
		sqlite.Customers(sqlite.Table{Name: "leads", Columns: map[string]string{"status_name": "stage"}}),
		sqlite.Users(sqlite.Table{Name: "staff", Columns: map[string]string{"id": "number", "role_name": "post"}}))
	require.NoError(t, err)
	plan, err := store.Plan(ctx)
	require.NoError(t, err)
	require.Contains(t, plan.String(), "leads.stage: 1 rows say “REJECTED”")
	require.Contains(t, plan.String(), "staff.post: 1 rows say “Cook”")
	require.NoError(t, store.Migrate(ctx))
	requireRight(t, store)
	require.Contains(t, dump(t, db, stages), "big__deal")

	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	lead, err := crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: "New"})
	require.NoError(t, err)
	require.Equal(t, "seller@example.com", lead.SalesManager.Email)
	list, err := crm.Customers(ctx, us, cims.CustomerFilter{Status: "rejected"}, cims.PageRequest{Limit: 1})
	require.NoError(t, err)
	list, err = crm.Customers(ctx, us, cims.CustomerFilter{Status: "rejected"}, cims.PageRequest{Limit: 1, Cursor: list.Next})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	roles, err := crm.Roles(ctx, us, cims.RoleFilter{})
	require.NoError(t, err)
	for _, role := range roles {
		if role.Name == "cook" {
			require.NoError(t, crm.DeleteRole(ctx, us, role.ID, cims.Deletion{MoveTo: "member"}))
		}
	}
	require.Contains(t, dump(t, db, posts), "member")
	require.NotContains(t, dump(t, db, posts), "cook")
	requireRight(t, store)
	require.NoError(t, crm.Close(ctx))
	require.NoError(t, store.Rollback(ctx, migration.RollbackOptions{}))
	run(t, db, "DELETE FROM leads WHERE full_name = 'New'")
	run(t, db, "UPDATE staff SET post = 'Cook' WHERE post = 'member'")
	require.Equal(t, before, dump(t, db, stages)+dump(t, db, posts))
}

func TestWrongNamesAreRefusedBeforeAnythingIsWritten(t *testing.T) {
	t.Parallel()
	renamed := func(column, to string) sqlite.Table {
		columns := maps.Clone(leads.Columns)
		columns[column] = to
		return sqlite.Table{Name: leads.Name, Columns: columns}
	}
	for name, c := range map[string]struct {
		beside    string
		customers sqlite.Table
		found     string
	}{
		"Table":     {"", sqlite.Table{Name: "laeds", Columns: leads.Columns}, "laeds: there is no such table"},
		"Column":    {"", renamed("platform", "phnoe"), "leads.phnoe: there is no such column, which is to be its platform"},
		"Required":  {"", sqlite.Table{Name: "leads", Columns: map[string]string{"id": "lead_id", "created_at": "came"}}, "leads.full_name: there is no such column"},
		"ID":        {"", renamed("id", "region"), "leads.region: it is not INTEGER PRIMARY KEY"},
		"Status":    {"", renamed("status_name", "status"), "leads.status: the column is of type INTEGER"},
		"Time":      {"", renamed("created_at", "found_by"), "leads.found_by: the column is of type INTEGER"},
		"Odd":       {otherRows + "UPDATE leads SET came = 'yesterday' WHERE lead_id = 2;", leads, "leads.came: 1 rows hold no time"},
		"View":      {"CREATE VIEW seen AS SELECT * FROM leads;", sqlite.Table{Name: "seen", Columns: leads.Columns}, "seen: it is a view"},
		"Unfilled":  {unfilled, leads, `leads.place: the column is NOT NULL without a default`},
		"Uppercase": {"", renamed("phone_number", "Phone"), "leads.phone: the column's name is written like this"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, db := hostFile(t, otherNames, c.beside)
			h := hosted{customers: "leads", users: "staff"}
			before := h.all(t, db)
			store := openWith(t, path, sqlite.Customers(c.customers), sqlite.Users(staff))
			require.ErrorContains(t, store.Migrate(t.Context()), c.found)
			plan, err := store.Plan(t.Context())
			require.NoError(t, err)
			require.Len(t, plan.Findings, 1)
			require.Contains(t, plan.Findings[0].Where+": "+plan.Findings[0].Found, c.found)
			require.Equal(t, before, h.all(t, db))
		})
	}
}

// unfilled is the host's table with a column that only the host can fill.
const unfilled = `
	DROP TABLE leads;
	CREATE TABLE leads (
		lead_id INTEGER PRIMARY KEY, "order" TEXT NOT NULL, phone TEXT, remark TEXT, came TIMESTAMP NOT NULL,
		place GEOMETRY NOT NULL
	);`

func TestImpossibleNames(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		customers sqlite.Table
		found     string
	}{
		"UnknownColumn": {sqlite.Table{Name: "leads", Columns: map[string]string{"title": "name"}}, `there is no column "title" to name`},
		"Twice":         {sqlite.Table{Name: "leads", Columns: map[string]string{"notes": "a", "platform": "a"}}, `"a" can't be both notes and platform`},
		"Taken":         {sqlite.Table{Name: "leads", Columns: map[string]string{"full_name": "Notes"}}, `"notes" can't be both full_name and notes`},
		"Quote":         {sqlite.Table{Name: "it's"}, `"it's" is not a valid name`},
		"Empty":         {sqlite.Table{Name: "leads", Columns: map[string]string{"notes": ""}}, `"" is not a valid name`},
		"OneTable":      {sqlite.Table{Name: "USER"}, `can't be one table`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, db := hostFile(t)
			_, err := sqlite.Open(t.Context(), path, sqlite.Customers(c.customers))
			require.ErrorContains(t, err, c.found)
			_, err = sqlite.New(db, sqlite.Customers(c.customers))
			require.ErrorContains(t, err, c.found)
		})
	}
	path, _ := hostFile(t)
	_, err := sqlite.New(openFile(t, path, "?_pragma=foreign_keys(1)"), sqlite.SynchronousNormal)
	require.ErrorContains(t, err, "New takes no Synchronous")
}

func TestOtherNamesThanMigratedWith(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for name, c := range map[string]struct {
		migrated, opened []sqlite.Option
		found            string
	}{
		"Ours":     {otherOptions(), nil, `customer: the database was migrated with the table "leads"`},
		"Theirs":   {nil, otherOptions(), `leads: the database was migrated with the table "customer" and the columns {}`},
		"OneOther": {otherOptions(), otherOptions()[:1], `user: the database was migrated with the table "staff"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, _ := hostFile(t, otherNames)
			require.NoError(t, openWith(t, path, c.migrated...).Migrate(ctx))
			store := openWith(t, path, c.opened...)
			require.ErrorContains(t, store.Ready(ctx), c.found)
			require.ErrorContains(t, store.Migrate(ctx), c.found)
			require.ErrorContains(t, store.Rollback(ctx, migration.RollbackOptions{}), c.found)
			_, err := store.Verify(ctx, migration.VerifyOptions{})
			require.ErrorContains(t, err, c.found)
			crm, err := cims.New(store, nil)
			require.NoError(t, err)
			_, err = crm.AddCustomer(ctx, cims.System("test"), cims.NewCustomer{FullName: "X"})
			require.Error(t, err)
			require.NoError(t, crm.Close(ctx))
		})
	}
}

// TestCopyOfHostTables goes from a host's tables to others of its kind, whose ids
// go on after it, and to tables of ours.
func TestCopyOfHostTables(t *testing.T) {
	t.Parallel()
	ctx, us := t.Context(), cims.System("test")
	path, _ := hostFile(t, otherNames)
	from := openWith(t, path, otherOptions()...)
	require.NoError(t, from.Migrate(ctx))
	crm, err := cims.New(from, nil)
	require.NoError(t, err)
	_, err = crm.CreateUser(ctx, us, cims.NewUser{Email: "a@example.com", Name: "A", Surname: "B", RoleName: "sales_manager"})
	require.NoError(t, err)
	first, err := crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: "X", Notes: "a note"})
	require.NoError(t, err)
	require.NoError(t, crm.Close(ctx))

	path, db := hostFile(t, otherNames)
	to := openWith(t, path, otherOptions()...)
	require.NoError(t, to.Migrate(ctx))
	require.NoError(t, transfer.Copy(ctx, from, to, nil))
	requireRight(t, to)
	crm, err = cims.New(to, nil)
	require.NoError(t, err)
	copied, err := crm.Customer(ctx, us, first.ID)
	require.NoError(t, err)
	require.Equal(t, first, copied)
	second, err := crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: "Y"})
	require.NoError(t, err)
	require.Equal(t, first.ID+1, second.ID)
	require.NoError(t, crm.Close(ctx))
	require.Equal(t, "[]interface {}{\"X\"}\n[]interface {}{\"Y\"}\n", dump(t, db, `SELECT +"order" FROM leads ORDER BY lead_id`))

	plain := openStorage(t, filepath.Join(t.TempDir(), "crm.db"))
	require.NoError(t, plain.Migrate(ctx))
	require.ErrorContains(t, transfer.Copy(ctx, to, plain, nil), `of table "staff" holds data, and the target has no such column`)

	// Out of tables of ours into a host's.
	crm, err = cims.New(plain, nil)
	require.NoError(t, err)
	third, err := crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: "Z", PhoneNumber: "1"})
	require.NoError(t, err)
	require.NoError(t, crm.Close(ctx))
	path, _ = hostFile(t, otherNames)
	host := openWith(t, path, otherOptions()...)
	require.NoError(t, host.Migrate(ctx))
	require.NoError(t, transfer.Copy(ctx, plain, host, nil))
	requireRight(t, host)
	copied, err = host.Customer(ctx, third.ID)
	require.NoError(t, err)
	require.Equal(t, third, copied)
}

// TestStorageOnHostTables runs the whole suite on tables that were a host's, with
// names of its own or of a strict type.
func TestStorageOnHostTables(t *testing.T) {
	t.Parallel()
	for name, host := range map[string]struct {
		schema  string
		options []sqlite.Option
	}{
		"other names": {otherNames, otherOptions()},
		"strict":      {hostSchemas["strict"], nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storagetest.Run(t, func(t *testing.T) storagetest.Open {
				path, _ := hostFile(t, host.schema)
				return func(t *testing.T) cims.Storage {
					store, err := sqlite.Open(t.Context(), path, host.options...)
					require.NoError(t, err)
					return store
				}
			})
		})
	}
}
