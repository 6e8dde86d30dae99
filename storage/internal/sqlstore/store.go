// Package sqlstore is what the SQLite and the PostgreSQL storage share: the
// queries, the transactions and the migration runner. What a database does
// differently stands in its Dialect.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"

	"github.com/cimskit/cims"
)

// Dialect is what a database does differently.
type Dialect struct {
	Bun schema.Dialect

	// Begin starts a transaction that sees what was committed before each of
	// its statements, and on SQLite one that may write at once.
	Begin func(ctx context.Context, db *sql.DB) (Transaction, error)

	// Wrap, if set, makes what reads run on out of the pool.
	Wrap func(db bun.IConn) bun.IConn

	// Prepared, if set, runs a query whose text is the same each time, with ? for
	// its arguments, as a prepared statement of the connection.
	Prepared func(ctx context.Context, conn Conn, query string, args []any) (ResultSet, error)

	// TakesArguments, if set, is the connection as one that takes arguments beside
	// their statement.
	TakesArguments func(conn Conn) Conn

	// Join makes a host's transaction what statements run on. Joined looks at it
	// before the first one, and returns an error if they can't.
	Join   func(tx any) (Conn, error)
	Joined func(ctx context.Context, conn Conn) error

	// ForUpdate and ForKeyShare are the locking clauses of a SELECT: the rows
	// are kept from all changes, or from deletion. Empty where a transaction
	// has the database to itself.
	ForUpdate, ForKeyShare string

	// Lower is the function that makes a text lower case in queries.
	Lower string
	// StartsWith is the condition that a column starts with prefix, in any
	// case; for a customer's full_name and phone_number, served by an index.
	StartsWith func(column, prefix string) schema.QueryWithArgs

	// TimesAsText is set where a host's times are texts of any form: only what is
	// stored itself says where a time stands among them.
	TimesAsText bool

	// Now is the database's own time, up to which a lead of another program's may be
	// left to that. SetBack is the condition that a row of cims_unassigned is from
	// before that clock was set back.
	Now, SetBack string

	// Classify says what kind of failure a driver's error is.
	Classify func(err error) Failure

	// Intake is cims.Tx's: by prepared statements of the driver's own, since an
	// import has many rows and bun would write them all into the text.
	Intake func(ctx context.Context, conn Conn, host Hosts, leads []*cims.Lead) error

	// Names are the host's own, where statements have to say them: where no views
	// stand for its tables.
	Names Names

	// Columns reads the columns of a host's table, by their names here.
	Columns func(ctx context.Context, conn Conn, table string) ([]Column, error)

	// Copying is for copying a whole installation.
	Copying Copying

	Steps []Step
	// TryLock takes the migration's lock to the end of the transaction, or
	// says that another process has it.
	TryLock func(ctx context.Context, conn bun.IConn) (bool, error)
	// BuildIndex, if set, does a step of the kind Index outside of a transaction,
	// so that others write meanwhile. It returns false where another process is
	// in the way.
	BuildIndex func(ctx context.Context, db *sql.DB, step Step) (bool, error)
}

// Transaction is a connection inside a transaction.
type Transaction interface {
	bun.IConn
	Commit(ctx context.Context) error
	Rollback() error
}

// Failure is a kind of database error.
type Failure int

// The kinds of failure.
const (
	Other       Failure = iota
	Unique              // a unique key is taken
	ForeignKey          // a reference is broken, or would be
	Conflict            // with another transaction: running again solves it
	Unavailable         // the database can't be reached, or not in time
	NoTable             // a table is not there
)

// Store implements cims.Storage on two pools of connections: one that writes
// and one that reads, which may be the same.
type Store struct {
	*queries
	write *sql.DB
	close func() error
}

// queries runs statements on one connection or pool: it is the Reader of a
// Store and the Tx of a transaction.
type queries struct {
	dialect Dialect
	db      *bun.DB // formats; conn runs
	conn    Conn
	hosts   *hostTables
	entry   *entry // of a host's transaction, or nil

	customer, user string // what is read as these tables
}

// on is what a statement runs on. A host's transaction is looked at first.
func (q *queries) on(ctx context.Context) (Conn, error) {
	if q.entry == nil {
		return q.conn, nil
	}
	return q.conn, q.entry.look(ctx, q)
}

// sql is what a transaction of our own runs on.
func (q *queries) sql() bun.IConn { return q.conn.(SQL).IConn } //nolint:forcetypeassert // attempt made it

var _ cims.Storage = (*Store)(nil)

