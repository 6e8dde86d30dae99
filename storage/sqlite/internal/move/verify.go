package move

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/uptrace/bun"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/internal/sqlstore"
	"github.com/cimskit/cims/storage/migration"
)

// snapshot runs do in a read-only snapshot of the database.
func (m *Mover) snapshot(ctx context.Context, do func(conn bun.IConn) error) error {
	return m.store.Retry(ctx, func() error {
		return m.store.Snapshot(ctx, do)
	})
}

// Plan returns the steps that Migrate would take, and oddities in the host's tables. These
// include obstacles that make Migrate fail. Plan changes nothing.
func (m *Mover) Plan(ctx context.Context) (plan migration.Plan, err error) {
	err = m.snapshot(ctx, func(conn bun.IConn) error {
		plan = migration.Plan{}
		if unfinished, err := exists(ctx, conn, "table", "cims_copy"); err != nil || unfinished {
			plan.State = migration.Unfinished
			return err
		}
		n, err := m.host.Applied(ctx, conn)
		if err != nil {
			return err
		}
		if plan.State, err = m.host.state(ctx, conn, n); err != nil {
			return err
		}
		steps := m.host.steps()
		for i := n; i < len(steps); i++ {
			left := migration.Step{Name: steps[i].name, Does: steps[i].does}
			if t := steps[i].fills; t != nil {
				if left.Rows, err = t.left(ctx, conn, n > 0); err != nil {
					return err
				}
			}
			plan.Steps = append(plan.Steps, left)
		}
		plan.Findings, err = m.host.findings(ctx, conn, n)
		return err
	})
	return plan, err
}

// state returns the state of the database before its first step.
func (h *Host) state(ctx context.Context, conn bun.IConn, applied int) (migration.State, error) {
	if applied == len(h.steps()) {
		return migration.Current, nil
	}
	query, args := "SELECT EXISTS (SELECT 1 FROM cims_adopted)", []any{}
	if applied == 0 {
		query, args = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE lower(name) IN (lower(?), lower(?)))", []any{h.Table("customer"), h.Table("user")}
	}
	if hosts, err := value[bool](ctx, conn, query, args...); err != nil || hosts {
		return migration.Host, err
	}
	return migration.Empty, nil
}

// left counts the rows still to process.
func (t *hostable) left(ctx context.Context, conn bun.IConn, begun bool) (int64, error) {
	after := int64(math.MinInt64)
	columns, err := t.shape(ctx, conn)
	if err != nil || t.find(columns, "id") == nil {
		return 0, err
	}
	if begun {
		if after, err = t.reached(ctx, conn); err != nil {
			return 0, err
		}
	}
	return value[int64](ctx, conn, t.sql("SELECT count(*) FROM {t} WHERE {t.id} > ?"), after)
}

