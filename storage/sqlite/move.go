package sqlite

import (
	"context"

	"github.com/cimskit/cims/storage/migration"
)

// Migrate brings the schema up to date: call it once before the first use, and
// after an update of this library. It starts from an empty file or from the host's
// customers and users, and adds what is missing. It may be interrupted anywhere, run
// again, and run by several processes at once.
//
// Migrate changes and drops nothing that it did not add, but for names: it writes
// status_name and role_name in the one form that this library has for names, and
// keeps what they were. It returns transfer.ErrUnfinished for an unfinished copy. For
// a table that it can't work with it returns an error that says why, before anything
// is changed.
func (s *Storage) Migrate(ctx context.Context) error { return s.mover.Migrate(ctx, nil) }

// MigrateWithProgress is Migrate, and calls progress, if it is not nil, after
// each part of a step that goes through a table's rows.
func (s *Storage) MigrateWithProgress(ctx context.Context, progress func(migration.Progress)) error {
	return s.mover.Migrate(ctx, progress)
}

// Steps counts the steps of Migrate that are done, and those that are left.
func (s *Storage) Steps(ctx context.Context) (done, left int, err error) { return s.store.Steps(ctx) }

// Plan returns what Migrate would do, and what is odd in the host's tables, also what
// Migrate refuses. It changes nothing.
func (s *Storage) Plan(ctx context.Context) (migration.Plan, error) { return s.mover.Plan(ctx) }

// Verify compares a database with what Migrate has promised: nothing of the host's is
// lost or changed, each name resolves, the counts and the list of unassigned
// customers are right, each history ends in its customer's status, and the schema is
// complete. It changes nothing. With whileRunning, changes of the host's columns since
// Migrate are notes, not faults.
func (s *Storage) Verify(ctx context.Context, whileRunning bool) (migration.Report, error) {
	return s.mover.Verify(ctx, whileRunning)
}

// Rollback takes away what Migrate and this library have added, and leaves each
// column that the host's tables had before as it would be without them. It puts names
// back that Migrate replaced, where they have not changed since. Statuses, roles,
// assignments, histories and the audit log are lost with their tables. It does all or
// nothing.
//
// Unless force is set, Rollback returns a *migration.RefusedError where a table
// customer or "user" of cims would be lost with rows in it, and where both are of
// cims. Nothing else may use the database meanwhile. Of the Storage only Migrate,
// Plan, Verify, Rollback and Close work afterwards.
func (s *Storage) Rollback(ctx context.Context, force bool) error {
	err := s.mover.Rollback(ctx, force)
	if err == nil {
		s.rotation.Invalidate()
	}
	return err
}
