// Package transfer moves a whole installation from one database to another:
// from SQLite to PostgreSQL when a company outgrows one machine, and back.
//
//	from, err := sqlite.Open(ctx, "crm.db")
//	…
//	to, err := postgres.Open(ctx, "postgres://…")
//	…
//	left, err := transfer.Check(ctx, from, to)
//	…
//	err = to.Migrate(ctx)
//	…
//	err = transfer.Copy(ctx, from, to, nil)
//
// Ids, history and the rotation's place stay what they are. Both are compared
// row by row at the end; and a copy that was interrupted goes on where it was.
package transfer

import (
	"context"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/internal/sqlstore"
)

var (
	// ErrUnfinished is what Ready and Migrate of a Storage return while it holds
	// an unfinished copy: it is not to be used yet.
	ErrUnfinished = sqlstore.ErrUnfinished
	// ErrNotEmpty refuses a target with anything in it but what Migrate makes,
	// or with an unfinished copy from another source.
	ErrNotEmpty = sqlstore.ErrNotEmpty
	// ErrTaken tells that another Copy into the same target was started while
	// this one was under way, and goes on with it.
	ErrTaken = sqlstore.ErrTaken
	// ErrDiffers tells that the copy is not what the source is now, usually
	// since that was written meanwhile. The error names the table and the first
	// row that differs. The next Copy starts over.
	ErrDiffers = sqlstore.ErrDiffers
)

// Storage is one that Copy knows: those of storage/sqlite and storage/postgres,
// in any combination.
type Storage interface {
	cims.Storage
	sqlstore.Copyable
}

// Progress is how far Copy has come with a table.
type Progress = sqlstore.Progress

// Check refuses whatever Copy would refuse before it writes anything, and may be
// asked before the target is migrated: it changes nothing. It returns what a copy
// leaves behind, each in words: tables of the source that are not of cims, and the
// older program's enums. The source has to be ready.
func Check(ctx context.Context, from, to Storage) (left []string, err error) {
	return sqlstore.CheckCopy(ctx, from, to)
}

// Copy copies everything that cims keeps in one database to another, and then
// compares both, row by row. Ids stay what they are, and new ones go on where
// the source was. Progress, if not nil, is called now and then.
//
// The source has to be ready, and nothing may write to it meanwhile: stop what
// uses it. Copy only reads it. The target has to be migrated, and new. What a
// host has added to its tables customer and "user" is copied where the target
// has a column of the same name; data without one is refused before anything is
// written.
//
// Copy may be interrupted anywhere, also by a kill: called again, it goes on
// where it was. Until it has succeeded the target's Ready is ErrUnfinished.
//
// It returns ErrNotEmpty, ErrTaken, ErrDiffers, cims.ErrUnavailable or what else
// is wrong, and nil only if both databases were found equal.
func Copy(ctx context.Context, from, to Storage, progress func(Progress)) error {
	return sqlstore.Copy(ctx, from, to, progress)
}
