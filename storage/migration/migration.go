// Package migration has the options and results of moving a database over to cims and
// back. The methods Plan, Migrate, Verify, Repair and Rollback of storage/postgres and
// storage/sqlite use them.
package migration

import (
	"fmt"
	"strings"
)

// State is the state of a database before a migration.
type State string

// The states that a migration starts from.
const (
	Empty    State = "empty"                                            // no table of cims or of a host exists
	Host     State = "a host's own tables"                              // customer, "user" or both exist
	EnumOnly State = "the older program's database"                     // with enums for statuses and roles
	Deployed State = "the older program's database, migrated by itself" // and with names beside them
	Current  State = "migrated"                                         // nothing is left to do
	// Unfinished is the target of a copy that has not finished. Only that copy may
	// continue.
	Unfinished State = "an unfinished copy of another database"
)

// Plan lists the steps of a migration and what it would make of odd data.
type Plan struct {
	State    State
	Steps    []Step
	Findings []Finding
}

// Step is one remaining step.
type Step struct {
	Name string
	Does string // one sentence
	Rows int64  // number of rows to process; 0 if the step processes none
}

// Finding is something odd in the data, or something wrong that Repair sets right.
type Finding struct {
	Where string // a table, or table.column
	Found string // such as "12 rows say “CEO”"
	Rows  int64
	Does  string // how the migration handles it, such as "makes it “ceo”"
}

// Progress is the progress of a long step.
type Progress struct {
	Step        string
	Done, Total int64 // rows
}

// VerifyOptions say how strictly Verify compares.
type VerifyOptions struct {
	// WhileRunning makes notes of differences that another program, which still
	// writes to the database, may have caused. Without it they are faults.
	WhileRunning bool
}

// RollbackOptions say how far a rollback may go.
type RollbackOptions struct {
	// Force makes Rollback go on where something is lost by it. Without it,
	// Rollback returns a *RefusedError then.
	Force bool
}

// RepairOptions say whether Repair may write.
type RepairOptions struct {
	// DryRun makes Repair return what it would change, and change nothing.
	DryRun bool
}

// Report is the result of Verify.
type Report struct {
	Checks []Check
	// Notes are differences that are not faults, such as a lead whose status name and
	// enum differ.
	Notes []string
}

// Check is one comparison of Verify.
type Check struct {
	Name string
	// Fault describes what is wrong. It is empty if the check passed.
	Fault string
}

// OK reports whether all checks passed. It is false for a report without checks.
func (r Report) OK() bool {
	for _, check := range r.Checks {
		if check.Fault != "" {
			return false
		}
	}
	return len(r.Checks) > 0
}

// String returns the report as text, one line per check and note.
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

// RefusedError reports that a rollback would lose data and was not started. Each reason
// names something that would be lost.
type RefusedError struct{ Reasons []string }

func (e *RefusedError) Error() string {
	return "cims: a rollback would lose data: " + strings.Join(e.Reasons, "; ")
}

// String returns the plan as text: the state, the steps and the findings.
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
