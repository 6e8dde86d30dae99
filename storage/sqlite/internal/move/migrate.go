// Package move migrates an SQLite file to cims step by step, and back.
package move

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/uptrace/bun"

	"github.com/cimskit/cims/storage/internal/hosttables"
	"github.com/cimskit/cims/storage/internal/sqlstore"
	"github.com/cimskit/cims/storage/migration"
)

// Mover migrates the file of a store to cims, and back.
type Mover struct {
	store  *sqlstore.Store
	reader *sql.DB
	host   *Host
}

// New returns a Mover for a store that reads from reader.
func New(store *sqlstore.Store, reader *sql.DB, host *Host) *Mover {
	return &Mover{store: store, reader: reader, host: host}
}

// Host holds the tables that may be the host's, under its names, and their schema.
type Host struct {
	hosttables.Names
	schema           schema
	users, customers hostable
}

// NewHost returns a Host. The SQL files of the schema are in the folder schema.
func NewHost(names hosttables.Names, files fs.FS) *Host {
	h := &Host{Names: names, schema: schema{files}, users: users, customers: customers}
	for _, t := range h.tables() {
		t.names, t.schema = names, h.schema
	}
	return h
}

// tables returns the tables that may be the host's, in the order of their references.
func (h *Host) tables() []*hostable { return []*hostable{&h.users, &h.customers} }

// check returns an error if the database was migrated under other names.
func (h *Host) check(ctx context.Context, conn bun.IConn) error {
	var all error
	for _, t := range h.tables() {
		relation, columns := t.name, "{}" // of a table of cims
		err := each(ctx, conn, func(rows *sql.Rows) error { return rows.Scan(&relation, &columns) },
			"SELECT relation, names FROM cims_adopted WHERE table_name = ?", t.name)
		if err != nil {
			return err
		}
		if relation != h.Table(t.name) || columns != h.ColumnsJSON(t.name) {
			all = errors.Join(all, fmt.Errorf("cims: %s: the database was migrated with the table %q and the columns %s", t.shown(), relation, columns))
		}
	}
	return all
}

// step is one step of the schema. Its number is its position in the list.
type step struct {
	name, does string
	// run runs the step or its next part in a separate transaction. It reports whether
	// more is left.
	run func(ctx context.Context, conn bun.IConn) (more bool, err error)
	// fills is the table whose rows the step processes, or nil.
	fills *hostable
}

func (h *Host) steps() []step {
	return []step{
		{name: "001_tables", does: `Makes the tables of cims, and adds to customer and "user" the columns that they lack.`, run: h.makeTables},
		{name: "002_names", does: "Makes an inactive status or role for each unknown name, and the triggers that take in what other programs write.", run: h.makeNames},
		{name: "003_users", does: "Writes the names of users' roles in their stored form.", run: h.users.fill, fills: &h.users},
		{name: "004_customers", does: "Gives each customer a status, a history and a name to be found by.", run: h.customers.fill, fills: &h.customers},
		{name: "005_indexes", does: `Builds the indexes of customer and "user".`, run: h.buildIndexes},
	}
}

// Steps returns the number of steps.
func (h *Host) Steps() int { return len(h.steps()) }

// Migrate runs the remaining steps. If progress is not nil, it is called after each part of
// a step that processes rows. Migrate returns sqlstore.ErrUnfinished for an unfinished copy.
func (m *Mover) Migrate(ctx context.Context, progress func(migration.Progress)) error {
	if err := m.store.RefuseUnfinished(ctx); err != nil {
		return err
	}
	totals := map[string]int64{}
	return m.store.Retry(ctx, func() error {
		for {
			done, did, err := m.migrateOne(ctx)
			switch {
			case m.store.Dialect().Classify(err) == sqlstore.Conflict:
				err = m.store.GiveWay(ctx, nil)
			case err == nil && did != nil && did.fills != nil && progress != nil:
				err = did.fills.report(ctx, m.reader, did.name, totals, progress)
			}
			if err != nil {
				return fmt.Errorf("migrate: %w", err)
			}
			if done {
				return nil
			}
		}
	})
}

// migrateOne runs the next step or a part of it, and returns the step. The same transaction
// records the progress in the ledger or in cims_original, so that an interruption leaves it
// either done or not done. The transaction locks the file.
func (m *Mover) migrateOne(ctx context.Context) (done bool, did *step, err error) {
	steps := m.host.steps()
	if n, err := m.host.Applied(ctx, m.reader); err != nil || n == len(steps) {
		return err == nil, nil, err
	}
	err = m.inTransaction(ctx, func(conn bun.IConn) error {
		if _, err := conn.ExecContext(ctx, sqlstore.Ledger); err != nil {
			return err
		}
		n, err := m.host.Applied(ctx, conn)
		if err != nil || n == len(steps) {
			return err
		}
		did = &steps[n]
		more, err := did.run(ctx, conn)
		if err == nil && !more {
			_, err = conn.ExecContext(ctx, "INSERT INTO cims_migrations (id, name, applied_at) VALUES (?, ?, ?)", n+1, did.name, now())
		}
		if err != nil {
			return fmt.Errorf("step %s: %w", did.name, err)
		}
		return nil
	})
	return false, did, err
}

// Applied returns the number of completed steps. It returns an error if the database was
// migrated under other names, or by a later version of this library.
func (h *Host) Applied(ctx context.Context, conn bun.IConn) (int, error) {
	if there, err := exists(ctx, conn, "table", "cims_migrations"); err != nil || !there {
		return 0, err
	}
	n, err := value[int](ctx, conn, "SELECT COALESCE(max(id), 0) FROM cims_migrations")
	if err != nil || n == 0 {
		return 0, err
	}
	if known := len(h.steps()); n > known {
		return n, fmt.Errorf("the schema is at step %d, but this version knows only %d: use a newer version", n, known)
	}
	return n, h.check(ctx, conn)
}

