package main

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims/internal/legacy"
	"github.com/cimskit/cims/internal/pgtest"
)

// oddity is something planted that a plan has to name.
type oddity struct {
	where string // table or table.column
	says  string // a regular expression for how it may be named
	rows  int64
}

// olderDatabase is a database of the older program.
type olderDatabase struct {
	name  string
	dump  string
	names bool // its own migration ran: there are names, assignments and a counter
	ceo   string
	worse int // so many customers more, and whatever its schema allows
}

var olderDatabases = []olderDatabase{
	{"deployed", legacy.Deployed, true, "dilnoza.rahimov.1@example.com", 0},
	{"enums only", legacy.EnumOnly, false, "bekzod.rahimov.1@example.com", 0},
	{"deployed, worse", legacy.Deployed, true, "dilnoza.rahimov.1@example.com", 400},
	{"enums only, worse", legacy.EnumOnly, false, "bekzod.rahimov.1@example.com", 400},
}

func deployed(worse int) olderDatabase {
	d := olderDatabases[0]
	d.worse = worse
	return d
}

// load makes the database in a schema of its own.
func (d olderDatabase) load(t *testing.T) (target string, planted []oddity) {
	t.Helper()
	target = pgtest.URL(t)
	return target, d.fill(t, target)
}

// ownDatabase is a database of the test's own on the same server. An index that
// is built concurrently waits for all transactions of a database, other tests'
// too.
func ownDatabase(t *testing.T) string {
	t.Helper()
	base := pgtest.Need(t)
	name := "t_" + uuid.NewString()[:13]
	pgtest.Execute(t, base, fmt.Sprintf("CREATE DATABASE %q", name))
	t.Cleanup(func() { pgtest.Execute(t, base, fmt.Sprintf("DROP DATABASE %q WITH (FORCE)", name)) })
	parsed, err := url.Parse(base)
	require.NoError(t, err)
	parsed.Path = "/" + name
	return parsed.String()
}

// fill makes the database in the schema of a URL.
func (d olderDatabase) fill(t *testing.T, target string) []oddity {
	t.Helper()
	conn := connect(t, target)
	run := func(statements string, args ...any) {
		t.Helper()
		_, err := conn.Exec(context.Background(), statements, args...)
		require.NoError(t, err)
	}
	run(d.dump)
	if d.worse == 0 {
		return nil
	}
	require.GreaterOrEqual(t, d.worse, sameMoment)
	run(worseUsers)
	run(worseCustomers, d.worse)
	if d.names {
		run(worseNames)
		run(worseAssignments)
	}
	run("ANALYZE customer")
	return d.oddities(t, conn)
}

// sameMoment is how many of the customers share one created_at, the newest.
const sameMoment = 100

const worseUsers = `INSERT INTO "user" (email, name, surname, password, role, is_active, is_admin, is_staff, is_superuser) VALUES
	('worse.none@example.com', 'No', 'Role', 'x', NULL, TRUE, NULL, NULL, NULL),
	('worse.blank@example.com', 'Blank', 'Role', 'x', NULL, TRUE, NULL, NULL, NULL),
	('worse.idle@example.com', 'O''Brien "Bob"', 'Ünal 📞', 'x', 'member', NULL, NULL, NULL, NULL),
	('worse.boss@example.com', 'Idle', 'Boss', 'x', 'CEO', NULL, TRUE, TRUE, TRUE),
	('worse.odd@example.com', 'Odd', 'Case', 'x', 'member', TRUE, FALSE, FALSE, FALSE),
	('worse.loud@example.com', 'Loud', 'Case', 'x', 'financial_director', TRUE, FALSE, FALSE, FALSE),
	('worse.unknown@example.com', 'Unknown', 'Role', 'x', 'member', TRUE, FALSE, FALSE, FALSE),
	('worse.empty@example.com', 'Empty', 'Name', 'x', 'member', TRUE, FALSE, FALSE, FALSE),
	('Worse.Empty@Example.com', 'Empty', 'In another case', 'x', 'customer', FALSE, FALSE, FALSE, FALSE)`

const worseCustomers = `INSERT INTO customer (full_name, platform, username, phone_number, status, assistant_name, notes, conversation_language, created_at)
	SELECT CASE i % 5 WHEN 0 THEN 'O''ktam "the boss" Qodirov' WHEN 1 THEN 'Zoë 📞 Ünal \' WHEN 2 THEN '  padded  ' WHEN 3 THEN 'Робия' ELSE 'Lead ' || i END,
		CASE i % 7 WHEN 0 THEN '' ELSE 'telegram' END, CASE i % 3 WHEN 0 THEN '@u' || i END,
		CASE i % 50 WHEN 0 THEN repeat('+998 ', 100) WHEN 1 THEN '' ELSE '+9989' || lpad(i::text, 8, '0') END,
		(enum_range(NULL::customerstatus))[i % 6 + 1], CASE i % 11 WHEN 0 THEN 'bot' END,
		CASE i % 4 WHEN 0 THEN E'a note,\nwith "quotes", \\ and 📞' END, CASE i % 4 WHEN 0 THEN NULL ELSE 'UZ'::conversationlanguage END,
		CASE WHEN i > $1 - 100 THEN TIMESTAMP '2025-03-01 12:00:00.123456' ELSE TIMESTAMP '2025-02-07' + i * INTERVAL '1 second' END
	FROM generate_series(1, $1) AS i ORDER BY i`