// findings returns the oddities in the rows still to process.
func (h *Host) findings(ctx context.Context, conn bun.IConn, applied int) ([]migration.Finding, error) {
	var all []migration.Finding
	if applied == 0 {
		found, err := h.obstacles(ctx, conn)
		if err != nil || len(found) > 0 {
			return found, err
		}
	}
	for i, step := range h.steps() {
		if step.fills == nil || i < applied {
			continue
		}
		found, err := step.fills.findings(ctx, conn, applied > 0)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func (t *hostable) findings(ctx context.Context, conn bun.IConn, begun bool) ([]migration.Finding, error) {
	columns, err := t.shape(ctx, conn)
	if err != nil || len(columns) == 0 {
		return nil, err
	}
	after := int64(math.MinInt64)
	if begun {
		if after, err = t.reached(ctx, conn); err != nil {
			return nil, err
		}
	}
	var all []migration.Finding
	count := func(column, condition, found, does string) error {
		n, err := value[int64](ctx, conn, t.sql("SELECT count(*) FROM {t} WHERE {t.id} > ? AND "+condition), after)
		if err == nil && n > 0 {
			all = append(all, migration.Finding{Where: t.shown(column), Found: fmt.Sprintf(found, n), Rows: n, Does: does})
		}
		return err
	}
	has := func(column string) bool { return t.find(columns, column) != nil }
	if has(t.nameColumn) {
		names, err := t.oddNames(ctx, conn, after)
		if err != nil {
			return nil, err
		}
		all = append(all, names...)
	}
	if t.name == "customer" {
		return all, count("full_name", "{t.full_name} IS NULL", "%d rows hold none", "nothing: they are listed with an empty name")
	}
	none, found := "1", "there is no such column: %d users have no role"
	if has(t.nameColumn) {
		none, found = t.newName+" IS NULL", "%d rows hold none"
	}
	if err := count(t.nameColumn, none, found, "nothing: who has no role may do nothing"); err != nil {
		return nil, err
	}
	if has("is_active") {
		return all, count("is_active", "{t.is_active} IS NULL", "%d rows hold NULL", "nothing: it means inactive")
	}
	return all, nil
}

// maxNames limits how many odd names are listed.
const maxNames = 100

// oddNames returns the names that will change, and those without a status or role.
func (t *hostable) oddNames(ctx context.Context, conn bun.IConn, after int64) ([]migration.Finding, error) {
	known := t.schema.systemNames(t.entries)
	there, err := exists(ctx, conn, "table", t.entries)
	if err == nil && there {
		known, err = values[string](ctx, conn, "SELECT name FROM "+t.entries)
	}
	if err != nil {
		return nil, err
	}
	var all []migration.Finding
	err = each(ctx, conn, func(rows *sql.Rows) error {
		var old, name *string
		var n int64
		if err := rows.Scan(&old, &name, &n); err != nil {
			return err
		}
		f := migration.Finding{Where: t.shown(t.nameColumn), Rows: n}
		switch {
		case name == nil && old == nil: // a user without a role, counted as such
			return nil
		case name != nil && old != nil && *name == *old && slices.Contains(known, *name):
			return nil
		case len(all) == maxNames:
			return nil
		case old == nil:
			f.Found = fmt.Sprintf("%d rows hold NULL", n)
		default:
			f.Found = fmt.Sprintf("%d rows say “%s”", n, *old)
		}
		switch {
		case name == nil:
			f.Does = "makes it NULL"
		case !slices.Contains(known, *name):
			f.Does = fmt.Sprintf("makes an inactive entry “%s” of it", *name)
		default:
			f.Does = fmt.Sprintf("makes it “%s”", *name)
		}
		all = append(all, f)
		return nil
	}, t.sql(`SELECT CAST({t.entry} COLLATE BINARY AS TEXT) AS old, `+t.newName+`, count(*) FROM {t} WHERE {t.id} > ?
		GROUP BY old ORDER BY count(*) DESC, old`), after)
	return all, err
}

// Verify checks that a database keeps the promises of Migrate, and changes nothing. With
// options.WhileRunning, changes to the host's columns since Migrate are notes, not faults.
func (m *Mover) Verify(ctx context.Context, options migration.VerifyOptions) (report migration.Report, err error) {
	err = m.snapshot(ctx, func(conn bun.IConn) error {
		report = migration.Report{}
		n, err := m.host.Applied(ctx, conn)
		if err != nil {
			return err
		}
		if steps := m.host.steps(); n < len(steps) {
			report.Checks = []migration.Check{{Name: "migrated", Fault: fmt.Sprintf("at step %d of %d: run Migrate", n, len(steps))}}
			return nil
		}
		if unfinished, err := exists(ctx, conn, "table", "cims_copy"); err != nil || unfinished {
			report.Checks = []migration.Check{{Name: "whole", Fault: "it is an unfinished copy of another database: run the copy again to finish it"}}
			return err
		}
		report.Checks = []migration.Check{{Name: "migrated"}}
		for _, t := range m.host.tables() {
			differences, err := t.compare(ctx, conn)
			if err != nil {
				return err
			}
			check := migration.Check{Name: t.shown() + " rows as they were"}
			if options.WhileRunning {
				report.Notes = append(report.Notes, differences...)
			} else if len(differences) > 0 {
				check.Fault = listed(differences)
			}
			report.Checks = append(report.Checks, check)
		}
		for _, p := range promises {
			broken, err := values[string](ctx, conn, m.host.SQL(p.query)+" LIMIT ?", maxListed+1)
			if kind := m.store.Dialect().Classify(err); err != nil && (kind == sqlstore.Other || kind == sqlstore.NoTable) && ctx.Err() == nil {
				broken, err = []string{"it can't be checked: " + err.Error()}, nil // a table or column is missing
			}
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			report.Checks = append(report.Checks, migration.Check{Name: p.name, Fault: listed(broken)})
		}
		missing, err := m.host.missing(ctx, conn)
		report.Checks = append(report.Checks, migration.Check{Name: "tables, indexes and triggers", Fault: listed(missing)})
		return err
	})
	return report, err
}

// compare returns the ranges of rows in which the host's columns have changed since Migrate
// processed them.
func (t *hostable) compare(ctx context.Context, conn bun.IConn) ([]string, error) {
	columns, err := t.adopted(ctx, conn)
	if err != nil || columns == nil {
		return nil, err
	}
	there, err := t.shape(ctx, conn)
	if err != nil {
		return nil, err
	}
	for _, column := range columns {
		if find(there, column) == nil {
			return []string{fmt.Sprintf("%s: the column %s is gone", t.shown(), column)}, nil
		}
	}
	type span struct {
		last, rows int64
		digest     []byte
	}
	var spans []span
	err = each(ctx, conn, func(rows *sql.Rows) error {
		var r span
		err := rows.Scan(&r.last, &r.rows, &r.digest)
		spans = append(spans, r)
		return err
	}, "SELECT last_id, row_count, digest FROM cims_original WHERE table_name = ? ORDER BY last_id", t.name)
	if err != nil {
		return nil, err
	}
	var differences []string
	after := int64(math.MinInt64)
	for _, r := range spans {
		rows, digest, err := t.digest(ctx, conn, columns, after, r.last)
		if err != nil {
			return nil, err
		}
		where := fmt.Sprintf("%s: of the ids up to %d", t.shown(), r.last)
		if after != math.MinInt64 {
			where = fmt.Sprintf("%s: of the ids from %d to %d", t.shown(), after+1, r.last)
		}
		switch {
		case rows != r.rows:
			differences = append(differences, fmt.Sprintf("%s there were %d rows, now %d", where, r.rows, rows))
		case !bytes.Equal(digest, r.digest):
			differences = append(differences, where+" a row has changed")
		}
		after = r.last
	}
	return differences, nil
}

// promises are checks whose queries return the violations.
var promises = []struct{ name, query string }{
	{
		"the system's statuses and roles are marked as such",
		`SELECT 'the status ' || value FROM json_each('` + namesJSON(cims.SystemStatuses(), func(s cims.Status) string { return s.Name }) + `') WHERE value NOT IN (SELECT name FROM customer_status WHERE is_system)
				AND (value = 'contacted' OR value IN (SELECT name FROM customer_status))
			UNION ALL SELECT 'the role ' || value FROM json_each('` + namesJSON(cims.SystemRoles(), func(r cims.Role) string { return r.Name }) + `') WHERE value NOT IN (SELECT name FROM user_role WHERE is_system)
				AND (value IN ('ceo', 'sales_manager') OR value IN (SELECT name FROM user_role))`,
	},
	{
		"the CEO may do everything",
		`SELECT 'the permission ' || value FROM json_each('` + namesJSON(cims.AllPermissions(), func(p cims.Permission) string { return string(p) }) + `')
			WHERE NOT EXISTS (SELECT 1 FROM user_role WHERE name = 'ceo' AND instr(' ' || permissions || ' ', ' ' || value || ' ') > 0)`,
	},
	{
		"the rotation has its counter",
		`SELECT 'sales_manager_counter is empty' WHERE NOT EXISTS (SELECT 1 FROM sales_manager_counter)`,
	},
	{
		"customers' statuses exist",
		`SELECT 'customer ' || {customer.id} || ' is in ' || quote({customer.status_name}) FROM {customer}
			WHERE {customer.status_name} IS NULL OR {customer.status_name} NOT IN (SELECT name FROM customer_status)`,
	},
	{
		"users' roles exist",
		`SELECT 'user ' || {user.id} || ' is ' || quote({user.role_name}) FROM {user} WHERE {user.role_name} NOT IN (SELECT name FROM user_role)`,
	},
	{
		"assignments are of customers and users",
		`SELECT 'assignment ' || id FROM sales_manager_assignment
			WHERE customer_id NOT IN (SELECT {customer.id} FROM {customer}) OR sales_manager_id NOT IN (SELECT {user.id} FROM {user})`,
	},
	{
		"managers' counts equal their assignments",
		`SELECT 'user ' || id || ' has ' || leads || ' and counts ' || counted FROM (
			SELECT u.{user.id} AS id, COALESCE(m.assigned_leads_count, 0) AS counted,
				(SELECT count(*) FROM sales_manager_assignment AS a WHERE a.sales_manager_id = u.{user.id} AND a.is_active) AS leads
			FROM {user} AS u LEFT JOIN sales_manager_rotation AS m ON m.sales_manager_id = u.{user.id}
		) WHERE leads <> counted`,
	},
	{
		"exactly the unassigned are in cims_unassigned",
		`SELECT 'customer ' || id || CASE WHEN assigned THEN ' is both' ELSE ' is neither' END FROM (
			SELECT c.{customer.id} AS id, EXISTS (SELECT 1 FROM sales_manager_assignment AS a WHERE a.customer_id = c.{customer.id} AND a.is_active) AS assigned,
				EXISTS (SELECT 1 FROM cims_unassigned AS w WHERE w.customer_id = c.{customer.id}) AS listed
			FROM {customer} AS c
		) WHERE assigned = listed
		UNION ALL SELECT 'customer ' || customer_id || ' is no more' FROM cims_unassigned WHERE customer_id NOT IN (SELECT {customer.id} FROM {customer})`,
	},
	{
		"histories end in the status",
		`SELECT 'customer ' || id || ' is in ' || quote(status_name) || ', its history in ' || quote(ends) FROM (
			SELECT c.{customer.id} AS id, c.{customer.status_name} AS status_name, (SELECT h.to_status FROM customer_status_history AS h WHERE h.customer_id = c.{customer.id} ORDER BY +h.id DESC LIMIT 1) AS ends
			FROM {customer} AS c
		) WHERE ends IS NOT status_name COLLATE BINARY`,
	},
	{
		"customers are found by their names",
		`SELECT 'customer ' || {customer.id} FROM {customer} WHERE search_name IS NOT cims_lower(COALESCE({customer.full_name}, ''))
			AND search_name IS NOT lower(COALESCE({customer.full_name}, ''))`, // as the triggers write it
	},
}

func namesJSON[T any](all []T, name func(T) string) string {
	names := make([]string, len(all))
	for i, one := range all {
		names[i] = name(one)
	}
	list, _ := json.Marshal(names) // a slice of strings always marshals
	return string(list)
}

// missing returns the parts of the schema that are missing or were altered.
func (h *Host) missing(ctx context.Context, conn bun.IConn) ([]string, error) {
	guards, err := h.triggers(ctx, conn)
	if err != nil {
		return nil, err
	}
	lists, err := h.indexes(ctx, conn)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, o := range slices.Concat(h.objects("names"), h.objects("tables"), lists, guards) {
		found, err := values[string](ctx, conn, "SELECT sql FROM sqlite_master WHERE type = ? AND name = ?", o.kind, o.name)
		switch {
		case err != nil:
			return nil, err
		case len(found) == 0:
			all = append(all, fmt.Sprintf("the %s %s is missing", o.kind, o.name))
		case found[0] != o.sql:
			all = append(all, fmt.Sprintf("the %s %s is not as cims makes it", o.kind, o.name))
		}
	}
	for _, t := range h.tables() {
		columns, err := t.shape(ctx, conn)
		if err != nil {
			return nil, err
		}
		for _, a := range t.adds {
			if t.find(columns, a.name) == nil {
				all = append(all, fmt.Sprintf("the column %s of %s is missing", a.name, t.shown()))
			}
		}
	}
	return all, nil
}

// maxListed bounds how many faults of a kind are listed.
const maxListed = 5

func listed(faults []string) string {
	text := ""
	for i, fault := range faults {
		if i == maxListed {
			return text + ", and more"
		}
		if i > 0 {
			text += ", "
		}
		text += fault
	}
	return text
}
