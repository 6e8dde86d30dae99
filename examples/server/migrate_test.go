package main

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims/internal/legacy"
	"github.com/cimskit/cims/internal/pgtest"
	"github.com/cimskit/cims/storage/migration"
)

func TestPlanSaysWhatDatabaseItIs(t *testing.T) {
	t.Parallel()
	for state, dump := range map[migration.State]string{
		migration.Empty: "SELECT 1",
		migration.Host: `CREATE TABLE "user" (id BIGSERIAL PRIMARY KEY, email TEXT NOT NULL, name TEXT NOT NULL, surname TEXT NOT NULL, is_active BOOLEAN NOT NULL);
			CREATE TABLE customer (id BIGSERIAL PRIMARY KEY, full_name TEXT NOT NULL, phone_number TEXT, platform TEXT, username TEXT, notes TEXT, created_at TIMESTAMPTZ NOT NULL)`,
		migration.EnumOnly: legacy.EnumOnly,
		migration.Deployed: legacy.Deployed,
	} {
		t.Run(string(state), func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			pgtest.Execute(t, url, dump)
			conn := connect(t, url)
			before := takePicture(t, conn)
			plan := migrated(t, url, "plan")
			require.Contains(t, plan, "This is "+string(state)+".\n")
			require.NotContains(t, plan, nothingLeft)
			before.requireSame(t, takePicture(t, conn), "a plan changes nothing")
			migrated(t, url, "up")
			plan = migrated(t, url, "plan")
			require.Contains(t, plan, nothingLeft)
			require.Contains(t, plan, "This is "+string(migration.Current)+".\n")
			migrated(t, url, "verify")
		})
	}
}

// TestThereAndBack moves each database over, and back, twice: once with nobody
// working between, once with somebody.
func TestThereAndBack(t *testing.T) {
	t.Parallel()
	for _, older := range olderDatabases {
		t.Run(older.name, func(t *testing.T) {
			t.Parallel()
			url, planted := older.load(t)
			conn := connect(t, url)
			before := remember(t, conn)
			beforePicture, beforeDump := takePicture(t, conn), dump(t, conn, url)

			plan := migrated(t, url, "plan")
			requireNamed(t, planted, plan)
			requireSameDump(t, beforeDump, dump(t, conn, url), "a plan changes nothing")

			migrated(t, url, "up")
			before.requireOriginal(t, conn, nil, nil)
			unchanged(t, conn, before.columns, beforeRows(t, conn, before))
			before.requireNames(t, conn)
			before.requireConsistent(t, conn)
			migrated(t, url, "verify")
			there := takePicture(t, conn)
			migrated(t, url, "up")
			there.requireSame(t, takePicture(t, conn), "a second up has nothing to do")

			migrated(t, url, "rollback")
			beforePicture.requireSame(t, takePicture(t, conn), "all is as it was")
			requireSameDump(t, beforeDump, dump(t, conn, url), "all is as it was")
			require.NotContains(t, migrated(t, url, "plan"), nothingLeft)
			migrated(t, url, "rollback")
			beforePicture.requireSame(t, takePicture(t, conn), "a second rollback has nothing to do")

			migrated(t, url, "up")
			there.requireSame(t, takePicture(t, conn), "the way there is the same again")
			customers, users := workFor(t, url, conn, older)
			before.requireConsistent(t, conn)
			before.requireOriginal(t, conn, customers, users)
			migrated(t, url, "verify", "-while-running")
			count := value[int64](t, conn, "SELECT count(*) FROM customer")
			if older.names { // it knows statuses by name: that is a form of any
				migrated(t, url, "rollback")
				require.EqualValues(t, 2, value[int64](t, conn, "SELECT count(*) FROM customer AS c JOIN customer_status AS s ON s.name = c.status_name WHERE s.name = 'trial' AND s.is_active"))
			} else {
				worked := takePicture(t, conn)
				says := refused(t, url, "rollback")
				require.Contains(t, says, "2 customers are in the status “trial”")
				require.Contains(t, says, "2 users have the role “sales_manager”")
				require.Contains(t, says, "5 leads have a sales manager, and the older program has no place for that")
				require.Contains(t, says, "-force")
				worked.requireSame(t, takePicture(t, conn), "a rollback that refuses changes nothing")
				require.Contains(t, migrated(t, url, "rollback", "-force"), "5 leads have a sales manager", "it says so then, too")
			}
			before.requireAway(t, conn, customers, users)
			require.Equal(t, count, value[int64](t, conn, "SELECT count(*) FROM customer"), "leads of ours stay")
		})
	}
}

