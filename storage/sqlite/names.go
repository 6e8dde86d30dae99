package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/uptrace/bun"

	"github.com/cimskit/cims/storage/internal/sqlstore"
)

// Option is one of [Open] and [New].
type Option interface{ set(o *options) }

// Table says what a host calls a table of its own, and the columns in it.
type Table struct {
	// Name is the table's own.
	Name string
	// Columns are those that have other names than here, each under the name
	// that it has here. Customers have id, full_name, phone_number, platform,
	// username, notes, status_name, created_at and updated_at; users have id,
	// email, name, surname, role_name and is_active. One that the table lacks and
	// that is not listed is added to it under its name here.
	Columns map[string]string
}

// Customers names the host's table of customers, if it is not called customer or
// its columns have other names.
func Customers(t Table) Option { return hostTable{"customer", t} }

// Users names the host's table of users, as [Customers] does that of customers.
func Users(t Table) Option { return hostTable{"user", t} }

// Synchronous is how safe from a power cut a file is that Open opens. On
// connections of the host's it is the host's choice.
type Synchronous string

const (
	// SynchronousFull makes what was acknowledged survive a power cut. It is
	// the default.
	SynchronousFull Synchronous = "synchronous(FULL)"
	// SynchronousNormal is faster. The crash of a program loses nothing, but a
	// power cut may take the last moments back; the file stays sound.
	SynchronousNormal Synchronous = "synchronous(NORMAL)"
)

type options struct {
	synchronous Synchronous
	names       sqlstore.Names
}

func (s Synchronous) set(o *options) { o.synchronous = s }

type hostTable struct {
	name   string // here
	theirs Table
}

func (t hostTable) set(o *options) {
	o.names[t.name] = sqlstore.Named{Name: t.theirs.Name, Columns: t.theirs.Columns}
}

// optionsOf refuses what can be no name.
func optionsOf(list []Option) (options, error) {
	o := options{names: sqlstore.Names{}}
	for _, option := range list {
		option.set(&o)
	}
	if err := o.names.Clean(); err != nil {
		return options{}, err
	}
	for _, table := range sqlstore.HostTables {
		taken := map[string]string{}
		for _, column := range sqlstore.NameableColumns(table) {
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

// host is what the host calls its tables, and what follows from it.
type host struct {
	sqlstore.Names
	users, customers hostable
}

func newHost(names sqlstore.Names) *host {
	h := &host{Names: names, users: users, customers: customers}
	h.users.names, h.customers.names = names, names
	return h
}

// tables are those that may be the host's, in the order of their references.
func (h *host) tables() []*hostable { return []*hostable{&h.users, &h.customers} }

// check tells that the database was migrated under these names.
func (h *host) check(ctx context.Context, conn bun.IConn) error {
	var all error
	for _, t := range h.tables() {
		relation, columns := t.name, "{}" // of a table that is ours
		err := each(ctx, conn, func(rows *sql.Rows) error { return rows.Scan(&relation, &columns) },
			"SELECT relation, names FROM cims_adopted WHERE table_name = ?", t.name)
		if err != nil {
			return err
		}
		if relation != h.Table(t.name) || columns != h.ColumnsJSON(t.name) {
			all = errors.Join(all, fmt.Errorf("cims: %s: the database was migrated with the table %q and the columns %s", t.shown(), relation, columns))
		}
	}
	return all
}

// columns is a Dialect's.
func (h *host) columns(ctx context.Context, conn sqlstore.Conn, table string) ([]sqlstore.Column, error) {
	if _, theirs := sqlstore.Nameable[table]; theirs {
		if _, err := h.applied(ctx, conn.(sqlstore.SQL).IConn); err != nil { //nolint:forcetypeassert // there is no other Conn here
			return nil, err
		}
	}
	rows, err := conn.Query(ctx, "SELECT name, lower(type), \"notnull\", dflt_value IS NOT NULL OR pk > 0 FROM pragma_table_info('"+h.Table(table)+"')")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // Err below tells
	var list []sqlstore.Column
	for rows.Next() {
		var c sqlstore.Column
		if err := rows.Scan(&c.Name, &c.Type, &c.NotNull, &c.HasDefault); err != nil {
			return nil, err
		}
		c.Name = h.Ours(table, c.Name)
		list = append(list, c)
	}
	return list, rows.Err()
}
