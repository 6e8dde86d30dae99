package sqlstore

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
)

// The ways in which a copy is refused or fails, to be told apart by errors.Is.
var (
	ErrUnfinished = errors.New("cims: the database holds an unfinished copy of another one: run the copy again to finish it")
	ErrNotEmpty   = errors.New("cims: the target of a copy has to be a new database")
	ErrTaken      = errors.New("cims: another copy into the same database has taken over")
	ErrDiffers    = errors.New("cims: the copy is not equal to its source")
)

var errItself = fmt.Errorf("%w: it is the source itself", ErrNotEmpty)

// Copying is what a database does differently when a whole installation is
// copied from it or to it.
type Copying struct {
	// Snapshot starts a transaction that only reads, and sees the same all along.
	Snapshot func(ctx context.Context, db *sql.DB) (Transaction, error)
	// Begin starts a transaction that Load can write into.
	Begin func(ctx context.Context, db *sql.DB) (Transaction, error)
	// Load inserts many rows at once. Values are nil, int64, bool, float64,
	// string, []byte or a time.Time in UTC.
	Load func(ctx context.Context, conn bun.IConn, table string, columns []string, rows [][]any) error
	// ByteOrder makes a text sort by its bytes, as it does in Go.
	ByteOrder string
	// EmptyAudit deletes what cims_audit's triggers keep: only who owns the table
	// can do so.
	EmptyAudit func(ctx context.Context, conn bun.IConn) error
	// Computed are columns that this database alone has.
	Computed []Computed
	// LastID is the highest id that a table has given out so far, or less where
	// that stands in the table itself.
	LastID func(ctx context.Context, conn bun.IConn, table string) (int64, error)
	// Tables are those of the schema, by their own names.
	Tables func(ctx context.Context, conn bun.IConn) ([]string, error)
	// Loaded is told that a table has all its rows; new ids have to be above last.
	Loaded func(ctx context.Context, conn bun.IConn, table string, last int64) error
}

// Computed is a column that follows from another of its table.
type Computed struct {
	Table, Column, From string
	Value               func(from any) any
}

// Copyable is what embeds a Store.
type Copyable interface{ copyable() *Store }

func (s *Store) copyable() *Store { return s }

// Progress is how far a copy has come with a table.
type Progress struct {
	Table     string
	Verifying bool // that what was copied is equal
	Done      int64
	Total     int64 // rows, as of the beginning
}

// copyTable is one of the tables of ours.
type copyTable struct {
	name string
	key  []string
	// marked tables have a cims_version, which is 0 in what others have inserted:
	// the triggers act on that.
	marked bool
}