// beforeRows reads the original tables' rows that the migration has no business
// with, such as messages, for unchanged to compare; customers and users are
// compared with a memory.
func beforeRows(t *testing.T, conn *pgx.Conn, m memory) map[string][]string {
	t.Helper()
	rows := original(t, conn, m.columns)
	delete(rows, "customer")
	delete(rows, "user")
	return rows
}

// workFor is a day's work over HTTP. It returns whom it was about.
func workFor(t *testing.T, url string, conn *pgx.Conn, older olderDatabase) (customers, users []int64) {
	t.Helper()
	p := launch(t, url)
	defer p.stop()
	ceo := p.as(older.ceo)
	leads := ceo.leads()
	require.Len(t, leads, int(value[int64](t, conn, "SELECT count(*) FROM customer")))
	seen := map[any]bool{}
	for _, lead := range leads {
		require.False(t, seen[lead["id"]], "twice in the list: %v", lead)
		seen[lead["id"]] = true
	}
	require.GreaterOrEqual(t, len(ceo.list("/management/statuses")), 6)
	require.GreaterOrEqual(t, len(ceo.list("/management/roles")), 5)
	require.NotEmpty(t, ceo.get("/management/users?limit=200")["items"])
	require.EqualValues(t, 100, ceo.get("/crm/conversion-rate")["total_customers"])
	if !older.names {
		ceo.hire("Aziza", "Bekzod")
	}
	for _, user := range ceo.get("/management/users?limit=200")["items"].([]any) {
		if email := user.(map[string]any)["email"]; email == "aziza@example.com" || email == "bekzod@example.com" {
			users = append(users, number(user, "id"))
		}
	}
	ceo.post("/management/statuses", map[string]any{"name": "Trial", "display_name": "Trial"})

	for _, status := range []string{"contacted", "rejected", "trial"} {
		lead := ceo.post("/crm/customers", map[string]any{"full_name": "New", "phone_number": "+998901112233", "status_name": status})
		require.NotNil(t, lead["sales_manager"])
		customers = append(customers, number(lead, "id"))
	}
	managers := ceo.list("/crm/sales-managers")
	require.GreaterOrEqual(t, len(managers), 2)
	for i, status := range []string{"project_started", "trial"} {
		id := value[int64](t, conn, "SELECT max(id) FROM customer WHERE status_name = 'contacted' AND id <= 600 AND id <> ALL ($1)", append(customers, 0))
		ceo.call(http.StatusOK, "PUT", fmt.Sprintf("/crm/customers/%d/status", id), map[string]any{"status_name": status, "reason": "they said so"})
		owner := number(managers[i], "id")
		ceo.post("/crm/assign-sales-manager", map[string]any{"customer_id": id, "sales_manager_id": owner})
		customers = append(customers, id)
		events := history(ceo, id)
		require.Equal(t, "migrated", events[0]["cause"])
		require.Equal(t, "contacted", events[0]["to"])
		require.Nil(t, events[0]["from"])
		require.Nil(t, events[0]["by"])
		changed := event(events, "status", status)
		require.Equal(t, "manual", changed["cause"])
		require.NotNil(t, changed["by"])
		require.Equal(t, owner, number(ceo.get(fmt.Sprintf("/crm/customers/%d", id))["sales_manager"], "id"))
	}
	ceo.call(http.StatusOK, "PUT", fmt.Sprintf("/crm/sales-managers/%d", number(managers[0], "id")), map[string]any{"weight": 2})
	return customers, users
}

func number(of any, field string) int64 { return int64(of.(map[string]any)[field].(float64)) }

func history(c client, lead int64) []map[string]any {
	c.p.t.Helper()
	var events []map[string]any
	for _, item := range c.get(fmt.Sprintf("/crm/customers/%d/history?limit=200", lead))["items"].([]any) {
		events = append(events, item.(map[string]any))
	}
	return events
}

