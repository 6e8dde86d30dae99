package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// --------------------------------------------------------------- the command

// runMigrate runs server migrate as a process.
func runMigrate(t *testing.T, url string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	stdout, stderr, err := command(t, t.TempDir(), nil, append(append([]string{"migrate"}, args...), "-db", url)...)
	if exit, ended := errors.AsType[*exec.ExitError](err); ended {
		require.NotEqual(t, -1, exit.ExitCode(), "killed: %v", err)
		return stdout, stderr, exit.ExitCode()
	}
	require.NoError(t, err)
	return stdout, stderr, 0
}

// migrated runs it, expects it to end well, and returns what it printed.
func migrated(t *testing.T, url string, args ...string) string {
	t.Helper()
	stdout, stderr, code := runMigrate(t, url, args...)
	require.Zero(t, code, "migrate %v\n%s\n%s", args, stdout, stderr)
	return stdout
}

// refused expects it to exit with 1.
func refused(t *testing.T, url string, args ...string) string {
	t.Helper()
	stdout, stderr, code := runMigrate(t, url, args...)
	require.Equal(t, 1, code, "migrate %v\n%s\n%s", args, stdout, stderr)
	return stdout + stderr
}

// nothingLeft is what a plan says where all is done.
const nothingLeft = "Nothing is left to do."

// withOptions adds a setting to all sessions of a URL.
func withOptions(t *testing.T, target, options string) string {
	t.Helper()
	parsed, err := url.Parse(target)
	require.NoError(t, err)
	query := parsed.Query()
	query.Set("options", strings.TrimSpace(query.Get("options")+" "+options))
	parsed.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // libpq reads no + as a space
	return parsed.String()
}

// forLibpq is the same URL for psql and pg_dump, which know no search_path.
func forLibpq(t *testing.T, target string) string {
	t.Helper()
	parsed, err := url.Parse(target)
	require.NoError(t, err)
	query := parsed.Query()
	schema := query.Get("search_path")
	if schema == "" {
		return target
	}
	query.Del("search_path")
	parsed.RawQuery = query.Encode()
	if schema == "" { // a database of its own
		return parsed.String()
	}
	return withOptions(t, parsed.String(), "-csearch_path="+schema)
}

// ------------------------------------------------------ PostgreSQL's programs

// postgresProgram is the path of psql or pg_dump: the newest of those on the
// PATH and where packages hide them. Without one that is as new as the server
// it is empty, and said so.
func postgresProgram(t *testing.T, conn *pgx.Conn, name string) string {
	t.Helper()
	var paths []string
	if path, err := exec.LookPath(name); err == nil {
		paths = append(paths, path)
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin/", "/usr/pgsql-*/bin/", "/opt/homebrew/opt/postgresql*/bin/", "/usr/local/opt/postgresql*/bin/"} {
		found, err := filepath.Glob(pattern + name)
		require.NoError(t, err)
		paths = append(paths, found...)
	}
	server := value[int](t, conn, "SELECT CAST(current_setting('server_version_num') AS INTEGER) / 10000")
	for _, path := range paths {
		out, err := exec.CommandContext(t.Context(), path, "--version").Output() //nolint:gosec // found above
		version := regexp.MustCompile(`\) (\d+)`).FindSubmatch(out)
		if err != nil || version == nil {
			continue
		}
		if major, err := strconv.Atoi(string(version[1])); err == nil && major >= server {
			return path
		}
	}
	t.Logf("NOT COMPARED BY %s: there is none of version %d or newer", name, server)
	return ""
}

