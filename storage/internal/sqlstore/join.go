package sqlstore

import (
	"context"
	"errors"

	"github.com/cimskit/cims"
)

// joined is a cims.Storage inside a host's transaction.
type joined struct {
	*queries
	store *Store
}

var (
	_ cims.Joiner  = (*Store)(nil)
	_ cims.Joiner  = joined{}
	_ cims.Storage = joined{}
)

// Join implements cims.Joiner.
func (s *Store) Join(tx any) cims.Storage {
	q := *s.queries
	q.joined, q.budget = new(joinCheck), nil // the connection is the host's
	q.conn, q.joined.err = s.dialect.Join(tx)
	return joined{&q, s}
}

// Join implements cims.Joiner.
func (j joined) Join(tx any) cims.Storage { return j.store.Join(tx) }

// tx is a cims.Tx. Only tx has the methods that write. It is also the cims.Executor that
// runs the statements of hooks.
type tx struct{ *queries }

var (
	_ cims.Tx       = tx{}
	_ cims.Executor = tx{}
)

// Exec implements cims.Executor.
func (q tx) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	conn, done, err := q.connection(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	if q.dialect.TakesArguments != nil {
		conn = q.dialect.TakesArguments(conn)
	}
	return conn.Exec(ctx, query, args...)
}

// Update implements cims.Storage.
func (j joined) Update(ctx context.Context, do func(context.Context, cims.Tx) error) error {
	return j.explain(j.guarded(ctx, func() error {
		if err := do(ctx, tx{j.queries}); err != nil {
			return err
		}
		return ctx.Err()
	}))
}

// Migrate implements cims.Storage.
func (j joined) Migrate(context.Context) error {
	return errors.New("cims: the schema can't be migrated inside a host's transaction")
}

// Ready implements cims.Storage.
func (j joined) Ready(ctx context.Context) error { return j.Current(ctx) }

// Close implements cims.Storage.
func (j joined) Close() error { return nil }

// joinCheck records whether a host's transaction has passed its check.
type joinCheck struct {
	passed bool
	err    error // the reason why it can't be joined
}

// checkOnce checks a host's transaction until it has passed.
func (c *joinCheck) checkOnce(ctx context.Context, q *queries) error {
	if c.passed || c.err != nil {
		return c.err
	}
	if err := q.dialect.CheckJoined(ctx, q.conn); err != nil {
		return q.explain(err)
	}
	c.passed = true
	return nil
}