// inTransaction runs do in a transaction that locks the file.
func (m *Mover) inTransaction(ctx context.Context, do func(conn bun.IConn) error) error {
	return m.store.Transact(ctx, m.store.Dialect().Begin, func(tx sqlstore.Transaction) error { return do(tx) })
}

// makeTables creates or adopts the tables. It returns an error for unusable tables.
func (h *Host) makeTables(ctx context.Context, conn bun.IConn) (bool, error) {
	found, err := h.obstacles(ctx, conn)
	if err != nil {
		return false, err
	}
	if len(found) > 0 {
		faults := make([]error, len(found))
		for i, f := range found {
			faults[i] = fmt.Errorf("%s: %s: %s", f.Where, f.Found, f.Does)
		}
		return false, errors.Join(faults...)
	}
	if err := create(ctx, conn, h.objects("names")); err != nil {
		return false, err
	}
	for _, t := range h.tables() {
		if err := t.adopt(ctx, conn); err != nil {
			return false, err
		}
	}
	if err := create(ctx, conn, h.objects("tables")); err != nil {
		return false, err
	}
	_, err = conn.ExecContext(ctx, expressions.Replace(h.schema.read("entries")))
	return false, err
}

// makeNames adds a status or role for each name that the rows will have. From then on no
// program can write another name.
func (h *Host) makeNames(ctx context.Context, conn bun.IConn) (bool, error) {
	for _, t := range h.tables() {
		if _, err := conn.ExecContext(ctx, t.sql(`INSERT INTO `+t.entries+` (name, display_name, is_active, is_system, created_at, updated_at)
			SELECT DISTINCT name, name, FALSE, FALSE, ?1, ?1 FROM (
				SELECT `+t.newName+` AS name FROM (SELECT DISTINCT {t.entry} FROM {t})
			) WHERE name IS NOT NULL ON CONFLICT (name) DO NOTHING`), now()); err != nil {
			return false, err
		}
	}
	guards, err := h.triggers(ctx, conn)
	if err != nil {
		return false, err
	}
	return false, create(ctx, conn, guards)
}

// triggers returns the triggers that this database needs.
func (h *Host) triggers(ctx context.Context, conn bun.IConn) ([]object, error) {
	all := h.objects("triggers")
	for _, t := range h.tables() {
		adopted, err := t.adopted(ctx, conn)
		if err != nil {
			return nil, err
		}
		if adopted != nil {
			all = append(all, h.objects("guard_"+t.name)...)
		}
	}
	return all, nil
}

// buildIndexes builds the next index, which may take long. It reports whether more are left.
func (h *Host) buildIndexes(ctx context.Context, conn bun.IConn) (bool, error) {
	all, err := h.indexes(ctx, conn)
	if err != nil {
		return false, err
	}
	for _, index := range all {
		if there, err := exists(ctx, conn, "index", index.name); err != nil || !there {
			return true, errors.Join(err, create(ctx, conn, []object{index}))
		}
	}
	return false, nil
}

// uniqueEmail returns the index for a host without a unique index on email.
func (h *Host) uniqueEmail() object {
	return object{kind: "index", name: uniqueEmail, sql: h.SQL("CREATE UNIQUE INDEX " + uniqueEmail + " ON {user} ({user.email})")}
}

const uniqueEmail = "cims_user_email"

// indexes returns the indexes that customer and "user" need.
func (h *Host) indexes(ctx context.Context, conn bun.IConn) ([]object, error) {
	all := h.objects("indexes")
	unique, err := isUnique(ctx, conn, h.Table("user"), h.Column("user", "email"))
	if err == nil && !unique {
		all = append(all, h.uniqueEmail())
	}
	return all, err
}

// isUnique reports whether a table has a unique index on a column, other than uniqueEmail.
func isUnique(ctx context.Context, conn bun.IConn, table, column string) (bool, error) {
	return value[bool](ctx, conn, `SELECT EXISTS (
		SELECT 1 FROM pragma_index_list(?1) AS l WHERE l."unique" AND NOT l.partial AND l.name <> '`+uniqueEmail+`'
		AND (SELECT group_concat(name) FROM pragma_index_info(l.name)) = ?2)`, table, column)
}

func exists(ctx context.Context, conn bun.IConn, kind, name string) (bool, error) {
	return value[bool](ctx, conn, "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = ? AND name = ? COLLATE NOCASE)", kind, name)
}

// value returns the only value of a query.
func value[T any](ctx context.Context, conn bun.IConn, query string, args ...any) (v T, err error) {
	list, err := values[T](ctx, conn, query, args...)
	if err != nil {
		return v, err
	}
	if len(list) != 1 {
		return v, fmt.Errorf("%w: want one row, got %d: %s", sql.ErrNoRows, len(list), query)
	}
	return list[0], nil
}

// values returns the first column of a query.
func values[T any](ctx context.Context, conn bun.IConn, query string, args ...any) ([]T, error) {
	var list []T
	err := each(ctx, conn, func(rows *sql.Rows) error {
		var v T
		err := rows.Scan(&v)
		list = append(list, v)
		return err
	}, query, args...)
	return list, err
}

// each calls do for each row of a query.
func each(ctx context.Context, conn bun.IConn, do func(*sql.Rows) error, query string, args ...any) (err error) {
	rows, err := conn.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := do(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func now() string { return time.Now().UTC().Format(TimeFormat) }