// dump is the whole schema as pg_dump writes it: structure and contents, or ""
// where there is no pg_dump. Rows are sorted, for an update moves them, and the
// numbers that sequences have given out are left out: no rollback takes them back.
func dump(t *testing.T, conn *pgx.Conn, target string) string {
	t.Helper()
	program := postgresProgram(t, conn, "pg_dump")
	if program == "" {
		return ""
	}
	schema := value[string](t, conn, "SELECT current_schema()")
	out, err := exec.CommandContext(t.Context(), program, "--schema="+schema, forLibpq(t, target)).Output() //nolint:gosec // ours
	if exit, ended := errors.AsType[*exec.ExitError](err); ended {
		require.NoError(t, err, "%s", exit.Stderr)
	}
	require.NoError(t, err)
	var lines, rows []string
	inCopy := false
	for line := range strings.Lines(string(out)) {
		switch {
		case inCopy && line == "\\.\n":
			slices.Sort(rows)
			lines, rows, inCopy = append(append(lines, rows...), line), nil, false
		case inCopy:
			rows = append(rows, line)
		case strings.HasPrefix(line, "--"), strings.TrimSpace(line) == "", strings.HasPrefix(line, `\restrict`), strings.HasPrefix(line, `\unrestrict`),
			strings.HasPrefix(line, "SELECT pg_catalog.setval("):
		default:
			lines = append(lines, line)
			inCopy = strings.HasPrefix(line, "COPY ")
		}
	}
	require.Greater(t, len(lines), 50, "that is no dump: %s", out)
	return strings.Join(lines, "")
}

// requireSameDump says which lines are different.
func requireSameDump(t *testing.T, before, after, why string) {
	t.Helper()
	if before == after {
		return
	}
	gone, come := difference(strings.Split(before, "\n"), strings.Split(after, "\n"))
	require.Fail(t, why, "gone:\n%s\ncome:\n%s", strings.Join(gone, "\n"), strings.Join(come, "\n"))
}

// difference is what only one of two lists has, the first few of each.
func difference(before, after []string) (gone, come []string) {
	counts := map[string]int{}
	for _, line := range before {
		counts[line]++
	}
	for _, line := range after {
		if counts[line]--; counts[line] < 0 {
			come = append(come, line)
		}
	}
	for _, line := range before {
		if counts[line] > 0 {
			gone = append(gone, line)
			counts[line]--
		}
	}
	const few = 20
	return gone[:min(few, len(gone))], come[:min(few, len(come))]
}

// ------------------------------------------------------------ all that is there

// picture is a database with all that is in it, in a form that is the same for
// two databases that went the same way: times of today are left out, ids that
// nothing refers to, and how often the rotation's lock was taken.
type picture struct {
	structure []string
	contents  map[string][]string
}

const structureQuery = `
	SELECT 'column ' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
		|| COALESCE(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '') || CAST(a.attidentity AS TEXT)
	FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
	LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
	WHERE c.relnamespace = to_regnamespace(current_schema()) AND c.relkind IN ('r', 'v', 'm', 'p')
	UNION ALL SELECT 'index ' || pg_get_indexdef(i.indexrelid) || CASE WHEN i.indisvalid AND i.indisready THEN '' ELSE ' INVALID' END
	FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid WHERE c.relnamespace = to_regnamespace(current_schema())
	UNION ALL SELECT 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
	FROM pg_constraint WHERE connamespace = to_regnamespace(current_schema())
	UNION ALL SELECT 'trigger ' || pg_get_triggerdef(t.oid) || ' ' || CAST(t.tgenabled AS TEXT) FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
	WHERE c.relnamespace = to_regnamespace(current_schema()) AND NOT t.tgisinternal
	UNION ALL SELECT 'function ' || pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = to_regnamespace(current_schema())
	UNION ALL SELECT 'sequence ' || c.relname FROM pg_class AS c WHERE c.relkind = 'S' AND c.relnamespace = to_regnamespace(current_schema())
	UNION ALL SELECT 'type ' || t.typname || COALESCE((SELECT ' ' || string_agg(e.enumlabel, ' ' ORDER BY e.enumsortorder) FROM pg_enum AS e WHERE e.enumtypid = t.oid), '')
	FROM pg_type AS t WHERE t.typnamespace = to_regnamespace(current_schema())
	ORDER BY 1`

