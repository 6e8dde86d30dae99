package postgres

import (
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cimskit/cims/storage/internal/hosttables"
)

// Table holds the names of a host's table and of its columns.
type Table struct {
	// Schema is the schema of the table. If it is empty, the search_path decides.
	Schema string
	// Name is the name of the table.
	Name string
	// Columns maps the names of columns in cims to the host's names, where they differ.
	// Customers have id, full_name, phone_number, platform, username, notes, status_name,
	// created_at and updated_at. Users have id, email, name, surname, role_name and
	// is_active. Migrate adds a column that is neither in the table nor in this map.
	Columns map[string]string
}

// Option is an option of [Open] and [New].
type Option func(names)

// Customers declares the host's table of customers, if it is not called customer or its
// columns have other names. Migrate then creates a view customer over the table, in the
// first schema of the search_path. It returns an error if that schema has something of this
// name. To avoid that, put a separate schema for cims first on the search_path.
func Customers(t Table) Option { return func(n names) { n.set("customer", t) } }

// Users declares the host's table of users, as [Customers] does for customers.
func Users(t Table) Option { return func(n names) { n.set("user", t) } }

// names are the names of the host's tables.
type names struct{ hosttables.Names }

func (n names) set(table string, t Table) {
	n.Names[table] = hosttables.Named{Schema: t.Schema, Name: t.Name, Columns: t.Columns}
}

// namesOf returns the names that options declare. It returns an error for an invalid name.
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
