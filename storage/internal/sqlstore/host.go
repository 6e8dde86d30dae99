package sqlstore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/cimskit/cims"
)

// Column is a column of a host's table, as its database describes it.
type Column struct {
	Name       string
	Type       string // its base type in lower case: "text", "bigint", "enum" …
	NotNull    bool
	HasDefault bool
	Label      string // the first label of an enum
	MaxLen     int    // how many characters its texts may have; 0 for any number
}

// hostTables remembers what was read of the two tables that may be the host's.
type hostTables struct {
	mu     sync.Mutex
	tables map[string]filling
}

func (h *hostTables) get(table string) (filling, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f, ok := h.tables[table]
	return f, ok
}

func (h *hostTables) set(table string, f filling) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tables == nil {
		h.tables = map[string]filling{}
	}
	h.tables[table] = f
}

// ours are the columns that this library fills itself, or by a trigger.
var ours = map[string][]string{
	"customer": {"id", "full_name", "phone_number", "platform", "username", "notes", "status_name", "created_at", "updated_at", "cims_version"},
	"user":     {"id", "email", "name", "surname", "role_name", "is_active"},
}

// enums are the older program's columns that a trigger keeps in step.
var enums = map[string]string{"customer": "status", "user": "role"}

func (c Column) isOlder(table string) bool { return c.Type == "enum" && c.Name == enums[table] }

// filling is what an insert into a host's table has to add: harmless legal
// values for NOT NULL columns that this library does not know.
type filling struct {
	columns []string
	values  []any
	known   map[string]Column
}

func (f filling) appendTo(t *table) {
	t.columns = append(t.columns, f.columns...)
	for i := range t.rows {
		t.rows[i] = append(t.rows[i], f.values...)
	}
}

// Hosts describes a host's tables to a driver's own statements.
type Hosts func(ctx context.Context, table string) (Host, error)

// Host is what a driver's own statements have to know of a host's table.
type Host struct {
	Fill    map[string]string // columns to be filled, with a literal for each
	Columns map[string]Column
}

// Host describes a table to a driver's own statements.
func (q *queries) Host(ctx context.Context, table string) (Host, error) {
	f, err := q.fill(ctx, table)
	if err != nil {
		return Host{}, err
	}
	host := Host{Fill: map[string]string{}, Columns: f.known}
	for i, column := range f.columns {
		host.Fill[column] = q.db.NewRaw("?", f.values[i]).String()
	}
	return host, nil
}

// text is what a column of a host's table is to hold.
type text struct{ column, value string }

// fit refuses texts that are longer than a host's columns take, as a rule of this
// library would.
func (f filling) fit(texts ...text) error {
	var fields []cims.FieldError
	for _, t := range texts {
		if limit := f.known[t.column].MaxLen; limit > 0 && utf8.RuneCountInString(t.value) > limit {
			fields = append(fields, cims.FieldError{Field: t.column, Rule: cims.RuleLength, Max: limit})
		}
	}
	if len(fields) == 0 {
		return nil
	}
	return &cims.Error{Kind: cims.ErrInvalid, Fields: fields}
}

// Unfit is the first of some leads that a host's table has no room for, or nil.
func (q *queries) Unfit(ctx context.Context, leads []*cims.Lead) (*cims.LeadError, error) {
	f, err := q.fill(ctx, "customer")
	if err != nil {
		return nil, err
	}
	for i, lead := range leads {
		c := lead.Customer
		if err := f.fit(
			text{"full_name", c.FullName}, text{"phone_number", string(c.PhoneNumber)}, text{"platform", string(c.Platform)},
			text{"username", string(c.Username)}, text{"notes", string(c.Notes)}, text{"status_name", c.StatusName},
		); err != nil {
			return &cims.LeadError{Index: i, Err: err}, nil
		}
	}
	return nil, nil
}

// fitUser is fit for a user.
func (f filling) fitUser(u cims.User) error {
	return f.fit(text{"email", u.Email}, text{"name", u.Name}, text{"surname", u.Surname}, text{"role_name", string(u.RoleName)})
}

// fill reads a host's table the first time that something is inserted. Several may
// do so at once: who waited for another's reading might hold the connection that
// this one waits for.
func (q *queries) fill(ctx context.Context, table string) (filling, error) {
	if known, ok := q.hosts.get(table); ok {
		return known, nil
	}
	conn, err := q.on(ctx)
	if err != nil {
		return filling{}, err
	}
	columns, err := q.dialect.Columns(ctx, conn, table)
	if err != nil {
		return filling{}, q.explain(err)
	}
	f := filling{known: map[string]Column{}}
	for _, c := range columns {
		f.known[c.Name] = c
		known := slices.Contains(ours[table], c.Name) || c.isOlder(table)
		if known || !c.NotNull || c.HasDefault {
			continue
		}
		f.columns = append(f.columns, c.Name)
		c.Name = q.dialect.Names.Theirs(table, c.Name)
		value, err := Harmless(c)
		if err != nil {
			return filling{}, fmt.Errorf("cims: table %q: %w", q.dialect.Names.Table(table), err)
		}
		f.values = append(f.values, value)
	}
	if len(columns) > 0 { // or it may be made yet
		q.hosts.set(table, f)
	}
	return f, nil
}

// Harmless is a legal value that means nothing, if there is one.
func Harmless(c Column) (any, error) {
	switch {
	case c.Name == "password":
		return noPassword, nil
	case c.Type == "enum":
		return c.Label, nil
	case strings.Contains(c.Type, "char"), c.Type == "text", c.Type == "bytea", c.Type == "blob":
		return "", nil
	case strings.Contains(c.Type, "int"), strings.HasPrefix(c.Type, "numeric"), strings.HasPrefix(c.Type, "decimal"), c.Type == "real", strings.HasPrefix(c.Type, "double"), strings.HasPrefix(c.Type, "float"):
		return 0, nil
	case strings.HasPrefix(c.Type, "bool"):
		return false, nil
	case strings.HasPrefix(c.Type, "timestamp"), c.Type == "date", c.Type == "datetime":
		return time.Now().UTC(), nil
	case c.Type == "json", c.Type == "jsonb":
		return "{}", nil
	default:
		return nil, fmt.Errorf("column %q is NOT NULL without a default, and there is no harmless value of type %s: give it a default", c.Name, c.Type)
	}
}
