// Package copying copies a whole installation from one database to another. It implements
// package transfer.
package copying

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/cimskit/cims/storage/internal/hosttables"
	"github.com/cimskit/cims/storage/internal/sqlstore"
)

// These errors tell why a copy is refused or fails, besides sqlstore.ErrUnfinished.
var (
	ErrNotEmpty = errors.New("cims: the target of a copy has to be a new database")
	ErrTaken    = errors.New("cims: another copy into the same database has taken over")
	ErrDiffers  = errors.New("cims: the copy is not equal to its source")
)

var errItself = fmt.Errorf("%w: it is the source itself", ErrNotEmpty)

// Dialect holds the differences between databases as source or target of a copy.
type Dialect struct {
	// Begin starts a transaction that Load can write into.
	Begin func(ctx context.Context, db *sql.DB) (sqlstore.Transaction, error)
	// TryLock, if set, takes the migration's lock until the end of the transaction. It
	// returns false if another process holds it.
	TryLock func(ctx context.Context, conn bun.IConn) (bool, error)
	// Load inserts many rows at once. Each value is nil, an int64, bool, float64,
	// string, []byte or a time.Time in UTC.
	Load func(ctx context.Context, conn bun.IConn, table string, columns []string, rows [][]any) error
	// Loaded finishes the loading of a table. New ids must be greater than last.
	Loaded func(ctx context.Context, conn bun.IConn, table string, last int64) error
	// LastID returns the highest id that a table has assigned so far. It may return
	// less if the row with that id still exists.
	LastID func(ctx context.Context, conn bun.IConn, table string) (int64, error)
	// EmptyAudit deletes the rows of cims_audit, although triggers forbid it. Only the
	// owner of the table can do so.
	EmptyAudit func(ctx context.Context, conn bun.IConn) error
	// Tables returns the names of all tables in the schema.
	Tables func(ctx context.Context, conn bun.IConn) ([]string, error)
	// ByteOrder is the SQL that makes a text sort by its bytes, as in Go.
	ByteOrder string
	// Computed lists the columns that only this database has.
	Computed []Computed
}

// Computed is a column computed from another column of its table.
type Computed struct {
	Table, Column, From string
	Value               func(from any) any
}

// Database is one end of a copy.
type Database struct {
	store   *sqlstore.Store
	dialect Dialect
}

// New returns the database of a store.
func New(store *sqlstore.Store, dialect Dialect) *Database { return &Database{store, dialect} }

// Copyable is a storage that embeds a Database. Its method is unexported to keep the
// database from hosts.
type Copyable interface{ database() *Database }

func (d *Database) database() *Database { return d }

// Progress is the progress of a copy with one table.
type Progress struct {
	Table     string
	Verifying bool  // false while rows are copied, true while they are compared
	Done      int64 // number of rows done
	Total     int64 // number of rows at the start
}

// table is a table to copy.
type table struct {
	name string
	key  []string
	// marked tables have a column cims_version. It is 0 in rows inserted by other
	// programs, and triggers act on such rows.
	marked bool
}

// tables lists the tables of cims in the order of their references.
var tables = []table{
	{name: "customer_status", key: []string{"id"}},
	{name: "user_role", key: []string{"id"}},
	{name: "user", key: []string{"id"}},
	{name: "customer", key: []string{"id"}, marked: true},
	{name: "sales_manager_assignment", key: []string{"id"}, marked: true},
	{name: "sales_manager_counter", key: []string{"id"}},
	{name: "sales_manager_rotation", key: []string{"sales_manager_id"}},
	{name: "cims_unassigned", key: []string{"customer_id"}},
	{name: "customer_status_history", key: []string{"id"}},
	{name: "assignment_history", key: []string{"id"}},
	{name: "cims_idempotency", key: []string{"scope", "key"}},
	{name: "cims_audit", key: []string{"id"}},
}

// checkpoints is the table in the target that stores the progress of a copy. A copy creates
// it and drops it at the end, so that the target is unfinished while it exists. It holds the
// token of the process that works on the copy.
const checkpoints = sqlstore.Checkpoints

