// Package sqlstore implements the queries and transactions that the SQLite and PostgreSQL
// storages share. A Dialect holds the differences.
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
	"github.com/cimskit/cims/internal/work"
	"github.com/cimskit/cims/storage/internal/hosttables"
)

// Dialect holds the differences between databases.
type Dialect struct {
	Bun schema.Dialect

	// Begin starts a transaction in which each statement sees everything committed
	// before it. On SQLite the transaction holds the write lock from its start.
	Begin func(ctx context.Context, db *sql.DB) (Transaction, error)

	// Snapshot starts a read-only transaction on one snapshot of the database.
	Snapshot func(ctx context.Context, db *sql.DB) (Transaction, error)

	// Prepared, if set, runs a query as a prepared statement of the connection. The text
	// of the query has to be the same each time, with ? for its arguments.
	Prepared func(ctx context.Context, conn Conn, query string, args []any) (ResultSet, error)

	// TakesArguments, if set, returns a Conn that sends arguments separately from the
	// statement.
	TakesArguments func(conn Conn) Conn

	// Join returns a connection that runs statements in a host's transaction.
	// CheckJoined runs before the first of them. It returns an error if the
	// transaction can't be joined.
	Join        func(tx any) (Conn, error)
	CheckJoined func(ctx context.Context, conn Conn) error

	// ForUpdate and ForKeyShare are locking clauses of a SELECT. ForUpdate keeps the rows
	// from all changes, ForKeyShare from deletion. They are empty if a transaction locks
	// the whole database.
	ForUpdate, ForKeyShare string

	// Lower is the SQL function that converts a text to lower case in queries.
	Lower string
	// StartsWith returns the condition that a column starts with prefix, ignoring case.
	// An index serves it for a customer's full_name and phone_number.
	StartsWith func(column, prefix string) schema.QueryWithArgs

	// TimesAsText is set if a host's times are texts in any format. Their order is then
	// the order of the stored texts.
	TimesAsText bool

	// Due is the condition that the due_at of a row of cims_unassigned has passed. Until
	// then the program that inserted the lead may assign it. A row is also due if the
	// clock was set back after its insert.
	Due string

	// Classify returns the kind of a driver's error.
	Classify func(err error) Failure

	// Intake implements cims.Tx.InsertLeads. It uses prepared statements: bun would write
	// all rows of an import into the text.
	Intake func(ctx context.Context, conn Conn, host Hosts, leads []*cims.Lead) error

	// Names are the host's names for statements. It is empty if views stand for the
	// host's tables.
	Names hosttables.Names

	// Columns returns the columns of a table, under their names in cims.
	Columns func(ctx context.Context, conn Conn, table string) ([]hosttables.Column, error)

	// Steps is the number of steps of a current schema.
	Steps int
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
	Conflict            // a conflict with another transaction: a retry solves it
	Raised              // the same, but a host's trigger may have raised it
	Unavailable         // the database can't be reached in time
	NoTable             // a table doesn't exist
)

// Store implements a cims.Storage for both databases, except Migrate. It has a pool of
// connections for writing and one for reading, which may be the same.
type Store struct {
	*queries
	write   *sql.DB
	writing *Budget // of the pool write
	close   func() error
}

// queries runs statements on one connection or pool. It is a cims.Reader. Inside a
// transaction, tx wraps it as a cims.Tx.
type queries struct {
	dialect  Dialect
	db       *bun.DB // formats statements; conn runs them
	conn     Conn
	budget   *Budget // of the pool that conn is; nil inside a transaction
	defaults *defaultsCache
	joined   *joinCheck // of a host's transaction, or nil

	customer, user string // hosttables.Names.From of these tables
}

// connection returns the connection for a statement, and a function to call when its result
// has been read. It checks a host's transaction first.
func (q *queries) connection(ctx context.Context) (conn Conn, done func(), err error) {
	if q.joined != nil {
		if err := q.joined.checkOnce(ctx, q); err != nil {
			return nil, nil, err
		}
	}
	done, err = q.budget.Take(ctx, work.Of(ctx))
	return q.conn, done, q.explain(err)
}

var _ cims.Reader = (*Store)(nil)

// New returns a Store whose reads run on conn, a connection of the pool read. Close calls
// closing if it is not nil.
func New(dialect Dialect, write, read *sql.DB, conn bun.IConn, closing func() error) *Store {
	reading := NewBudget(read)
	writing := reading
	if write != read {
		writing = NewBudget(write)
	}
	return &Store{
		queries: &queries{
			dialect:  dialect,
			db:       bun.NewDB(read, dialect.Bun, bun.WithDiscardUnknownColumns()),
			conn:     SQL{conn},
			budget:   reading,
			defaults: new(defaultsCache),
			customer: dialect.Names.From("customer"),
			user:     dialect.Names.From("user"),
		},
		write:   write,
		writing: writing,
		close:   closing,
	}
}

