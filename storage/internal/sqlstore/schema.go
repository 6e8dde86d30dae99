package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Ledger makes the table of the steps done. No step can do so: the table has to be
// there to tell that the first one was done.
const Ledger = `CREATE TABLE IF NOT EXISTS cims_migrations (
	id INTEGER PRIMARY KEY, name VARCHAR(100) NOT NULL, applied_at TIMESTAMP NOT NULL)`

// Applied counts the steps that are done. It returns the driver's error where there is
// no ledger.
func (q *queries) Applied(ctx context.Context) (int, error) {
	conn, err := q.connection(ctx)
	if err != nil {
		return 0, err
	}
	return Applied(ctx, conn)
}

// Applied counts the steps that are done, as conn sees them.
func Applied(ctx context.Context, conn Conn) (int, error) {
	var applied sql.Null[int]
	err := ScanOne(ctx, conn, "SELECT max(id) FROM cims_migrations", &applied)
	return applied.V, err
}

// Steps counts the steps that are done, and those that are left.
func (s *Store) Steps(ctx context.Context) (done, left int, err error) {
	done, err = s.Applied(ctx)
	if err != nil && s.dialect.Classify(err) != NoTable {
		return 0, 0, s.explain(err)
	}
	return done, max(s.dialect.Steps-done, 0), nil
}

// Checkpoints is the table that package copying makes in the target of a copy, and
// drops when the copy is finished.
const Checkpoints = "cims_copy"

// ErrUnfinished is the error for a database with Checkpoints in it.
var ErrUnfinished = errors.New("cims: the database holds an unfinished copy of another one: run the copy again to finish it")

// RefuseUnfinished returns ErrUnfinished for the target of a copy that is not finished:
// half of it must not be taken for the whole.
func (q *queries) RefuseUnfinished(ctx context.Context) error {
	columns, err := q.dialect.Columns(ctx, q.conn, Checkpoints)
	if err != nil {
		return q.explain(err)
	}
	if len(columns) > 0 {
		return ErrUnfinished
	}
	return nil
}

const lockPoll = 20 * time.Millisecond

// GiveWay waits a moment if err is nil or a conflict: another process is in the way. It
// returns any other error.
func (s *Store) GiveWay(ctx context.Context, err error) error {
	if err != nil && s.dialect.Classify(err) != Conflict {
		return err
	}
	select {
	case <-time.After(lockPoll):
		return nil
	case <-ctx.Done():
		return errors.Join(ctx.Err(), err)
	}
}
