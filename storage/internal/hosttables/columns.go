package hosttables

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cimskit/cims"
)

// Column is a column of a table, as the database describes it.
type Column struct {
	Name       string
	Type       string // its base type in lower case: "text", "bigint", "enum" …
	NotNull    bool
	HasDefault bool
	Label      string // the first label of an enum
	MaxLen     int    // maximum number of characters; 0 means no limit
}

// filled lists the columns that cims or its triggers fill.
var filled = map[string][]string{
	"customer": {"id", "full_name", "phone_number", "platform", "username", "notes", "status_name", "created_at", "updated_at", "cims_version"},
	"user":     {"id", "email", "name", "surname", "role_name", "is_active"},
}

// Fills reports whether cims or one of its triggers fills the column.
func Fills(table, column string) bool { return slices.Contains(filled[table], column) }

// enums lists the older program's enum columns. A trigger keeps each equal to the column
// with the name.
var enums = map[string]string{"customer": "status", "user": "role"}

// IsOlderEnum reports whether a column of the table is the older program's enum of statuses
// or roles.
func (c Column) IsOlderEnum(table string) bool { return c.Type == "enum" && c.Name == enums[table] }

// Defaults are the values that an insert adds for NOT NULL columns that cims doesn't know.
// They are valid and carry no meaning.
type Defaults struct {
	Columns []string
	Values  []any             // of Columns
	Known   map[string]Column // all columns of the table
}

// DefaultsFor returns the defaults of a table with the given columns.
func DefaultsFor(names Names, table string, columns []Column) (Defaults, error) {
	d := Defaults{Known: map[string]Column{}}
	for _, c := range columns {
		d.Known[c.Name] = c
		if Fills(table, c.Name) || c.IsOlderEnum(table) || !c.NotNull || c.HasDefault {
			continue
		}
		d.Columns = append(d.Columns, c.Name)
		c.Name = names.Theirs(table, c.Name)
		value, err := DefaultFor(c)
		if err != nil {
			return Defaults{}, fmt.Errorf("cims: table %q: %w", names.Table(table), err)
		}
		d.Values = append(d.Values, value)
	}
	return d, nil
}

// Text is a text for a column.
type Text struct{ Column, Value string }

// CheckLengths returns a *cims.Error with cims.ErrInvalid if a text is too long for the
// host's column.
func (d Defaults) CheckLengths(texts ...Text) error {
	var fields []cims.FieldError
	for _, t := range texts {
		if limit := d.Known[t.Column].MaxLen; limit > 0 && utf8.RuneCountInString(t.Value) > limit {
			fields = append(fields, cims.FieldError{Field: t.Column, Rule: cims.RuleLength, Max: limit})
		}
	}
	if len(fields) == 0 {
		return nil
	}
	return &cims.Error{Kind: cims.ErrInvalid, Fields: fields}
}

// noPassword is the value of a NOT NULL password column. It is the hash of no password.
const noPassword = "!"

// DefaultFor returns a valid value without meaning for a column, or an error if the type
// has none.
func DefaultFor(c Column) (any, error) {
	switch {
	case c.Name == "password":
		return noPassword, nil
	case c.Type == "enum":
		return c.Label, nil
	case strings.HasSuffix(c.Type, "[]"):
		return "{}", nil
	case strings.Contains(c.Type, "char"), c.Type == "text", c.Type == "bytea", c.Type == "blob":
		return "", nil
	case isInteger(c.Type), strings.HasPrefix(c.Type, "numeric"), strings.HasPrefix(c.Type, "decimal"), c.Type == "real", strings.HasPrefix(c.Type, "double"), strings.HasPrefix(c.Type, "float"):
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

// isInteger reports whether a type is one of integers. SQLite takes any type with "int" in
// its name for one.
func isInteger(kind string) bool {
	return strings.Contains(kind, "int") && kind != "interval" && kind != "point" && !strings.HasSuffix(kind, "range")
}
