package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/cimskit/cims/storage/internal/sqlstore"
	"github.com/cimskit/cims/storage/migration"
)

// step is one step of the schema. Its number is its place in the list.
type step struct {
	name, does string
	// run does the step, or the next part of it, in a transaction of its own,
	// and says whether anything is left.
	run func(ctx context.Context, conn bun.IConn) (more bool, err error)
	// fills is the table that it goes through row by row, if it does.
	fills *hostable
}

func (h *host) steps() []step {
	return []step{
		{name: "001_tables", does: `Makes the tables of cims, and adds to customer and "user" the columns that they lack.`, run: h.makeTables},
		{name: "002_names", does: "Makes an inactive status or role for each unknown name, and the triggers that take in what other programs write.", run: h.makeNames},
		{name: "003_users", does: "Writes the names of users' roles in their stored form.", run: h.users.fill, fills: &h.users},
		{name: "004_customers", does: "Gives each customer a status, a history and a name to be found by.", run: h.customers.fill, fills: &h.customers},
		{name: "005_indexes", does: `Builds the indexes of customer and "user".`, run: h.buildIndexes},
	}
}

// stepNames is what the rest of the storage has to know of the steps.
func (h *host) stepNames() []sqlstore.Step {
	steps := h.steps()
	names := make([]sqlstore.Step, len(steps))
	for i, step := range steps {
		names[i] = sqlstore.Step{Name: step.name}
	}
	return names
}

// Migrate brings the schema up to date: call it once before the first use, and
// after an update of this library. It starts from an empty file or from tables
// customer and "user" of the host's, or whatever [Customers] and [Users] call
// them, and adds what is missing; it changes and drops nothing that it did not
// add, but writes the names in status_name and role_name in the one form that this
// library has for them, and remembers what they were. It may be interrupted
// anywhere, run again, and run by several processes at once. It refuses an
// unfinished copy, as Ready does. A table that it can't work with is an error that
// says why, before anything is changed.
func (s *Storage) Migrate(ctx context.Context) error { return s.MigrateWithProgress(ctx, nil) }

// MigrateWithProgress is Migrate, and calls progress, if it is not nil, after
// each part of a step that goes through a table's rows.
func (s *Storage) MigrateWithProgress(ctx context.Context, progress func(migration.Progress)) error {
	if err := s.RefuseUnfinished(ctx); err != nil {
		return err
	}
	totals := map[string]int64{}
	return s.Retry(ctx, func() error {
		for {
			done, did, err := s.migrateOne(ctx)
			switch {
			case classify(err) == sqlstore.Conflict:
				err = wait(ctx)
			case err == nil && did != nil && did.fills != nil && progress != nil:
				err = did.fills.report(ctx, s.reader, did.name, totals, progress)
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

const lockPoll = 20 * time.Millisecond

// wait is for another process that has the file to itself for now.
func wait(ctx context.Context) error {
	select {
	case <-time.After(lockPoll):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// migrateOne does the next step or a part of it, which did is, if there is one
// left. It is one transaction with its trace, in the ledger or in cims_original,
// and that transaction has the file to itself; so whatever interrupts it, it was
// done or was not.
func (s *Storage) migrateOne(ctx context.Context) (done bool, did *step, err error) {
	steps := s.host.steps()
	if n, err := s.host.applied(ctx, s.reader); err != nil || n == len(steps) {
		return err == nil, nil, err
	}
	err = s.inTransaction(ctx, func(conn bun.IConn) error {
		if _, err := conn.ExecContext(ctx, ledger); err != nil {
			return err
		}
		n, err := s.host.applied(ctx, conn)
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

// ledger is not quite the same as a first step: it must be there to tell that
// the first step was done.
const ledger = `CREATE TABLE IF NOT EXISTS cims_migrations (
	id INTEGER PRIMARY KEY, name VARCHAR(100) NOT NULL, applied_at TIMESTAMP NOT NULL)`

// applied counts the steps that are done. It refuses a database that a later
// version of this library has migrated: this one does not know its rules; and one
// that was migrated under other names.
func (h *host) applied(ctx context.Context, conn bun.IConn) (int, error) {
	if there, err := exists(ctx, conn, "table", "cims_migrations"); err != nil || !there {
		return 0, err
	}
	n, err := value[int](ctx, conn, "SELECT COALESCE(max(id), 0) FROM cims_migrations")
	if err != nil || n == 0 {
		return 0, err
	}
	if known := len(h.steps()); n > known {
		return n, fmt.Errorf("the schema is at step %d, this version knows %d: use a newer version", n, known)
	}
	return n, h.check(ctx, conn)
}

// inTransaction has the file to itself.
func (s *Storage) inTransaction(ctx context.Context, do func(conn bun.IConn) error) error {
	tx, err := begin(ctx, s.writer)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit(ctx)
}

// makeTables begins by refusing what can't be worked with.
func (h *host) makeTables(ctx context.Context, conn bun.IConn) (bool, error) {
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
	entries, err := files.ReadFile("schema/entries.sql")
	if err != nil {
		return false, err
	}
	_, err = conn.ExecContext(ctx, expressions.Replace(string(entries)))
	return false, err
}

// makeNames makes all names resolve that will be there when the rows have been
// gone through. From here on nobody can write another.
func (h *host) makeNames(ctx context.Context, conn bun.IConn) (bool, error) {
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

// triggers are those that this database needs.
func (h *host) triggers(ctx context.Context, conn bun.IConn) ([]object, error) {
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

// buildIndexes builds one index, which takes a while where there are many rows.
func (h *host) buildIndexes(ctx context.Context, conn bun.IConn) (bool, error) {
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

// uniqueEmail is for a host that has no such rule itself.
func (h *host) uniqueEmail() object {
	return object{kind: "index", name: uniqueEmail, sql: h.SQL("CREATE UNIQUE INDEX " + uniqueEmail + " ON {user} ({user.email})")}
}

const uniqueEmail = "cims_user_email"

// indexes are those that customer and "user" need.
func (h *host) indexes(ctx context.Context, conn bun.IConn) ([]object, error) {
	all := h.objects("indexes")
	unique, err := isUnique(ctx, conn, h.Table("user"), h.Column("user", "email"))
	if err == nil && !unique {
		all = append(all, h.uniqueEmail())
	}
	return all, err
}

// isUnique tells whether a table has a unique index, not of ours, on a column.
func isUnique(ctx context.Context, conn bun.IConn, table, column string) (bool, error) {
	return value[bool](ctx, conn, `SELECT EXISTS (
		SELECT 1 FROM pragma_index_list(?1) AS l WHERE l."unique" AND NOT l.partial AND l.name <> '`+uniqueEmail+`'
		AND (SELECT group_concat(name) FROM pragma_index_info(l.name)) = ?2)`, table, column)
}

func exists(ctx context.Context, conn bun.IConn, kind, name string) (bool, error) {
	return value[bool](ctx, conn, "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = ? AND name = ? COLLATE NOCASE)", kind, name)
}

// value reads the one value of a query.
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

// values reads a column.
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

func now() string { return time.Now().UTC().Format(timeFormat) }

func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
