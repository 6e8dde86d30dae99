// Package postgres keeps a CRM in PostgreSQL 13 or newer, through pgx.
//
//	store, err := postgres.Open(ctx, "postgres://…")
//	…
//	err = store.Migrate(ctx) // adds what is missing
//	…
//	crm, err := cims.New(store, nil)
//
// [Open] has a pool of its own, whose settings stand in the URL; [New] works
// on a *sql.DB of the host's. Any number of programs may work on one database:
// whose turn it is is decided under a lock in the database.
//
// [Storage.Migrate] starts from an empty database, from a host's own "user"
// and customer tables, or from the database of the older CIMS program, which
// may go on meanwhile; it adds what is missing and changes nothing else.
// Tables and columns of other names are named by [Customers] and [Users].
// [Storage.Plan] says beforehand what it would do, [Storage.Verify] compares
// afterwards, [Storage.Rollback] takes it all away again.
package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/schema"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/internal/sqlstore"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Storage is a cims.Storage in PostgreSQL.
type Storage struct {
	*sqlstore.Store
	db            *sql.DB
	readCommitted bool // is what a statement by itself runs at
	remembered    sqlstore.Remembered
	statement     atomic.Pointer[string] // of Intake
	names         names
}

var _ cims.Storage = (*Storage)(nil)

// Ready returns nil when the database answers, its schema is current, and it is
// no unfinished copy of another (transfer.ErrUnfinished).
func (s *Storage) Ready(ctx context.Context) error { return s.Store.Ready(ctx) }

// Close closes what Open opened.
func (s *Storage) Close() error { return s.Store.Close() }

// Open connects to the database of a URL such as
// postgres://user:password@host/database?sslmode=require, with the parameters
// of pgxpool (pool_max_conns and so on). It returns cims.ErrUnavailable if the
// database can't be reached, and an error for names that can't be. Close closes
// the connections.
//
// Several hosts, as in postgres://host1,host2/database?target_session_attrs=read-write,
// are tried until one takes writes: so a failover is followed. Through a pooler that
// gives out connections by the transaction, such as pgbouncer, say
// default_query_exec_mode=exec, and Migrate without the pooler: it holds locks that
// belong to a session.
func Open(ctx context.Context, url string, options ...Option) (*Storage, error) {
	host, err := namesOf(options)
	if err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("cims: database URL: %w", withoutURL(err))
	}
	// bun writes arguments into the text of its statements: escapes have to
	// mean what it takes them to mean.
	config.ConnConfig.RuntimeParams["standard_conforming_strings"] = "on"
	config.ConnConfig.RuntimeParams["timezone"] = "UTC"
	// A pooler that gives out connections by the transaction knows no such setting.
	pooled := slices.Contains([]pgx.QueryExecMode{pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol}, config.ConnConfig.DefaultQueryExecMode)
	if !pooled {
		config.ConnConfig.RuntimeParams["default_transaction_isolation"] = "read committed"
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("cims: database: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, &cims.Error{Kind: cims.ErrUnavailable, Err: err}
	}
	db := stdlib.OpenDBFromPool(pool)
	store, err := newStorage(db, func() error {
		err := db.Close()
		pool.Close()
		return err
	}, host)
	if err != nil {
		return nil, err
	}
	store.readCommitted = !pooled
	return store, nil
}

// withoutURL leaves out what pgx repeats of the URL, which may hold a password.
func withoutURL(err error) error {
	if parse := new(pgconn.ParseConfigError); errors.As(err, &parse) {
		if cause := errors.Unwrap(parse); cause != nil {
			return cause
		}
		return errors.New("malformed")
	}
	return err
}

// New works on connections that the host has opened with pgx's stdlib, and that
// stay the host's: Close does not close them. It refuses a server on which a
// backslash in a text is an escape, and names that can't be.
func New(db *sql.DB, options ...Option) (*Storage, error) {
	host, err := namesOf(options)
	if err != nil {
		return nil, err
	}
	if db == nil {
		return nil, errors.New("cims: New needs a *sql.DB")
	}
	var conforming string
	if err := db.QueryRowContext(context.Background(), "SHOW standard_conforming_strings").Scan(&conforming); err != nil {
		return nil, &cims.Error{Kind: cims.ErrUnavailable, Err: err}
	}
	if conforming != "on" {
		return nil, errConforming
	}
	return newStorage(db, nil, host)
}

var errConforming = errors.New("cims: standard_conforming_strings has to be on")

func newStorage(db *sql.DB, closing func() error, host names) (*Storage, error) {
	steps, err := sqlstore.Steps(migrations)
	if err != nil {
		return nil, err
	}
	for i := range steps {
		steps[i].SQL = host.SQL(steps[i].SQL)
	}
	return &Storage{Store: sqlstore.New(dialect(steps, host), db, db, closing), db: db, names: host}, nil
}

