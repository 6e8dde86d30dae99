package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

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
func Customers(t Table) Option { return func(n names) { n["customer"] = t } }

// Users names the host's table of users, as [Customers] does that of customers.
func Users(t Table) Option { return func(n names) { n["user"] = t } }

// names are the tables that the host calls otherwise, by their names here.
type names map[string]Table

// nameable are the columns that a host may have under other names, those that
// have to be there first.
var nameable = map[string]struct{ required, others []string }{
	"customer": {
		[]string{"id", "full_name"},
		[]string{"phone_number", "platform", "username", "notes", "status_name", "created_at", "updated_at"},
	},
	"user": {[]string{"id", "email"}, []string{"name", "surname", "role_name", "is_active"}},
}

var hostTables = slices.Sorted(maps.Keys(nameable))

// namesOf refuses what can be no name. Names stand in the steps' quoted texts,
// so none may end one.
func namesOf(options []Option) (names, error) {
	n := names{}
	for _, option := range options {
		option(n)
	}
	for _, table := range hostTables {
		t, given := n[table]
		if !given {
			continue
		}
		if t.Name == "" {
			t.Name = table
		}
		columns, taken := map[string]string{}, map[string]string{}
		for _, column := range slices.Sorted(maps.Keys(t.Columns)) {
			theirs := t.Columns[column]
			if known := nameable[table]; !slices.Contains(slices.Concat(known.required, known.others), column) {
				return nil, fmt.Errorf("cims: table %q: there is no column %q to be named", table, column)
			}
			if other, twice := taken[theirs]; twice {
				return nil, fmt.Errorf("cims: table %q: %q can't be both %s and %s", table, theirs, other, column)
			}
			taken[theirs] = column
			if theirs != column {
				columns[column] = theirs
			}
		}
		written := append(slices.Sorted(maps.Values(columns)), t.Name)
		if t.Schema != "" {
			written = append(written, t.Schema)
		}
		for _, name := range written {
			if name == "" || len(name) > 63 || strings.ContainsAny(name, "'\"%$\\\x00") {
				return nil, fmt.Errorf("cims: table %q: %q can't be the name of a schema, table or column here", table, name)
			}
		}
		if t.Schema == "" && t.Name == table {
			if len(columns) > 0 {
				return nil, fmt.Errorf("cims: table %q: its columns can have other names only if Schema is set, and another one is first on the search_path: a view %s goes there", table, table)
			}
			delete(n, table)
			continue
		}
		t.Columns = columns
		n[table] = t
	}
	return n, nil
}

// relation is a table as it is written in SQL.
func (n names) relation(table string) string {
	if _, other := n[table]; !other && table != "user" {
		return table
	}
	return n.identifier(table).Sanitize()
}

func (n names) identifier(table string) pgx.Identifier {
	switch t, other := n[table]; {
	case !other:
		return pgx.Identifier{table}
	case t.Schema == "":
		return pgx.Identifier{t.Name}
	default:
		return pgx.Identifier{t.Schema, t.Name}
	}
}

// column is what the host calls a column.
func (n names) column(table, column string) string {
	if theirs, other := n[table].Columns[column]; other {
		return theirs
	}
	return column
}

// own is put before the name of a host's column that is called as another one is here.
const own = "cims_own_"

// realColumn is what the host calls a column of the view.
func (n names) realColumn(table, column string) string {
	if plain, prefixed := strings.CutPrefix(column, own); prefixed {
		return plain
	}
	return n.column(table, column)
}

// viewColumn is what a host's column is called in the view.
func (n names) viewColumn(table, theirs string) string {
	for column, name := range n[table].Columns {
		if name == theirs {
			return column
		}
	}
	if _, otherwise := n[table].Columns[theirs]; otherwise {
		return own + theirs
	}
	return theirs
}

// shown is how a person is told of a table, or of a column of it.
func (n names) shown(table string, column ...string) string {
	name := table
	if t, other := n[table]; other {
		name = strings.TrimPrefix(t.Schema+"."+t.Name, ".")
	}
	for _, c := range column {
		name += "." + n.column(table, c)
	}
	return name
}