// event is the last of a kind that ended so, or an empty one.
func event(events []map[string]any, kind string, to any) map[string]any {
	for _, e := range slices.Backward(events) {
		if e["kind"] == kind && (e["to"] == to || fmt.Sprint(e["to"]) == fmt.Sprint(to)) {
			return e
		}
	}
	return map[string]any{}
}

// ------------------------------------------------------------------ verification

// fault is a line of a report that says what is wrong.
var fault = regexp.MustCompile(`(?m)^WRONG .*$`)

func faultsOf(t *testing.T, url string, args ...string) string {
	t.Helper()
	stdout, stderr, code := runMigrate(t, url, append([]string{"verify"}, args...)...)
	found := strings.Join(fault.FindAllString(stdout, -1), "\n")
	require.Equal(t, found != "", code == 1, "exit code %d\n%s\n%s", code, stdout, stderr)
	return found
}

func TestVerifyFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	anySession := func(statement string) string {
		return "SET session_replication_role = replica; " + statement + "; RESET session_replication_role"
	}
	for name, test := range map[string]struct {
		spoil string
		says  string
		// others: the older program may do it while both are at work.
		others bool
	}{
		"a customer deleted":            {"DELETE FROM customer WHERE id = 7", `\bcustomer`, true},
		"a phone number changed":        {"UPDATE customer SET phone_number = '+1' WHERE id = 7", `\bcustomer`, true},
		"a time changed":                {"UPDATE customer SET created_at = created_at + INTERVAL '1 microsecond' WHERE id = 7", `\bcustomer`, true},
		"a note gone":                   {"UPDATE customer SET notes = NULL WHERE id = 3", `\bcustomer`, true},
		"a user's name changed":         {`UPDATE "user" SET name = 'X' WHERE id = 12`, `\buser`, true},
		"a customer deleted unnoticed":  {anySession("DELETE FROM customer WHERE id = 7"), `\bcustomer`, false},
		"a history row deleted":         {"DELETE FROM customer_status_history WHERE customer_id = 7", "history", false},
		"a history row changed":         {"UPDATE customer_status_history SET to_status = 'on_hold' WHERE customer_id = 7", "history", false},
		"a count changed":               {"UPDATE sales_manager_rotation SET assigned_leads_count = assigned_leads_count + 1 WHERE sales_manager_id = 4", "(?i)number|count", false},
		"an unassigned lead forgotten":  {"DELETE FROM cims_unassigned WHERE customer_id = (SELECT min(customer_id) FROM cims_unassigned)", "(?i)unassigned|without", false},
		"an assigned lead listed":       {"INSERT INTO cims_unassigned (customer_id, customer_created_at, waiting) SELECT id, created_at AT TIME ZONE 'UTC', FALSE FROM customer WHERE id = 1", "(?i)unassigned|without", false},
		"a status that is no entry":     {anySession("UPDATE customer SET status_name = 'nonsense' WHERE id = 7"), "nonsense|(?i)status", false},
		"no status":                     {anySession("UPDATE customer SET status_name = NULL WHERE id = 7"), "(?i)status", false},
		"a role that is no entry":       {anySession(`UPDATE "user" SET role_name = 'nonsense' WHERE id = 12`), "nonsense|(?i)role", false},
		"an assignment gone unnoticed":  {anySession("DELETE FROM sales_manager_assignment WHERE customer_id = 1"), "(?i)assignment|count|unassigned", false},
		"a table of ours gone":          {"DROP TABLE assignment_history", "assignment_history", false},
		"a column of theirs gone":       {"ALTER TABLE customer DROP COLUMN notes", `customer\.notes`, false},
		"a column of ours gone":         {"ALTER TABLE customer DROP COLUMN cims_version CASCADE", `column customer\.cims_version`, false},
		"a column of our table gone":    {"ALTER TABLE cims_unassigned DROP COLUMN due_at", `column cims_unassigned\.due_at`, false},
		"a column added to theirs gone": {"ALTER TABLE sales_manager_counter DROP COLUMN turn", `column sales_manager_counter\.turn`, false},
		"a trigger's function replaced": {"CREATE OR REPLACE FUNCTION cims_status_changed() RETURNS TRIGGER LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'", "function cims_status_changed", false},
		"a function with less rights":   {"ALTER FUNCTION cims_status_changed() SECURITY INVOKER", "function cims_status_changed", false},
		"the counter gone":              {"DELETE FROM sales_manager_counter", "sales_manager_counter is empty", false},
		"a CEO without permissions":     {"UPDATE user_role SET permissions = '' WHERE name = 'ceo'", "the CEO's permission users:write", false},
		"a CEO without one":             {"UPDATE user_role SET permissions = replace(permissions, ' leads:write ', ' ') WHERE name = 'ceo'", "the CEO's permission leads:write$", false},
		"a system status that is none":  {"UPDATE customer_status SET is_system = FALSE WHERE name = 'finished'", "the status finished", false},
		"a system role that is gone":    {anySession("DELETE FROM user_role WHERE name = 'sales_manager'"), "the role sales_manager", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, _ := deployed(0).load(t)
			migrated(t, url, "up")
			require.Empty(t, faultsOf(t, url))
			pgtest.Execute(t, url, test.spoil)
			require.Regexp(t, test.says, faultsOf(t, url))
			if test.others {
				require.Empty(t, faultsOf(t, url, "-while-running"))
				require.Contains(t, migrated(t, url, "verify", "-while-running"), "\nnote ")
			} else {
				require.Regexp(t, test.says, faultsOf(t, url, "-while-running"))
			}
		})
	}
}