// setBack looks at when the trigger did that made the row: how long the time of grace
// is each session says for itself, and the row may be younger than our transaction.
const setBack = `COALESCE(
		(SELECT (array_agg(h.changed_at ORDER BY h.id DESC))[1] FROM assignment_history AS h WHERE h.customer_id = cims_unassigned.customer_id AND h.cause = 'external'),
		(SELECT (array_agg(h.changed_at ORDER BY h.id))[1] FROM customer_status_history AS h WHERE h.customer_id = cims_unassigned.customer_id AND h.cause = 'external')
	) > clock_timestamp()`

func dialect(steps []sqlstore.Step, host names) sqlstore.Dialect {
	return sqlstore.Dialect{
		Bun:      pgdialect.New(),
		Begin:    begin,
		Wrap:     func(db bun.IConn) bun.IConn { return simple{db} },
		Prepared: prepared,
		Join:     join,
		Joined:   fit,

		TakesArguments: beneath,
		ForUpdate:      " FOR UPDATE",
		ForKeyShare:    " FOR KEY SHARE",
		Lower:          "lower",
		StartsWith:     startsWith,
		Now:            "now()",
		SetBack:        setBack,
		Classify:       classify,
		Intake:         intake,
		Columns:        host.columns,
		Copying:        host.copying(),
		Steps:          steps,
		TryLock:        tryLock,
		BuildIndex:     buildIndexes,
	}
}

// startsWith lets the server make the prefix lower case, by the same rules as
// the index.
func startsWith(column, prefix string) schema.QueryWithArgs {
	escaped := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(prefix)
	return schema.SafeQuery("lower("+column+") LIKE lower(?)", []any{escaped + "%"})
}

type transaction struct {
	simple
	tx *sql.Tx
}

func (t transaction) Commit(context.Context) error { return t.tx.Commit() }
func (t transaction) Rollback() error              { return t.tx.Rollback() }

// begin asks for read committed whatever the server's default is: under a
// snapshot the rotation would be read as it was before the lock was taken.
func begin(ctx context.Context, db *sql.DB) (sqlstore.Transaction, error) {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return nil, err
	}
	return transaction{simple{tx}, tx}, nil
}

const foreignKey = "23503"

// classify reads SQLSTATE codes, and what else can be wrong with a connection.
func classify(err error) sqlstore.Failure {
	if server, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch code := server.Code; {
		case code == "23505":
			return sqlstore.Unique
		case code == foreignKey:
			return sqlstore.ForeignKey
		case code == "42P01":
			return sqlstore.NoTable
		case code == "40001", code == "40P01", code == "55P03": // the last: a lock was not to be had in time
			return sqlstore.Conflict
		case strings.HasPrefix(code, "08"), strings.HasPrefix(code, "53"), strings.HasPrefix(code, "57P"), code == "57014":
			return sqlstore.Unavailable
		}
		return sqlstore.Other
	}
	var network net.Error
	var connect *pgconn.ConnectError
	switch {
	case err == nil:
		return sqlstore.Other
	case errors.As(err, &network), errors.As(err, &connect),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, sql.ErrConnDone), errors.Is(err, driver.ErrBadConn), pgconn.SafeToRetry(err), strings.Contains(err.Error(), "conn closed"):
		return sqlstore.Unavailable
	}
	return sqlstore.Other
}

// columns describes those of a table, or of the view over it: what is NOT NULL or
// has a default, only the table itself knows.
func (n names) columns(ctx context.Context, conn sqlstore.Conn, table string) ([]sqlstore.Column, error) {
	if _, ours := sqlstore.Nameable[table]; ours {
		if err := n.check(ctx, conn); err != nil {
			return nil, err
		}
	}
	var seen []string
	if _, other := n.Names[table]; other {
		if err := n.scanAll(ctx, conn, `SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(quote_ident('`+table+`')) AND attnum > 0`, &seen); err != nil {
			return nil, err
		}
	}
	rows, err := conn.Query(ctx, `SELECT a.attname,
		CASE t.typtype WHEN 'e' THEN 'enum' ELSE format_type(CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END, NULL) END,
		a.attnotnull, a.atthasdef OR a.attidentity <> '',
		COALESCE((SELECT e.enumlabel FROM pg_enum AS e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder LIMIT 1), ''),
		CASE WHEN COALESCE(NULLIF(t.typbasetype, 0), t.oid) IN ('varchar'::regtype, 'bpchar'::regtype)
			THEN greatest(CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END - 4, 0) ELSE 0 END -- 4 is the header's
		FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
		WHERE a.attrelid = to_regclass('`+n.identifier(table).Sanitize()+`') AND a.attnum > 0 AND NOT a.attisdropped`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // Err below tells
	var list []sqlstore.Column
	for rows.Next() {
		var c sqlstore.Column
		if err := rows.Scan(&c.Name, &c.Type, &c.NotNull, &c.HasDefault, &c.Label, &c.MaxLen); err != nil {
			return nil, err
		}
		if c.Name = n.Ours(table, c.Name); seen == nil || slices.Contains(seen, c.Name) {
			list = append(list, c)
		}
	}
	return list, rows.Err()
}
