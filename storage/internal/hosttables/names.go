// Package hosttables describes the two tables that may be the host's, customer and
// "user": their names, their columns, and values for the columns that cims doesn't
// know. "Here" means in cims, as against in the host's database.
package hosttables

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Named is a table under the host's names.
type Named struct {
	Schema  string
	Name    string
	Columns map[string]string // those with another name than here, by the name here
	Added   []string          // read too: cims has added them, and nothing renames them
}

// Names are the tables that have another name, or other columns, in the host's
// database. The keys are the names here.
type Names map[string]Named

// Nameable are the columns that may have other names in the host's database. The
// table must have the required ones.
var Nameable = map[string]struct{ Required, Others []string }{
	"customer": {
		[]string{"id", "full_name"},
		[]string{"phone_number", "platform", "username", "notes", "status_name", "created_at", "updated_at"},
	},
	"user": {[]string{"id", "email"}, []string{"name", "surname", "role_name", "is_active"}},
}

// All are the tables that may be the host's.
var All = slices.Sorted(maps.Keys(Nameable))

// NameableColumns returns all nameable columns of a table.
func NameableColumns(table string) []string {
	return slices.Concat(Nameable[table].Required, Nameable[table].Others)
}

// Clean returns an error for a name that can't be one, and removes the names that
// are as here. Names stand in quoted texts and in formats of statements, so that some
// characters are not allowed.
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

// clash precedes the name of a host's column that is the name of another column
// here.
const clash = "cims_own_"

// Theirs returns the host's name of a column, given a name that Ours has returned.
func (n Names) Theirs(table, column string) string {
	if plain := strings.TrimPrefix(column, clash); plain != column && n[table].Columns[plain] != "" {
		return plain
	}
	return n.Column(table, column)
}

// Ours returns the name here of a host's column.
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

// Shown returns the host's name of a table, or of a column in it, for people to read.
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
	text, _ := json.Marshal(columns) // of texts: no error
	return string(text)
}

// From returns what a statement reads as the table, with the names here: the table
// itself, or a subquery that renames its nameable columns.
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

// written returns a column as SQL.
func (n Names) written(table, column string) string {
	if name := n.Column(table, column); name != column {
		return Quote(name)
	}
	return column
}

var placeholder = regexp.MustCompile(`\{('?)(customer|user)(?:\.(\w+|\*))?'?\}`)

// SQL replaces placeholders in a statement by the host's names. {customer} and
// {customer.id} stand for the table and a column of it, {'customer'} and
// {'customer.id'} for their names as texts, {'customer.*'} for ColumnsJSON.
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

// Quote quotes a name, in the way of both databases.
func Quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
