// Package postgres stores a CRM in PostgreSQL 13 or newer, through pgx.
//
//	store, err := postgres.Open(ctx, "postgres://…")
//	…
//	err = store.Migrate(ctx) // adds what is missing
//	…
//	crm, err := cims.New(store, nil)
//
// [Open] opens a pool of connections to a URL. [New] uses a *sql.DB of the host. Any number
// of programs may use one database, since a lock in the database guards the rotation.
//
// [Storage.Migrate] starts from an empty database, from a host's tables customer and
// "user", or from the database of the older CIMS program, which may run meanwhile. It adds
// what is missing and changes nothing else. [Storage.Plan] shows beforehand what Migrate
// would do, [Storage.Verify] checks the result, and [Storage.Rollback] undoes it.
//
// [Customers] and [Users] declare the host's tables if these, or their columns, have other
// names.
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
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/schema"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/internal/copying"
	"github.com/cimskit/cims/storage/internal/hosttables"
	"github.com/cimskit/cims/storage/internal/sqlstore"
	"github.com/cimskit/cims/storage/postgres/internal/move"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Storage is a [cims.Storage] in PostgreSQL. It also implements [cims.Joiner] and
// [cims.Intaker].
type Storage struct {
	reader
	*database
	store         *sqlstore.Store
	mover         *move.Mover
	db            *sql.DB
	readCommitted bool // a statement outside a transaction runs at this level
	rotation      sqlstore.RotationCache
	statement     atomic.Pointer[string] // the statement of Intake
}

// A Storage embeds its parts under unexported names. Hosts can call their methods, but
// can't reach the parts.
type (
	reader   = cims.Reader
	database = copying.Database
)

var (
	_ cims.Storage     = (*Storage)(nil)
	_ cims.Joiner      = (*Storage)(nil)
	_ copying.Copyable = (*Storage)(nil)
)

// Update implements cims.Storage.
func (s *Storage) Update(ctx context.Context, do func(context.Context, cims.Tx) error) error {
	return s.store.Update(ctx, do)
}

// Ready returns nil if the database answers and its schema is current. It returns
// transfer.ErrUnfinished for an unfinished copy of another database, and
// cims.ErrUnavailable if sales_manager_counter is empty, which Repair mends.
func (s *Storage) Ready(ctx context.Context) error { return s.store.Ready(ctx) }

// Join implements cims.Joiner. It takes a pgx.Tx or an *sql.Tx of pgx's stdlib.
func (s *Storage) Join(tx any) cims.Storage { return s.store.Join(tx) }

// Close closes the connections of Open. After New it does nothing.
func (s *Storage) Close() error { return s.store.Close() }

// Open connects to the database at a URL such as
// postgres://user:password@host/database?sslmode=require. The URL may have the parameters
// of pgxpool, such as pool_max_conns. Open returns cims.ErrUnavailable if the database
// can't be reached, and an error for invalid names of tables or columns and for a database
// whose encoding is not UTF8. Close closes the connections.
//
// To survive a failover, name several hosts, as in
// postgres://host1,host2/database?target_session_attrs=read-write. They are tried until one
// accepts writes.
//
// With a pooler that assigns connections per transaction, such as pgbouncer, set
// default_query_exec_mode=exec. Run Migrate without the pooler, since it holds locks of a
// session.
func Open(ctx context.Context, url string, options ...Option) (*Storage, error) {
	host, err := namesOf(options)
	if err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("cims: database URL: %w", withoutURL(err))
	}
	// bun writes arguments into the text of its statements, and escapes them as standard
	// strings.
	config.ConnConfig.RuntimeParams["standard_conforming_strings"] = "on"
	config.ConnConfig.RuntimeParams["timezone"] = "UTC"
	config.ConnConfig.RuntimeParams["datestyle"] = "ISO" // pgx reads times in no other
	config.ConnConfig.RuntimeParams["client_encoding"] = "UTF8"
	// A pooler that assigns connections per transaction doesn't support this setting.
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
	db.SetMaxOpenConns(int(config.MaxConns)) // a Storage divides them
	closing := func() error {
		err := db.Close()
		pool.Close()
		return err
	}
	if err := checkSettings(ctx, db); err != nil {
		return nil, errors.Join(err, closing())
	}
	store, err := newStorage(db, closing, host)
	if err != nil {
		return nil, err
	}
	store.readCommitted = !pooled
	return store, nil
}

// withoutURL removes the URL from an error of pgx, since it may contain a password.
func withoutURL(err error) error {
	if parse := new(pgconn.ParseConfigError); errors.As(err, &parse) {
		if cause := errors.Unwrap(parse); cause != nil {
			return cause
		}
		return errors.New("malformed")
	}
	return err
}

// New returns a Storage on connections that the host has opened with pgx's stdlib. Close
// doesn't close them. New returns an error if the database's encoding or the connection's
// client_encoding is not UTF8, if its DateStyle is not ISO or its standard_conforming_strings
// is off, and for invalid names of tables or columns. It returns cims.ErrUnavailable if the
// database can't be reached.
func New(db *sql.DB, options ...Option) (*Storage, error) {
	host, err := namesOf(options)
	if err != nil {
		return nil, err
	}
	if db == nil {
		return nil, errors.New("cims: New needs a *sql.DB")
	}
	if err := checkSettings(context.Background(), db); err != nil {
		return nil, err
	}
	return newStorage(db, nil, host)
}

