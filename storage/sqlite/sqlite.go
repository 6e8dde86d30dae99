// Package sqlite stores a CRM in an SQLite file, through modernc.org/sqlite. That is pure Go
// and needs no installation. SQLite is the default database of cims.
//
//	store, err := sqlite.Open(ctx, "crm.db") // creates the file if it doesn't exist
//	…
//	err = store.Migrate(ctx) // adds what is missing
//	…
//	crm, err := cims.New(store, nil)
//
// [Open] opens one connection for writing and others for reading. Several programs may have
// the same file open. [New] uses a *sql.DB of the host, whose connections have to check
// foreign keys.
//
// SQLite has one writer at a time, so a long transaction of the host delays new leads. If
// one writer is too little, package transfer copies everything to PostgreSQL.
//
// [Storage.Migrate] starts from an empty file, from a host's tables customer and "user", or
// from a database of the older CIMS program. It keeps their data. [Storage.Plan] shows
// beforehand what Migrate would do, [Storage.Verify] checks the result, and
// [Storage.Rollback] undoes it. [Customers] and [Users] declare the host's tables if these,
// or their columns, have other names.
//
// The indexes and triggers work in any program that opens the file. None uses a function of
// this package.
package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/schema"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/internal/copying"
	"github.com/cimskit/cims/storage/internal/hosttables"
	"github.com/cimskit/cims/storage/internal/sqlstore"
	"github.com/cimskit/cims/storage/sqlite/internal/move"
)

// lower converts text of any script to lower case. SQLite's own lower only knows ASCII. Only
// queries may use it: an index or trigger with it would lock other programs out of the file.
const lower = "cims_lower"

func init() {
	sqlite.MustRegisterDeterministicScalarFunction(lower, 1, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		if text, ok := args[0].(string); ok {
			return strings.ToLower(text), nil
		}
		return args[0], nil
	})
}

// Storage is a [cims.Storage] in an SQLite file. It also implements [cims.Joiner] and
// [cims.Intaker].
type Storage struct {
	reader
	*database
	store *sqlstore.Store
	mover *move.Mover
	host  host
	read  *sql.DB

	write    *sql.DB // nil on a host's connections
	rotation sqlstore.RotationCache
	intake   statements
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

// Ready returns nil if the database answers and its schema is current. It returns an error
// if the database was migrated under other names of tables or columns. It returns
// transfer.ErrUnfinished for an unfinished copy of another database, and
// cims.ErrUnavailable if sales_manager_counter is empty, which Repair mends.
func (s *Storage) Ready(ctx context.Context) error {
	if _, err := s.host.Applied(ctx, s.read); err != nil {
		return s.store.Explain(err)
	}
	return s.store.Ready(ctx)
}

// Join implements cims.Joiner. It takes an *sql.Tx of modernc.org/sqlite.
func (s *Storage) Join(tx any) cims.Storage { return s.store.Join(tx) }

// Close closes the connections of Open. After New it does nothing.
func (s *Storage) Close() error { return s.store.Close() }

// Open opens the file at path, and creates it if it doesn't exist. It uses WAL mode, so
// that one connection can write while others read. With the default, [SynchronousFull],
// acknowledged changes survive a power cut. Several processes may have the same file open.
// Open returns an error for invalid names of tables or columns. Close closes the file.
func Open(ctx context.Context, path string, options ...Option) (*Storage, error) {
	if path == "" || strings.Contains(path, ":memory:") {
		return nil, errors.New("cims: SQLite needs a file: each connection to :memory: would have a separate database")
	}
	choices, err := optionsOf(options)
	if err != nil {
		return nil, err
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("cims: database file: %w", err)
	}
	// temp_store keeps the statement journal, which triggers need, in memory. In a file it
	// costs a fifth of an intake. journal_size_limit shrinks the WAL after a large import.
	pragmas := []string{
		"busy_timeout(5000)", "journal_mode(WAL)", string(cmp.Or(choices.synchronous, SynchronousFull)), "foreign_keys(1)", "temp_store(MEMORY)",
		"journal_size_limit(67108864)",
	}
	write, err := open(path, url.Values{"_txlock": {"immediate"}}, pragmas...)
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	read, err := open(path, url.Values{}, "busy_timeout(5000)", "foreign_keys(1)", "query_only(1)")
	if err != nil {
		_ = write.Close() // no connection is open yet
		return nil, err
	}
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	store := newStorage(choices.names, write, read, func() error { return errors.Join(read.Close(), write.Close()) })
	// A new file is busy while another process switches it to WAL. busy_timeout doesn't
	// apply to that.
	if err := store.store.Retry(ctx, func() error { return write.PingContext(ctx) }); err != nil {
		_ = store.Close() // the ping's error says more
		return nil, fmt.Errorf("cims: database file %s: %w", path, err)
	}
	store.write = write
	return store, nil
}

const readers = 8

func open(path string, query url.Values, pragmas ...string) (*sql.DB, error) {
	query["_pragma"] = pragmas
	query.Set("_time_format", "sqlite")
	query.Set("_timezone", "UTC")
	return sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}).String())
}

// New returns a Storage on connections that the host has opened with modernc.org/sqlite.
// Close doesn't close them. They have to check foreign keys, which guard statuses and roles
// in use: open them with _pragma=foreign_keys(1). New returns an error if they don't, for a
// [Synchronous] option, and for invalid names of tables or columns.
func New(db *sql.DB, options ...Option) (*Storage, error) {
	choices, err := optionsOf(options)
	if err != nil {
		return nil, err
	}
	if db == nil {
		return nil, errors.New("cims: New needs a *sql.DB")
	}
	if choices.synchronous != "" {
		return nil, errors.New("cims: New takes no Synchronous: open the connections with _pragma=" + string(choices.synchronous))
	}
	if err := checksForeignKeys(context.Background(), sqlstore.SQL{IConn: db}); err != nil {
		return nil, err
	}
	return newStorage(choices.names, db, db, nil), nil
}