func takePicture(t *testing.T, conn *pgx.Conn) picture {
	t.Helper()
	schema := value[string](t, conn, "SELECT current_schema()")
	p := picture{contents: map[string][]string{}}
	for _, line := range texts(t, conn, structureQuery) {
		p.structure = append(p.structure, strings.ReplaceAll(line, schema, "SCHEMA"))
	}
	for _, table := range texts(t, conn, "SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'") {
		columns := texts(t, conn, `SELECT CASE WHEN data_type LIKE 'timestamp%' THEN
				format('CASE WHEN %1$I > now() - INTERVAL ''1 day'' THEN ''now'' ELSE CAST(%1$I AS TEXT) END', column_name)
			WHEN table_name = 'cims_added' AND column_name = 'name' THEN 'CASE WHEN kind <> ''row'' THEN name END'
			ELSE quote_ident(column_name) END
			FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = $1
			AND (column_name <> 'id' OR table_name IN ('customer', 'user'))
			AND (column_name <> 'version' OR table_name <> 'sales_manager_counter') ORDER BY column_name`, table)
		if len(columns) == 0 {
			continue
		}
		p.contents[table] = texts(t, conn, fmt.Sprintf("SELECT CAST(ROW(%s) AS TEXT) FROM %q ORDER BY 1", strings.Join(columns, ", "), table))
	}
	return p
}

func (p picture) requireSame(t *testing.T, other picture, why string) {
	t.Helper()
	requireSameDump(t, strings.Join(p.structure, "\n"), strings.Join(other.structure, "\n"), why)
	for table := range p.contents {
		require.Contains(t, other.contents, table, why)
	}
	for table := range other.contents {
		require.Contains(t, p.contents, table, why)
		gone, come := difference(p.contents[table], other.contents[table])
		require.Empty(t, append(gone, come...), "%s: %s: of the first %q, of the other %q", why, table, gone, come)
	}
}

func texts(t *testing.T, conn rower, query string, args ...any) []string {
	t.Helper()
	rows, err := conn.Query(context.Background(), query, args...)
	require.NoError(t, err, query)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err, query)
	return list
}

// ------------------------------------------------------------------- the checker

// memory is a schema that keeps what a database was, for the checker.
type memory struct {
	schema    string
	columns   map[string][]string // of the original tables
	structure []string
}

// remember copies what the checker compares with.
func remember(t *testing.T, conn *pgx.Conn) memory {
	t.Helper()
	m := memory{schema: "before_" + uuid.NewString()[:13], columns: originalColumns(t, conn)}
	_, err := conn.Exec(context.Background(), fmt.Sprintf("CREATE SCHEMA %q", m.schema))
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := conn.Exec(context.Background(), fmt.Sprintf("DROP SCHEMA %q CASCADE", m.schema))
		require.NoError(t, err)
	})
	status, role := "CAST(NULL AS TEXT)", "CAST(NULL AS TEXT)"
	if value[bool](t, conn, "SELECT to_regclass('sales_manager_assignment') IS NOT NULL") {
		status, role = "status_name", "role_name"
	}
	for _, statement := range []string{
		fmt.Sprintf("CREATE TABLE %q.customer AS SELECT id, %s AS name, CAST(ROW(%s) AS TEXT) AS original FROM customer", m.schema, status, strings.Join(m.columns["customer"], ", ")),
		fmt.Sprintf(`CREATE TABLE %q."user" AS SELECT id, %s AS name, CAST(ROW(%s) AS TEXT) AS original FROM "user"`, m.schema, role, strings.Join(m.columns["user"], ", ")),
		fmt.Sprintf("ALTER TABLE %q.customer ADD PRIMARY KEY (id)", m.schema),
	} {
		_, err := conn.Exec(context.Background(), statement)
		require.NoError(t, err)
	}
	m.structure = texts(t, conn, structureQuery)
	return m
}

// normal is the one form of a name, and NULL where it says nothing.
func normal(expression string) string {
	return "NULLIF(left(replace(lower(btrim(" + expression + ")), ' ', '_'), 100), '')"
}

// complaint is a query for rows that should not be; $BEFORE is the schema of a
// memory.
type complaint struct{ what, query string }

