package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/internal/sqlstore"
)

// WithTx returns a Manager that works inside tx, as cims.Manager.WithTx does for an *sql.Tx.
// The Storage of m has to be of this package. WithTx panics if that Storage isn't a
// cims.Joiner. If it can't join a pgx.Tx, the methods of the Manager return an error.
func WithTx(m *cims.Manager, tx pgx.Tx) *cims.Manager { return m.Join(tx) }

// join implements sqlstore.Dialect.Join.
func join(tx any) (sqlstore.Conn, error) {
	switch tx := tx.(type) {
	case *sql.Tx:
		if tx == nil {
			break
		}
		return sqlstore.SQL{IConn: simple{tx}}, nil
	case pgx.Tx:
		return joined{tx, []any{pgx.QueryExecModeSimpleProtocol}}, nil
	}
	return nil, fmt.Errorf("cims: a pgx.Tx or an *sql.Tx of pgx's stdlib can be joined on PostgreSQL, not a %T", tx)
}

// checkIsolation implements sqlstore.Dialect.CheckJoined. Under a snapshot, the rotation
// would be read as it was before the lock was taken. Open explains why strings must conform.
func checkIsolation(ctx context.Context, conn sqlstore.Conn) error {
	var isolation, conforming string
	if err := sqlstore.ScanOne(ctx, conn, "SELECT current_setting('transaction_isolation'), current_setting('standard_conforming_strings')", &isolation, &conforming); err != nil {
		return err
	}
	switch {
	case isolation != "read committed" && isolation != "read uncommitted": // the same in PostgreSQL
		return &cims.Error{Kind: cims.ErrIsolation, Err: fmt.Errorf("it is %s", isolation)}
	case conforming != "on":
		return errConforming
	}
	return nil
}

// joined is a host's transaction as a sqlstore.Conn. mode sends bun's statements as they
// are, since their arguments are part of their text.
type joined struct {
	tx   pgx.Tx
	mode []any
}

// Query implements sqlstore.Conn.
func (j joined) Query(ctx context.Context, query string, args ...any) (sqlstore.ResultSet, error) {
	rows, err := j.tx.Query(ctx, query, append(slices.Clip(j.mode), args...)...)
	if err != nil {
		return nil, err
	}
	return resultSet{rows}, nil
}

// Exec implements sqlstore.Conn.
func (j joined) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	tag, err := j.tx.Exec(ctx, query, append(slices.Clip(j.mode), args...)...)
	return tag.RowsAffected(), err
}

// resultSet adapts pgx.Rows to a sqlstore.ResultSet.
type resultSet struct{ pgx.Rows }

// Columns implements sqlstore.ResultSet.
func (r resultSet) Columns() ([]string, error) {
	var names []string
	for _, field := range r.FieldDescriptions() {
		names = append(names, field.Name)
	}
	return names, nil
}

// Scan implements sqlstore.ResultSet. An *any gets a value of the type that database/sql
// would use.
func (r resultSet) Scan(to ...any) error {
	if err := r.Rows.Scan(to...); err != nil {
		return err
	}
	for _, pointer := range to {
		if value, ok := pointer.(*any); ok {
			switch v := (*value).(type) {
			case int16:
				*value = int64(v)
			case int32:
				*value = int64(v)
			case float32:
				*value = float64(v)
			}
		}
	}
	return nil
}

// Close implements sqlstore.ResultSet.
func (r resultSet) Close() error {
	r.Rows.Close()
	return r.Err()
}