// New makes a Store. Close calls closing, if it is not nil.
func New(dialect Dialect, write, read *sql.DB, closing func() error) *Store {
	var conn bun.IConn = read
	if dialect.Wrap != nil {
		conn = dialect.Wrap(read)
	}
	return &Store{
		queries: &queries{
			dialect:  dialect,
			db:       bun.NewDB(read, dialect.Bun, bun.WithDiscardUnknownColumns()),
			conn:     SQL{conn},
			hosts:    new(hostTables),
			customer: dialect.readAs("customer"),
			user:     dialect.readAs("user"),
		},
		write: write,
		close: closing,
	}
}

// Close implements cims.Storage.
func (s *Store) Close() error {
	if s.close == nil {
		return nil
	}
	return s.close()
}

const (
	maxAttempts = 10
	minBackoff  = 5 * time.Millisecond
	maxBackoff  = 200 * time.Millisecond
)

// Update implements cims.Storage.
func (s *Store) Update(ctx context.Context, do func(context.Context, cims.Tx) error) error {
	return s.Retry(ctx, func() error {
		return s.attempt(ctx, s.dialect.Begin, func(ctx context.Context, q *queries) error { return do(ctx, tx{q}) })
	})
}

// Retry runs a transaction of a driver's own as Update runs its: again on a
// conflict that a repetition can solve.
func (s *Store) Retry(ctx context.Context, attempt func() error) error {
	for n := 1; ; n++ {
		err := attempt()
		if err == nil || n == maxAttempts || s.dialect.Classify(err) != Conflict {
			return s.explain(err)
		}
		if err := sleep(ctx, n); err != nil {
			return s.explain(err)
		}
	}
}

