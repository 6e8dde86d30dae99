package move

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cimskit/cims/storage/internal/hosttables"
	"github.com/cimskit/cims/storage/internal/sqlstore"
)

// problem is a reason why a host's table can't be used.
type problem struct{ where, found string }

// Check returns an error if a database can't be, or was not, migrated under these names.
func Check(ctx context.Context, conn sqlstore.Conn, host hosttables.Names) error {
	return names{host}.check(ctx, conn)
}

// names are the names of the host's tables.
type names struct{ hosttables.Names }

func (n names) check(ctx context.Context, conn sqlstore.Conn) error {
	problems, err := n.problems(ctx, conn)
	return errors.Join(err, asError(problems))
}

func asError(problems []problem) (all error) {
	for _, p := range problems {
		all = errors.Join(all, fmt.Errorf("cims: %s: %s", p.where, p.found))
	}
	return all
}

func (n names) problems(ctx context.Context, conn sqlstore.Conn) ([]problem, error) {
	recorded, problems, err := n.recorded(ctx, conn)
	if err != nil || recorded {
		return problems, err
	}
	for _, table := range hosttables.All {
		of, err := n.problemsOf(ctx, conn, table)
		if err != nil {
			return nil, err
		}
		problems = append(problems, of...)
	}
	of, err := n.entryProblems(ctx, conn)
	if err != nil {
		return nil, err
	}
	problems = append(problems, of...)
	if of, err = n.timeProblems(ctx, conn); err != nil {
		return nil, err
	}
	problems = append(problems, of...)
	if len(problems) > 0 { // another process may have created its view meanwhile
		if recorded, others, err := n.recorded(ctx, conn); err != nil || recorded {
			return others, err
		}
	}
	return problems, nil
}

// entryProblems returns the problems of an older program's statuses and roles. Their names
// become targets of foreign keys.
func (n names) entryProblems(ctx context.Context, conn sqlstore.Conn) (problems []problem, err error) {
	tables, err := sqlstore.ScanAll(ctx, conn, `SELECT e.name FROM (VALUES ('customer_status'), ('user_role')) AS e (name) WHERE to_regclass(e.name) IS NOT NULL AND NOT EXISTS (
		SELECT 1 FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
		WHERE i.indrelid = to_regclass(e.name) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indnkeyatts = 1 AND a.attname = 'name')`)
	for _, table := range tables {
		problems = append(problems, problem{table, `the column "name" has to be unique`})
	}
	return problems, err
}

// timeColumns lists the columns of times that this library reads. A table may lack them.
var timeColumns = []struct{ table, column string }{
	{"customer", "created_at"},
	{"customer", "updated_at"},
	{"sales_manager_assignment", "assigned_at"},
	{"customer_status", "created_at"},
	{"customer_status", "updated_at"},
	{"user_role", "created_at"},
	{"user_role", "updated_at"},
}

// timeProblems returns times without a representation. Go has no infinite time, and JSON
// only has years of four digits.
func (n names) timeProblems(ctx context.Context, conn sqlstore.Conn) (problems []problem, err error) {
	for _, c := range timeColumns {
		kind, err := n.timeType(ctx, conn, c.table, c.column)
		if err != nil {
			return nil, err
		}
		if kind == "" {
			continue
		}
		var rows int64
		column := n.Column(c.table, c.column)
		if err := sqlstore.ScanOne(ctx, conn, fmt.Sprintf("SELECT count(*) FROM %s WHERE NOT (%[2]s >= '0001-01-01' AND %[2]s < '10000-01-01')",
			n.Relation(c.table), pgx.Identifier{column}.Sanitize()), &rows); err != nil {
			return nil, err
		}
		if rows > 0 {
			problems = append(problems, problem{n.Shown(c.table), fmt.Sprintf("%d rows hold a time in %q that is none of the years 1 to 9999: give them one", rows, column)})
		}
	}
	return problems, nil
}

// timeType returns timestamp, timestamptz, or "" for a column of another type.
func (n names) timeType(ctx context.Context, conn sqlstore.Conn, table, column string) (string, error) {
	kinds, err := sqlstore.ScanAll(ctx, conn, `SELECT t.typname FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
		WHERE a.attrelid = to_regclass('`+n.Relation(table)+`') AND a.attname = '`+n.Column(table, column)+`' AND NOT a.attisdropped AND t.typname IN ('timestamp', 'timestamptz')`)
	if err != nil || len(kinds) == 0 {
		return "", err
	}
	return kinds[0], nil
}

