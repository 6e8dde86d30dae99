package postgres

import (
	"context"

	"github.com/cimskit/cims/storage/migration"
)

// Migrate brings the schema up to date. Call it before the first use and after each
// update of this library. Migrate adds what is missing; it changes and drops only what
// it has added. It may be interrupted at any point and run again, also by several
// processes at once.
//
// Other programs may write to the database meanwhile. Migrate neither holds nor waits
// for a lock that stops them longer than a moment.
//
// Migrate returns transfer.ErrUnfinished for an unfinished copy. It returns an error
// that names a host's table or column if that is missing, can't be used, or has another
// name than the first time. Nothing is written then.
func (s *Storage) Migrate(ctx context.Context) error { return s.mover.Migrate(ctx, nil) }

// MigrateWithProgress is like Migrate. If progress is not nil, it is called before each
// step and after each part of a long step.
func (s *Storage) MigrateWithProgress(ctx context.Context, progress func(migration.Progress)) error {
	return s.mover.Migrate(ctx, progress)
}

// SQL returns the remaining steps as plain SQL for psql, which runs each statement
// separately. It returns the same errors as Migrate.
func (s *Storage) SQL(ctx context.Context) (string, error) { return s.mover.SQL(ctx) }

// Steps returns how many steps of Migrate are done, and how many are left.
func (s *Storage) Steps(ctx context.Context) (done, left int, err error) { return s.store.Steps(ctx) }

// Plan returns the steps that Migrate would take, and how it would handle odd data.
// Plan changes nothing.
func (s *Storage) Plan(ctx context.Context) (migration.Plan, error) { return s.mover.Plan(ctx) }

// Verify compares a migrated database with its earlier state and checks its
// consistency, in one snapshot. No row may be lost, or changed in a column that isn't
// cims's. Every name must have its entry. Counts, histories and the rotation must be
// right. With options.WhileRunning, rows that an older program has changed or deleted
// since are notes, not faults.
func (s *Storage) Verify(ctx context.Context, options migration.VerifyOptions) (migration.Report, error) {
	return s.mover.Verify(ctx, options)
}

// Rollback removes what Migrate has added, and leaves each column that existed before as
// it would be without cims. It restores the names of statuses and roles that Migrate has
// replaced, unless they have changed since. The older program's rotation continues where
// this one is.
//
// Without options.Force, Rollback returns a *migration.RefusedError, and changes nothing,
// if the remaining tables can't hold some of the data. Rollback may be interrupted and
// run again. It returns an error if the host's tables have other names than for Migrate.
func (s *Storage) Rollback(ctx context.Context, options migration.RollbackOptions) error {
	return s.mover.Rollback(ctx, options)
}

// Repair sets right what is derived from other rows, in one transaction, and returns what
// it has changed: the counts of sales managers, the list of customers without one, the ends
// of histories, and a missing row of sales_manager_counter, and sequences that are behind their ids. It changes nothing that was
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
