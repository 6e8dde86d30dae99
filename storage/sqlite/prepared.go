package sqlite

import (
	"context"
	"database/sql"
	"sync"

	"github.com/uptrace/bun"
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

// query is a Dialect's Prepared. Inside a transaction a statement is used once.
func (p *preparedReads) query(ctx context.Context, on bun.IConn, query string, args []any) (*sql.Rows, error) {
	if on != bun.IConn(p.db) {
		return on.QueryContext(ctx, query, args...)
	}
	stmt, err := p.prepare(ctx, query) //nolint:sqlclosecheck // kept, and closed with db
	if err != nil {
		return nil, err
	}
	if stmt == nil {
		return p.db.QueryContext(ctx, query, args...)
	}
	return stmt.QueryContext(ctx, args...)
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