// addedQuery lists the indexes, keys and triggers of a schema: their names, and
// how to take away or switch off each, and to put it back.
const addedQuery = `
	SELECT 'index ' || c.relname AS name, format('DROP INDEX %I', c.relname) AS spoil, pg_get_indexdef(i.indexrelid) AS mend
	FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
	WHERE c.relnamespace = to_regnamespace(current_schema()) AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = i.indexrelid)
	UNION ALL SELECT 'constraint ' || conname, format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname),
		format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
	FROM pg_constraint AS k WHERE connamespace = to_regnamespace(current_schema())
	AND (contype = 'f' OR contype = 'u' AND NOT EXISTS (SELECT 1 FROM pg_constraint AS f WHERE f.contype = 'f' AND f.conindid = k.conindid))
	UNION ALL SELECT 'trigger ' || t.tgname, format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass), pg_get_triggerdef(t.oid)
	FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid WHERE c.relnamespace = to_regnamespace(current_schema()) AND NOT t.tgisinternal
	UNION ALL SELECT 'disabled trigger ' || t.tgname, format('ALTER TABLE %s DISABLE TRIGGER %I', t.tgrelid::regclass, t.tgname), format('ALTER TABLE %s ENABLE TRIGGER %I', t.tgrelid::regclass, t.tgname)
	FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid WHERE c.relnamespace = to_regnamespace(current_schema()) AND NOT t.tgisinternal`

type part struct{ Name, Spoil, Mend string }

func parts(t *testing.T, conn *pgx.Conn) []part {
	t.Helper()
	rows, err := conn.Query(context.Background(), addedQuery)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[part])
	require.NoError(t, err)
	return list
}

// TestVerifyMissesNoPart takes away each index, key and trigger that was added,
// one at a time, and puts it back.
func TestVerifyMissesNoPart(t *testing.T) {
	t.Parallel()
	kinds := olderDatabases[:1]
	if full() {
		kinds = olderDatabases[:2]
	}
	for _, older := range kinds {
		t.Run(older.name, func(t *testing.T) {
			t.Parallel()
			url, _ := older.load(t)
			conn := connect(t, url)
			before := parts(t, conn)
			migrated(t, url, "up")
			added := slices.DeleteFunc(parts(t, conn), func(p part) bool {
				return slices.ContainsFunc(before, func(b part) bool { return b.Name == p.Name })
			})
			kinds := map[string]int{}
			var missed []string
			for _, p := range added {
				words := strings.Fields(p.Name)
				kinds[words[0]]++
				pgtest.Execute(t, url, p.Spoil)
				if !strings.Contains(faultsOf(t, url, "-while-running"), words[len(words)-1]) {
					missed = append(missed, p.Spoil)
				}
				pgtest.Execute(t, url, p.Mend)
			}
			require.Empty(t, missed, "nobody noticed")
			require.Empty(t, faultsOf(t, url))
			require.Greater(t, kinds["index"], 3)
			require.GreaterOrEqual(t, kinds["constraint"], 2)
			require.Greater(t, kinds["trigger"], 2)
			require.Equal(t, kinds["trigger"], kinds["disabled"])
		})
	}
}

