package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cimskit/cims/storage/internal/sqlstore"
)

// Table says what a host calls a table of its own, and the columns in it.
type Table struct {
	// Schema is the table's, if it is not to be looked for on the search_path.
	Schema string
	// Name is the table's own.
	Name string
	// Columns are those that have other names than here, each under the name
	// that it has here. Customers have id, full_name, phone_number, platform,
	// username, notes, status_name, created_at and updated_at; users have id,
	// email, name, surname, role_name and is_active. One that the table lacks and
	// that is not listed is added to it under its name here.
	Columns map[string]string
}

// Option is one of [Open] and [New].
type Option func(names)

// Customers names the host's table of customers, if it is not called customer or
// its columns have other names. Migrate makes a view customer over it then, in
// the first schema of the search_path; it refuses to where something of that name
// is there: have search_path name a schema of its own for cims first.
func Customers(t Table) Option { return func(n names) { n.Names["customer"] = sqlstore.Named(t) } }

// Users names the host's table of users, as [Customers] does that of customers.
func Users(t Table) Option { return func(n names) { n.Names["user"] = sqlstore.Named(t) } }

// names are what the host calls its tables, where that differs.
type names struct{ sqlstore.Names }

// namesOf refuses what can be no name.
func namesOf(options []Option) (names, error) {
	n := names{sqlstore.Names{}}
	for _, option := range options {
		option(n)
	}
	if err := n.Clean(); err != nil {
		return names{}, err
	}
	for _, table := range slices.Sorted(maps.Keys(n.Names)) {
		if t := n.Names[table]; t.Schema == "" && t.Name == table {
			return names{}, fmt.Errorf("cims: table %q: its columns can have other names only if Schema is set, and another one is first on the search_path: a view %s goes there", table, table)
		}
	}
	return n, nil
}

func (n names) identifier(table string) pgx.Identifier {
	if schema := n.Names[table].Schema; schema != "" {
		return pgx.Identifier{schema, n.Table(table)}
	}
	return pgx.Identifier{n.Table(table)}
}

// problem is why a host's table can't be used.
type problem struct{ where, found string }

// check tells that a database can be, or was, migrated under these names.
func (n names) check(ctx context.Context, conn sqlstore.Conn) error {
	problems, err := n.problems(ctx, conn)
	if err != nil {
		return err
	}
	var all error
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
	for _, table := range sqlstore.HostTables {
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
	if len(problems) > 0 { // or is it another process's view that was found?
		if recorded, others, err := n.recorded(ctx, conn); err != nil || recorded {
			return others, err
		}
	}
	return problems, nil
}

// entryProblems are those of an older program's statuses and roles: foreign keys
// refer to their names.
func (n names) entryProblems(ctx context.Context, conn sqlstore.Conn) (problems []problem, err error) {
	var tables []string
	err = n.scanAll(ctx, conn, `SELECT e.name FROM (VALUES ('customer_status'), ('user_role')) AS e (name) WHERE to_regclass(e.name) IS NOT NULL AND NOT EXISTS (
		SELECT 1 FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
		WHERE i.indrelid = to_regclass(e.name) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indnkeyatts = 1 AND a.attname = 'name')`, &tables)
	for _, table := range tables {
		problems = append(problems, problem{table, `the column "name" has to be unique`})
	}
	return problems, err
}

// timeColumns are those that this library reads, where they are there.
var timeColumns = []struct{ table, column string }{
	{"customer", "created_at"},
	{"customer", "updated_at"},
	{"sales_manager_assignment", "assigned_at"},
	{"customer_status", "created_at"},
	{"customer_status", "updated_at"},
	{"user_role", "created_at"},
	{"user_role", "updated_at"},
}

// timeProblems are times that can't be told: there is no infinity in Go, and no
// year but those of four digits in JSON.
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

// timeType is timestamp or timestamptz, or empty where the column is neither.
func (n names) timeType(ctx context.Context, conn sqlstore.Conn, table, column string) (string, error) {
	var kinds []string
	err := n.scanAll(ctx, conn, `SELECT t.typname FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
		WHERE a.attrelid = to_regclass('`+n.Relation(table)+`') AND a.attname = '`+n.Column(table, column)+`' AND NOT a.attisdropped AND t.typname IN ('timestamp', 'timestamptz')`, &kinds)
	if err != nil || len(kinds) == 0 {
		return "", err
	}
	return kinds[0], nil
}

// recorded compares the names with those that the database was migrated under,
// if it was.
func (n names) recorded(ctx context.Context, conn sqlstore.Conn) (recorded bool, problems []problem, err error) {
	if err := sqlstore.ScanOne(ctx, conn, "SELECT to_regclass('cims_host') IS NOT NULL", &recorded); err != nil || !recorded {
		return false, nil, err
	}
	for _, table := range sqlstore.HostTables {
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

// typeOf is what a host's column has to be, if it is no text.
var typeOf = map[string]string{"id": "integer", "created_at": "timestamp", "updated_at": "timestamp", "is_active": "boolean"}

// problemsOf looks at a table before anything is made.
func (n names) problemsOf(ctx context.Context, conn sqlstore.Conn, table string) (problems []problem, err error) {
	t, other := n.Names[table]
	refuse := func(found string, args ...any) {
		problems = append(problems, problem{n.Shown(table), fmt.Sprintf(found, args...)})
	}
	var there, isTable, beside bool
	err = sqlstore.ScanOne(ctx, conn, n.SQL(`SELECT to_regclass({'`+table+`'}) IS NOT NULL,
		EXISTS (SELECT 1 FROM pg_class WHERE oid = to_regclass({'`+table+`'}) AND relkind IN ('r', 'p')),
		EXISTS (SELECT 1 FROM pg_class WHERE relname = '`+table+`' AND relnamespace = to_regnamespace(quote_ident(current_schema())))`), &there, &isTable, &beside)
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
	for _, column := range sqlstore.NameableColumns(table) {
		_, named := t.Columns[column]
		required := slices.Contains(sqlstore.Nameable[table].Required, column)
		var types []string
		err := n.scanAll(ctx, conn, n.SQL(`SELECT CASE WHEN t.typname IN ('int2', 'int4', 'int8') THEN 'integer' WHEN t.typcategory = 'S' THEN 'text'
				WHEN t.typname = 'timestamptz' THEN 'timestamp' WHEN t.typname = 'bool' THEN 'boolean' ELSE t.typname END
			FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
			WHERE a.attrelid = to_regclass({'`+table+`'}) AND a.attname = {'`+table+`.`+column+`'} AND a.attnum > 0 AND NOT a.attisdropped`), &types)
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

// rowProblems are those of what a table holds, and of its key.
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
	return nil
}

func (names) scanAll(ctx context.Context, conn sqlstore.Conn, query string, into *[]string) error {
	rows, err := conn.Query(ctx, query)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // Err below tells
	for rows.Next() {
		var value string
		if err := rows.Scan(&value); err != nil {
			return err
		}
		*into = append(*into, value)
	}
	return rows.Err()
}
