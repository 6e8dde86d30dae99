package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"reflect"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"
)

// Conn runs statements with any driver. Arguments use the driver's own placeholders.
type Conn interface {
	Query(ctx context.Context, query string, args ...any) (ResultSet, error)
	// Exec returns the number of affected rows.
	Exec(ctx context.Context, query string, args ...any) (int64, error)
}

// Rows has the methods that database/sql.Rows and pgx.Rows share.
type Rows interface {
	Next() bool
	Scan(to ...any) error
	Err() error
}

// ResultSet is Rows that must be closed.
type ResultSet interface {
	Rows
	Columns() ([]string, error)
	Close() error
}

// SQL is a Conn for a pool, connection or transaction of database/sql.
type SQL struct{ bun.IConn }

// Query implements Conn.
func (s SQL) Query(ctx context.Context, query string, args ...any) (ResultSet, error) {
	rows, err := s.QueryContext(ctx, query, args...) //nolint:rowserrcheck // the caller does
	if err != nil {
		return nil, err // not a nil *sql.Rows in an interface
	}
	return rows, nil
}

// Exec implements Conn.
func (s SQL) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	result, err := s.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// ScanOne reads the first row of a query. It returns sql.ErrNoRows if there is none.
func ScanOne(ctx context.Context, conn Conn, query string, to ...any) (err error) {
	found, err := conn.Query(ctx, query)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, found.Close()) }()
	if !found.Next() {
		if err := found.Err(); err != nil {
			return err
		}
		return sql.ErrNoRows
	}
	return found.Scan(to...)
}

// ScanAll reads the first column of all rows.
func ScanAll(ctx context.Context, conn Conn, query string) (list []string, err error) {
	found, err := conn.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, found.Close()) }()
	for found.Next() {
		var value string
		if err := found.Scan(&value); err != nil {
			return nil, err
		}
		list = append(list, value)
	}
	return list, found.Err()
}

// collect reads all rows and closes them. Columns map to the fields of a struct by their
// names in snake case; any other type takes one column. bun only converts the values,
// since it reads no rows but those of database/sql.
func collect[T any](db *bun.DB, found ResultSet) (list []T, err error) {
	defer func() { err = errors.Join(err, found.Close()) }()
	columns, err := found.Columns()
	if err != nil {
		return nil, err
	}
	values, pointers := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		pointers[i] = &values[i]
	}
	list = []T{}
	into := scanners(db, reflect.TypeFor[T](), columns)
	for found.Next() {
		if err := found.Scan(pointers...); err != nil {
			return nil, err
		}
		var item T
		target := reflect.ValueOf(&item).Elem()
		for i, scan := range into {
			if err := scan(target, values[i]); err != nil {
				return nil, err
			}
		}
		list = append(list, item)
	}
	return list, found.Err()
}

// scanners returns a function for each column, which stores its value in a value of the type.
func scanners(db *bun.DB, of reflect.Type, columns []string) []schema.ScannerFunc {
	into := make([]schema.ScannerFunc, len(columns))
	for i, column := range columns {
		if of.Kind() != reflect.Struct {
			into[i] = schema.Scanner(of)
			continue
		}
		into[i] = func(reflect.Value, any) error { return nil } // no such field
		if field := db.Table(of).LookupField(column); field != nil {
			into[i] = field.ScanValue
		}
	}
	return into
}
