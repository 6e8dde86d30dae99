package sqlite

import (
	"context"
	"database/sql"
	"sync"

	"github.com/cimskit/cims/storage/internal/sqlstore"
)

// maxPrepared limits the number of kept statements. Their texts vary with the filters and
// the order of a list.
const maxPrepared = 256

// preparedReads keeps the prepared statements of frequent reads. Parsing one takes longer
// than running it.
type preparedReads struct {
	db *sql.DB // closes the statements

	mu    sync.Mutex
	stmts map[string]*sql.Stmt
}

// query implements sqlstore.Dialect.Prepared. Inside a transaction it prepares nothing.
func (p *preparedReads) query(ctx context.Context, on sqlstore.Conn, query string, args []any) (sqlstore.ResultSet, error) {
	if on != sqlstore.Conn(sqlstore.SQL{IConn: p.db}) {
		return on.Query(ctx, query, args...)
	}
	stmt, err := p.prepare(ctx, query) //nolint:sqlclosecheck // kept, and closed with db
	if err != nil {
		return nil, err
	}
	if stmt == nil {
		return on.Query(ctx, query, args...)
	}
	rows, err := stmt.QueryContext(ctx, args...) //nolint:rowserrcheck // the caller does
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// prepare returns the prepared statement, or nil if too many are kept already.
func (p *preparedReads) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if stmt := p.stmts[query]; stmt != nil || len(p.stmts) >= maxPrepared {
		return stmt, nil
	}
	stmt, err := p.db.PrepareContext(ctx, query) //nolint:sqlclosecheck // closed with db
	if err != nil {
		return nil, err
	}
	p.stmts[query] = stmt
	return stmt, nil
}
