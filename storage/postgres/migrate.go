package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/cimskit/cims/storage/internal/sqlstore"
	"github.com/cimskit/cims/storage/migration"
)

// Migrate brings the schema up to date: call it once before the first use, and
// after an update of this library. It adds what is missing, changes and drops
// nothing that it did not add, and may be interrupted anywhere, run again, and
// run by several processes at once. Others may go on writing meanwhile: no lock
// that stops them is held, or waited for, longer than a moment. It refuses an
// unfinished copy, as Ready does. Tables and columns of the host that are not
// there or can't be used are an error that names them, before anything is
// written; so are other names than the first time.
func (s *Storage) Migrate(ctx context.Context) error { return s.MigrateWithProgress(ctx, nil) }

// MigrateWithProgress is Migrate that tells how far it is: before each step, and
// again and again within a long one.
func (s *Storage) MigrateWithProgress(ctx context.Context, progress func(migration.Progress)) error {
	if err := s.names.check(ctx, sqlstore.SQL{IConn: s.db}); err != nil {
		return s.Explain(err)
	}
	if err := s.Store.MigrateWithProgress(ctx, progress); err != nil {
		return err
	}
	// The host may have added a column that has to be filled.
	for _, table := range slices.Sorted(maps.Keys(s.names.Names)) {
		if err := s.UnderLock(ctx, "SELECT cims_make_view('"+table+"')"); err != nil {
			return err
		}
	}
	// The older program may have gone on since.
	return s.Retry(ctx, func() error {
		_, err := s.db.ExecContext(ctx, "SELECT cims_continue_rotation()")
		return err
	})
}

// SQL returns the steps that are left as plain SQL for psql, which runs each
// statement by itself. Its errors are those of Migrate.
func (s *Storage) SQL(ctx context.Context) (string, error) {
	if err := s.db.PingContext(ctx); err != nil {
		return "", s.Explain(err)
	}
	if err := s.names.check(ctx, sqlstore.SQL{IConn: s.db}); err != nil {
		return "", s.Explain(err)
	}
	left := s.Left(ctx)
	if len(left) == 0 {
		return "-- Nothing is left to do.\n", nil
	}
	var text strings.Builder
	text.WriteString("-- Run this with psql -v ON_ERROR_STOP=1. If a lock is not to be had in time, print it\n-- anew and go on: what was done is not in it any more.\n\n")
	text.WriteString("SET client_min_messages = warning;\nSET lock_timeout = '200ms';\n" + sqlstore.Ledger + ";\n")
	done := len(s.Store.Steps()) - len(left)
	for i, step := range left {
		record := fmt.Sprintf("INSERT INTO cims_migrations (id, name, applied_at) VALUES (%d, '%s', now() AT TIME ZONE 'UTC');\n", done+i+1, step.Name)
		body := strings.TrimSpace(step.SQL)
		switch step.Kind {
		case sqlstore.Batches:
			_, call, _ := strings.Cut(body, "\n")
			fmt.Fprintf(&text, "\n-- %s\nDO $$ BEGIN\n\tWHILE NOT (SELECT finished FROM (%s) AS batch) LOOP\n\t\tCOMMIT;\n\tEND LOOP;\nEND $$;\n%s",
				step.Does, call, record)
		case sqlstore.Index:
			fmt.Fprintf(&text, "\nSET lock_timeout = 0;\n%s\nSET lock_timeout = '200ms';\n%s", concurrently(body), record)
		case sqlstore.Once:
			fmt.Fprintf(&text, "\nBEGIN;\n%s\n%sCOMMIT;\n", body, record)
		}
	}
	text.WriteString("\nRESET lock_timeout;\nRESET client_min_messages;\n")
	return text.String(), nil
}

func concurrently(index string) string {
	return strings.ReplaceAll(index, "CREATE INDEX ", "CREATE INDEX CONCURRENTLY IF NOT EXISTS ")
}

// The lock's key is the schema's own, so that CRMs in several schemas of a
// database do not wait for each other.
const lockKey = "hashtext('cims.migrate.' || current_schema())"

// tryLock also bounds how long the transaction waits for a lock on a table or a
// row: whoever comes after it would wait as long. And it is we who give up then,
// before a deadlock would be found and somebody else refused for it.
func tryLock(ctx context.Context, conn bun.IConn) (locked bool, err error) {
	err = conn.QueryRowContext(ctx, "SELECT pg_try_advisory_xact_lock("+lockKey+") AND set_config('lock_timeout', '200ms', TRUE) <> ''").Scan(&locked)
	return locked, err
}

var createIndex = regexp.MustCompile(`(?m)^CREATE INDEX (\w+) ON (.+?) \(.*;$`)

// smallTable is the size in bytes up to which an index is built in a moment. One
// that is built concurrently waits for everybody else's transactions.
const smallTable = 4 << 20

// buildIndexes builds the indexes of a step beside the work of others. PostgreSQL
// allows that in no transaction.
func buildIndexes(ctx context.Context, db *sql.DB, step sqlstore.Step) (built bool, err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.QueryRowContext(ctx, "SELECT pg_try_advisory_lock("+lockKey+")").Scan(&built); err != nil || !built {
		return false, err
	}
	defer func() {
		// Also if ctx has ended: the connection goes back to a pool.
		_, unlock := conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock("+lockKey+")")
		err = errors.Join(err, unlock)
	}()
	indexes := createIndex.FindAllStringSubmatch(step.SQL, -1)
	if len(indexes) == 0 {
		return false, fmt.Errorf("step %s: no index in it", step.Name)
	}
	for _, index := range indexes {
		if err := buildIndex(ctx, conn, index[0], index[1], index[2]); err != nil {
			return false, err
		}
	}
	return true, nil
}

// buildIndex builds an index, unless it is there. An interrupted attempt leaves an
// index that is not valid: that one is dropped first.
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
	_, err = simple{conn}.ExecContext(ctx, statement)
	return err
}