// worseNames: what people have typed into the columns and entries of the older
// program's own migration.
const worseNames = `
	UPDATE customer AS c SET status_name = CASE c.id % 20
		WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN '   ' WHEN 3 THEN 'Project Started' WHEN 4 THEN ' CONTACTED '
		WHEN 5 THEN 'Lost in translation' WHEN 6 THEN 'VIP Client' WHEN 7 THEN 'negotiating' WHEN 8 THEN 'on_hold'
		WHEN 9 THEN 'Қайта қўнғироқ' WHEN 10 THEN repeat('x', 100) WHEN 11 THEN '📞 "later"' ELSE c.status::text END
	WHERE c.id > 600;
	INSERT INTO customer_status (name, display_name, "order", is_active, is_system, created_at, updated_at) VALUES
		('VIP Client', 'VIP', NULL, NULL, NULL, NULL, NULL), ('Contacted', 'Contacted?', -1, TRUE, NULL, NULL, NULL);
	INSERT INTO user_role (name, display_name, is_active, is_system, created_at, updated_at) VALUES
		('Project Lead', '', NULL, NULL, NULL, NULL);
	UPDATE "user" SET role_name = CASE email
		WHEN 'worse.blank@example.com' THEN '  ' WHEN 'worse.boss@example.com' THEN NULL
		WHEN 'worse.odd@example.com' THEN 'Project Manager' WHEN 'worse.loud@example.com' THEN ' FINANCIAL_DIRECTOR '
		WHEN 'worse.unknown@example.com' THEN 'Regional "Director"' WHEN 'worse.empty@example.com' THEN '' ELSE lower(role::text) END
	WHERE lower(email) LIKE 'worse.%';
	UPDATE sales_manager_counter SET last_assigned_index = NULL, updated_at = NULL;
	INSERT INTO sales_manager_counter (last_assigned_index) VALUES (3), (NULL), (17)`

// worseAssignments are to active and inactive managers (3 to 10) and to others,
// of an odd or an unknown age, inactive, or neither.
const worseAssignments = `INSERT INTO sales_manager_assignment (customer_id, sales_manager_id, assigned_at, assigned_by, is_active)
	SELECT c.id, CASE WHEN c.id % 31 = 0 THEN 11 ELSE 3 + c.id % 8 END, CASE WHEN c.id % 41 <> 0 THEN c.created_at END,
		CASE WHEN c.id % 5 = 0 THEN 1 END, CASE WHEN c.id % 29 = 0 THEN FALSE WHEN c.id % 37 = 0 THEN NULL ELSE TRUE END
	FROM customer AS c WHERE c.id > 600 AND c.id % 3 <> 0 ORDER BY c.id`

// oddities counts what was planted, and what the dump had of the like.
func (d olderDatabase) oddities(t *testing.T, conn *pgx.Conn) []oddity {
	t.Helper()
	var list []oddity
	add := func(where, says, count string) {
		t.Helper()
		rows := value[int64](t, conn, "SELECT count(*) FROM "+count)
		require.Positive(t, rows, "%s %s was not planted", where, says)
		list = append(list, oddity{where, says, rows})
	}
	add("user.is_active", "(?i)null|unknown|neither|not set", `"user" WHERE is_active IS NULL`)
	add("user.role", "(?i)no role|without a role|none|null|empty|nothing", `"user" WHERE role IS NULL`)
	if !d.names {
		return list
	}
	for _, name := range []string{"Project Started", " CONTACTED ", "Lost in translation", "VIP Client", "Қайта қўнғироқ", strings.Repeat("x", 100), `📞 "later"`} {
		add("customer.status_name", regexp.QuoteMeta(name), "customer WHERE status_name = '"+name+"'")
	}
	add("customer.status_name", "(?i)empty|blank|“ *”", "customer WHERE btrim(status_name) = ''")
	for _, name := range []string{"Project Manager", " FINANCIAL_DIRECTOR ", `Regional "Director"`} {
		add("user.role_name", regexp.QuoteMeta(name), `"user" WHERE role_name = '`+name+"'")
	}
	add("user.role_name", "(?i)empty|blank|“ *”", `"user" WHERE btrim(role_name) = ''`)
	add("customer_status", "VIP Client", "customer_status WHERE name = 'VIP Client'")
	add("customer_status", `Contacted`, "customer_status WHERE name = 'Contacted'")
	add("user_role", "Project Lead", "user_role WHERE name = 'Project Lead'")
	add("sales_manager_counter", "(?i)rows", "sales_manager_counter")
	add("sales_manager_assignment", "(?i)not active sales managers", `sales_manager_assignment AS a JOIN "user" AS u ON u.id = a.sales_manager_id
		WHERE a.is_active AND (u.is_active IS NOT TRUE OR COALESCE(NULLIF(btrim(u.role_name), ''), u.role::text) <> 'sales_manager')`)
	add("sales_manager_assignment", "(?i)null|unknown|neither|not set", "sales_manager_assignment WHERE is_active IS NULL")
	return list
}

// requireNamed looks for oddities in a printed plan: each in one line, with how
// many rows it is about.
func requireNamed(t *testing.T, planted []oddity, plan string) {
	t.Helper()
	var missing []string
	for _, o := range planted {
		says, rows, found := regexp.MustCompile(o.says), regexp.MustCompile(fmt.Sprintf(`\b%d\b`, o.rows)), false
		for line := range strings.Lines(plan) {
			found = found || strings.Contains(line, o.where) && says.MatchString(line) && rows.MatchString(line)
		}
		if !found {
			missing = append(missing, fmt.Sprintf("%s: %s, %d rows", o.where, o.says, o.rows))
		}
	}
	require.Empty(t, missing, "the plan names them not:\n%s", plan)
}
