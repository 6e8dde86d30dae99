// Package migration has the answers of Plan, Migrate, Verify and Rollback of
// storage/postgres and storage/sqlite, which move a database over to cims and back.
package migration

import (
	"fmt"
	"strings"
)

// State is the kind of a database before it is migrated.
type State string

// The states that a migration starts from.
const (
	Empty    State = "empty"                                            // none of the tables is there
	Host     State = "a host's own tables"                              // customer, "user" or both are
	EnumOnly State = "the older program's database"                     // with enums for statuses and roles
	Deployed State = "the older program's database, migrated by itself" // and with names beside them
	Current  State = "migrated"                                         // nothing is left to do
	// Unfinished is the target of a copy: nothing but that copy may go on with it.
	Unfinished State = "an unfinished copy of another database"
)

// Plan lists what a migration would do. Making one changes nothing.
type Plan struct {
	State    State
	Steps    []Step
	Findings []Finding
}

// Step is one step that is left to do.
type Step struct {
	Name string
	Does string // in a sentence
	Rows int64  // to be gone through; 0 where it is not about rows
}

// Finding is something odd in the data, and what the migration makes of it.
type Finding struct {
	Where string // a table, or table.column
	Found string // as in "12 rows say “CEO”"
	Rows  int64
	Does  string // as in "makes it “ceo”"
}

// Progress tells how far a long step is.
type Progress struct {
	Step        string
	Done, Total int64 // rows
}

// Report is the result of Verify.
type Report struct {
	Checks []Check
	// Notes are no faults. One may be a lead whose name and enum differ.
	Notes []string
}

// Check is one comparison of Verify.
type Check struct {
	Name string
	// Fault says what is wrong; empty if nothing is.
	Fault string
}

// OK reports whether all checks passed.
func (r Report) OK() bool {
	for _, check := range r.Checks {
		if check.Fault != "" {
			return false
		}
	}
	return len(r.Checks) > 0
}

// String returns the report for people to read.
func (r Report) String() string {
	var text strings.Builder
	for _, check := range r.Checks {
		if check.Fault == "" {
			fmt.Fprintf(&text, "ok     %s\n", check.Name)
		} else {
			fmt.Fprintf(&text, "WRONG  %s: %s\n", check.Name, check.Fault)
		}
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&text, "note   %s\n", note)
	}
	return text.String()
}

// RefusedError is the error of a rollback that was not begun. Its reasons name what would be
// lost.
type RefusedError struct{ Reasons []string }

func (e *RefusedError) Error() string {
	return "cims: a rollback would lose something: " + strings.Join(e.Reasons, "; ")
}

// String returns the plan for people to read.
func (p Plan) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "This is %s.\n", p.State)
	switch {
	case p.State == Unfinished:
		text.WriteString("\nRun the copy again to finish it.\n")
	case len(p.Steps) == 0:
		text.WriteString("\nNothing is left to do.\n")
	default:
		text.WriteString("\nTo do:\n")
	}
	for _, step := range p.Steps {
		fmt.Fprintf(&text, "  %-24s %s", step.Name, step.Does)
		if step.Rows > 0 {
			fmt.Fprintf(&text, " (%d rows)", step.Rows)
		}
		text.WriteString("\n")
	}
	if len(p.Findings) > 0 {
		text.WriteString("\nFound:\n")
	}
	for _, f := range p.Findings {
		fmt.Fprintf(&text, "  %s: %s\n    → %s\n", f.Where, f.Found, f.Does)
	}
	return text.String()
}
