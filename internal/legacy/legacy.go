// Package legacy has databases of the older CIMS program for tests: its real
// schema, with made-up people.
package legacy

import _ "embed"

var (
	// EnumOnly is the older program's database before that program's migration:
	// statuses and roles are enums, and the enum has no sales manager.
	//go:embed enum_only.sql
	EnumOnly string

	// Deployed is the same after that migration ran.
	//go:embed deployed.sql
	Deployed string
)