// checkSettings returns an error if the connections have a setting under which texts or times
// would be read wrong.
func checkSettings(ctx context.Context, db *sql.DB) error {
	var conforming, server, client, style string
	if err := db.QueryRowContext(ctx, `SELECT current_setting('standard_conforming_strings'), current_setting('server_encoding'),
		current_setting('client_encoding'), current_setting('DateStyle')`).Scan(&conforming, &server, &client, &style); err != nil {
		return &cims.Error{Kind: cims.ErrUnavailable, Err: err}
	}
	switch {
	case server != "UTF8":
		return fmt.Errorf("cims: the encoding of the database is %s: it has to be UTF8", server)
	case client != "UTF8":
		return fmt.Errorf("cims: client_encoding is %s: it must be UTF8", client)
	case !strings.HasPrefix(style, "ISO"):
		return fmt.Errorf("cims: DateStyle is %s: it must be ISO", style)
	case conforming != "on":
		return errConforming
	}
	return nil
}

var errConforming = errors.New("cims: standard_conforming_strings must be on")

func newStorage(db *sql.DB, closing func() error, host names) (*Storage, error) {
	steps, err := move.Steps(migrations, host.Names)
	if err != nil {
		return nil, err
	}
	store := sqlstore.New(dialect(len(steps), host), db, db, simple{db}, closing)
	return &Storage{
		reader: store, database: copying.New(store, host.copying()),
		store: store, mover: move.New(store, db, host.Names, steps), db: db,
	}, nil
}

// due implements sqlstore.Dialect.Due. To detect a clock that was set back, it compares the
// time that the trigger has recorded for the row. due_at can't be used for this: each
// session has its own time of grace, and the row may be newer than this transaction.
const due = `(due_at <= now() OR COALESCE(
		(SELECT (array_agg(h.changed_at ORDER BY h.id DESC))[1] FROM assignment_history AS h WHERE h.customer_id = cims_unassigned.customer_id AND h.cause = 'external'),
		(SELECT (array_agg(h.changed_at ORDER BY h.id))[1] FROM customer_status_history AS h WHERE h.customer_id = cims_unassigned.customer_id AND h.cause = 'external')
	) > clock_timestamp())`

func dialect(steps int, host names) sqlstore.Dialect {
	return sqlstore.Dialect{
		Bun:      pgdialect.New(),
		Begin:    begin,
		Snapshot: snapshot,
		Prepared: prepared,

		TakesArguments: beneath,
		Join:           join,
		CheckJoined:    checkIsolation,
		ForUpdate:      " FOR UPDATE",
		ForKeyShare:    " FOR KEY SHARE",
		Lower:          "lower",
		StartsWith:     startsWith,
		Due:            due,
		Classify:       classify,
		Intake:         intake,
		Columns:        host.columns,
		Steps:          steps,
	}
}

// startsWith implements sqlstore.Dialect.StartsWith. The server converts the prefix to lower
// case, so that it follows the same rules as the index.
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

// begin requests read committed, whatever the server's default is. Under a snapshot, the
// rotation would be read as it was before the lock was taken.
func begin(ctx context.Context, db *sql.DB) (sqlstore.Transaction, error) {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return nil, err
	}
	return transaction{simple{tx}, tx}, nil
}

const (
	foreignKey = "23503"
	readOnly   = "25006" // the server takes no writes, as after a failover
)

// classify implements sqlstore.Dialect.Classify. It reads SQLSTATE codes and recognizes lost
// connections.
func classify(err error) sqlstore.Failure {
	if server, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch code := server.Code; {
		case code == "23505":
			return sqlstore.Unique
		case code == foreignKey:
			return sqlstore.ForeignKey
		case code == "42P01":
			return sqlstore.NoTable
		case code == "40001": // at read committed only by triggers
			return sqlstore.Raised
		case code == "40P01", code == "55P03": // 55P03 is a lock timeout
			return sqlstore.Conflict
		case strings.HasPrefix(code, "08"), strings.HasPrefix(code, "53"), strings.HasPrefix(code, "57P"), code == "57014", code == readOnly:
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

// columns implements sqlstore.Dialect.Columns. It reads the table even if a view stands for
// it, since only the table has defaults and NOT NULL constraints.
func (n names) columns(ctx context.Context, conn sqlstore.Conn, table string) ([]hosttables.Column, error) {
	if _, mayBeHosts := hosttables.Nameable[table]; mayBeHosts {
		if err := move.Check(ctx, conn, n.Names); err != nil {
			return nil, err
		}
	}
	var seen []string // columns of the view
	if _, other := n.Names[table]; other {
		var err error
		if seen, err = sqlstore.ScanAll(ctx, conn, `SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(quote_ident('`+table+`')) AND attnum > 0`); err != nil {
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
	defer func() { _ = rows.Close() }() // Err below reports its error
	var list []hosttables.Column
	for rows.Next() {
		var c hosttables.Column
		if err := rows.Scan(&c.Name, &c.Type, &c.NotNull, &c.HasDefault, &c.Label, &c.MaxLen); err != nil {
			return nil, err
		}
		if c.Name = n.Ours(table, c.Name); seen == nil || slices.Contains(seen, c.Name) {
			list = append(list, c)
		}
	}
	return list, rows.Err()
}