var complaints = []complaint{
	{"customers in a status that is no entry", `SELECT c.id || ' ' || COALESCE(c.status_name, 'NULL') FROM customer AS c
		WHERE NOT EXISTS (SELECT 1 FROM customer_status AS s WHERE s.name = c.status_name)`},
	{"users in a role that is no entry", `SELECT u.id || ' ' || u.role_name FROM "user" AS u
		WHERE u.role_name IS NOT NULL AND NOT EXISTS (SELECT 1 FROM user_role AS r WHERE r.name = u.role_name)`},
	{"customers whose status is neither their enum's nor what their name said before", `
		SELECT c.id || ': ' || c.status || ' is ' || c.status_name || ', was ' || COALESCE(b.name, 'NULL') FROM customer AS c
		LEFT JOIN $BEFORE.customer AS b ON b.id = c.id
		WHERE c.status_name <> ` + normal("c.status::text") + ` AND c.status_name IS DISTINCT FROM ` + normal("b.name") + `
		AND c.status_name IN (SELECT ` + normal("e::text") + ` FROM unnest(enum_range(NULL::customerstatus)) AS e)`},
	{"users whose role is neither their enum's nor what their name said before", `
		SELECT u.id || ': ' || COALESCE(u.role::text, 'NULL') || ' is ' || COALESCE(u.role_name, 'NULL') FROM "user" AS u
		LEFT JOIN $BEFORE."user" AS b ON b.id = u.id
		WHERE u.role_name IS DISTINCT FROM ` + normal("u.role::text") + ` AND u.role_name IS DISTINCT FROM ` + normal("b.name") + `
		AND u.role_name IN (SELECT ` + normal("e::text") + ` FROM unnest(enum_range(NULL::userrole)) AS e)`},
	{"managers whose count of leads is wrong", `SELECT COALESCE(r.sales_manager_id, a.sales_manager_id) || ': ' || COALESCE(r.assigned_leads_count, 0) || ', not ' || COALESCE(a.leads, 0)
		FROM sales_manager_rotation AS r FULL JOIN (
			SELECT sales_manager_id, count(*) AS leads FROM sales_manager_assignment WHERE is_active GROUP BY sales_manager_id
		) AS a ON a.sales_manager_id = r.sales_manager_id
		WHERE COALESCE(r.assigned_leads_count, 0) <> COALESCE(a.leads, 0)`},
	{"customers that are unassigned but not listed, or the other way round", `SELECT COALESCE(w.customer_id, c.id)::text FROM cims_unassigned AS w FULL JOIN (
			SELECT id FROM customer WHERE NOT EXISTS (SELECT 1 FROM sales_manager_assignment AS a WHERE a.customer_id = customer.id AND a.is_active)
		) AS c ON c.id = w.customer_id WHERE w.customer_id IS NULL OR c.id IS NULL`},
	{"copies of created_at that are wrong", `SELECT c.id::text FROM customer AS c
		LEFT JOIN cims_unassigned AS w ON w.customer_id = c.id
		LEFT JOIN sales_manager_assignment AS a ON a.customer_id = c.id AND a.is_active
		WHERE COALESCE(w.customer_created_at, a.customer_created_at) IS DISTINCT FROM c.created_at AT TIME ZONE 'UTC'`},
	{"customers whose history does not begin once, as it may", `SELECT c.id || ': ' || count(h.customer_id) || ' ' || COALESCE(string_agg(h.cause, ' '), '')
		FROM customer AS c LEFT JOIN customer_status_history AS h ON h.customer_id = c.id AND h.from_status IS NULL
		GROUP BY c.id HAVING count(h.customer_id) <> 1 OR bool_and(h.cause IN ('migrated', 'created', 'external')) IS NOT TRUE`},
	{"customers that were there before and whose history does not begin with that", `SELECT b.id || ' ' || h.cause
		FROM $BEFORE.customer AS b JOIN customer_status_history AS h ON h.customer_id = b.id AND h.from_status IS NULL AND h.cause <> 'migrated'`},
	{"histories in which a change does not begin where the one before ended", `SELECT customer_id || ': ' || COALESCE(from_status, 'NULL') || ' after ' || COALESCE(before, 'NULL') FROM (
			SELECT *, lag(to_status) OVER (PARTITION BY customer_id ORDER BY changed_at, id) AS before FROM customer_status_history
		) AS h WHERE from_status IS DISTINCT FROM before`},
	{"changes to the same", "SELECT customer_id || ' ' || to_status FROM customer_status_history WHERE from_status = to_status"},
	{"customers whose history ends elsewhere", `SELECT c.id || ' ' || c.status_name || ' ' || COALESCE(h.to_status, 'NULL') FROM customer AS c LEFT JOIN (
			SELECT DISTINCT ON (customer_id) customer_id, to_status FROM customer_status_history ORDER BY customer_id, changed_at DESC, id DESC
		) AS h ON h.customer_id = c.id WHERE h.to_status IS DISTINCT FROM c.status_name`},
	{"changes of the older program that have an actor", "SELECT customer_id::text FROM customer_status_history WHERE cause IN ('external', 'migrated') AND changed_by IS NOT NULL"},
	{"assignments whose history does not begin where the one before ended", `SELECT customer_id || ': ' || COALESCE(from_manager_id::text, 'NULL') || ' after ' || COALESCE(before::text, 'NULL') FROM (
			SELECT *, lag(to_manager_id) OVER customers AS before, row_number() OVER customers AS place FROM assignment_history
			WINDOW customers AS (PARTITION BY customer_id ORDER BY changed_at, id)
		) AS h WHERE place > 1 AND from_manager_id IS DISTINCT FROM before`},
	{"customers whose history of managers ends with another", `SELECT c.id || ': ' || COALESCE(h.to_manager_id::text, 'NULL') || ', not ' || COALESCE(a.sales_manager_id::text, 'NULL') FROM customer AS c JOIN (
			SELECT DISTINCT ON (customer_id) customer_id, to_manager_id FROM assignment_history ORDER BY customer_id, changed_at DESC, id DESC
		) AS h ON h.customer_id = c.id LEFT JOIN sales_manager_assignment AS a ON a.customer_id = c.id AND a.is_active
		WHERE h.to_manager_id IS DISTINCT FROM a.sales_manager_id`},
	{"indexes that are invalid", `SELECT i.indexrelid::regclass::text FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
		WHERE c.relnamespace = to_regnamespace(current_schema()) AND NOT (i.indisvalid AND i.indisready)`},
	{"constraints that are not validated", "SELECT conname::text FROM pg_constraint WHERE connamespace = to_regnamespace(current_schema()) AND NOT convalidated"},
}