// copyTables come after those that they refer to.
var copyTables = []copyTable{
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

// checkpoints is the table in the target that says how far a copy is. Only a
// copy makes it, and drops it when it is finished: it being there is what
// ErrUnfinished means. Whoever works on the copy has its token in there.
const checkpoints = "cims_copy"

const makeCheckpoints = "CREATE TABLE " + checkpoints + " (source VARCHAR(100) NOT NULL, token VARCHAR(100) NOT NULL, state TEXT NOT NULL)"

type checkpoint struct {
	Failed bool             // what was copied is not what it should be
	Tables map[string]place // that were begun
}

// place is how far a table is.
type place struct {
	Done   bool
	Rows   int64
	After  []string // the key of the last row
	Digest []byte   // of the rows so far, to be gone on with
}

// copying is a copy under way.
type copying struct {
	from, to *Store
	source   string // its identity
	token    string
	tables   []copyPlan
	state    checkpoint
	totals   map[string]int64
	progress func(Progress)
}

// Copy moves a whole installation into another database. See package transfer.
func Copy(ctx context.Context, from, to Copyable, progress func(Progress)) error {
	c := copying{
		from: from.copyable(), to: to.copyable(), token: rand.Text(),
		totals: map[string]int64{}, progress: progress,
	}
	if progress == nil {
		c.progress = func(Progress) {}
	}
	if err := c.from.Ready(ctx); err != nil {
		return fmt.Errorf("the source: %w", err)
	}
	if err := c.to.current(ctx); err != nil {
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
	err = c.from.snapshot(ctx, func(source bun.IConn) error { return c.copyAll(ctx, source) })
	if err == nil {
		err = c.verifyAll(ctx)
	}
	return c.explain(ctx, err)
}

// CheckCopy refuses what Copy would refuse, while the target may still be one that
// was never migrated, and changes nothing. It returns what a copy leaves behind.
func CheckCopy(ctx context.Context, from, to Copyable) (left []string, err error) {
	c := copying{from: from.copyable(), to: to.copyable()}
	if err := c.from.Ready(ctx); err != nil {
		return nil, fmt.Errorf("the source: %w", err)
	}
	if c.source, err = c.from.identity(ctx); err != nil {
		return nil, err
	}
	err = c.from.snapshot(ctx, func(source bun.IConn) (err error) {
		if left, err = c.leftBehind(ctx, source); err != nil {
			return err
		}
		return c.checkTarget(ctx, source)
	})
	return left, err
}

func (c *copying) checkTarget(ctx context.Context, source bun.IConn) error {
	unfinished, err := c.to.copyUnfinished(ctx)
	if err != nil {
		return err
	}
	if unfinished { // of a migrated database: Copy itself begins with all of this
		return c.to.unfinishedFrom(ctx, c.source)
	}
	applied, err := c.to.applied(ctx)
	if err != nil && c.to.dialect.Classify(err) != NoTable {
		return c.to.explain(err)
	}
	if applied > 0 {
		target, err := c.to.identity(ctx)
		if err != nil {
			return err
		}
		if target == c.source {
			return errItself
		}
	}
	if err := c.to.isNew(ctx, applied == 0); err != nil {
		return err
	}
	_, err = c.fit(ctx, source, applied < len(c.to.dialect.Steps))
	return err
}

// leftBehind are the tables that are not copied, and the older program's enums.
func (c *copying) leftBehind(ctx context.Context, source bun.IConn) ([]string, error) {
	var left []string
	copied := map[string]bool{"cims_migrations": true}
	for _, t := range copyTables {
		copied[c.from.dialect.Names.Table(t.name)] = true
		columns, err := c.from.dialect.Columns(ctx, SQL{source}, t.name)
		if err != nil {
			return nil, c.from.explain(err)
		}
		for _, column := range columns {
			if column.isOlder(t.name) {
				left = append(left, fmt.Sprintf("the column %q of the table %q: what counts is the name that is beside it", column.Name, c.from.dialect.Names.Table(t.name)))
			}
		}
	}
	tables, err := c.from.dialect.Copying.Tables(ctx, source)
	if err != nil {
		return nil, c.from.explain(err)
	}
	for _, table := range tables {
		if !copied[table] && !strings.HasPrefix(table, "cims_") && !strings.HasPrefix(table, "sqlite_") {
			left = append(left, fmt.Sprintf("the table %q: it is not of cims", table))
		}
	}
	return left, nil
}

// explain tells what happened to the checkpoints, where that is what is wrong,
// and an interruption from what it leads to.
func (c *copying) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if over := ctx.Err(); over != nil {
		return fmt.Errorf("%w: %w", over, err)
	}
	if c.state.Tables == nil { // it had not begun
		return err
	}
	if there, unknown := c.to.copyUnfinished(ctx); unknown == nil && !there {
		return ErrTaken // and finished by now
	}
	return err
}

// identity tells an installation from all others: when it began.
func (s *Store) identity(ctx context.Context) (string, error) {
	var began time.Time
	err := ScanOne(ctx, s.conn, "SELECT applied_at FROM cims_migrations ORDER BY id LIMIT 1", &began)
	return fmt.Sprintf("%s %s", s.db.Dialect().Name(), began.UTC().Format(time.RFC3339Nano)), s.explain(err)
}

// snapshot runs what reads the database as it is at one moment.
func (s *Store) snapshot(ctx context.Context, do func(conn bun.IConn) error) (err error) {
	tx, err := s.dialect.Copying.Snapshot(ctx, s.db.DB)
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

// copyUnfinished says whether this is the target of a copy that is not finished.
func (q *queries) copyUnfinished(ctx context.Context) (bool, error) {
	columns, err := q.dialect.Columns(ctx, q.conn, checkpoints)
	return len(columns) > 0, q.explain(err)
}

// RefuseUnfinished keeps half a copy from being taken for the whole.
func (q *queries) RefuseUnfinished(ctx context.Context) error {
	if there, err := q.copyUnfinished(ctx); err != nil || !there {
		return err
	}
	return ErrUnfinished
}

// copyAll copies what is not copied yet, as the source is now.
func (c *copying) copyAll(ctx context.Context, source bun.IConn) error {
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

// claim makes the target this copy's: a new one, or one with an unfinished copy
// from the same source. Whoever has worked on that before finds its token gone.
func (c *copying) claim(ctx context.Context) error {
	for {
		var claimed bool
		var state checkpoint
		err := c.to.Retry(ctx, func() error {
			return c.to.attempt(ctx, c.to.dialect.Begin, func(ctx context.Context, tx *queries) (err error) {
				if claimed, err = tx.dialect.TryLock(ctx, tx.sql()); err != nil || !claimed {
					return err
				}
				state, err = tx.claim(ctx, c.source, c.token)
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
		if _, err := c.to.wait(ctx, nil); err != nil {
			return err
		}
	}
}

func (q *queries) claim(ctx context.Context, source, token string) (state checkpoint, err error) {
	there, err := q.copyUnfinished(ctx)
	if err != nil {
		return state, err
	}
	if !there {
		if err := q.isNew(ctx, false); err != nil {
			return state, err
		}
		if _, err := q.exec(ctx, makeCheckpoints); err != nil {
			return state, err
		}
		if _, err := q.exec(ctx, "INSERT INTO "+checkpoints+" (source, token, state) VALUES (?, '', '{}')", source); err != nil {
			return state, err
		}
	}
	// First the token, which waits for whoever is writing a block, then the state
	// as that has left it.
	if _, err := q.exec(ctx, "UPDATE "+checkpoints+" SET token = ?", token); err != nil {
		return state, err
	}
	if err := q.unfinishedFrom(ctx, source); err != nil {
		return state, err
	}
	found, err := row[struct{ State string }](ctx, q, "SELECT state FROM "+checkpoints)
	if err != nil {
		return state, err
	}
	if err := json.Unmarshal([]byte(found.State), &state); err != nil {
		return state, err
	}
	if state.Tables != nil && !state.Failed {
		return state, nil
	}
	state = checkpoint{Tables: map[string]place{}}
	if err := q.clear(ctx); err != nil {
		return state, err
	}
	_, err = q.exec(ctx, "UPDATE "+checkpoints+" SET state = '{}'")
	return state, err
}

// unfinishedFrom refuses an unfinished copy of another source.
func (q *queries) unfinishedFrom(ctx context.Context, source string) error {
	found, err := row[struct{ Source string }](ctx, q, "SELECT source FROM "+checkpoints)
	if err != nil {
		return err
	}
	if found == nil || found.Source != source {
		return fmt.Errorf("%w: it holds an unfinished copy from another source", ErrNotEmpty)
	}
	return nil
}

// isNew refuses a database with anything in it but what Migrate makes: nothing at
// all before that.
func (q *queries) isNew(ctx context.Context, bare bool) error {
	for _, t := range copyTables {
		condition := "TRUE"
		switch {
		case bare:
		case t.name == "customer_status", t.name == "user_role":
			condition = "NOT COALESCE(is_system, FALSE) OR updated_at <> created_at"
		case t.name == "sales_manager_counter":
			condition = "turn > 0"
		}
		columns, err := q.dialect.Columns(ctx, q.conn, t.name)
		if err != nil {
			return q.explain(err)
		}
		if len(columns) == 0 { // it is made yet
			continue
		}
		found, err := row[bool](ctx, q, "SELECT EXISTS (SELECT 1 FROM ? WHERE "+condition+")", q.table(t.name))
		if err != nil {
			return err
		}
		if *found {
			return fmt.Errorf("%w: there is something in its table %q", ErrNotEmpty, q.dialect.Names.Table(t.name))
		}
	}
	return nil
}

func (q *queries) clear(ctx context.Context) error {
	// First what a trigger keeps a history of.
	if _, err := q.exec(ctx, "DELETE FROM sales_manager_assignment"); err != nil {
		return err
	}
	for _, t := range slices.Backward(copyTables) {
		if t.name == "cims_audit" {
			if err := q.dialect.Copying.EmptyAudit(ctx, q.sql()); err != nil {
				return q.explain(err)
			}
			continue
		}
		if _, err := q.exec(ctx, "DELETE FROM ?", q.table(t.name)); err != nil {
			return err
		}
	}
	return nil
}

// update changes the target in one transaction with the checkpoint.
func (c *copying) update(ctx context.Context, next checkpoint, do func(ctx context.Context, tx *queries) error) error {
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	err = c.to.Retry(ctx, func() error {
		return c.to.attempt(ctx, c.to.dialect.Copying.Begin, func(ctx context.Context, tx *queries) error {
			mine, err := tx.exec(ctx, "UPDATE "+checkpoints+" SET state = ? WHERE token = ?", string(text), c.token)
			if err != nil {
				return err
			}
			if mine == 0 {
				return ErrTaken
			}
			return do(ctx, tx)
		})
	})
	if err == nil {
		c.state = next
	}
	return err
}

// with is the checkpoint with another place in a table.
func (c checkpoint) with(table string, p place) checkpoint {
	next := checkpoint{Failed: c.Failed, Tables: maps.Clone(c.Tables)}
	next.Tables[table] = p
	return next
}

func nothing(context.Context, *queries) error { return nil }

func (c *copying) copyTable(ctx context.Context, source bun.IConn, t copyPlan) error {
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
		err = c.update(ctx, c.state.with(t.name, at), func(ctx context.Context, tx *queries) error { return t.load(ctx, tx, block) })
		if kind := c.to.dialect.Classify(err); kind == ForeignKey || kind == Unique {
			return c.fail(ctx, fmt.Errorf("%w: it does not take rows up to %s: %w: %s", ErrDiffers, t.keyOf(block[len(block)-1]), err, unfit))
		}
		if err != nil {
			return err
		}
	}
	at.Done = true
	return c.update(ctx, c.state.with(t.name, at), nothing)
}

// fail makes the next copy start over, and returns why.
func (c *copying) fail(ctx context.Context, why error) error {
	failed := c.state
	failed.Failed = true
	return errors.Join(why, c.update(ctx, failed, nothing))
}

// What to do about a copy that is not equal.
const (
	written = "the source was written while it was copied: stop what uses it and run the copy again, which starts over"
	unfit   = "either the source was written while it was copied, or what the row refers to is missing there too: stop what uses it, mend it, and run the copy again, which starts over"
	changed = "something else has written into the target: stop it and run the copy again, which starts over"
)

func resume(digest []byte) (hash.Hash, error) {
	h := sha256.New()
	if digest == nil {
		return h, nil
	}
	return h, h.(encoding.BinaryUnmarshaler).UnmarshalBinary(digest) //nolint:forcetypeassert // documented of sha256
}

// loaded makes the target go on with ids where the source was: an id that was
// given out is not given out again, also when its row is gone.
func (c *copying) loaded(ctx context.Context, source bun.IConn) error {
	last := map[string]int64{}
	for _, t := range c.tables {
		if t.key[0] != "id" {
			continue
		}
		var highest int64
		if err := source.QueryRowContext(ctx, "SELECT COALESCE(max("+string(c.from.column(t.name, "id"))+"), 0) FROM "+string(c.from.table(t.name))).Scan(&highest); err != nil {
			return c.from.explain(err)
		}
		given, err := c.from.dialect.Copying.LastID(ctx, source, t.name)
		if err != nil {
			return c.from.explain(err)
		}
		last[t.name] = max(highest, given)
	}
	return c.update(ctx, c.state, func(ctx context.Context, tx *queries) error {
		for _, t := range c.tables {
			if err := tx.dialect.Copying.Loaded(ctx, tx.sql(), t.name, last[t.name]); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
		return nil
	})
}

// ident quotes a name, as both databases do.
func ident(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
