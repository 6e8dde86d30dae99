package move

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cimskit/cims/storage/internal/hosttables"
	"github.com/cimskit/cims/storage/internal/sqlstore"
)

// problems returns the reasons why the database can't be migrated, or why its tables would
// take no lead or user afterwards.
func (m *Mover) problems(ctx context.Context) ([]problem, error) {
	conn := sqlstore.SQL{IConn: m.db}
	problems, err := m.names.problems(ctx, conn)
	if err != nil || len(problems) > 0 {
		return problems, err
	}
	var recorded bool
	if err := sqlstore.ScanOne(ctx, conn, "SELECT to_regclass('cims_host') IS NOT NULL", &recorded); err != nil || recorded {
		return nil, err
	}
	for _, table := range hosttables.All {
		found, err := m.tryInsert(ctx, table)
		if err != nil {
			return nil, err
		}
		if found != "" {
			problems = append(problems, problem{m.names.Shown(table), found})
		}
	}
	return problems, nil
}

// check returns the problems as an error.
func (m *Mover) check(ctx context.Context) error {
	problems, err := m.problems(ctx)
	return errors.Join(err, asError(problems))
}

// trials holds what tryInsert writes to a host's columns, as SQL.
var trials = map[string]struct {
	what   string
	values map[string]string
}{
	"customer": {"lead", map[string]string{
		"full_name": "'Plan'", "phone_number": "'+99890' || lpad(CAST(floor(random() * 10000000) AS TEXT), 7, '0')", "platform": "'plan'", "username": "'plan'", "notes": "'plan'",
		"status_name": "'contacted'", "created_at": "now()", "updated_at": "now()",
	}},
	"user": {"user", map[string]string{
		"email": "'plan-" + strings.ToLower(rand.Text()) + "@example.com'", "name": "'Plan'", "surname": "'Plan'", "role_name": "'sales_manager'", "is_active": "TRUE",
	}},
}

// tryInsert inserts a row like those of cims into a host's table, in a transaction that it
// rolls back. It returns why the table doesn't take the row, or "".
func (m *Mover) tryInsert(ctx context.Context, table string) (found string, err error) {
	tx, err := m.store.Dialect().Begin(ctx, m.db)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }()
	conn := sqlstore.SQL{IConn: tx}
	columns, err := m.store.Dialect().Columns(ctx, conn, table)
	if err != nil || len(columns) == 0 {
		return "", err
	}
	defaults, err := hosttables.DefaultsFor(m.names.Names, table, columns)
	if err != nil {
		return strings.TrimPrefix(err.Error(), fmt.Sprintf("cims: table %q: ", m.names.Table(table))), nil
	}
	trial := trials[table]
	var into, values []string
	add := func(column, value string) {
		into = append(into, pgx.Identifier{m.names.Theirs(table, column)}.Sanitize())
		values = append(values, value)
	}
	for i, column := range defaults.Columns {
		add(column, m.store.Format("?", defaults.Values[i]))
	}
	for _, c := range columns {
		switch value, known := trial.values[c.Name]; {
		case c.Name == "id" && c.HasDefault: // a sequence would keep the number
			add("id", "(SELECT COALESCE(max("+pgx.Identifier{m.names.Column(table, "id")}.Sanitize()+"), 0) + 1 FROM "+m.names.Relation(table)+")")
		case known && c.MaxLen > 0 && c.Name != nameColumns[table].name:
			add(c.Name, fmt.Sprintf("left(%s, %d)", value, c.MaxLen))
		case known:
			add(c.Name, value)
		case c.IsOlderEnum(table) && c.NotNull && !c.HasDefault:
			add(c.Name, m.store.Format("?", c.Label))
		}
	}
	stored, err := conn.Exec(ctx, "INSERT INTO "+m.names.Relation(table)+" ("+strings.Join(into, ", ")+") OVERRIDING SYSTEM VALUE SELECT "+strings.Join(values, ", "))
	if err == nil && stored == 0 {
		return fmt.Sprintf("it takes no %s: a trigger or rule drops the row", trial.what), nil
	}
	if err == nil {
		_, err = conn.Exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE")
	}
	refused, ok := errors.AsType[*pgconn.PgError](err)
	if ok && (refused.Code == "25006" || refused.Code == "42501") { // planner.lookAtRights says more
		return "", nil
	}
	if !ok || m.store.Dialect().Classify(err) == sqlstore.Unavailable || m.store.Dialect().Classify(err) == sqlstore.Conflict {
		return "", err
	}
	return fmt.Sprintf("it takes no %s: %s", trial.what, refused.Message), nil
}