// columnsJSON are the columns with other names.
func (n names) columnsJSON(table string) string {
	columns := n[table].Columns
	if columns == nil {
		columns = map[string]string{}
	}
	text, _ := json.Marshal(columns) // of texts: no error
	return string(text)
}

var placeholder = regexp.MustCompile(`\{('?)(customer|user)(?:\.(\w+|\*))?'?\}`)

// sql writes the host's names into a statement: {customer} and {customer.id} are
// its table and a column of it, {'customer'} and {'customer.id'} the same as
// texts, and {'customer.*'} the names of all columns that have others.
func (n names) sql(statement string) string {
	return placeholder.ReplaceAllStringFunc(statement, func(found string) string {
		parts := placeholder.FindStringSubmatch(found)
		quoted, table, column := parts[1] != "", parts[2], parts[3]
		text := n.relation(table)
		switch {
		case column == "*":
			text = n.columnsJSON(table)
		case column != "" && quoted, column != "" && n.column(table, column) == column:
			text = n.column(table, column)
		case column != "":
			text = pgx.Identifier{n.column(table, column)}.Sanitize()
		}
		if quoted {
			return "'" + text + "'"
		}
		return text
	})
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
	for _, table := range hostTables {
		of, err := n.problemsOf(ctx, conn, table)
		if err != nil {
			return nil, err
		}
		problems = append(problems, of...)
	}
	if len(problems) > 0 { // or is it another process's view that was found?
		if recorded, others, err := n.recorded(ctx, conn); err != nil || recorded {
			return others, err
		}
	}
	return problems, nil
}

// recorded compares the names with those that the database was migrated under,
// if it was.
func (n names) recorded(ctx context.Context, conn sqlstore.Conn) (recorded bool, problems []problem, err error) {
	if err := sqlstore.ScanOne(ctx, conn, "SELECT to_regclass('cims_host') IS NOT NULL", &recorded); err != nil || !recorded {
		return false, nil, err
	}
	for _, table := range hostTables {
		var relation, columns string
		var same bool
		err := sqlstore.ScanOne(ctx, conn, n.sql(`SELECT relation, CAST(columns AS TEXT), relation = {'`+table+`'} AND columns = {'`+table+`.*'}
			FROM cims_host WHERE table_name = '`+table+`'`), &relation, &columns, &same)
		if err != nil {
			return true, nil, err
		}
		if !same {
			problems = append(problems, problem{n.shown(table), fmt.Sprintf("the database was migrated with the table %s and the columns %s", relation, columns)})
		}
	}
	return true, problems, nil
}

// problemsOf looks at a table before anything is made.
func (n names) problemsOf(ctx context.Context, conn sqlstore.Conn, table string) (problems []problem, err error) {
	t, other := n[table]
	refuse := func(found string, args ...any) {
		problems = append(problems, problem{n.shown(table), fmt.Sprintf(found, args...)})
	}
	var there, isTable, beside bool
	err = sqlstore.ScanOne(ctx, conn, n.sql(`SELECT to_regclass({'`+table+`'}) IS NOT NULL,
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
	for _, column := range slices.Concat(nameable[table].required, nameable[table].others) {
		_, named := t.Columns[column]
		if !named && !slices.Contains(nameable[table].required, column) {
			continue // it is added
		}
		var types []string
		err := n.scanAll(ctx, conn, n.sql(`SELECT CASE WHEN t.typname IN ('int2', 'int4', 'int8') THEN 'integer' WHEN t.typcategory = 'S' THEN 'text' ELSE t.typname END
			FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
			WHERE a.attrelid = to_regclass({'`+table+`'}) AND a.attname = {'`+table+`.`+column+`'} AND a.attnum > 0 AND NOT a.attisdropped`), &types)
		if err != nil {
			return nil, err
		}
		switch theirs := n.column(table, column); {
		case len(types) == 0:
			refuse("there is no column %q in it, which is to be its %s", theirs, column)
		case column == "id" && types[0] != "integer":
			refuse("the column %q has to be an integer, and is of type %s", theirs, types[0])
		case named && strings.HasSuffix(column, "_name") && types[0] != "text":
			refuse("the column %q, its %s, has to be a text, and is of type %s", theirs, column, types[0])
		}
	}
	return problems, nil
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
