package sqlite

import (
	"context"

	"github.com/cimskit/cims/storage/migration"
)

// Migrate brings the schema up to date. Call it before the first use and after each
// update of this library. It starts from an empty file or from the host's customers and
// users, and adds what is missing. It may be interrupted at any point and run again, also
// by several processes at once.
//
// Migrate changes and drops only what it has added, with one exception: it normalizes the
// names in status_name and role_name, and keeps the old ones for Rollback.
//
// Migrate returns transfer.ErrUnfinished for an unfinished copy. For a table that it can't
// use it returns an error that says why. Nothing is changed then.
func (s *Storage) Migrate(ctx context.Context) error { return s.mover.Migrate(ctx, nil) }

// MigrateWithProgress is like Migrate. If progress is not nil, it is called after each
// part of a step that processes the rows of a table.
func (s *Storage) MigrateWithProgress(ctx context.Context, progress func(migration.Progress)) error {
	return s.mover.Migrate(ctx, progress)
}

// Steps returns how many steps of Migrate are done, and how many are left.
func (s *Storage) Steps(ctx context.Context) (done, left int, err error) { return s.store.Steps(ctx) }

// Plan returns the steps that Migrate would take, and oddities in the host's tables.
// These include obstacles that make Migrate fail. Plan changes nothing.
func (s *Storage) Plan(ctx context.Context) (migration.Plan, error) { return s.mover.Plan(ctx) }

// Verify checks that a migrated database is complete and consistent. No data of the host
// may be lost or changed. Every name must have its entry. The counts and the list of
// unassigned customers must be right. Each history must end in its customer's status.
// Verify changes nothing. With options.WhileRunning, changes to the host's columns since
// Migrate are notes, not faults.
func (s *Storage) Verify(ctx context.Context, options migration.VerifyOptions) (migration.Report, error) {
	return s.mover.Verify(ctx, options)
}

// Rollback removes what Migrate and this library have added, all or nothing. It leaves
// each column that the host's tables had before as it would be without cims. It restores
// the names that Migrate has replaced, unless they have changed since. Statuses, roles,
// assignments, histories and the audit log are lost with their tables.
//
// Without options.Force, Rollback returns a *migration.RefusedError if it would drop a
// table customer or "user" that has rows, or both of these tables. Nothing else may use
// the database meanwhile. Afterwards only Migrate, Plan, Verify, Rollback and Close of
// the Storage work.
func (s *Storage) Rollback(ctx context.Context, options migration.RollbackOptions) error {
	err := s.mover.Rollback(ctx, options)
	if err == nil {
		s.rotation.Invalidate()
	}
	return err
}

// Repair sets right what is derived from other rows, in one transaction, and returns what
// it has changed: the counts of sales managers, the list of customers without one, the ends
// of histories, and a missing row of sales_manager_counter. It changes nothing that was
// right. Writers wait meanwhile. With options.DryRun it only returns what it would change.
// Repair returns an error if the schema is not current, transfer.ErrUnfinished for an
// unfinished copy, and cims.ErrUnavailable if the database can't be reached.
func (s *Storage) Repair(ctx context.Context, options migration.RepairOptions) ([]migration.Finding, error) {
	found, err := s.mover.Repair(ctx, options)
	if err == nil {
		s.rotation.Invalidate()
	}
	return found, err
}
