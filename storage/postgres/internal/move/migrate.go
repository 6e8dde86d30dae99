// Package move moves a PostgreSQL database over to cims, step by step, and back.
package move

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"

	"github.com/cimskit/cims/storage/internal/hosttables"
	"github.com/cimskit/cims/storage/internal/sqlstore"
	"github.com/cimskit/cims/storage/migration"
)

// Mover moves the database of a store over to cims, and back.
type Mover struct {
	store *sqlstore.Store
	db    *sql.DB
	names names
	steps []Step
}

// New returns the Mover of a store on db, with the steps of Steps.
func New(store *sqlstore.Store, db *sql.DB, host hosttables.Names, steps []Step) *Mover {
	return &Mover{store: store, db: db, names: names{host}, steps: steps}
}

// Step is one step of the schema. Its number is its place in the list; a step
// that was released is never changed.
type Step struct {
	Name string
	Does string // in a sentence
	SQL  string
	Kind StepKind
}

// StepKind is the way in which a step is done.
type StepKind int

// The kinds of step.
const (
	// Once: its statements are one transaction, with the step's row of the ledger.
	Once StepKind = iota
	// Batches: its statement runs again and again, a transaction each. It returns how
	// many rows are done, of how many, and whether none is left.
	Batches
	// Index: its statement builds an index, or several.
	Index
)

// Steps reads the steps of a folder of numbered SQL files, under the host's names. A
// file's first line is a comment that says what it does; the end of its name tells its
// kind.
func Steps(files fs.FS, host hosttables.Names) ([]Step, error) {
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
		steps[i] = Step{Name: base, Does: strings.TrimSpace(strings.TrimPrefix(first, "--")), SQL: host.SQL(string(text)), Kind: kind}
	}
	return steps, nil
}

// Migrate does the steps that are left, and calls progress, if it is not nil, before each
// step and after each batch. Each step is one transaction with its row of the ledger: an
// interruption leaves it done or not done. A long step is many transactions, each with how
// far it got. The lock is held for a transaction, and polled rather than waited for.
//
// Migrate refuses an unfinished copy: a step would find half of the rows.
func (m *Mover) Migrate(ctx context.Context, progress func(migration.Progress)) error {
	if err := m.names.check(ctx, sqlstore.SQL{IConn: m.db}); err != nil {
		return m.store.Explain(err)
	}
	if err := m.store.RefuseUnfinished(ctx); err != nil {
		return err
	}
	if progress == nil {
		progress = func(migration.Progress) {}
	}
	for {
		more, err := m.migrateOne(ctx, progress)
		if err != nil {
			return m.store.Explain(fmt.Errorf("migrate: %w", err))
		}
		if !more {
			break
		}
	}
	// The host may have added a column that has to be filled.
	for _, table := range slices.Sorted(maps.Keys(m.names.Names)) {
		if err := m.underLock(ctx, "SELECT cims_make_view('"+table+"')"); err != nil {
			return err
		}
	}
	return nil
}

// migrateOne does the next step, or a part of it, or waits for another process. It
// returns whether there may be more to do.
func (m *Mover) migrateOne(ctx context.Context, progress func(migration.Progress)) (more bool, err error) {
	applied, err := m.store.Applied(ctx)
	if err == nil && applied >= len(m.steps) {
		return false, m.checkKnown(applied)
	}
	// An index is built outside of a transaction, so that others write meanwhile.
	if err == nil && m.steps[applied].Kind == Index {
		step := m.steps[applied]
		progress(migration.Progress{Step: step.Name})
		if built, err := buildIndexes(ctx, m.db, step); err != nil || !built {
			return true, m.store.GiveWay(ctx, err)
		}
	}
	tx, err := m.store.Dialect().Begin(ctx, m.db)
	if err != nil {
		return true, m.store.GiveWay(ctx, err)
	}
	done := false
	defer func() {
		if !done {
			_ = tx.Rollback() // the connection is discarded if this fails
		}
	}()
	locked, err := TryLock(ctx, tx)
	if err != nil || !locked {
		return true, m.store.GiveWay(ctx, err)
	}
	if _, err := tx.ExecContext(ctx, sqlstore.Ledger); err != nil {
		return true, m.store.GiveWay(ctx, err)
	}
	now, err := sqlstore.Applied(ctx, sqlstore.SQL{IConn: tx})
	if err != nil || now >= len(m.steps) {
		return false, err
	}
	step := m.steps[now]
	if step.Kind == Index && now != applied {
		return true, nil // another process has done the step before: this one comes next
	}
	finished, err := do(ctx, tx, step, progress)
	if err != nil {
		return true, m.store.GiveWay(ctx, fmt.Errorf("step %s: %w", step.Name, err))
	}
	if finished {
		if _, err := tx.ExecContext(ctx, m.store.Format("INSERT INTO cims_migrations (id, name, applied_at) VALUES (?, ?, ?)",
			now+1, step.Name, time.Now().UTC().Truncate(time.Microsecond))); err != nil {
			return false, err
		}
	}
	done = true
	if err := tx.Commit(ctx); err != nil {
		return false, fmt.Errorf("step %s: commit: %w", step.Name, err)
	}
	return true, nil
}