// ---------------------------------------------------------------------- plain SQL

// TestPlainSQL is the way of a database administrator who lets no program of
// others change a database.
func TestPlainSQL(t *testing.T) {
	t.Parallel()
	for _, older := range olderDatabases {
		t.Run(older.name, func(t *testing.T) {
			t.Parallel()
			url := ownDatabase(t)
			older.fill(t, url)
			conn := connect(t, url)
			psql := postgresProgram(t, conn, "psql")
			if psql == "" {
				t.Skip("NOT RUN: there is no psql")
			}
			before, beforePicture := remember(t, conn), takePicture(t, conn)
			script := migrated(t, url, "sql")
			beforePicture.requireSame(t, takePicture(t, conn), "printing changes nothing")
			require.NotContains(t, script, pgx.Identifier{value[string](t, conn, "SELECT current_schema()")}.Sanitize(), "it is not for one schema")
			run := exec.CommandContext(t.Context(), psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", forLibpq(t, url)) //nolint:gosec // psql
			run.Stdin = strings.NewReader(script)
			out, err := run.CombinedOutput()
			require.NoError(t, err, "%s", out)

			require.Contains(t, migrated(t, url, "plan"), nothingLeft)
			there := takePicture(t, conn)
			migrated(t, url, "up")
			there.requireSame(t, takePicture(t, conn), "up finds nothing to do")
			migrated(t, url, "verify")
			before.requireOriginal(t, conn, nil, nil)
			before.requireNames(t, conn)
			before.requireConsistent(t, conn)

			other := ownDatabase(t)
			older.fill(t, other)
			migrated(t, other, "up")
			there.requireSame(t, takePicture(t, connect(t, other)), "by psql, and by up")

			migrated(t, url, "rollback")
			beforePicture.requireSame(t, takePicture(t, conn), "all is as it was")
		})
	}
}

// ----------------------------------------------------------------------- the way back

// TestRollbackListsWhatHasNoForm: a lead in a status, a user in a role, where the
// older program has enums only.
func TestRollbackListsWhatHasNoForm(t *testing.T) {
	t.Parallel()
	older := olderDatabases[1]
	url, _ := older.load(t)
	conn := connect(t, url)
	migrated(t, url, "up")
	p := launch(t, url)
	ceo := p.as(older.ceo)
	ceo.post("/management/roles", map[string]any{"name": "night_shift", "display_name": "Night shift"})
	ceo.post("/management/statuses", map[string]any{"name": "asleep", "display_name": "Asleep"})
	user := ceo.post("/management/users", map[string]any{"email": "n@example.com", "name": "N", "surname": "N", "role_name": "night_shift"})
	require.Contains(t, refused(t, url, "rollback"), "night_shift")

	ceo.call(http.StatusOK, "PUT", fmt.Sprintf("/management/users/%d", number(user, "id")), map[string]any{"role_name": "member"})
	lead := ceo.post("/crm/customers", map[string]any{"full_name": "New", "status_name": "asleep"})
	says := refused(t, url, "rollback")
	require.Contains(t, says, "asleep")
	require.NotContains(t, says, "night_shift")

	ceo.call(http.StatusOK, "PUT", fmt.Sprintf("/crm/customers/%d/status", number(lead, "id")), map[string]any{"status_name": "finished"})
	p.stop()
	migrated(t, url, "rollback")
	require.Equal(t, "finished", value[string](t, conn, "SELECT CAST(status AS TEXT) FROM customer WHERE id = $1", number(lead, "id")))
	require.Equal(t, "member", value[string](t, conn, `SELECT CAST(role AS TEXT) FROM "user" WHERE id = $1`, number(user, "id")))
}

// TestTurnsGoOnAcrossProgramsBothWays hands the rotation to and fro: over all
// leads, whichever program assigned them, it stays one strict rotation.
func TestTurnsGoOnAcrossProgramsBothWays(t *testing.T) {
	t.Parallel()
	older := deployed(0)
	url, _ := older.load(t)
	conn := connect(t, url)
	program := startOlder(t, url)
	var owners []int64
	for round := range 4 {
		migrated(t, url, "up")
		manager, err := program.nextManager() // the older program goes on until cims takes a turn
		require.NoError(t, err)
		owners = append(owners, manager)
		want := int64(value[int32](t, conn, nextOfOlder))
		p := launch(t, url)
		ceo := p.as(older.ceo)
		for i := range round + 1 {
			owner := number(ceo.post("/crm/customers", map[string]any{"full_name": "New"})["sales_manager"], "id")
			if i == 0 {
				require.Equal(t, want, owner, "it goes on where the older program stood")
			}
			owners = append(owners, owner)
		}
		p.stop()
		migrated(t, url, "rollback")
		for range 2 {
			manager, err := program.nextManager()
			require.NoError(t, err)
			owners = append(owners, manager)
		}
	}
	pool := texts(t, conn, `SELECT id::text FROM "user" WHERE role = 'sales_manager' AND is_active ORDER BY id`)
	require.Len(t, pool, 6)
	first := slices.Index(pool, fmt.Sprint(owners[0]))
	for i, owner := range owners {
		require.Equal(t, pool[(first+i)%len(pool)], fmt.Sprint(owner), "%v, of %v", owners, pool)
	}
}

// TestRollbackOfNothing: there is nothing to take away, and nothing happens.
func TestRollbackOfNothing(t *testing.T) {
	t.Parallel()
	for _, older := range olderDatabases[:2] {
		t.Run(older.name, func(t *testing.T) {
			t.Parallel()
			url, _ := older.load(t)
			conn := connect(t, url)
			before := takePicture(t, conn)
			require.Equal(t, "Nothing of cims is here to be taken away.\n", migrated(t, url, "rollback"))
			before.requireSame(t, takePicture(t, conn), "a rollback of nothing")
		})
	}
}

// TestMigrateUsesTheServersDatabase: where none is named, it is the environment's,
// as it is for the server.
func TestMigrateUsesTheServersDatabase(t *testing.T) {
	t.Parallel()
	url, _ := deployed(0).load(t)
	for _, args := range [][]string{{"plan"}, {"up"}, {"verify"}, {"rollback"}} {
		stdout, stderr, err := command(t, t.TempDir(), []string{"CIMS_DATABASE_URL=" + url}, append([]string{"migrate"}, args...)...)
		require.NoError(t, err, stderr)
		require.NotEmpty(t, stdout)
	}
	require.Contains(t, refused(t, url, "verify"), "8 steps are left to do: migrate up does them")
}

// TestTheServerSaysThatItMigrates somebody else's tables, the first time.
func TestTheServerSaysThatItMigrates(t *testing.T) {
	t.Parallel()
	url, _ := deployed(0).load(t)
	const says = `msg=migrating database="the older program's database, migrated by itself" steps=8`
	first := launch(t, url)
	first.stop()
	require.Contains(t, first.stderr.String(), says)
	second := launch(t, url)
	second.stop()
	require.NotContains(t, second.stderr.String(), "msg=migrating")
	empty := launch(t, sqliteFile(t))
	empty.stop()
	require.NotContains(t, empty.stderr.String(), "msg=migrating")
}

// TestWaitingIsSaid: somebody holds a lock for longer than one likes to look at nothing.
func TestWaitingIsSaid(t *testing.T) {
	t.Parallel()
	url, _ := deployed(0).load(t)
	conn := connect(t, url)
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE customer IN ROW EXCLUSIVE MODE")
	require.NoError(t, err)
	var said lockedBuffer
	cmd := exec.Command(binary, "migrate", "up", "-db", url) //nolint:gosec,noctx // our own binary; waited for
	cmd.Env, cmd.Stderr = cleanEnv(), &said
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { return strings.Contains(said.String(), "still waiting after ") }, time.Minute, 10*time.Millisecond)
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, cmd.Wait())
}