// recorded compares the names with those that the database was migrated under. It reports
// whether the database was migrated.
func (n names) recorded(ctx context.Context, conn sqlstore.Conn) (recorded bool, problems []problem, err error) {
	if err := sqlstore.ScanOne(ctx, conn, "SELECT to_regclass('cims_host') IS NOT NULL", &recorded); err != nil || !recorded {
		return false, nil, err
	}
	for _, table := range hosttables.All {
		var relation, columns string
		var same bool
		err := sqlstore.ScanOne(ctx, conn, n.SQL(`SELECT relation, CAST(columns AS TEXT), relation = {'`+table+`'} AND columns = {'`+table+`.*'}
			FROM cims_host WHERE table_name = '`+table+`'`), &relation, &columns, &same)
		if err != nil {
			return true, nil, err
		}
		if !same {
			problems = append(problems, problem{n.Shown(table), fmt.Sprintf("the database was migrated with the table %s and the columns %s", relation, columns)})
		}
	}
	return true, problems, nil
}

// typeOf lists the required types of columns other than text.
var typeOf = map[string]string{"id": "integer", "created_at": "timestamp", "updated_at": "timestamp", "is_active": "boolean"}

// problemsOf returns the problems of a table before the migration.
func (n names) problemsOf(ctx context.Context, conn sqlstore.Conn, table string) (problems []problem, err error) {
	t, other := n.Names[table]
	refuse := func(found string, args ...any) {
		problems = append(problems, problem{n.Shown(table), fmt.Sprintf(found, args...)})
	}
	var there, isTable, beside, isPart, isParent, hidden bool
	err = sqlstore.ScanOne(ctx, conn, n.SQL(`SELECT to_regclass({'`+table+`'}) IS NOT NULL,
		EXISTS (SELECT 1 FROM pg_class WHERE oid = to_regclass({'`+table+`'}) AND relkind IN ('r', 'p')),
		EXISTS (SELECT 1 FROM pg_class WHERE relname = '`+table+`' AND relnamespace = to_regnamespace(quote_ident(current_schema()))),
		EXISTS (SELECT 1 FROM pg_class WHERE oid = to_regclass({'`+table+`'}) AND relispartition),
		EXISTS (SELECT 1 FROM pg_class WHERE oid = to_regclass({'`+table+`'}) AND (relkind = 'p' OR relhassubclass AND EXISTS (SELECT 1 FROM pg_inherits WHERE inhparent = pg_class.oid))),
		COALESCE(row_security_active(to_regclass({'`+table+`'})), FALSE)`), &there, &isTable, &beside, &isPart, &isParent, &hidden)
	if err != nil {
		return nil, err
	}
	if other && beside {
		refuse("there is a relation %q in the schema too, where a view of that name has to go: have search_path name a schema of its own for cims first, and set Schema", table)
	}
	if !there && !other {
		return nil, nil
	}
	if !isTable {
		refuse("there is no such table")
		return problems, nil
	}
	switch {
	case isPart:
		refuse("it is a partition of another table: cims needs a table of its own")
	case isParent:
		refuse("it is partitioned, or other tables inherit from it: foreign keys and indexes have to cover all rows")
	case hidden:
		refuse("row level security hides rows from this user: migrate as one whom it doesn't concern, and have cims connect as one")
	}
	if len(problems) > 0 {
		return problems, nil
	}
	for _, column := range hosttables.NameableColumns(table) {
		_, named := t.Columns[column]
		required := slices.Contains(hosttables.Nameable[table].Required, column)
		types, err := sqlstore.ScanAll(ctx, conn, n.SQL(`SELECT CASE WHEN t.typname IN ('int2', 'int4', 'int8') THEN 'integer' WHEN t.typcategory = 'S' THEN 'text'
				WHEN t.typname = 'timestamptz' THEN 'timestamp' WHEN t.typname = 'bool' THEN 'boolean' ELSE t.typname END
			FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
			WHERE a.attrelid = to_regclass({'`+table+`'}) AND a.attname = {'`+table+`.`+column+`'} AND a.attnum > 0 AND NOT a.attisdropped`))
		if err != nil {
			return nil, err
		}
		want, given := typeOf[column], ""
		if want == "" {
			want = "text"
		}
		switch theirs := n.Column(table, column); {
		case len(types) == 0 && (named || required):
			refuse("there is no column %q in it, which is to be its %s", theirs, column)
		case len(types) > 0 && types[0] != want:
			if theirs != column {
				given = ", its " + column + ","
			}
			refuse("the column %q%s has to be of type %s, and is of type %s", theirs, given, want, types[0])
		}
	}
	if len(problems) > 0 {
		return problems, nil
	}
	return problems, n.rowProblems(ctx, conn, table, refuse)
}