const makeCheckpoints = "CREATE TABLE " + checkpoints + " (source VARCHAR(100) NOT NULL, token VARCHAR(100) NOT NULL, state TEXT NOT NULL)"

type checkpoint struct {
	Failed bool             // the copy differs from its source
	Tables map[string]place // only tables that were started
}

// place is the progress of a copy within a table.
type place struct {
	Done   bool
	Rows   int64
	After  []string // the key of the last row
	Digest []byte   // state of the digest over the rows so far
}

// job is a copy in progress.
type job struct {
	from, to *Database
	source   string // identity of the source
	token    string
	tables   []plan
	state    checkpoint
	totals   map[string]int64
	progress func(Progress)
}

// Copy copies a whole installation into another database. See package transfer.
func Copy(ctx context.Context, from, to Copyable, progress func(Progress)) error {
	c := job{
		from: from.database(), to: to.database(), token: rand.Text(),
		totals: map[string]int64{}, progress: progress,
	}
	if progress == nil {
		c.progress = func(Progress) {}
	}
	if err := c.from.store.Ready(ctx); err != nil {
		return fmt.Errorf("the source: %w", err)
	}
	if err := c.to.store.Current(ctx); err != nil {
		return fmt.Errorf("the target: %w", err)
	}
	target, err := c.to.identity(ctx)
	if err != nil {
		return err
	}
	if c.source, err = c.from.identity(ctx); err != nil {
		return err
	}
	if c.source == target {
		return errItself
	}
	err = c.from.store.Snapshot(ctx, func(source bun.IConn) error { return c.copyAll(ctx, source) })
	if err == nil {
		err = c.verifyAll(ctx)
	}
	return c.explain(ctx, err)
}

// Check returns the error that Copy would return at its start, and changes nothing. The
// target need not be migrated yet. Check also describes the data that a copy leaves behind.
func Check(ctx context.Context, from, to Copyable) (left []string, err error) {
	c := job{from: from.database(), to: to.database()}
	if err := c.from.store.Ready(ctx); err != nil {
		return nil, fmt.Errorf("the source: %w", err)
	}
	if c.source, err = c.from.identity(ctx); err != nil {
		return nil, err
	}
	err = c.from.store.Snapshot(ctx, func(source bun.IConn) (err error) {
		if left, err = c.leftBehind(ctx, source); err != nil {
			return err
		}
		return c.checkTarget(ctx, source)
	})
	return left, err
}

func (c *job) checkTarget(ctx context.Context, source bun.IConn) error {
	target := c.to.store.Conn()
	unfinished, err := c.to.unfinished(ctx, target)
	if err != nil {
		return err
	}
	if unfinished { // the target is migrated, and Copy checks the rest itself
		return c.to.checkUnfinished(ctx, target, c.source)
	}
	applied, err := c.to.store.Applied(ctx)
	if err != nil && c.to.store.Dialect().Classify(err) != sqlstore.NoTable {
		return c.to.store.Explain(err)
	}
	if applied > 0 {
		identity, err := c.to.identity(ctx)
		if err != nil {
			return err
		}
		if identity == c.source {
			return errItself
		}
	}
	if err := c.to.checkNew(ctx, target, applied == 0); err != nil {
		return err
	}
	_, err = c.sharedColumns(ctx, source, applied < c.to.store.Dialect().Steps)
	return err
}

// leftBehind describes the data that is not copied: other tables and the older program's
// enums.
func (c *job) leftBehind(ctx context.Context, source bun.IConn) ([]string, error) {
	var left []string
	copied := map[string]bool{"cims_migrations": true}
	for _, t := range tables {
		name := c.from.names().Table(t.name)
		copied[name] = true
		columns, err := c.from.columns(ctx, sqlstore.SQL{IConn: source}, t.name)
		if err != nil {
			return nil, err
		}
		for _, column := range columns {
			if column.IsOlderEnum(t.name) {
				left = append(left, fmt.Sprintf("the column %q of the table %q: what counts is the name that is beside it", column.Name, name))
			}
		}
	}
	all, err := c.from.dialect.Tables(ctx, source)
	if err != nil {
		return nil, c.from.store.Explain(err)
	}
	for _, table := range all {
		if !copied[table] && !strings.HasPrefix(table, "cims_") && !strings.HasPrefix(table, "sqlite_") {
			left = append(left, fmt.Sprintf("the table %q: it is not of cims", table))
		}
	}
	return left, nil
}