// rower is a connection or a transaction.
type rower interface {
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
}

// check looks at a database that was migrated, in SQL and with nothing of the
// library, and returns what is wrong.
func (m memory) check(t *testing.T, conn rower) (wrong []string) {
	t.Helper()
	for _, c := range complaints {
		query := strings.ReplaceAll(c.query, "$BEFORE", fmt.Sprintf("%q", m.schema))
		rows := texts(t, conn, "SELECT * FROM ("+query+") AS complaints LIMIT 20")
		if len(rows) > 0 {
			wrong = append(wrong, c.what+": "+strings.Join(rows, ", "))
		}
	}
	return wrong
}

func (m memory) requireConsistent(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	require.Empty(t, m.check(t, conn))
}

// TestTheCheckerFindsWhatIsWrong: each of its complaints is made about something.
func TestTheCheckerFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	url, _ := deployed(0).load(t)
	conn := connect(t, url)
	before := remember(t, conn)
	migrated(t, url, "up")
	before.requireConsistent(t, conn)
	made := map[string]bool{}
	for _, spoil := range []string{
		"UPDATE customer SET status_name = 'nonsense' WHERE id = 1",
		`UPDATE "user" SET role_name = 'nonsense' WHERE id = 1`,
		"UPDATE customer SET status_name = CASE status_name WHEN 'finished' THEN 'rejected' ELSE 'finished' END WHERE id = 1",
		`UPDATE "user" SET role_name = 'customer' WHERE id = 1`,
		"UPDATE sales_manager_rotation SET assigned_leads_count = assigned_leads_count + 1 WHERE sales_manager_id = 4",
		"DELETE FROM cims_unassigned WHERE customer_id = (SELECT min(customer_id) FROM cims_unassigned)",
		"UPDATE sales_manager_assignment SET customer_created_at = customer_created_at + INTERVAL '5 hours' WHERE customer_id = 1",
		"DELETE FROM customer_status_history WHERE customer_id = 1",
		"UPDATE customer_status_history SET cause = 'created' WHERE customer_id = 1",
		"INSERT INTO customer_status_history (customer_id, from_status, to_status, cause, changed_at) VALUES (1, 'nonsense', 'rejected', 'external', now())",
		"INSERT INTO customer_status_history (customer_id, from_status, to_status, cause, changed_at) VALUES (1, 'rejected', 'rejected', 'external', now())",
		"UPDATE customer_status_history SET changed_by = 1 WHERE customer_id = 1",
		"INSERT INTO assignment_history (customer_id, from_manager_id, to_manager_id, cause, changed_at) VALUES (1, 4, 5, 'external', now()), (1, 4, 6, 'external', now())",
		"UPDATE pg_index SET indisvalid = FALSE WHERE indexrelid = to_regclass('cims_customer_name')",
		"ALTER TABLE customer ADD CONSTRAINT unchecked CHECK (id > 0) NOT VALID",
	} {
		tx, err := conn.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), "SET LOCAL session_replication_role = replica; "+spoil)
		require.NoError(t, err, spoil)
		wrong := before.check(t, tx)
		require.NoError(t, tx.Rollback(t.Context()))
		require.NotEmpty(t, wrong, spoil)
		for _, complaint := range wrong {
			made[strings.SplitN(complaint, ": ", 2)[0]] = true
		}
	}
	for _, c := range complaints {
		require.True(t, made[c.what], "never made: %s", c.what)
	}
}

