// Package legacy has databases of the older CIMS program for tests: its real
// schema, with made-up people.
package legacy

import _ "embed"

var (
	// EnumOnly is the older program's database before its own migration:
	// statuses and roles are enums, and the enum knows no sales manager.
	//go:embed enum_only.sql
	EnumOnly string

	// Deployed is the same after that migration ran.
	//go:embed deployed.sql
	Deployed string
)
