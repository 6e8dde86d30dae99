// Package hosttables describes the two tables that may be the host's, customer and
// "user". It maps their names and columns between cims and the host, and finds values for
// the columns that cims doesn't know.
package hosttables

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Named holds the host's names of a table and its columns.
type Named struct {
	Schema  string
	Name    string
	Columns map[string]string // host's names that differ, by the name in cims
	Added   []string          // columns that cims has added and reads; they have no other name
}

// Names holds the tables that have another name, or other column names, in the host's
// database, by their names in cims.
type Names map[string]Named

// Nameable lists the columns that may have other names in the host's database. The host's
// table must have the required ones.
var Nameable = map[string]struct{ Required, Others []string }{
	"customer": {
		[]string{"id", "full_name"},
		[]string{"phone_number", "platform", "username", "notes", "status_name", "created_at", "updated_at"},
	},
	"user": {[]string{"id", "email"}, []string{"name", "surname", "role_name", "is_active"}},
}

// All lists the tables that may be the host's.
var All = slices.Sorted(maps.Keys(Nameable))

// NameableColumns returns all nameable columns of a table.
func NameableColumns(table string) []string {
	return slices.Concat(Nameable[table].Required, Nameable[table].Others)
}

// Clean removes names that equal those of cims. It returns an error for an invalid name.
// Some characters are invalid since names are part of quoted texts and of statement formats.
func (n Names) Clean() error {
	for _, table := range All {
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
				return fmt.Errorf("cims: table %q: there is no column %q to name", table, column)
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
				return fmt.Errorf("cims: table %q: %q is not a valid name of a schema, table or column", table, name)
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

// Relation returns a table as SQL, with its schema.
func (n Names) Relation(table string) string {
	switch t, other := n[table]; {
	case !other && table == "user":
		return Quote(table)
	case !other:
		return table
	case t.Schema == "":
		return Quote(t.Name)
	default:
		return Quote(t.Schema) + "." + Quote(t.Name)
	}
}

// Table returns the host's name of a table.
func (n Names) Table(table string) string {
	if t, other := n[table]; other {
		return t.Name
	}
	return table
}

// Column returns the host's name of a column.
func (n Names) Column(table, column string) string {
	if theirs, other := n[table].Columns[column]; other {
		return theirs
	}
	return column
}

// clash is the prefix for a host's column whose name is that of another column in cims.
const clash = "cims_own_"

// Theirs returns the host's name of a column, given a name returned by Ours.
func (n Names) Theirs(table, column string) string {
	if plain := strings.TrimPrefix(column, clash); plain != column && n[table].Columns[plain] != "" {
		return plain
	}
	return n.Column(table, column)
}

// Ours returns the name in cims of a host's column.
func (n Names) Ours(table, theirs string) string {
	for column, name := range n[table].Columns {
		if name == theirs {
			return column
		}
	}
	if _, otherwise := n[table].Columns[theirs]; otherwise {
		return clash + theirs
	}
	return theirs
}

// Shown returns the host's name of a table, or of a column in it, for display.
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

// ColumnsJSON returns the renamed columns of a table as a JSON object.
func (n Names) ColumnsJSON(table string) string {
	columns := n[table].Columns
	if columns == nil {
		columns = map[string]string{}
	}
	text, _ := json.Marshal(columns) // a map of strings always marshals
	return string(text)
}

// From returns the FROM item that reads the table under the names in cims. It is the table
// itself, or a subquery that renames its columns.
func (n Names) From(table string) string {
	t, other := n[table]
	if !other {
		return n.Relation(table)
	}
	selected := slices.Clone(t.Added)
	for _, column := range NameableColumns(table) {
		selected = append(selected, n.written(table, column)+" AS "+column)
	}
	return "(SELECT " + strings.Join(selected, ", ") + " FROM " + n.Relation(table) + ")"
}

// written returns the host's name of a column as SQL.
func (n Names) written(table, column string) string {
	if name := n.Column(table, column); name != column {
		return Quote(name)
	}
	return column
}

var placeholder = regexp.MustCompile(`\{('?)(customer|user)(?:\.(\w+|\*))?'?\}`)

// SQL replaces placeholders in a statement by the host's names. {customer} and
// {customer.id} stand for the table and a column of it. {'customer'} and {'customer.id'}
// stand for their names as texts, and {'customer.*'} for ColumnsJSON.
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

// Quoted returns a table as SQL, always quoted.
func (n Names) Quoted(table string) string {
	if _, other := n[table]; other {
		return n.Relation(table)
	}
	return Quote(table)
}

// QuotedColumn returns a column as SQL, always quoted.
func (n Names) QuotedColumn(table, name string) string { return Quote(n.Theirs(table, name)) }

// Quote quotes a name for both databases.
func Quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
