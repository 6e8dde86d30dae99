package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"

	"github.com/cimskit/cims/storage/internal/copying"
	"github.com/cimskit/cims/storage/internal/sqlstore"
	"github.com/cimskit/cims/storage/postgres/internal/move"
)

func (n names) copying() copying.Dialect {
	return copying.Dialect{
		Begin:     beginLoad,
		TryLock:   move.TryLock,
		Load:      n.load,
		ByteOrder: ` COLLATE "C"`,
		LastID:    n.lastID,
		Loaded:    n.loaded,
		Tables:    n.tables,
		EmptyAudit: func(ctx context.Context, conn bun.IConn) error {
			_, err := conn.ExecContext(ctx, `ALTER TABLE cims_audit DISABLE TRIGGER cims_audit_kept;
				DELETE FROM cims_audit; ALTER TABLE cims_audit ENABLE ALWAYS TRIGGER cims_audit_kept`)
			return err
		},
	}
}

// tables returns the tables of the first schema on the search_path.
func (n names) tables(ctx context.Context, conn bun.IConn) ([]string, error) {
	return sqlstore.ScanAll(ctx, sqlstore.SQL{IConn: conn}, `SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition
		AND relnamespace = to_regnamespace(quote_ident(current_schema())) ORDER BY relname`)
}

func snapshot(ctx context.Context, db *sql.DB) (sqlstore.Transaction, error) {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	return transaction{simple{tx}, tx}, nil
}

// loading is a transaction whose connection can run COPY.
type loading struct {
	transaction
	on *sql.Conn
}

func (l loading) Commit(ctx context.Context) error {
	return errors.Join(l.transaction.Commit(ctx), l.on.Close())
}

func (l loading) Rollback() error { return errors.Join(l.transaction.Rollback(), l.on.Close()) }

func beginLoad(ctx context.Context, db *sql.DB) (sqlstore.Transaction, error) {
	on, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	tx, err := on.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return nil, errors.Join(err, on.Close())
	}
	return loading{transaction{simple{tx}, tx}, on}, nil
}

// load copies rows into the host's table itself, since COPY can't write to a view.
func (n names) load(ctx context.Context, conn bun.IConn, table string, columns []string, rows [][]any) error {
	l, ok := conn.(loading)
	if !ok {
		return fmt.Errorf("cims: want a transaction for COPY, got %T", conn)
	}
	theirs := make([]string, len(columns))
	for i, column := range columns {
		theirs[i] = n.Theirs(table, column)
	}
	return l.on.Raw(func(driver any) error {
		std, ok := driver.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("cims: want connections of pgx's stdlib, got %T", driver)
		}
		_, err := std.Conn().CopyFrom(ctx, n.identifier(table), theirs, pgx.CopyFromRows(rows))
		return err
	})
}

// sequence returns SQL for the sequence of a table's ids. It is NULL if there is none.
func (n names) sequence(table string) string {
	return "CAST(pg_get_serial_sequence('" + n.identifier(table).Sanitize() + "', '" + n.Column(table, "id") + "') AS regclass)"
}

func (n names) lastID(ctx context.Context, conn bun.IConn, table string) (id int64, err error) {
	err = conn.QueryRowContext(ctx, "SELECT COALESCE(pg_sequence_last_value("+n.sequence(table)+"), 0)").Scan(&id)
	return id, err
}

// loaded implements copying.Dialect.Loaded. It also updates the statistics of the table.
// Without them the server would plan statements for an empty table at first.
func (n names) loaded(ctx context.Context, conn bun.IConn, table string, last int64) error {
	if last > 0 {
		if _, err := conn.ExecContext(ctx, fmt.Sprintf("SELECT setval(%s, %d)", n.sequence(table), last)); err != nil {
			return err
		}
	}
	_, err := conn.ExecContext(ctx, "ANALYZE "+n.identifier(table).Sanitize())
	return err
}