// requireOriginal compares the original columns of all customers and users but
// those that somebody worked on.
func (m memory) requireOriginal(t *testing.T, conn *pgx.Conn, customers, users []int64) {
	t.Helper()
	for table, except := range map[string][]int64{"customer": customers, "user": users} {
		if except == nil {
			except = []int64{}
		}
		different := texts(t, conn, fmt.Sprintf(`SELECT b.original || ' became ' || COALESCE(n.now, 'nothing') FROM %[1]q.%[2]q AS b
			LEFT JOIN (SELECT id, CAST(ROW(%[3]s) AS TEXT) AS now FROM %[2]q) AS n ON n.id = b.id
			WHERE b.id <> ALL ($1) AND b.original IS DISTINCT FROM n.now LIMIT 10`, m.schema, table, strings.Join(m.columns[table], ", ")), except)
		require.Empty(t, different, "rows of %s were changed or lost", table)
	}
}

// requireNames compares the names with what they have to become: what said
// something, in its one form, or else the enum.
func (m memory) requireNames(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	require.Empty(t, texts(t, conn, fmt.Sprintf(`SELECT c.id || ': ' || COALESCE(c.status_name, 'NULL') FROM customer AS c JOIN %q.customer AS b ON b.id = c.id
		WHERE c.status_name IS DISTINCT FROM COALESCE(%s, %s)`, m.schema, normal("b.name"), normal("c.status::text"))))
	require.Empty(t, texts(t, conn, fmt.Sprintf(`SELECT u.id || ': ' || COALESCE(u.role_name, 'NULL') FROM "user" AS u JOIN %q."user" AS b ON b.id = u.id
		WHERE u.role_name IS DISTINCT FROM COALESCE(%s, %s)`, m.schema, normal("b.name"), normal("u.role::text"))))
}

// requireAway looks after a rollback for anything that was added, and for names
// that are not again what they were, but of whom somebody worked on.
func (m memory) requireAway(t *testing.T, conn *pgx.Conn, customers, users []int64) {
	t.Helper()
	requireSameDump(t, strings.Join(m.structure, "\n"), strings.Join(texts(t, conn, structureQuery), "\n"), "the structure is not what it was")
	m.requireOriginal(t, conn, customers, users)
	if _, names := m.columns["sales_manager_assignment"]; !names {
		return
	}
	for table, column := range map[string]string{"customer": "status_name", "user": "role_name"} {
		except := map[string][]int64{"customer": customers, "user": users}[table]
		if except == nil {
			except = []int64{}
		}
		require.Empty(t, texts(t, conn, fmt.Sprintf(`SELECT b.id || ': ' || COALESCE(n.%[3]s, 'NULL') || ', not ' || COALESCE(b.name, 'NULL') FROM %[1]q.%[2]q AS b
			JOIN %[2]q AS n ON n.id = b.id WHERE b.id <> ALL ($1) AND b.name IS DISTINCT FROM n.%[3]s LIMIT 10`, m.schema, table, column), except), "names are not what they were")
	}
}

// full tells whether tests run as often, and on as much, as it takes to be
// sure: the environment asks for it as for the tests of faults.
func full() bool { return os.Getenv("CIMS_FAULTS") == "full" }
