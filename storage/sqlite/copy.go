package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/cimskit/cims/storage/internal/copying"
	"github.com/cimskit/cims/storage/internal/hosttables"
	"github.com/cimskit/cims/storage/internal/sqlstore"
	"github.com/cimskit/cims/storage/sqlite/internal/move"
)

func (h host) copying() copying.Dialect {
	return copying.Dialect{
		Begin:      begin,
		Load:       h.load,
		LastID:     h.lastID,
		Loaded:     h.loaded,
		Tables:     tables,
		EmptyAudit: emptyAudit,
		Computed: []copying.Computed{{Table: "customer", Column: move.NameColumn, From: "full_name", Value: func(name any) any {
			if text, ok := name.(string); ok {
				return strings.ToLower(text)
			}
			return nil
		}}},
	}
}

// emptyAudit implements copying.Dialect.EmptyAudit. It drops the trigger that forbids
// deletes, and restores it afterwards.
func emptyAudit(ctx context.Context, conn bun.IConn) error {
	const trigger = "cims_audit_no_delete"
	var back string
	if err := conn.QueryRowContext(ctx, "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = ?", trigger).Scan(&back); err != nil {
		return fmt.Errorf("trigger %s: %w", trigger, err)
	}
	for _, statement := range []string{"DROP TRIGGER " + trigger, "DELETE FROM cims_audit", back} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

func tables(ctx context.Context, conn bun.IConn) ([]string, error) {
	return sqlstore.ScanAll(ctx, sqlstore.SQL{IConn: conn}, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
}

// snapshot implements sqlstore.Dialect.Snapshot. The snapshot starts with the first read and
// doesn't block writers.
func snapshot(ctx context.Context, db *sql.DB) (sqlstore.Transaction, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return beginOn(ctx, conn, "BEGIN")
}

// loadRows is the number of rows per INSERT. One row at a time takes a fifth longer.
const loadRows = 50

func (h host) load(ctx context.Context, conn bun.IConn, table string, columns []string, rows [][]any) (err error) {
	on, ok := conn.(preparer)
	if !ok {
		return fmt.Errorf("cims: want a connection that prepares statements, got %T", conn)
	}
	names := make([]string, len(columns))
	for i, column := range columns {
		names[i] = hosttables.Quote(h.Theirs(table, column))
	}
	row := "(?" + strings.Repeat(", ?", len(columns)-1) + ")"
	// With a context that can end, the driver starts a goroutine for each statement.
	quiet := context.WithoutCancel(ctx)
	var stmt *sql.Stmt
	prepared := 0
	defer func() {
		if stmt != nil {
			err = errors.Join(err, stmt.Close())
		}
	}()
	args := make([]any, 0, loadRows*len(columns))
	for len(rows) > 0 {
		n := min(loadRows, len(rows))
		if n != prepared {
			if stmt != nil {
				if err := stmt.Close(); err != nil {
					return err
				}
			}
			stmt, err = on.PrepareContext(ctx, "INSERT INTO "+hosttables.Quote(h.Table(table))+" ("+strings.Join(names, ", ")+") VALUES "+row+strings.Repeat(", "+row, n-1))
			if err != nil {
				return err
			}
			prepared = n
		}
		args = args[:0]
		for _, values := range rows[:n] {
			for _, value := range values {
				if at, ok := value.(time.Time); ok {
					value = at.Format(move.TimeFormat)
				}
				args = append(args, value)
			}
		}
		if _, err := stmt.ExecContext(quiet, args...); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// lastID implements copying.Dialect.LastID. SQLite only knows it for AUTOINCREMENT tables.
func (h host) lastID(ctx context.Context, conn bun.IConn, table string) (id int64, err error) {
	err = conn.QueryRowContext(ctx, "SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = ? COLLATE NOCASE), 0)", h.Table(table)).Scan(&id)
	return id, err
}

func (h host) loaded(ctx context.Context, conn bun.IConn, table string, last int64) error {
	if _, err := conn.ExecContext(ctx, `INSERT INTO sqlite_sequence (name, seq) SELECT name, 0 FROM sqlite_master
		WHERE name = ?1 COLLATE NOCASE AND sql LIKE '%AUTOINCREMENT%' AND NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = ?1 COLLATE NOCASE)`, h.Table(table)); err != nil {
		return err
	}
	_, err := conn.ExecContext(ctx, "UPDATE sqlite_sequence SET seq = ?2 WHERE name = ?1 COLLATE NOCASE", h.Table(table), last)
	return err
}
