package postgres

import (
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cimskit/cims/storage/internal/hosttables"
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
func Customers(t Table) Option { return func(n names) { n.set("customer", t) } }

// Users names the host's table of users, as [Customers] does that of customers.
func Users(t Table) Option { return func(n names) { n.set("user", t) } }

// names are the names of the host's tables.
type names struct{ hosttables.Names }

func (n names) set(table string, t Table) {
	n.Names[table] = hosttables.Named{Schema: t.Schema, Name: t.Name, Columns: t.Columns}
}

// namesOf returns an error for a name that can't be one.
func namesOf(options []Option) (names, error) {
	n := names{hosttables.Names{}}
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