// explain replaces an error that another copy or an interruption has caused.
func (c *job) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if over := ctx.Err(); over != nil {
		return fmt.Errorf("%w: %w", over, err)
	}
	if c.state.Tables == nil { // the copy had not started
		return err
	}
	if there, unknown := c.to.unfinished(ctx, c.to.store.Conn()); unknown == nil && !there {
		return ErrTaken // the other copy has finished
	}
	return err
}

// names returns the host's names for statements.
func (d *Database) names() hosttables.Names { return d.store.Dialect().Names }

func (d *Database) columns(ctx context.Context, conn sqlstore.Conn, table string) ([]hosttables.Column, error) {
	columns, err := d.store.Dialect().Columns(ctx, conn, table)
	return columns, d.store.Explain(err)
}

// exec runs a statement and returns the number of affected rows.
func (d *Database) exec(ctx context.Context, conn sqlstore.Conn, statement string, args ...any) (int64, error) {
	n, err := conn.Exec(ctx, d.store.Format(statement, args...))
	return n, d.store.Explain(err)
}

// identity identifies an installation by the time of its first migration step.
func (d *Database) identity(ctx context.Context) (string, error) {
	var began time.Time
	err := sqlstore.ScanOne(ctx, d.store.Conn(), "SELECT applied_at FROM cims_migrations ORDER BY id LIMIT 1", &began)
	return fmt.Sprintf("%s %s", d.store.Dialect().Bun.Name(), began.UTC().Format(time.RFC3339Nano)), d.store.Explain(err)
}

// unfinished reports whether the database is the target of an unfinished copy.
func (d *Database) unfinished(ctx context.Context, conn sqlstore.Conn) (bool, error) {
	columns, err := d.columns(ctx, conn, checkpoints)
	return len(columns) > 0, err
}

