package postgres

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cimskit/cims/storage/internal/sqlstore"
)

// joined is a transaction of the host's as a sqlstore.Conn. The arguments of
// bun's statements are part of their text: mode sends those as they are.
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

// resultSet are pgx's rows as a sqlstore.ResultSet.
type resultSet struct{ pgx.Rows }

// Columns implements sqlstore.ResultSet.
func (r resultSet) Columns() ([]string, error) {
	var names []string
	for _, field := range r.FieldDescriptions() {
		names = append(names, field.Name)
	}
	return names, nil
}

// Scan implements sqlstore.ResultSet. Into an any goes what database/sql would
// put there.
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