// Dialect returns the Dialect that New was given.
func (s *Store) Dialect() Dialect { return s.dialect }

// Conn returns the connection for reads.
func (s *Store) Conn() Conn { return s.conn }

// Close implements cims.Storage.
func (s *Store) Close() error {
	if s.close == nil {
		return nil
	}
	return s.close()
}

const (
	maxAttempts = 10
	maxRaised   = 4
	minBackoff  = 5 * time.Millisecond
	maxBackoff  = 200 * time.Millisecond
)

// Update implements cims.Storage.
func (s *Store) Update(ctx context.Context, do func(context.Context, cims.Tx) error) error {
	return s.Retry(ctx, func() error {
		done, err := s.TakeWriter(ctx)
		if err != nil {
			return err
		}
		defer done()
		ctx := work.With(ctx, work.Ordinary) // hooks may use other connections
		return s.Transact(ctx, s.dialect.Begin, func(transaction Transaction) error {
			q := *s.queries
			q.conn, q.budget = SQL{transaction}, nil
			return do(ctx, tx{&q})
		})
	})
}

// TakeWriter waits until a connection for writing may be taken. The caller calls done when
// it is free again.
func (s *Store) TakeWriter(ctx context.Context) (done func(), err error) {
	return s.writing.Take(ctx, work.Of(ctx))
}

// Retry calls attempt, and repeats it after a conflict with another transaction.
func (s *Store) Retry(ctx context.Context, attempt func() error) error {
	for n := 1; ; n++ {
		err := attempt()
		failure := s.dialect.Classify(err)
		again := failure == Conflict && n < maxAttempts || failure == Raised && n < maxRaised
		if err == nil || !again {
			return s.explain(err)
		}
		if err := sleep(ctx, n); err != nil {
			return s.explain(err)
		}
	}
}