// copyAll copies the rows that are not copied yet from a snapshot of the source.
func (c *job) copyAll(ctx context.Context, source bun.IConn) error {
	if err := c.plan(ctx, source); err != nil {
		return err
	}
	if err := c.claim(ctx); err != nil {
		return err
	}
	for _, t := range c.tables {
		if err := c.copyTable(ctx, source, t); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return c.loaded(ctx, source)
}

// claim claims the target for this copy. The target is new, or has an unfinished copy from
// the same source. Another process that works on that copy then stops, since the token has
// changed.
func (c *job) claim(ctx context.Context) error {
	for {
		claimed := true
		var state checkpoint
		err := c.to.store.Retry(ctx, func() error {
			return c.to.store.Transact(ctx, c.to.store.Dialect().Begin, func(tx sqlstore.Transaction) (err error) {
				if c.to.dialect.TryLock != nil {
					if claimed, err = c.to.dialect.TryLock(ctx, tx); err != nil || !claimed {
						return err
					}
				}
				state, err = c.to.claim(ctx, sqlstore.SQL{IConn: tx}, c.source, c.token)
				return err
			})
		})
		if err != nil {
			return err
		}
		if claimed {
			c.state = state
			return nil
		}
		if err := c.to.store.GiveWay(ctx, nil); err != nil {
			return err
		}
	}
}

func (d *Database) claim(ctx context.Context, conn sqlstore.SQL, source, token string) (state checkpoint, err error) {
	there, err := d.unfinished(ctx, conn)
	if err != nil {
		return state, err
	}
	if !there {
		if err := d.checkNew(ctx, conn, false); err != nil {
			return state, err
		}
		if _, err := d.exec(ctx, conn, makeCheckpoints); err != nil {
			return state, err
		}
		if _, err := d.exec(ctx, conn, "INSERT INTO "+checkpoints+" (source, token, state) VALUES (?, '', '{}')", source); err != nil {
			return state, err
		}
	}
	// The update waits for a process that writes a block. The state is read after it,
	// and includes that block.
	if _, err := d.exec(ctx, conn, "UPDATE "+checkpoints+" SET token = ?", token); err != nil {
		return state, err
	}
	if err := d.checkUnfinished(ctx, conn, source); err != nil {
		return state, err
	}
	var text string
	if err := sqlstore.ScanOne(ctx, conn, "SELECT state FROM "+checkpoints, &text); err != nil {
		return state, d.store.Explain(err)
	}
	if err := json.Unmarshal([]byte(text), &state); err != nil {
		return state, err
	}
	if state.Tables != nil && !state.Failed {
		return state, nil
	}
	state = checkpoint{Tables: map[string]place{}}
	if err := d.clear(ctx, conn); err != nil {
		return state, err
	}
	_, err = d.exec(ctx, conn, "UPDATE "+checkpoints+" SET state = '{}'")
	return state, err
}

// checkUnfinished returns ErrNotEmpty for an unfinished copy of another source.
func (d *Database) checkUnfinished(ctx context.Context, conn sqlstore.Conn, source string) error {
	var of string
	err := sqlstore.ScanOne(ctx, conn, "SELECT source FROM "+checkpoints, &of)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return d.store.Explain(err)
	}
	if of != source {
		return fmt.Errorf("%w: it holds an unfinished copy from another source", ErrNotEmpty)
	}
	return nil
}

// checkNew returns ErrNotEmpty for a database with other rows than Migrate inserts. If bare,
// before Migrate, all tables have to be empty.
func (d *Database) checkNew(ctx context.Context, conn sqlstore.Conn, bare bool) error {
	for _, t := range tables {
		condition := "TRUE"
		switch {
		case bare:
		case t.name == "customer_status", t.name == "user_role":
			condition = "NOT COALESCE(is_system, FALSE) OR updated_at <> created_at"
		case t.name == "sales_manager_counter":
			condition = "turn > 0"
		}
		columns, err := d.columns(ctx, conn, t.name)
		if err != nil {
			return err
		}
		if len(columns) == 0 { // the table doesn't exist yet
			continue
		}
		var found bool
		if err := sqlstore.ScanOne(ctx, conn, "SELECT EXISTS (SELECT 1 FROM "+d.names().Quoted(t.name)+" WHERE "+condition+")", &found); err != nil {
			return d.store.Explain(err)
		}
		if found {
			return fmt.Errorf("%w: its table %q has rows", ErrNotEmpty, d.names().Table(t.name))
		}
	}
	return nil
}

func (d *Database) clear(ctx context.Context, conn sqlstore.SQL) error {
	// Triggers write a history of this table, so it has to be emptied first.
	if _, err := d.exec(ctx, conn, "DELETE FROM sales_manager_assignment"); err != nil {
		return err
	}
	for _, t := range slices.Backward(tables) {
		if t.name == "cims_audit" {
			if err := d.dialect.EmptyAudit(ctx, conn.IConn); err != nil {
				return d.store.Explain(err)
			}
			continue
		}
		if _, err := d.exec(ctx, conn, "DELETE FROM "+d.names().Quoted(t.name)); err != nil {
			return err
		}
	}
	return nil
}

// update changes the target and the checkpoint in one transaction.
func (c *job) update(ctx context.Context, next checkpoint, do func(tx sqlstore.Transaction) error) error {
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	err = c.to.store.Retry(ctx, func() error {
		return c.to.store.Transact(ctx, c.to.dialect.Begin, func(tx sqlstore.Transaction) error {
			mine, err := c.to.exec(ctx, sqlstore.SQL{IConn: tx}, "UPDATE "+checkpoints+" SET state = ? WHERE token = ?", string(text), c.token)
			if err != nil {
				return err
			}
			if mine == 0 {
				return ErrTaken
			}
			return do(tx)
		})
	})
	if err == nil {
		c.state = next
	}
	return err
}

