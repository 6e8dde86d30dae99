package move

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/internal/sqlstore"
	"github.com/cimskit/cims/storage/migration"
)

// Verify compares a migrated database with its earlier state and checks its consistency,
// in one snapshot. With options.WhileRunning, rows that an older program has changed or
// deleted since are notes, not faults.
func (m *Mover) Verify(ctx context.Context, options migration.VerifyOptions) (report migration.Report, err error) {
	if err := errors.Join(m.store.Complete(ctx), m.names.check(ctx, sqlstore.SQL{IConn: m.db})); err != nil {
		return report, m.store.Explain(err)
	}
	tx, err := m.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return report, m.store.Explain(err)
	}
	defer func() { err = m.store.Explain(errors.Join(err, tx.Rollback())) }()
	for _, check := range checks {
		fault, err := look(ctx, tx, m.names.SQL(check.query))
		switch {
		case err != nil:
			return report, fmt.Errorf("%s: %w", check.name, err)
		case fault != "" && check.others != "" && options.WhileRunning:
			report.Notes = append(report.Notes, check.others+fault)
		default:
			report.Checks = append(report.Checks, migration.Check{Name: check.name, Fault: fault})
		}
	}
	for _, query := range notes {
		note, err := look(ctx, tx, query)
		if err != nil {
			return report, err
		}
		if note != "" {
			report.Notes = append(report.Notes, note)
		}
	}
	return report, nil
}

// look runs one of the queries below. A missing table or column of the query is a fault
// too.
func look(ctx context.Context, tx *sql.Tx, query string) (found string, err error) {
	if _, err := tx.ExecContext(ctx, "SAVEPOINT look"); err != nil {
		return "", err
	}
	found, err = text(ctx, tx, query)
	if server, ok := errors.AsType[*pgconn.PgError](err); ok && strings.HasPrefix(server.Code, "42") {
		_, err = tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT look")
		return "it can't be checked: " + server.Message, err
	}
	return found, err
}

func text(ctx context.Context, tx *sql.Tx, query string) (text string, err error) {
	var found sql.NullString
	if err = tx.QueryRowContext(ctx, query).Scan(&found); errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return found.String, err
}

