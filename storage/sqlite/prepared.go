package sqlite

import (
	"context"
	"database/sql"
	"sync"

	"github.com/cimskit/cims/storage/internal/sqlstore"
)

// maxPrepared bounds how many statements are kept: their texts vary with what a
// list is filtered and sorted by.
const maxPrepared = 256

// preparedReads keeps the statements of reads that run often: parsing one takes
// longer than running it.
type preparedReads struct {
	db *sql.DB // closes them

	mu    sync.Mutex
	stmts map[string]*sql.Stmt
}

// query implements sqlstore.Dialect.Prepared. Inside a transaction a statement is used once.
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

// prepare returns nil where there are too many already.
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
