package sqlstore

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/uptrace/bun"
)

// Named is a host's table: its name, and those of its columns that have other
// names than here, each under the name that it has here.
type Named struct {
	Schema  string
	Name    string
	Columns map[string]string
}

// Names are the tables that the host calls otherwise, by their names here.
type Names map[string]Named

// Nameable are the columns that a host may have under other names, those that
// have to be there first.
var Nameable = map[string]struct{ Required, Others []string }{
	"customer": {
		[]string{"id", "full_name"},
		[]string{"phone_number", "platform", "username", "notes", "status_name", "created_at", "updated_at"},
	},
	"user": {[]string{"id", "email"}, []string{"name", "surname", "role_name", "is_active"}},
}

// HostTables are those that may be the host's.
var HostTables = slices.Sorted(maps.Keys(Nameable))

// NameableColumns are all of a table's.
func NameableColumns(table string) []string {
	return slices.Concat(Nameable[table].Required, Nameable[table].Others)
}

// Clean refuses what can be no name, and leaves only what is called otherwise.
// Names stand in quoted texts and in the formats of statements, so none may end
// one.
func (n Names) Clean() error {
	for _, table := range HostTables {
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
			if !slices.Contains(NameableColumns(table), column) {
				return fmt.Errorf("cims: table %q: there is no column %q to be named", table, column)
			}
			if other, twice := taken[theirs]; twice {
				return fmt.Errorf("cims: table %q: %q can't be both %s and %s", table, theirs, other, column)
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
			if name == "" || len(name) > 63 || strings.ContainsAny(name, "'\"%$?\\\x00") {
				return fmt.Errorf("cims: table %q: %q can't be the name of a schema, table or column here", table, name)
			}
		}
		t.Columns = columns
		n[table] = t
		if t.Schema == "" && t.Name == table && len(columns) == 0 {
			delete(n, table)
		}
	}
	return nil
}

// Relation is a table as it is written in SQL.
func (n Names) Relation(table string) string {
	switch t, other := n[table]; {
	case !other && table == "user":
		return ident(table)
	case !other:
		return table
	case t.Schema == "":
		return ident(t.Name)
	default:
		return ident(t.Schema) + "." + ident(t.Name)
	}
}

// Table is what the host calls a table.
func (n Names) Table(table string) string {
	if t, other := n[table]; other {
		return t.Name
	}
	return table
}

// Column is what the host calls a column.
func (n Names) Column(table, column string) string {
	if theirs, other := n[table].Columns[column]; other {
		return theirs
	}
	return column
}

// own is put before the name of a host's column that is called as another one is here.
const own = "cims_own_"

// Theirs is what the host calls a column that Ours has named.
func (n Names) Theirs(table, column string) string {
	if plain := strings.TrimPrefix(column, own); plain != column && n[table].Columns[plain] != "" {
		return plain
	}
	return n.Column(table, column)
}

// Ours is what a host's column is called here.
func (n Names) Ours(table, theirs string) string {
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

// Shown is how a person is told of a table, or of a column of it.
func (n Names) Shown(table string, column ...string) string {
	name := table
	if t, other := n[table]; other {
		name = strings.TrimPrefix(t.Schema+"."+t.Name, ".")
	}
	for _, c := range column {
		name += "." + n.Column(table, c)
	}
	return name
}

// ColumnsJSON are the columns with other names.
func (n Names) ColumnsJSON(table string) string {
	columns := n[table].Columns
	if columns == nil {
		columns = map[string]string{}
	}
	text, _ := json.Marshal(columns) // of texts: no error
	return string(text)
}

// From is what a statement reads as the table, under the names here: the columns
// that can have others, and those more.
func (n Names) From(table string, more ...string) string {
	if _, other := n[table]; !other {
		return n.Relation(table)
	}
	selected := slices.Clone(more)
	for _, column := range NameableColumns(table) {
		selected = append(selected, n.written(table, column)+" AS "+column)
	}
	return "(SELECT " + strings.Join(selected, ", ") + " FROM " + n.Relation(table) + ")"
}

// written is a column as it is written in SQL.
func (n Names) written(table, column string) string {
	if name := n.Column(table, column); name != column {
		return ident(name)
	}
	return column
}

var placeholder = regexp.MustCompile(`\{('?)(customer|user)(?:\.(\w+|\*))?'?\}`)

// SQL writes the host's names into a statement: {customer} and {customer.id} are
// its table and a column of it, {'customer'} and {'customer.id'} the same as
// texts, and {'customer.*'} the names of all columns that have others.
func (n Names) SQL(statement string) string {
	return placeholder.ReplaceAllStringFunc(statement, func(found string) string {
		parts := placeholder.FindStringSubmatch(found)
		quoted, table, column := parts[1] != "", parts[2], parts[3]
		text := n.Relation(table)
		switch {
		case column == "*":
			text = n.ColumnsJSON(table)
		case column != "" && quoted:
			text = n.Column(table, column)
		case column != "":
			text = n.written(table, column)
		}
		if quoted {
			return "'" + text + "'"
		}
		return text
	})
}

// readAs is what a statement reads as a table, with the columns that this database
// computes.
func (d Dialect) readAs(table string) string {
	var computed []string
	for _, c := range d.Copying.Computed {
		if c.Table == table {
			computed = append(computed, c.Column)
		}
	}
	return d.Names.From(table, computed...)
}

// table is a table in a statement that writes to it, or reads all that it has.
func (q *queries) table(name string) bun.Safe {
	if _, other := q.dialect.Names[name]; other {
		return bun.Safe(q.dialect.Names.Relation(name))
	}
	return bun.Safe(ident(name))
}

// column is a column in such a statement.
func (q *queries) column(table, name string) bun.Safe {
	return bun.Safe(ident(q.dialect.Names.Theirs(table, name)))
}
