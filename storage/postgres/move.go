package postgres

import (
	"context"

	"github.com/cimskit/cims/storage/migration"
)

// Migrate brings the schema up to date: call it once before the first use, and
// after an update of this library. It adds what is missing, and changes and drops
// nothing that it did not add. It may be interrupted anywhere, run again, and run by
// several processes at once.
//
// Others may go on writing meanwhile: no lock that stops them is held, or waited
// for, longer than a moment. Migrate returns transfer.ErrUnfinished for an unfinished
// copy. It returns an error that names a host's table or column if that is not there
// or can't be used, or has another name than the first time; nothing is written then.
func (s *Storage) Migrate(ctx context.Context) error { return s.mover.Migrate(ctx, nil) }

// MigrateWithProgress is Migrate, and calls progress, if it is not nil, before each
// step and after each part of a long one.
func (s *Storage) MigrateWithProgress(ctx context.Context, progress func(migration.Progress)) error {
	return s.mover.Migrate(ctx, progress)
}

// SQL returns the steps that are left as plain SQL for psql, which runs each
// statement by itself. Its errors are those of Migrate.
func (s *Storage) SQL(ctx context.Context) (string, error) { return s.mover.SQL(ctx) }

// Steps counts the steps of Migrate that are done, and those that are left.
func (s *Storage) Steps(ctx context.Context) (done, left int, err error) { return s.store.Steps(ctx) }

// Plan returns what Migrate would do, and what it would make of what is odd. It
// changes nothing.
func (s *Storage) Plan(ctx context.Context) (migration.Plan, error) { return s.mover.Plan(ctx) }

// Verify compares a migrated database with what it was and with itself: that no row
// was lost or changed in a column that is not cims's, that every name has its entry,
// that counts, histories and the rotation are right. It sees the database as it was
// at one moment. With whileRunning, rows that an older program has changed or deleted
// since are notes, not faults.
func (s *Storage) Verify(ctx context.Context, whileRunning bool) (migration.Report, error) {
	return s.mover.Verify(ctx, whileRunning)
}

// Rollback takes away what Migrate has added, and leaves every column that was there
// before as it would be without cims. It puts names of statuses and roles back that
// it replaced, where nobody has changed them since. The older program's rotation
// goes on where this one stands.
//
// Unless force is set, Rollback returns a *migration.RefusedError, with nothing done,
// where something has no form in what remains. It may be interrupted and run again.
// The host's tables have to be named as for Migrate, or an error says so.
func (s *Storage) Rollback(ctx context.Context, force bool) error {
	return s.mover.Rollback(ctx, force)
}
