package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims/internal/legacy"
	"github.com/cimskit/cims/internal/pgtest"
)

// original reads every row of the tables that were there before us, in the
// columns that they had and that are not ours, as text.
func original(t *testing.T, conn *pgx.Conn, columns map[string][]string) map[string][]string {
	t.Helper()
	contents := map[string][]string{}
	for table, names := range columns {
		rows, err := conn.Query(context.Background(), fmt.Sprintf("SELECT CAST(ROW(%s) AS TEXT) FROM %q ORDER BY id", strings.Join(names, ", "), table))
		require.NoError(t, err)
		contents[table], err = pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
	}
	return contents
}

func originalColumns(t *testing.T, conn *pgx.Conn) map[string][]string {
	t.Helper()
	rows, err := conn.Query(context.Background(), `SELECT table_name, quote_ident(column_name) FROM information_schema.columns
		WHERE table_schema = current_schema() AND column_name NOT IN ('status_name', 'role_name') ORDER BY ordinal_position`)
	require.NoError(t, err)
	columns := map[string][]string{}
	var table, column string
	_, err = pgx.ForEachRow(rows, []any{&table, &column}, func() error {
		columns[table] = append(columns[table], column)
		return nil
	})
	require.NoError(t, err)
	return columns
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.Background())) })
	return conn
}

func value[T any](t *testing.T, conn *pgx.Conn, query string, args ...any) T {
	t.Helper()
	rows, err := conn.Query(context.Background(), query, args...)
	require.NoError(t, err)
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	require.NoError(t, err)
	return v
}

// nextOfOlder is whom the older program would take: it lists the active sales
// managers by id and takes the one after the last.
const nextOfOlder = `WITH pool AS (SELECT array_agg(id ORDER BY id) AS ids FROM "user" WHERE CAST(role AS TEXT) = 'sales_manager' AND is_active)
	SELECT ids[(SELECT last_assigned_index + 1 FROM sales_manager_counter) % cardinality(ids) + 1] FROM pool`

func TestMovingFromTheDeployedProgram(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pgtest.Execute(t, url, legacy.Deployed)
	conn := connect(t, url)
	columns := originalColumns(t, conn)
	before := original(t, conn, columns)
	next := value[int32](t, conn, nextOfOlder)
	rateBefore := value[int64](t, conn, `SELECT count(*) FROM (SELECT status, status_name FROM customer ORDER BY created_at DESC LIMIT 100) AS c
		WHERE status = 'project_started' OR status_name = 'project_started'`)

	p := launch(t, url)
	require.Eventually(t, func() bool { return strings.Contains(p.stdout.String(), "token -email EMAIL ") }, time.Minute, time.Millisecond,
		"there are users, and ceo@example.com is none of them")
	unchanged(t, conn, columns, before)
	ceo := p.as("dilnoza.rahimov.1@example.com")

	leads := ceo.leads()
	require.Len(t, leads, 600)
	enums := map[float64]string{}
	rows, err := conn.Query(context.Background(), "SELECT id, CASE WHEN id % 17 = 0 THEN 'negotiating' ELSE CAST(status AS TEXT) END FROM customer")
	require.NoError(t, err)
	var id int32
	var status string
	_, err = pgx.ForEachRow(rows, []any{&id, &status}, func() error { enums[float64(id)] = status; return nil })
	require.NoError(t, err)
	for _, lead := range leads {
		require.Equal(t, enums[lead["id"].(float64)], lead["status_name"], lead)
	}

	managers := ceo.list("/crm/sales-managers")
	require.Len(t, managers, 6)
	for _, manager := range managers {
		m := manager.(map[string]any)
		require.EqualValues(t, value[int64](t, conn, "SELECT count(*) FROM sales_manager_assignment WHERE is_active AND sales_manager_id = $1", int(m["id"].(float64))),
			m["assigned_leads_count"], m)
	}
	rate := ceo.get("/crm/conversion-rate?mode=current")
	require.EqualValues(t, 100, rate["total_customers"])
	require.EqualValues(t, rateBefore-diluted(t, conn), rate["project_started_count"])

	lead := ceo.post("/crm/customers", map[string]any{"full_name": "New"})
	require.EqualValues(t, next, lead["sales_manager"].(map[string]any)["id"])
	require.Equal(t, "contacted", value[string](t, conn, "SELECT CAST(status AS TEXT) FROM customer WHERE id = $1", int(lead["id"].(float64))),
		"the older program sees it too")

	require.Equal(t, "project_manager", ceo.get("/management/users?q=gulnora.ismoilov.12")["items"].([]any)[0].(map[string]any)["role_name"])
	require.EqualValues(t, 26, ceo.post("/crm/assign-backlog", nil)["assigned"], "those that were left without")
}

// diluted counts those of the last 100 whose enum still says project_started
// though their status has become another: the older program counts them, for
// it reads both columns. A name wins over the enum.
func diluted(t *testing.T, conn *pgx.Conn) int64 {
	t.Helper()
	return value[int64](t, conn, `SELECT count(*) FROM (SELECT status, status_name FROM customer ORDER BY created_at DESC LIMIT 100) AS c
		WHERE status = 'project_started' AND status_name <> 'project_started'`)
}

func TestMovingFromEnumsOnly(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pgtest.Execute(t, url, legacy.EnumOnly)
	conn := connect(t, url)
	columns := originalColumns(t, conn)
	before := original(t, conn, columns)

	p := launch(t, url)
	unchanged(t, conn, columns, before)
	ceo := p.as("bekzod.rahimov.1@example.com")
	leads := ceo.leads()
	require.Len(t, leads, 600)
	for _, lead := range leads {
		require.Equal(t, value[string](t, conn, "SELECT CAST(status AS TEXT) FROM customer WHERE id = $1", int(lead["id"].(float64))), lead["status_name"])
	}
	require.Empty(t, ceo.list("/crm/sales-managers"), "its enum knows none")
	require.EqualValues(t, 100, ceo.get("/crm/conversion-rate")["total_customers"])

	ceo.hire("Aziza")
	lead := ceo.post("/crm/customers", map[string]any{"full_name": "New"})
	require.Equal(t, "Aziza", lead["sales_manager"].(map[string]any)["name"])
	require.Nil(t, value[*string](t, conn, `SELECT CAST(role AS TEXT) FROM "user" WHERE email = 'aziza@example.com'`),
		"a role without a label leaves the enum empty, never one with more rights")

	member := ceo.get("/management/users?role=member&limit=1")["items"].([]any)[0].(map[string]any)
	ceo.call(200, "PUT", fmt.Sprintf("/management/users/%v", member["id"]), map[string]any{"role_name": "sales_manager"})
	second := ceo.post("/crm/customers", map[string]any{"full_name": "Newer"})
	require.Equal(t, member["id"], second["sales_manager"].(map[string]any)["id"])
}

func unchanged(t *testing.T, conn *pgx.Conn, columns, before map[string][]string) {
	t.Helper()
	after := original(t, conn, columns)
	for _, table := range slices.Sorted(maps.Keys(before)) {
		require.Subset(t, after[table], before[table], "a row of %s was changed or lost", table)
	}
	now := originalColumns(t, conn)
	for table, names := range columns {
		require.Equal(t, names, now[table][:len(names)], "a column of %s was changed or lost", table)
	}
}
