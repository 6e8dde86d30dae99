package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/cimskit/cims/storage/migration"
)

// Step is one step of the schema. Its number is its place in the list; a step
// that was released is never changed.
type Step struct {
	Name string
	Does string // in a sentence
	SQL  string
	Kind StepKind
}

// StepKind is how a step is done.
type StepKind int

// The kinds of step.
const (
	// Once: its statements are one transaction, with the step's row of the ledger.
	Once StepKind = iota
	// Batches: its statement is run again and again, a transaction each, and
	// returns how many rows are done, of how many, and whether none is left.
	Batches
	// Index: its statement builds an index, or several.
	Index
)

// Steps reads the steps of a folder of numbered SQL files. A file's first line is
// a comment that says what it does; the end of its name tells its kind.
func Steps(files fs.FS) ([]Step, error) {
	names, err := fs.Glob(files, "*/*.sql")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	steps := make([]Step, len(names))
	for i, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		base, kind := strings.TrimSuffix(path.Base(name), ".sql"), Once
		if plain, ok := strings.CutSuffix(base, ".batches"); ok {
			base, kind = plain, Batches
		} else if plain, ok := strings.CutSuffix(base, ".index"); ok {
			base, kind = plain, Index
		}
		first, _, _ := strings.Cut(string(text), "\n")
		steps[i] = Step{Name: base, Does: strings.TrimSpace(strings.TrimPrefix(first, "--")), SQL: string(text), Kind: kind}
	}
	return steps, nil
}

const lockPoll = 20 * time.Millisecond

// Migrate implements cims.Storage.
func (s *Store) Migrate(ctx context.Context) error { return s.MigrateWithProgress(ctx, nil) }

// MigrateWithProgress is Migrate that tells how far it is. Each step is one
// transaction with its row of the ledger, so that whatever interrupts it, a step
// was done or was not; a long one is many, each with how far it got. The lock is
// held for a transaction and polled rather than waited for. An unfinished copy is
// left alone: a step would find half of the rows, and who migrates is about to
// use what is there.
func (s *Store) MigrateWithProgress(ctx context.Context, progress func(migration.Progress)) error {
	if err := s.RefuseUnfinished(ctx); err != nil {
		return err
	}
	if progress == nil {
		progress = func(migration.Progress) {}
	}
	for {
		more, err := s.migrateOne(ctx, progress)
		if err != nil {
			return s.explain(fmt.Errorf("migrate: %w", err))
		}
		if !more {
			return nil
		}
	}
}

// migrateOne does the next step, or a part of it, or finds that it has to wait
// for another process. It returns whether there may be more to do.
func (s *Store) migrateOne(ctx context.Context, progress func(migration.Progress)) (more bool, err error) {
	applied, err := s.applied(ctx)
	if err == nil && applied >= len(s.dialect.Steps) {
		return false, s.newer(applied)
	}
	// An index that is to be built beside the others' work can't be built in a
	// transaction.
	if err == nil && s.dialect.BuildIndex != nil && s.dialect.Steps[applied].Kind == Index {
		step := s.dialect.Steps[applied]
		progress(migration.Progress{Step: step.Name})
		if built, err := s.dialect.BuildIndex(ctx, s.write, step); err != nil || !built {
			return s.wait(ctx, err)
		}
	}
	tx, err := s.dialect.Begin(ctx, s.write)
	if err != nil {
		return s.wait(ctx, err)
	}
	done := false
	defer func() {
		if !done {
			_ = tx.Rollback() // the connection is discarded if this fails
		}
	}()
	locked, err := s.dialect.TryLock(ctx, tx)
	if err != nil || !locked {
		return s.wait(ctx, err)
	}
	if _, err := tx.ExecContext(ctx, Ledger); err != nil {
		return s.wait(ctx, err)
	}
	q := *s.queries
	q.conn = SQL{tx}
	now, err := q.applied(ctx)
	if err != nil || now >= len(s.dialect.Steps) {
		return false, err
	}
	step := s.dialect.Steps[now]
	if step.Kind == Index && s.dialect.BuildIndex != nil && now != applied {
		return true, nil // somebody has done the step before: this one comes next
	}
	finished, err := q.do(ctx, step, progress)
	if err != nil {
		return s.wait(ctx, fmt.Errorf("step %s: %w", step.Name, err))
	}
	if finished {
		if _, err := q.exec(ctx, "INSERT INTO cims_migrations (id, name, applied_at) VALUES (?, ?, ?)",
			now+1, step.Name, time.Now().UTC().Truncate(time.Microsecond)); err != nil {
			return false, err
		}
	}
	done = true
	if err := tx.Commit(ctx); err != nil {
		return false, fmt.Errorf("step %s: commit: %w", step.Name, err)
	}
	return true, nil
}