// sleep waits before another attempt: longer each time, and never for the same
// time as somebody else, or the two would meet again.
func sleep(ctx context.Context, attempt int) error {
	limit := min(minBackoff<<attempt, maxBackoff)
	select {
	case <-time.After(minBackoff + rand.N(limit)): //nolint:gosec // no secret
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) attempt(
	ctx context.Context, begin func(context.Context, *sql.DB) (Transaction, error), do func(context.Context, *queries) error,
) error {
	transaction, err := begin(ctx, s.write)
	if err != nil {
		return err
	}
	finished := false
	defer func() {
		if !finished { // an error, or a panic in do
			_ = transaction.Rollback() // the connection is discarded if this fails
		}
	}()
	tx := *s.queries
	tx.conn = SQL{transaction}
	if err := do(ctx, &tx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	finished = true
	return s.Commit(ctx, transaction)
}

// Commit tells a commit that was refused from one that nobody knows the end of.
func (s *Store) Commit(ctx context.Context, transaction Transaction) error {
	err := transaction.Commit(ctx)
	if err == nil {
		return nil
	}
	if failure := s.dialect.Classify(err); failure == Unavailable || ctx.Err() != nil {
		return &cims.Error{Kind: cims.ErrOutcomeUnknown, Err: err}
	}
	return fmt.Errorf("commit: %w", err)
}

// explain turns a driver's error into one of ours, where there is one for it.
func (q *queries) explain(err error) error {
	var known *cims.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	// A conflict that is still one after so many attempts is load.
	failure := q.dialect.Classify(err)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || failure == Unavailable || failure == Conflict {
		return &cims.Error{Kind: cims.ErrUnavailable, Err: err}
	}
	return err
}

// Ready implements cims.Storage.
func (s *Store) Ready(ctx context.Context) error {
	if err := s.current(ctx); err != nil {
		return err
	}
	return s.RefuseUnfinished(ctx)
}

// current returns nil when the schema is.
func (q *queries) current(ctx context.Context) error {
	applied, err := q.applied(ctx)
	if q.dialect.Classify(err) == NoTable {
		return fmt.Errorf("cims: nothing of cims is in this database yet: run Migrate: %w", err)
	}
	if err != nil {
		return q.explain(fmt.Errorf("schema: %w", err))
	}
	if applied < len(q.dialect.Steps) {
		return fmt.Errorf("cims: the schema is at step %d of %d: run Migrate", applied, len(q.dialect.Steps))
	}
	return nil
}

// rows reads all rows of a statement.
func rows[T any](ctx context.Context, q *queries, query string, args ...any) ([]T, error) {
	conn, err := q.on(ctx)
	if err != nil {
		return nil, err
	}
	found, err := conn.Query(ctx, q.format(query, args))
	if err != nil {
		return nil, q.explain(err)
	}
	list, err := collect[T](q.db, found)
	return list, q.explain(err)
}

// format writes the arguments into the text.
func (q *queries) format(query string, args []any) string {
	return q.db.QueryGen().FormatQuery(query, args...)
}

// row reads the first row of a statement, or nil if there is none.
func row[T any](ctx context.Context, q *queries, query string, args ...any) (*T, error) {
	list, err := rows[T](ctx, q, query, args...)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &list[0], nil
}

// often is rows for a statement that runs often and whose text is always the
// same: where the database takes longer to plan it than to run it, it is
// prepared. An id has to be CAST to BIGINT there, since a host's own column may
// be too narrow for what is asked for.
func often[T any](ctx context.Context, q *queries, query string, args ...any) ([]T, error) {
	if q.dialect.Prepared == nil {
		return rows[T](ctx, q, query, args...)
	}
	conn, err := q.on(ctx)
	if err != nil {
		return nil, err
	}
	found, err := q.dialect.Prepared(ctx, conn, query, args)
	if err != nil {
		return nil, q.explain(err)
	}
	list, err := collect[T](q.db, found)
	return list, q.explain(err)
}

// prepared runs a query whose text is always the same.
func (q *queries) prepared(ctx context.Context, on Conn, query string, args []any) (ResultSet, error) {
	if q.dialect.Prepared == nil {
		return on.Query(ctx, query, args...)
	}
	return q.dialect.Prepared(ctx, on, query, args)
}

// oftenOne is often for the first row, or nil if there is none.
func oftenOne[T any](ctx context.Context, q *queries, query string, args ...any) (*T, error) {
	list, err := often[T](ctx, q, query, args...)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &list[0], nil
}

// exec runs a statement and returns how many rows it touched.
func (q *queries) exec(ctx context.Context, query string, args ...any) (int, error) {
	conn, err := q.on(ctx)
	if err != nil {
		return 0, err
	}
	count, err := conn.Exec(ctx, q.format(query, args))
	return int(count), q.explain(err)
}

// guarded runs what may be refused, and if it is, or panics, leaves the
// transaction as it was before, and usable: PostgreSQL would abort it.
func (q *queries) guarded(ctx context.Context, do func() error) (err error) {
	if _, err := q.exec(ctx, "SAVEPOINT cims_guarded"); err != nil {
		return err
	}
	done := false
	defer func() {
		if !done {
			// Undone, it is still there.
			ctx := context.WithoutCancel(ctx)
			_, undo := q.exec(ctx, "ROLLBACK TO SAVEPOINT cims_guarded")
			if undo == nil {
				_, undo = q.exec(ctx, "RELEASE SAVEPOINT cims_guarded")
			}
			err = errors.Join(err, undo)
		}
	}()
	if err := do(); err != nil {
		return err
	}
	done = true
	_, err = q.exec(ctx, "RELEASE SAVEPOINT cims_guarded")
	return err
}

// table is a list of rows to be inserted.
type table struct {
	name    string
	columns []string
	rows    [][]any
}

func (t *table) add(values ...any) { t.rows = append(t.rows, values) }

// insert formats INSERT INTO name (columns) VALUES (…), (…) and what follows.
func (q *queries) insert(t table, then string) (string, []any) {
	query, all := "INSERT INTO ? (", []any{q.table(t.name)}
	for i, column := range t.columns {
		query += comma(i) + "?"
		all = append(all, q.column(t.name, column))
	}
	query += ") VALUES "
	for i, values := range t.rows {
		query += comma(i) + "("
		for j := range values {
			query += comma(j) + "?"
		}
		query += ")"
		all = append(all, values...)
	}
	return query + " " + then, all
}

func comma(i int) string {
	if i == 0 {
		return ""
	}
	return ", "
}

func (q *queries) execInsert(ctx context.Context, t table) error {
	if len(t.rows) == 0 {
		return nil
	}
	query, args := q.insert(t, "")
	_, err := q.exec(ctx, query, args...)
	return err
}

// insertID inserts one row, unless it would violate a unique key, and returns
// its id. ErrExists: it would have.
func (q *queries) insertID(ctx context.Context, t table, entity cims.Entity, name string) (int64, error) {
	query, args := q.insert(t, "ON CONFLICT DO NOTHING RETURNING "+string(q.column(t.name, "id")))
	id, err := row[int64](ctx, q, query, args...)
	if err != nil {
		return 0, err
	}
	if id == nil {
		return 0, &cims.Error{Kind: cims.ErrExists, Entity: entity, Name: name}
	}
	return *id, nil
}

// count counts the rows of a condition and stops at limit. The limit inside
// also keeps PostgreSQL from a plan that scans the table for a rare value.
func (q *queries) count(ctx context.Context, from, column, value string, limit int) (int, error) {
	n, err := row[int](ctx, q, "SELECT count(*) FROM (SELECT 1 FROM "+from+" AS t WHERE ? = ? LIMIT ?) AS used",
		bun.Ident(column), value, limit)
	if err != nil {
		return 0, err
	}
	return *n, nil
}

func notFound(entity cims.Entity, id any) error {
	return &cims.Error{Kind: cims.ErrNotFound, Entity: entity, Name: fmt.Sprint(id)}
}

// null stores an empty text as NULL.
func null[T ~string](text T) any {
	if text == "" {
		return nil
	}
	return string(text)
}
