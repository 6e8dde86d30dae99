package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cimskit/cims/storage/internal/hosttables"
	"github.com/cimskit/cims/storage/internal/sqlstore"
	"github.com/cimskit/cims/storage/sqlite/internal/move"
)

// Option is an option of [Open] and [New].
type Option interface{ set(o *options) }

// Table holds the names of a host's table and of its columns.
type Table struct {
	// Name is the name of the table.
	Name string
	// Columns maps the names of columns in cims to the host's names, where they differ.
	// Customers have id, full_name, phone_number, platform, username, notes, status_name,
	// created_at and updated_at. Users have id, email, name, surname, role_name and
	// is_active. Migrate adds a column that is neither in the table nor in this map.
	Columns map[string]string
}

// Customers declares the host's table of customers, if it is not called customer or its
// columns have other names.
func Customers(t Table) Option { return hostTable{"customer", t} }

// Users declares the host's table of users, as [Customers] does for customers.
func Users(t Table) Option { return hostTable{"user", t} }

// Synchronous is an option of [Open] for the durability of changes. [New] takes no
// Synchronous, since the host opens the connections.
type Synchronous string

const (
	// SynchronousFull makes acknowledged changes survive a power cut. It is the default.
	SynchronousFull Synchronous = "synchronous(FULL)"
	// SynchronousNormal is faster. A crash of the program loses nothing. A power cut may
	// lose the last changes, but doesn't corrupt the file.
	SynchronousNormal Synchronous = "synchronous(NORMAL)"
)

type options struct {
	synchronous Synchronous
	names       hosttables.Names
}

func (s Synchronous) set(o *options) { o.synchronous = s }

type hostTable struct {
	name   string // in cims
	theirs Table
}

func (t hostTable) set(o *options) {
	named := hosttables.Named{Name: t.theirs.Name, Columns: t.theirs.Columns}
	if t.name == "customer" {
		named.Added = []string{move.NameColumn}
	}
	o.names[t.name] = named
}

// optionsOf applies a list of options. It returns an error for an invalid name.
func optionsOf(list []Option) (options, error) {
	o := options{names: hosttables.Names{}}
	for _, option := range list {
		option.set(&o)
	}
	if err := o.names.Clean(); err != nil {
		return options{}, err
	}
	for _, table := range hosttables.All {
		taken := map[string]string{}
		for _, column := range hosttables.NameableColumns(table) {
			theirs := strings.ToLower(o.names.Column(table, column))
			if other, twice := taken[theirs]; twice {
				return options{}, fmt.Errorf("cims: table %q: %q can't be both %s and %s: name a column for each", table, theirs, other, column)
			}
			taken[theirs] = column
		}
	}
	if strings.EqualFold(o.names.Table("customer"), o.names.Table("user")) {
		return options{}, errors.New("cims: the customers and the users can't be one table")
	}
	return o, nil
}

// host implements the parts of the dialects that depend on the host's tables.
type host struct{ *move.Host }

// columns implements sqlstore.Dialect.Columns.
func (h host) columns(ctx context.Context, conn sqlstore.Conn, table string) ([]hosttables.Column, error) {
	if _, mayBeHosts := hosttables.Nameable[table]; mayBeHosts {
		if _, err := h.Applied(ctx, conn.(sqlstore.SQL).IConn); err != nil { //nolint:forcetypeassert // there is no other Conn here
			return nil, err
		}
	}
	rows, err := conn.Query(ctx, "SELECT name, lower(type), \"notnull\", dflt_value IS NOT NULL OR pk > 0 FROM pragma_table_info('"+h.Table(table)+"')")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // Err below reports its error
	var list []hosttables.Column
	for rows.Next() {
		var c hosttables.Column
		if err := rows.Scan(&c.Name, &c.Type, &c.NotNull, &c.HasDefault); err != nil {
			return nil, err
		}
		c.Name = h.Ours(table, c.Name)
		list = append(list, c)
	}
	return list, rows.Err()
}