// checks are queries that describe a fault. They return no row, or NULL, if there is none.
var checks = []struct {
	name   string
	others string // prefix of the note if other programs may have caused the fault
	query  string
}{
	{name: "tables, columns, indexes, keys, triggers and functions are there, valid and at work", query: `
		SELECT string_agg(p.kind || ' ' || p.name, ', ') FROM cims_part AS p
		WHERE NOT p.original AND NOT EXISTS (SELECT 1 FROM cims_parts AS now WHERE now.kind = p.kind AND now.name = p.name)`},
	{name: "every column that was there is there, with its type", query: `
		SELECT string_agg(cims_relation(o.table_name) || '.' || o.name, ', ') FROM cims_original_column AS o
		WHERE NOT EXISTS (SELECT 1 FROM pg_attribute AS a WHERE a.attrelid = cims_relation(o.table_name)
			AND a.attname = o.name AND NOT a.attisdropped AND format_type(a.atttypid, a.atttypmod) = o.type)`},
	{name: "no row was lost or changed in a column that is not ours", others: "since the migration others have worked on ", query: `
		SELECT string_agg(format('%s: %s rows are gone, and rows in %s of %s ranges have changed', cims_relation(table_name), gone, changed, ranges), '; ') FROM (
			SELECT f.table_name, sum(f.row_count - d.row_count) AS gone, count(*) FILTER (WHERE f.digest <> d.digest) AS changed, count(*) AS ranges
			FROM cims_filled AS f, cims_digest(f.table_name, f.above, f.up_to) AS d GROUP BY f.table_name
		) AS t WHERE changed > 0`},
	{name: "the system's statuses and roles are marked as such, and the CEO may do everything", query: fmt.Sprintf(`
		SELECT string_agg(fault, ', ') FROM (
			SELECT format('the status %%s', n.name) AS fault FROM unnest(CAST('{%[1]s}' AS TEXT[])) AS n (name) WHERE NOT EXISTS (SELECT 1 FROM customer_status AS s WHERE s.name = n.name AND s.is_system)
				AND (n.name = 'contacted' OR EXISTS (SELECT 1 FROM customer_status AS s WHERE s.name = n.name))
			UNION ALL SELECT format('the role %%s', n.name) FROM unnest(CAST('{%[2]s}' AS TEXT[])) AS n (name) WHERE NOT EXISTS (SELECT 1 FROM user_role AS r WHERE r.name = n.name AND r.is_system)
				AND (n.name IN ('ceo', 'sales_manager') OR EXISTS (SELECT 1 FROM user_role AS r WHERE r.name = n.name))
			UNION ALL SELECT format('the CEO''s permission %%s', n.name) FROM unnest(CAST('{%[3]s}' AS TEXT[])) AS n (name)
				WHERE NOT EXISTS (SELECT 1 FROM user_role AS r WHERE r.name = 'ceo' AND n.name = ANY (string_to_array(r.permissions, ' ')))
		) AS faults`, listOf(cims.SystemStatuses(), func(s cims.Status) string { return s.Name }), listOf(cims.SystemRoles(), func(r cims.Role) string { return r.Name }),
		listOf(cims.AllPermissions(), func(p cims.Permission) string { return string(p) }))},
	{name: "the rotation has its counter", query: `SELECT 'sales_manager_counter is empty' WHERE NOT EXISTS (SELECT 1 FROM sales_manager_counter)`},
	{name: "every customer is in a status that exists", query: `
		SELECT format('%s rows of %s are not', count(*), cims_relation('customer')) FROM customer AS c
		WHERE NOT EXISTS (SELECT 1 FROM customer_status AS s WHERE s.name = c.status_name) HAVING count(*) > 0`},
	{name: "every user has a role that exists, or none", query: `
		SELECT format('%s rows of %s have not', count(*), cims_relation('user')) FROM "user" AS u
		WHERE u.role_name IS NOT NULL AND NOT EXISTS (SELECT 1 FROM user_role AS r WHERE r.name = u.role_name) HAVING count(*) > 0`},
	{name: "names are in the form in which they are stored", query: `
		SELECT string_agg(DISTINCT name, ', ') FROM (SELECT status_name FROM customer UNION ALL SELECT role_name FROM "user") AS n (name)
		WHERE name <> cims_name(name)`},
	{name: "every customer has a history, which ends in its status", query: `
		SELECT format('%s rows of %s have not, such as %s', count(*), cims_relation('customer'), min(c.id)) FROM customer AS c
		LEFT JOIN (SELECT DISTINCT ON (customer_id) customer_id, to_status FROM customer_status_history
			ORDER BY customer_id, id DESC) AS h ON h.customer_id = c.id
		WHERE h.to_status IS DISTINCT FROM c.status_name HAVING count(*) > 0`},
	{name: "every lead without a sales manager is known as one, and no other", query: `
		SELECT format('%s leads are not, such as %s', count(*), min(COALESCE(c.id, w.customer_id))) FROM (
			SELECT id FROM customer AS c WHERE NOT EXISTS (SELECT 1 FROM sales_manager_assignment AS a WHERE a.customer_id = c.id AND a.is_active)
		) AS c FULL JOIN cims_unassigned AS w ON w.customer_id = c.id WHERE c.id IS NULL OR w.customer_id IS NULL HAVING count(*) > 0`},
	{name: "assigned_leads_count of each sales manager is the number of their leads", query: `
		SELECT string_agg(format('manager %s has %s, the number is %s', COALESCE(m.sales_manager_id, a.sales_manager_id), COALESCE(a.leads, 0), COALESCE(m.assigned_leads_count, 0)), '; ')
		FROM sales_manager_rotation AS m
		FULL JOIN (SELECT sales_manager_id, count(*) AS leads FROM sales_manager_assignment WHERE is_active GROUP BY 1) AS a USING (sales_manager_id)
		WHERE COALESCE(a.leads, 0) <> COALESCE(m.assigned_leads_count, 0)`},
	{name: "every assignment has its customer and knows when it came", query: `
		SELECT format('%s assignments have not, such as %s', count(*), min(a.id)) FROM sales_manager_assignment AS a LEFT JOIN customer AS c ON c.id = a.customer_id
		WHERE c.id IS NULL OR a.customer_created_at IS DISTINCT FROM CAST(CAST(c.created_at AS TEXT) || CASE WHEN pg_typeof(c.created_at) = CAST('timestamp' AS regtype) THEN '+00' ELSE '' END AS TIMESTAMPTZ)
		HAVING count(*) > 0`},
	{name: "the next ids are not taken", query: "SELECT string_agg(format('%s goes on below the id %s', sequence, highest), ', ') FROM (" + behind + ") AS s"},
}

func listOf[T any](all []T, name func(T) string) string {
	names := make([]string, len(all))
	for i, one := range all {
		names[i] = name(one)
	}
	return strings.Join(names, ",")
}

const indexNames = `'cims_customer_newest', 'cims_customer_status', 'cims_customer_name', 'cims_customer_phone',
	'cims_user_role', 'cims_user_email', 'cims_assignment_manager'`

// notes are queries that describe differences that are not faults.
var notes = []string{
	`SELECT format('%s customers are in a status that differs from the older column, which stays as it is', count(*))
		FROM customer AS c WHERE cims_enum_status(c) <> c.status_name HAVING count(*) > 0`,
	`SELECT format('%s rows of %s are set aside, until a rollback', count(*), table_name) FROM cims_set_aside GROUP BY table_name`,
}
