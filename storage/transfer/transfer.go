// Package transfer copies a whole installation from one database to another, such as from
// SQLite to PostgreSQL when a company outgrows one machine.
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
// Ids, histories and the state of the rotation stay the same. At the end both databases are
// compared row by row. An interrupted copy continues where it stopped.
package transfer

import (
	"context"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/internal/copying"
	"github.com/cimskit/cims/storage/internal/sqlstore"
)

var (
	// ErrUnfinished is returned by Ready and Migrate of a Storage that holds an
	// unfinished copy. Such a Storage must not be used yet.
	ErrUnfinished = sqlstore.ErrUnfinished
	// ErrNotEmpty is returned for a target that has other rows than Migrate inserts, or
	// an unfinished copy from another source.
	ErrNotEmpty = copying.ErrNotEmpty
	// ErrTaken is returned by a Copy if another Copy into the same target has taken
	// over.
	ErrTaken = copying.ErrTaken
	// ErrDiffers is returned if the copy differs from its source, usually because the
	// source was changed during the copy. The error's text has the table and the first
	// row that differs. The next Copy starts over.
	ErrDiffers = copying.ErrDiffers
)

// Storage is a Storage of storage/sqlite or storage/postgres. Copy takes them in any
// combination.
type Storage interface {
	cims.Storage
	copying.Copyable
}

// Progress is the progress of Copy with one table.
type Progress = copying.Progress

// Check returns the error that Copy would return before it writes anything. It changes
// nothing. The source has to be ready, but the target need not be migrated yet.
//
// Check also describes the data that Copy leaves behind: tables of the source that don't
// belong to cims, and the older program's enums.
func Check(ctx context.Context, from, to Storage) (left []string, err error) {
	return copying.Check(ctx, from, to)
}

// Copy copies all data of cims from one database to another, and then compares both row by
// row. Ids stay the same, and new ids continue after those of the source. If progress is
// not nil, Copy calls it regularly.
//
// The source has to be ready. Stop all programs that use it, since nothing may write to it
// during the copy. Copy itself only reads it. The target has to be new and migrated.
//
// Columns that a host has added to its tables customer and "user" are copied to columns of
// the same name in the target. If such a column holds data and the target lacks it, Copy
// returns an error before it writes anything.
//
// Copy may be interrupted at any point, even by a kill. Called again, it continues where it
// stopped. Until it has succeeded, the target's Ready returns ErrUnfinished.
//
// Copy returns nil only if both databases are equal. Otherwise it returns ErrNotEmpty,
// ErrTaken, ErrDiffers, cims.ErrUnavailable or another error.
func Copy(ctx context.Context, from, to Storage, progress func(Progress)) error {
	return copying.Copy(ctx, from, to, progress)
}
