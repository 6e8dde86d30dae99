package sqlstore

import (
	"context"
	"sync"

	"github.com/uptrace/bun"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/internal/hosttables"
)

// defaultsCache caches the defaults of the two tables that may be the host's.
type defaultsCache struct {
	mu     sync.Mutex
	tables map[string]hosttables.Defaults
}

func (c *defaultsCache) get(table string) (hosttables.Defaults, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok := c.tables[table]
	return d, ok
}

func (c *defaultsCache) set(table string, d hosttables.Defaults) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tables == nil {
		c.tables = map[string]hosttables.Defaults{}
	}
	c.tables[table] = d
}

// HostDefaults returns the defaults of a host's table, which it reads before the first
// insert. Calls don't wait for each other's read: a waiting call might hold the connection
// that the reading call needs.
func (q *queries) HostDefaults(ctx context.Context, table string) (hosttables.Defaults, error) {
	if known, ok := q.defaults.get(table); ok {
		return known, nil
	}
	conn, done, err := q.connection(ctx)
	if err != nil {
		return hosttables.Defaults{}, err
	}
	defer done()
	columns, err := q.dialect.Columns(ctx, conn, table)
	if err != nil {
		return hosttables.Defaults{}, q.explain(err)
	}
	d, err := hosttables.DefaultsFor(q.dialect.Names, table, columns)
	if err == nil && len(columns) > 0 { // without columns, Migrate has yet to create the table
		q.defaults.set(table, d)
	}
	return d, err
}

// Hosts returns the Host of a table.
type Hosts func(ctx context.Context, table string) (Host, error)

// Host describes a host's table to the statements of a driver.
type Host struct {
	Fill    map[string]string // columns to fill, each with a literal
	Columns map[string]hosttables.Column
}

// Host returns the Host of a table. It implements Hosts.
func (q *queries) Host(ctx context.Context, table string) (Host, error) {
	d, err := q.HostDefaults(ctx, table)
	if err != nil {
		return Host{}, err
	}
	host := Host{Fill: map[string]string{}, Columns: d.Known}
	for i, column := range d.Columns {
		host.Fill[column] = q.Format("?", d.Values[i])
	}
	return host, nil
}

// Unfit returns the first lead with a text that is too long for the host's table, or nil.
func (q *queries) Unfit(ctx context.Context, leads []*cims.Lead) (*cims.LeadError, error) {
	d, err := q.HostDefaults(ctx, "customer")
	if err != nil {
		return nil, err
	}
	for i, lead := range leads {
		c := lead.Customer
		if err := d.CheckLengths(
			hosttables.Text{Column: "full_name", Value: c.FullName}, hosttables.Text{Column: "phone_number", Value: string(c.PhoneNumber)},
			hosttables.Text{Column: "platform", Value: string(c.Platform)}, hosttables.Text{Column: "username", Value: string(c.Username)},
			hosttables.Text{Column: "notes", Value: string(c.Notes)}, hosttables.Text{Column: "status_name", Value: c.StatusName},
		); err != nil {
			return &cims.LeadError{Index: i, Err: err}, nil
		}
	}
	return nil, nil
}

// userDefaults returns the defaults for an insert or update of a user. It returns an error
// if a text is too long for the host's column.
func (q *queries) userDefaults(ctx context.Context, u cims.User) (hosttables.Defaults, error) {
	d, err := q.HostDefaults(ctx, "user")
	if err != nil {
		return d, err
	}
	return d, d.CheckLengths(
		hosttables.Text{Column: "email", Value: u.Email}, hosttables.Text{Column: "name", Value: u.Name},
		hosttables.Text{Column: "surname", Value: u.Surname}, hosttables.Text{Column: "role_name", Value: string(u.RoleName)},
	)
}

// table returns the name of a table for a statement that writes to it or reads all its
// columns.
func (q *queries) table(name string) bun.Safe { return bun.Safe(q.dialect.Names.Quoted(name)) }

// column returns the name of a column for such a statement.
func (q *queries) column(table, name string) bun.Safe {
	return bun.Safe(q.dialect.Names.QuotedColumn(table, name))
}