// do does a step, or a batch of it, in a transaction.
func do(ctx context.Context, tx bun.IConn, step Step, progress func(migration.Progress)) (finished bool, err error) {
	switch step.Kind {
	case Batches:
		p := migration.Progress{Step: step.Name}
		if err := sqlstore.ScanOne(ctx, sqlstore.SQL{IConn: tx}, step.SQL, &p.Done, &p.Total, &finished); err != nil {
			return false, err
		}
		progress(p)
		return finished, nil
	case Index:
		return true, nil // it is there
	case Once:
	}
	progress(migration.Progress{Step: step.Name})
	_, err = tx.ExecContext(ctx, step.SQL)
	return true, err
}

// checkKnown returns an error for a database that a later version of this library has
// migrated: this one doesn't know its rules.
func (m *Mover) checkKnown(applied int) error {
	if applied > len(m.steps) {
		return fmt.Errorf("the schema is at step %d, this version knows %d: use a newer version", applied, len(m.steps))
	}
	return nil
}

// left returns the steps that are not done, all of them where there is no ledger.
func (m *Mover) left(ctx context.Context) []Step {
	applied, err := m.store.Applied(ctx)
	if err != nil {
		return m.steps
	}
	return m.steps[min(applied, len(m.steps)):]
}

// underLock runs statements in one transaction under the migration's lock. It repeats
// them until no other process is in the way.
func (m *Mover) underLock(ctx context.Context, statements string) error {
	for {
		done, err := m.tryUnderLock(ctx, statements)
		if done {
			return nil
		}
		if err := m.store.GiveWay(ctx, err); err != nil {
			return m.store.Explain(err)
		}
	}
}

func (m *Mover) tryUnderLock(ctx context.Context, statements string) (done bool, err error) {
	tx, err := m.store.Dialect().Begin(ctx, m.db)
	if err != nil {
		return false, err
	}
	defer func() {
		if !done {
			_ = tx.Rollback() // the connection is discarded if this fails
		}
	}()
	if locked, err := TryLock(ctx, tx); err != nil || !locked {
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

// lockKey depends on the schema, so that CRMs in several schemas of a database don't wait
// for each other.
const lockKey = "hashtext('cims.migrate.' || current_schema())"

// TryLock takes the migration's lock to the end of the transaction. It returns false where
// another process has it.
//
// It also bounds how long the transaction waits for a lock on a table or a row: all later
// ones would wait as long. The migration gives up before a deadlock is found, which could
// fail another program's transaction.
func TryLock(ctx context.Context, conn bun.IConn) (locked bool, err error) {
	err = conn.QueryRowContext(ctx, "SELECT pg_try_advisory_xact_lock("+lockKey+") AND set_config('lock_timeout', '200ms', TRUE) <> ''").Scan(&locked)
	return locked, err
}

// severalStatements is the mode in which a text may hold several statements.
const severalStatements = pgx.QueryExecModeSimpleProtocol

var createIndex = regexp.MustCompile(`(?m)^CREATE INDEX (\w+) ON (.+?) \(.*;$`)

// smallTable is the size in bytes up to which an index is built in a moment. Building one
// concurrently waits for all other transactions.
const smallTable = 4 << 20

// buildIndexes builds the indexes of a step while others write, which PostgreSQL allows in
// no transaction. It returns false where another process has the lock.
func buildIndexes(ctx context.Context, db *sql.DB, step Step) (built bool, err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.QueryRowContext(ctx, "SELECT pg_try_advisory_lock("+lockKey+")").Scan(&built); err != nil || !built {
		return false, err
	}
	defer func() {
		// The connection goes back to a pool, even if ctx has ended.
		_, unlock := conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock("+lockKey+")")
		err = errors.Join(err, unlock)
	}()
	indexes := createIndex.FindAllStringSubmatch(step.SQL, -1)
	if len(indexes) == 0 {
		return false, fmt.Errorf("step %s: no index in it", step.Name)
	}
	for _, index := range indexes {
		if err := buildIndex(ctx, conn, index[0], index[1], index[2]); err != nil {
			return false, err
		}
	}
	return true, nil
}

// buildIndex builds an index, unless it is there. An interrupted attempt leaves an index
// that is not valid: that one is dropped first.
func buildIndex(ctx context.Context, conn *sql.Conn, statement, name, table string) error {
	var there sql.NullString
	var valid bool
	var size int64
	err := conn.QueryRowContext(ctx, `SELECT CAST(CAST(c.oid AS REGCLASS) AS TEXT), COALESCE(i.indisvalid, FALSE), pg_relation_size(to_regclass($2))
		FROM (SELECT) AS one LEFT JOIN (pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid) ON i.indrelid = to_regclass($2) AND c.relname = $1`,
		name, table).Scan(&there, &valid, &size)
	switch {
	case err != nil || valid:
		return err
	case there.Valid:
		if _, err := conn.ExecContext(ctx, "DROP INDEX CONCURRENTLY IF EXISTS "+there.String); err != nil {
			return err
		}
	}
	if size <= smallTable {
		statement = "SET LOCAL lock_timeout = '200ms';\n" + statement
	} else {
		statement = concurrently(statement)
	}
	_, err = conn.ExecContext(ctx, statement, severalStatements)
	return err
}
