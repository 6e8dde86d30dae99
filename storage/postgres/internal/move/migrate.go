// Package move migrates a PostgreSQL database to cims step by step, and back.
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

// Mover migrates the database of a store to cims, and back.
type Mover struct {
	store *sqlstore.Store
	db    *sql.DB
	names names
	steps []Step
}

// New returns a Mover for a store on db, with the steps returned by Steps.
func New(store *sqlstore.Store, db *sql.DB, host hosttables.Names, steps []Step) *Mover {
	return &Mover{store: store, db: db, names: names{host}, steps: steps}
}

// Step is one step of the schema. Its number is its position in the list. A released step
// never changes.
type Step struct {
	Name string
	Does string // one sentence
	SQL  string
	Kind StepKind
}

// StepKind is the way of running a step.
type StepKind int

// The kinds of step.
const (
	// Once runs the statements in one transaction, together with the step's row of the
	// ledger.
	Once StepKind = iota
	// Batches repeats the statement, each time in its own transaction. The statement
	// returns the number of rows done, their total, and whether none is left.
	Batches
	// Index runs a statement that builds indexes.
	Index
)

// Steps reads the steps from a folder of numbered SQL files, and fills in the host's names.
// The first line of a file is a comment that describes the step. The end of its name is the
// kind of the step.
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

// Migrate runs the remaining steps. If progress is not nil, it is called before each step
// and after each batch. A step and its row of the ledger are one transaction, so that an
// interruption leaves the step either done or not done. A long step has many transactions,
// and each records its progress. The lock is held for one transaction, and polled instead of
// waited for.
//
// Migrate returns sqlstore.ErrUnfinished for an unfinished copy, since its rows are
// incomplete.
func (m *Mover) Migrate(ctx context.Context, progress func(migration.Progress)) error {
	if err := m.check(ctx); err != nil {
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
	// The host may have added a NOT NULL column without a default.
	for _, table := range slices.Sorted(maps.Keys(m.names.Names)) {
		if err := m.underLock(ctx, "SELECT cims_make_view('"+table+"')"); err != nil {
			return err
		}
	}
	return nil
}

// migrateOne runs the next step or a part of it, or waits for another process. It reports
// whether there may be more to do.
func (m *Mover) migrateOne(ctx context.Context, progress func(migration.Progress)) (more bool, err error) {
	applied, err := m.store.Applied(ctx)
	if err == nil && applied >= len(m.steps) {
		return false, m.checkKnown(applied)
	}
	// An index is built outside a transaction, so that other programs can write meanwhile.
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
		return true, nil // another process has done the previous step
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

// do runs a step, or a batch of it, in a transaction.
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
		return true, nil // the index exists
	case Once:
	}
	progress(migration.Progress{Step: step.Name})
	_, err = tx.ExecContext(ctx, step.SQL)
	return true, err
}

// checkKnown returns an error if a later version of this library has migrated the database,
// since this version doesn't know its rules.
func (m *Mover) checkKnown(applied int) error {
	if applied > len(m.steps) {
		return fmt.Errorf("the schema is at step %d, but this version knows only %d: use a newer version", applied, len(m.steps))
	}
	return nil
}

// left returns the remaining steps. Without a ledger these are all steps.
func (m *Mover) left(ctx context.Context) []Step {
	applied, err := m.store.Applied(ctx)
	if err != nil {
		return m.steps
	}
	return m.steps[min(applied, len(m.steps)):]
}

// underLock runs statements in one transaction under the migration's lock. It tries again
// while another process is in the way.
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

// lockKey depends on the schema, so that migrations of several schemas in one database don't
// wait for each other.
const lockKey = "hashtext('cims.migrate.' || current_schema())"

// TryLock takes the migration's lock until the end of the transaction. It returns false if
// another process holds it.
//
// TryLock also limits how long the transaction waits for a lock on a table or row, since
// later transactions would queue behind it. The limit is shorter than deadlock_timeout. The
// migration therefore gives up before a deadlock is found and fails another program's
// transaction.
func TryLock(ctx context.Context, conn bun.IConn) (locked bool, err error) {
	err = conn.QueryRowContext(ctx, "SELECT pg_try_advisory_xact_lock("+lockKey+") AND set_config('lock_timeout', '200ms', TRUE) <> ''").Scan(&locked)
	return locked, err
}

// severalStatements is the mode that allows several statements in one text.
const severalStatements = pgx.QueryExecModeSimpleProtocol

var createIndex = regexp.MustCompile(`(?m)^CREATE INDEX (\w+) ON (.+?) \(.*;$`)

// smallTable is the size in bytes up to which an index builds at once. Larger tables get
// theirs concurrently, which waits for all other transactions.
const smallTable = 4 << 20

// buildIndexes builds the indexes of a step while other programs write. PostgreSQL doesn't
// allow this in a transaction. buildIndexes returns false if another process has the lock.
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
		return false, fmt.Errorf("step %s: has no index", step.Name)
	}
	for _, index := range indexes {
		if err := buildIndex(ctx, conn, index[0], index[1], index[2]); err != nil {
			return false, err
		}
	}
	return true, nil
}

// buildIndex builds an index unless it exists. An interrupted attempt leaves an invalid
// index, which is dropped first.
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
