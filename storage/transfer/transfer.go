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
	"github.com/cimskit/cims/storage/internal/copying"
	"github.com/cimskit/cims/storage/internal/sqlstore"
)

var (
	// ErrUnfinished is the error of Ready and Migrate of a Storage that holds an
	// unfinished copy: it is not to be used yet.
	ErrUnfinished = sqlstore.ErrUnfinished
	// ErrNotEmpty is the error for a target with anything in it but what Migrate
	// makes, or with an unfinished copy from another source.
	ErrNotEmpty = copying.ErrNotEmpty
	// ErrTaken is the error of a Copy that another Copy into the same target has
	// taken over.
	ErrTaken = copying.ErrTaken
	// ErrDiffers is the error for a copy that differs from its source, usually
	// because the source was written meanwhile. It names the table and the first
	// row that differs. The next Copy starts over.
	ErrDiffers = copying.ErrDiffers
)

// Storage is one that Copy knows: those of storage/sqlite and storage/postgres,
// in any combination.
type Storage interface {
	cims.Storage
	copying.Copyable
}

// Progress is how far Copy has come with a table.
type Progress = copying.Progress

// Check returns the error that Copy would return before it writes anything. It changes
// nothing, and the target need not be migrated yet; the source has to be ready. Check
// also returns what a copy leaves behind, each in words: tables of the source that
// are not of cims, and the older program's enums.
func Check(ctx context.Context, from, to Storage) (left []string, err error) {
	return copying.Check(ctx, from, to)
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
// Copy may be interrupted anywhere, also by a kill: called again, it goes on where it
// was. Until it has succeeded, the target's Ready returns ErrUnfinished.
//
// Copy returns nil only if it has found both databases equal. Otherwise it returns
// ErrNotEmpty, ErrTaken, ErrDiffers, cims.ErrUnavailable or another error.
func Copy(ctx context.Context, from, to Storage, progress func(Progress)) error {
	return copying.Copy(ctx, from, to, progress)
}