// rowProblems calls refuse for problems of a table's rows or key.
func (n names) rowProblems(ctx context.Context, conn sqlstore.Conn, table string, refuse func(found string, args ...any)) error {
	var isKey, hasTime bool
	err := sqlstore.ScanOne(ctx, conn, n.SQL(`SELECT EXISTS (
			SELECT 1 FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
			WHERE i.indrelid = to_regclass({'`+table+`'}) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indnkeyatts = 1 AND a.attname = {'`+table+`.id'}
		), EXISTS (
			SELECT 1 FROM pg_attribute WHERE '`+table+`' = 'customer' AND attrelid = to_regclass({'`+table+`'}) AND attname = {'customer.created_at'} AND NOT attnotnull AND NOT attisdropped
		)`), &isKey, &hasTime)
	if err != nil {
		return err
	}
	if !isKey {
		refuse("the column %q has to be its primary key, or unique", n.Column(table, "id"))
	}
	if hasTime {
		var missing int64
		if err := sqlstore.ScanOne(ctx, conn, n.SQL("SELECT count(*) FROM {customer} WHERE {customer.created_at} IS NULL"), &missing); err != nil {
			return err
		}
		if missing > 0 {
			refuse("%d rows hold no time in %q: give them one", missing, n.Column(table, "created_at"))
		}
	}
	return n.writeProblems(ctx, conn, table, refuse)
}

// nameColumns lists the column of names of each table, the enum that it is filled from, and
// the name of a row without any.
var nameColumns = map[string]struct{ name, enum, nothing string }{
	"customer": {"status_name", "status", "'contacted'"},
	"user":     {"role_name", "role", "NULL"},
}

// writeProblems calls refuse if Migrate has to write to rows whose write would fire a
// trigger or break a constraint. It writes to those whose name isn't in the stored form.
func (n names) writeProblems(ctx context.Context, conn sqlstore.Conn, table string, refuse func(found string, args ...any)) error {
	c := nameColumns[table]
	column, relation := n.Column(table, c.name), n.Relation(table)
	var hasName, hasEnum bool
	if err := sqlstore.ScanOne(ctx, conn, fmt.Sprintf(`SELECT
		EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass('%[1]s') AND attname = '%[2]s' AND NOT attisdropped),
		EXISTS (SELECT 1 FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid WHERE a.attrelid = to_regclass('%[1]s') AND a.attname = '%[3]s' AND NOT a.attisdropped AND t.typtype = 'e')`,
		relation, column, c.enum), &hasName, &hasEnum); err != nil || !hasName && !hasEnum {
		return err
	}
	before, after := "NULL", c.nothing
	if hasEnum {
		after = "COALESCE(" + normalOf("t."+c.enum) + ", " + after + ")"
	}
	if hasName {
		before = "t." + pgx.Identifier{column}.Sanitize()
		after = "COALESCE(" + normalOf(before) + ", " + after + ")"
	}
	written := fmt.Sprintf("FROM %s AS t WHERE CAST(%s AS TEXT) IS DISTINCT FROM %s", relation, before, after)
	triggers, err := sqlstore.ScanAll(ctx, conn, fmt.Sprintf(`SELECT tgname FROM pg_trigger
		WHERE tgrelid = to_regclass('%s') AND NOT tgisinternal AND tgenabled IN ('O', 'A') AND tgtype & 16 <> 0 AND EXISTS (SELECT 1 %s) ORDER BY tgname`, relation, written)) // 16 is UPDATE
	if err != nil {
		return err
	}
	for _, trigger := range triggers {
		refuse("names of some rows get another form in %q, for which the trigger %q would fire: disable it for the time of the migration", column, trigger)
	}
	unchecked, err := sqlstore.ScanAll(ctx, conn, fmt.Sprintf(`SELECT conname || E'\n' || pg_get_expr(conbin, conrelid) FROM pg_constraint
		WHERE conrelid = to_regclass('%s') AND contype = 'c' AND NOT convalidated ORDER BY conname`, relation))
	if err != nil {
		return err
	}
	for _, constraint := range unchecked {
		name, condition, _ := strings.Cut(constraint, "\n")
		var rows int64
		if err := sqlstore.ScanOne(ctx, conn, fmt.Sprintf("SELECT count(*) %s AND NOT (%s)", written, condition), &rows); err != nil {
			return err
		}
		if rows > 0 {
			refuse("names of %d rows get another form in %q, and the rows break the constraint %q: correct them", rows, column, name)
		}
	}
	return nil
}
