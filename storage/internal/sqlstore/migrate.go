package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"
)

// Step is one step of the schema. Its number is its place in the list; a step
// that was released is never changed.
type Step struct {
	Name string
	SQL  string
}

// Steps reads the steps of a folder of numbered SQL files.
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
		steps[i] = Step{Name: strings.TrimSuffix(path.Base(name), ".sql"), SQL: string(text)}
	}
	return steps, nil
}

const lockPoll = 20 * time.Millisecond

// Migrate implements cims.Storage. Each step is one transaction with its row of
// the ledger, so that whatever interrupts it, a step was done or was not. The
// lock is held for a step and polled rather than waited for. An unfinished copy is
// left alone: a step would find half of the rows, and who migrates is about to
// use what is there.
func (s *Store) Migrate(ctx context.Context) error {
	if err := s.refuseUnfinished(ctx); err != nil {
		return err
	}
	for {
		more, err := s.migrateOne(ctx)
		if err != nil {
			return s.explain(fmt.Errorf("migrate: %w", err))
		}
		if !more {
			return nil
		}
	}
}

// migrateOne does the next step, or finds that it has to wait for another
// process. It returns whether there may be more to do.
func (s *Store) migrateOne(ctx context.Context) (more bool, err error) {
	if applied, err := s.applied(ctx); err == nil && applied >= len(s.dialect.Steps) {
		return false, s.newer(applied)
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
	if err != nil {
		return false, err
	}
	if !locked {
		return s.wait(ctx, nil)
	}
	if _, err := tx.ExecContext(ctx, ledger); err != nil {
		return false, err
	}
	q := *s.queries
	q.conn = tx
	applied, err := q.applied(ctx)
	if err != nil || applied >= len(s.dialect.Steps) {
		return false, err
	}
	step := s.dialect.Steps[applied]
	if _, err := tx.ExecContext(ctx, step.SQL); err != nil {
		return false, fmt.Errorf("step %s: %w", step.Name, err)
	}
	if _, err := q.exec(ctx, "INSERT INTO cims_migrations (id, name, applied_at) VALUES (?, ?, ?)",
		applied+1, step.Name, time.Now().UTC().Truncate(time.Microsecond)); err != nil {
		return false, err
	}
	done = true
	if err := tx.Commit(ctx); err != nil {
		return false, fmt.Errorf("step %s: commit: %w", step.Name, err)
	}
	return true, nil
}

// ledger is not quite the same as a first step: it must be there to tell that
// the first step was done.
const ledger = `CREATE TABLE IF NOT EXISTS cims_migrations (
	id INTEGER PRIMARY KEY, name VARCHAR(100) NOT NULL, applied_at TIMESTAMP NOT NULL)`

func (s *Store) wait(ctx context.Context, err error) (bool, error) {
	if err != nil && s.dialect.Classify(err) != Conflict {
		return false, err
	}
	select {
	case <-time.After(lockPoll):
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
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
	var applied sql.NullInt64
	err := q.db.NewRaw("SELECT max(id) FROM cims_migrations").Conn(q.conn).Scan(ctx, &applied)
	return int(applied.Int64), err
}

var _ bun.IConn = (*sql.Conn)(nil)