func checksForeignKeys(ctx context.Context, conn sqlstore.Conn) error {
	var checked bool
	if err := sqlstore.ScanOne(ctx, conn, "PRAGMA foreign_keys", &checked); err != nil {
		return fmt.Errorf("cims: database: %w", err)
	}
	if !checked {
		return errors.New("cims: foreign keys are off: open the database with _pragma=foreign_keys(1)")
	}
	return nil
}

// join implements sqlstore.Dialect.Join.
func join(tx any) (sqlstore.Conn, error) {
	if tx, ok := tx.(*sql.Tx); ok && tx != nil {
		return sqlstore.SQL{IConn: tx}, nil
	}
	return nil, fmt.Errorf("cims: an *sql.Tx of modernc.org/sqlite can be joined on SQLite, not a %T", tx)
}

//go:embed schema/*.sql
var schemaFiles embed.FS

func newStorage(names hosttables.Names, write, read *sql.DB, closing func() error) *Storage {
	h := host{move.NewHost(names, schemaFiles)}
	d := h.dialect()
	if closing != nil { // closing our own connections also closes their statements
		d.Prepared = (&preparedReads{db: read, stmts: map[string]*sql.Stmt{}}).query
	}
	store := sqlstore.New(d, write, read, read, closing)
	return &Storage{
		reader: store, database: copying.New(store, h.copying()),
		store: store, mover: move.New(store, read, h.Host), host: h, read: read,
	}
}

func (h host) dialect() sqlstore.Dialect {
	return sqlstore.Dialect{
		Bun:         sqlitedialect.New(),
		Begin:       begin,
		Snapshot:    snapshot,
		Join:        join,
		CheckJoined: checksForeignKeys,
		Lower:       lower,
		StartsWith:  startsWith,
		Due:         move.Due,
		TimesAsText: true,
		Classify:    classify,
		Intake:      h.intake,
		Names:       h.Names,
		Columns:     h.columns,
		Steps:       h.Steps(),
	}
}

// startsWith implements sqlstore.Dialect.StartsWith. It returns a range, which an index
// serves for any prefix. The index of phone numbers uses SQLite's lower, which only converts
// ASCII.
func startsWith(column, prefix string) schema.QueryWithArgs {
	expr := lower + "(" + column + ")"
	table, isName := strings.CutSuffix(column, "full_name")
	switch {
	case strings.HasSuffix(column, "phone_number"):
		expr, prefix = "lower("+column+")", strings.Map(lowerASCII, prefix)
	case isName:
		expr, prefix = table+move.NameColumn, strings.ToLower(prefix)
	default:
		prefix = strings.ToLower(prefix)
	}
	return schema.SafeQuery("("+expr+" >= ? AND "+expr+" < ?)", []any{prefix, prefix + "\U0010FFFF"})
}

func lowerASCII(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}

// transaction is a connection inside a transaction begun by BEGIN IMMEDIATE. Two deferred
// transactions that read before they write would fail.
type transaction struct{ *sql.Conn }

func begin(ctx context.Context, db *sql.DB) (sqlstore.Transaction, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return beginOn(ctx, conn, "BEGIN IMMEDIATE")
}

// beginOn begins a transaction. If it fails, it also rolls back: when the context ends in
// that moment, the driver returns an error although SQLite has begun.
func beginOn(ctx context.Context, conn *sql.Conn, statement string) (sqlstore.Transaction, error) {
	if _, err := conn.ExecContext(ctx, statement); err != nil {
		return nil, errors.Join(err, transaction{conn}.Rollback())
	}
	return transaction{conn}, nil
}

// Commit is short and ignores the end of the context.
func (t transaction) Commit(ctx context.Context) error {
	_, err := t.ExecContext(context.WithoutCancel(ctx), "COMMIT")
	if err != nil {
		return errors.Join(err, t.Rollback())
	}
	return t.Close()
}

func (t transaction) Rollback() error {
	_, err := t.ExecContext(context.Background(), "ROLLBACK")
	if err != nil && !strings.Contains(err.Error(), "no transaction is active") {
		// A connection that is still in a transaction must not return to the pool.
		_ = t.Raw(func(any) error { return driver.ErrBadConn })
		return errors.Join(err, t.Close())
	}
	return t.Close()
}

// classify implements sqlstore.Dialect.Classify. It reads SQLite's result codes:
// https://www.sqlite.org/rescode.html
func classify(err error) sqlstore.Failure {
	var failed *sqlite.Error
	if !errors.As(err, &failed) {
		return sqlstore.Other
	}
	switch code := failed.Code(); {
	case code == sqlite3.SQLITE_CONSTRAINT_UNIQUE, code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return sqlstore.Unique
	case code == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY,
		code == sqlite3.SQLITE_CONSTRAINT_TRIGGER && strings.Contains(err.Error(), "FOREIGN KEY constraint failed"):
		return sqlstore.ForeignKey
	case code&0xff == sqlite3.SQLITE_BUSY, code&0xff == sqlite3.SQLITE_LOCKED:
		return sqlstore.Conflict
	case code&0xff == sqlite3.SQLITE_IOERR, code&0xff == sqlite3.SQLITE_FULL, code&0xff == sqlite3.SQLITE_CANTOPEN, code&0xff == sqlite3.SQLITE_INTERRUPT:
		return sqlstore.Unavailable
	case strings.Contains(err.Error(), "no such table: "): // its code is only SQLITE_ERROR
		return sqlstore.NoTable
	}
	return sqlstore.Other
}