// with returns the checkpoint with another place in a table.
func (c checkpoint) with(table string, p place) checkpoint {
	next := checkpoint{Failed: c.Failed, Tables: maps.Clone(c.Tables)}
	next.Tables[table] = p
	return next
}

func nothing(sqlstore.Transaction) error { return nil }

func (c *job) copyTable(ctx context.Context, source bun.IConn, t plan) error {
	at := c.state.Tables[t.name]
	if at.Done {
		return nil
	}
	digest, err := resume(at.Digest)
	if err != nil {
		return err
	}
	rows, err := t.read(ctx, c.from, source, at.After)
	if err != nil {
		return err
	}
	defer rows.close()
	for {
		c.progress(Progress{Table: t.name, Done: at.Rows, Total: c.totals[t.name]})
		block, err := rows.block()
		if err != nil {
			return err
		}
		if len(block) == 0 {
			break
		}
		for _, r := range block {
			digest.Write(r.encoded) // never fails
		}
		at.Rows += int64(len(block))
		at.After = t.keyTexts(block[len(block)-1])
		if at.Digest, err = digest.(encoding.BinaryMarshaler).MarshalBinary(); err != nil { //nolint:forcetypeassert // documented of sha256
			return err
		}
		err = c.update(ctx, c.state.with(t.name, at), func(tx sqlstore.Transaction) error { return t.load(ctx, c.to, tx, block) })
		if kind := c.to.store.Dialect().Classify(err); kind == sqlstore.ForeignKey || kind == sqlstore.Unique {
			return c.fail(ctx, fmt.Errorf("%w: the target refuses rows up to %s: %w: %s", ErrDiffers, t.keyOf(block[len(block)-1]), err, unfit))
		}
		if err != nil {
			return err
		}
	}
	at.Done = true
	return c.update(ctx, c.state.with(t.name, at), nothing)
}

// fail marks the copy as failed, so that the next one starts over. It returns the reason.
func (c *job) fail(ctx context.Context, why error) error {
	failed := c.state
	failed.Failed = true
	return errors.Join(why, c.update(ctx, failed, nothing))
}

// These are reasons why a copy differs from its source, each with a remedy.
const (
	written = "the source was changed during the copy: stop all programs that use it and run the copy again, which starts over"
	unfit   = "the source was changed during the copy, or lacks a row that these rows refer to: stop all programs that use it, repair it, and run the copy again, which starts over"
	changed = "another program has written to the target: stop it and run the copy again, which starts over"
)

func resume(digest []byte) (hash.Hash, error) {
	h := sha256.New()
	if digest == nil {
		return h, nil
	}
	return h, h.(encoding.BinaryUnmarshaler).UnmarshalBinary(digest) //nolint:forcetypeassert // documented of sha256
}

// loaded makes the target's ids continue after those of the source. No id is assigned twice,
// even if its row was deleted.
func (c *job) loaded(ctx context.Context, source bun.IConn) error {
	last := map[string]int64{}
	for _, t := range c.tables {
		if t.key[0] != "id" {
			continue
		}
		var highest int64
		if err := source.QueryRowContext(ctx, "SELECT COALESCE(max("+c.from.names().QuotedColumn(t.name, "id")+"), 0) FROM "+c.from.names().Quoted(t.name)).Scan(&highest); err != nil {
			return c.from.store.Explain(err)
		}
		given, err := c.from.dialect.LastID(ctx, source, t.name)
		if err != nil {
			return c.from.store.Explain(err)
		}
		last[t.name] = max(highest, given)
	}
	return c.update(ctx, c.state, func(tx sqlstore.Transaction) error {
		for _, t := range c.tables {
			if err := c.to.dialect.Loaded(ctx, tx, t.name, last[t.name]); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
		return nil
	})
}