// UnderLock runs statements as one step of a migration, which gives way to others,
// until it gets through.
func (s *Store) UnderLock(ctx context.Context, statements string) error {
	for {
		done, err := s.tryUnderLock(ctx, statements)
		if done {
			return nil
		}
		if _, err := s.wait(ctx, err); err != nil {
			return s.explain(err)
		}
	}
}

func (s *Store) tryUnderLock(ctx context.Context, statements string) (done bool, err error) {
	tx, err := s.dialect.Begin(ctx, s.write)
	if err != nil {
		return false, err
	}
	defer func() {
		if !done {
			_ = tx.Rollback() // the connection is discarded if this fails
		}
	}()
	if locked, err := s.dialect.TryLock(ctx, tx); err != nil || !locked {
		return false, err
	}
	if _, err := tx.ExecContext(ctx, statements); err != nil {
		return false, err
	}
	if err := tx.Commit(ctx); err != nil {
		return false, err
	}
	return true, nil
}

// do does a step, or a batch of it, in a transaction.
func (q *queries) do(ctx context.Context, step Step, progress func(migration.Progress)) (finished bool, err error) {
	switch {
	case step.Kind == Batches:
		p := migration.Progress{Step: step.Name}
		if err := ScanOne(ctx, q.conn, step.SQL, &p.Done, &p.Total, &finished); err != nil {
			return false, err
		}
		progress(p)
		return finished, nil
	case step.Kind == Index && q.dialect.BuildIndex != nil:
		return true, nil // it is there
	}
	progress(migration.Progress{Step: step.Name})
	_, err = q.conn.Exec(ctx, step.SQL)
	return true, err
}

// Ledger makes the table of the steps done. It is not quite the same as a first
// step: it must be there to tell that the first step was done.
const Ledger = `CREATE TABLE IF NOT EXISTS cims_migrations (
	id INTEGER PRIMARY KEY, name VARCHAR(100) NOT NULL, applied_at TIMESTAMP NOT NULL)`

// wait lets whoever is in the way go first.
func (s *Store) wait(ctx context.Context, err error) (bool, error) {
	if err != nil && s.dialect.Classify(err) != Conflict {
		return false, err
	}
	select {
	case <-time.After(lockPoll):
		return true, nil
	case <-ctx.Done():
		return false, errors.Join(ctx.Err(), err)
	}
}

// newer refuses a database that a later version of this library has migrated:
// this one does not know its rules.
func (s *Store) newer(applied int) error {
	if applied > len(s.dialect.Steps) {
		return fmt.Errorf("the schema is at step %d, this version knows %d: use a newer version", applied, len(s.dialect.Steps))
	}
	return nil
}

// applied counts the steps that are done.
func (q *queries) applied(ctx context.Context) (int, error) {
	var applied sql.Null[int]
	conn, err := q.on(ctx)
	if err != nil {
		return 0, err
	}
	err = ScanOne(ctx, conn, "SELECT max(id) FROM cims_migrations", &applied)
	return applied.V, err
}

// Steps returns all steps.
func (s *Store) Steps() []Step { return s.dialect.Steps }

// Explain turns a driver's error into one of ours, where there is one for it.
func (s *Store) Explain(err error) error { return s.explain(err) }

// Begun tells whether anything of cims is in the database.
func (s *Store) Begun(ctx context.Context) (bool, error) {
	_, err := s.applied(ctx)
	if s.dialect.Classify(err) == NoTable {
		return false, nil
	}
	return err == nil, s.explain(err)
}

// Pending counts the steps that are left to do.
func (s *Store) Pending(ctx context.Context) (int, error) {
	applied, err := s.applied(ctx)
	if err != nil && s.dialect.Classify(err) != NoTable {
		return 0, s.explain(err)
	}
	return max(len(s.dialect.Steps)-applied, 0), nil
}

// Left returns the steps that are not done, all of them where there is no ledger.
func (s *Store) Left(ctx context.Context) []Step {
	applied, err := s.applied(ctx)
	if err != nil {
		return s.dialect.Steps
	}
	return s.dialect.Steps[min(applied, len(s.dialect.Steps)):]
}

var _ bun.IConn = (*sql.Conn)(nil)
