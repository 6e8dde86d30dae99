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
	MaxLen     int    // how many characters its texts may have; 0 for any number
}

// filled are the columns that cims fills itself, or by a trigger.
var filled = map[string][]string{
	"customer": {"id", "full_name", "phone_number", "platform", "username", "notes", "status_name", "created_at", "updated_at", "cims_version"},
	"user":     {"id", "email", "name", "surname", "role_name", "is_active"},
}

// Fills reports whether cims fills the column itself, or by a trigger.
func Fills(table, column string) bool { return slices.Contains(filled[table], column) }

// enums are the older program's columns that a trigger keeps equal to the name
// beside them.
var enums = map[string]string{"customer": "status", "user": "role"}

// IsOlderEnum reports whether a column is the older program's enum of statuses or
// roles.
func (c Column) IsOlderEnum(table string) bool { return c.Type == "enum" && c.Name == enums[table] }

// Defaults are the values that an insert into a table adds for the NOT NULL columns that
// cims doesn't know. They are legal and mean nothing.
type Defaults struct {
	Columns []string
	Values  []any             // of Columns
	Known   map[string]Column // all columns of the table
}

// DefaultsFor returns the defaults of a table with these columns.
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

// CheckLengths returns a *cims.Error with cims.ErrInvalid for texts that are too long
// for the host's columns.
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

// noPassword is the value of a NOT NULL password column: nothing hashes to it.
const noPassword = "!"

// DefaultFor returns a legal value of a column that means nothing, or an error if
// there is none.
func DefaultFor(c Column) (any, error) {
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