// sleep waits before another attempt, longer after each one. The time is random, so that two
// transactions don't meet again.
func sleep(ctx context.Context, attempt int) error {
	limit := min(minBackoff<<attempt, maxBackoff)
	select {
	case <-time.After(minBackoff + rand.N(limit)): //nolint:gosec // no secret
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Transact runs do in a transaction of the writing pool, and commits it if do returns nil.
// It rolls back on an error or a panic.
func (s *Store) Transact(
	ctx context.Context, begin func(context.Context, *sql.DB) (Transaction, error), do func(Transaction) error,
) error {
	transaction, err := begin(ctx, s.write)
	if err != nil {
		return err
	}
	finished := false
	defer func() {
		if !finished {
			_ = transaction.Rollback() // the connection is discarded if this fails
		}
	}()
	if err := do(transaction); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	finished = true
	return s.Commit(ctx, transaction)
}

// Commit commits the transaction. It returns cims.ErrOutcomeUnknown if the connection was
// lost meanwhile.
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

// Snapshot runs do in a read-only snapshot of the database.
func (s *Store) Snapshot(ctx context.Context, do func(conn bun.IConn) error) (err error) {
	tx, err := s.dialect.Snapshot(ctx, s.db.DB)
	if err != nil {
		return s.explain(err)
	}
	defer func() {
		if undo := tx.Rollback(); err == nil { // otherwise the connection may be lost
			err = s.explain(undo)
		}
	}()
	return do(tx)
}

// Explain returns the error of package cims that matches a driver's error, or err itself.
func (s *Store) Explain(err error) error { return s.explain(err) }

func (q *queries) explain(err error) error {
	var known *cims.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	// A conflict that remains after all attempts means overload.
	failure := q.dialect.Classify(err)
	if failure == Raised {
		return &cims.Error{Kind: cims.ErrUnavailable, Err: fmt.Errorf("%w: %w", work.ErrRaised, err)}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || failure == Unavailable || failure == Conflict {
		return &cims.Error{Kind: cims.ErrUnavailable, Err: err}
	}
	return err
}

// Ready implements cims.Storage.
func (s *Store) Ready(ctx context.Context) error {
	ctx = work.With(ctx, work.SignIn)
	if err := s.Complete(ctx); err != nil {
		return err
	}
	conn, done, err := s.connection(ctx)
	if err != nil {
		return err
	}
	defer done()
	var id int64
	return s.explain(NeedsCounter(ScanOne(ctx, conn, "SELECT id FROM sales_manager_counter WHERE "+TheCounter, &id)))
}

// Complete returns nil if the schema is current and the database is not an unfinished copy.
func (s *Store) Complete(ctx context.Context) error {
	if err := s.Current(ctx); err != nil {
		return err
	}
	return s.RefuseUnfinished(ctx)
}

// Current returns nil when the schema is current.
func (q *queries) Current(ctx context.Context) error {
	applied, err := q.Applied(ctx)
	if q.dialect.Classify(err) == NoTable {
		return fmt.Errorf("cims: the database has not been migrated: run Migrate: %w", err)
	}
	if err != nil {
		return q.explain(fmt.Errorf("schema: %w", err))
	}
	if applied < q.dialect.Steps {
		return fmt.Errorf("cims: the schema is at step %d of %d: run Migrate", applied, q.dialect.Steps)
	}
	return nil
}

// rows reads all rows of a statement.
func rows[T any](ctx context.Context, q *queries, query string, args ...any) ([]T, error) {
	conn, done, err := q.connection(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	found, err := conn.Query(ctx, q.Format(query, args...))
	if err != nil {
		return nil, q.explain(err)
	}
	list, err := collect[T](q.db, found)
	return list, q.explain(err)
}

// Format writes the arguments into the text of a statement, one for each ? in it.
func (q *queries) Format(query string, args ...any) string {
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

// queryPrepared is like rows, for a statement that runs often with the same text. It
// prepares the statement if planning takes longer than running it. The statement has to
// CAST an id to BIGINT, since a host's column may be too narrow for the argument.
func queryPrepared[T any](ctx context.Context, q *queries, query string, args ...any) ([]T, error) {
	if q.dialect.Prepared == nil {
		return rows[T](ctx, q, query, args...)
	}
	conn, done, err := q.connection(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	found, err := q.dialect.Prepared(ctx, conn, query, args)
	if err != nil {
		return nil, q.explain(err)
	}
	list, err := collect[T](q.db, found)
	return list, q.explain(err)
}

// Prepared runs a query on a connection of the same database, prepared if the Dialect
// prepares statements. The text of the query has to be the same each time.
func (q *queries) Prepared(ctx context.Context, conn Conn, query string, args ...any) (ResultSet, error) {
	if q.dialect.Prepared == nil {
		return conn.Query(ctx, query, args...)
	}
	return q.dialect.Prepared(ctx, conn, query, args)
}

// queryPreparedOne is like queryPrepared. It returns the first row, or nil if there is none.
func queryPreparedOne[T any](ctx context.Context, q *queries, query string, args ...any) (*T, error) {
	list, err := queryPrepared[T](ctx, q, query, args...)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &list[0], nil
}

// exec runs a statement and returns the number of affected rows.
func (q *queries) exec(ctx context.Context, query string, args ...any) (int, error) {
	conn, done, err := q.connection(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	count, err := conn.Exec(ctx, q.Format(query, args...))
	return int(count), q.explain(err)
}

// guarded runs do inside a savepoint. On an error or a panic it restores the transaction to
// its state before, and keeps it usable. PostgreSQL would abort it otherwise.
func (q *queries) guarded(ctx context.Context, do func() error) (err error) {
	if _, err := q.exec(ctx, "SAVEPOINT cims_guarded"); err != nil {
		return err
	}
	done := false
	defer func() {
		if !done {
			// The savepoint outlasts the rollback to it.
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

// table is a list of rows to insert.
type table struct {
	name    string
	columns []string
	rows    [][]any
}

func (t *table) add(values ...any) { t.rows = append(t.rows, values) }

// insert formats INSERT INTO name (columns) VALUES (…), (…) followed by then.
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

// insertID inserts one row and returns its id. It returns cims.ErrExists, and inserts
// nothing, if the row would violate a unique key.
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

// count counts the rows with a value in a column, up to limit. The inner LIMIT also keeps
// PostgreSQL from scanning the whole table for a rare value.
func (q *queries) count(ctx context.Context, from, column, value string, limit int) (int, error) {
	n, err := row[int](work.With(ctx, work.Heavy), q, "SELECT count(*) FROM (SELECT 1 FROM "+from+" AS t WHERE ? = ? LIMIT ?) AS used",
		bun.Ident(column), value, limit)
	if err != nil {
		return 0, err
	}
	return *n, nil
}

func notFound(entity cims.Entity, id any) error {
	return &cims.Error{Kind: cims.ErrNotFound, Entity: entity, Name: fmt.Sprint(id)}
}

// null returns nil for an empty text, which stores NULL.
func null[T ~string](text T) any {
	if text == "" {
		return nil
	}
	return string(text)
}
