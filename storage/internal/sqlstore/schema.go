package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Ledger creates the table of completed steps. It is not a step itself, since the table must
// exist before the first step can be recorded.
const Ledger = `CREATE TABLE IF NOT EXISTS cims_migrations (
	id INTEGER PRIMARY KEY, name VARCHAR(100) NOT NULL, applied_at TIMESTAMP NOT NULL)`

// Applied returns the number of completed steps. It returns the driver's error if there is
// no ledger.
func (q *queries) Applied(ctx context.Context) (int, error) {
	conn, done, err := q.connection(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	return Applied(ctx, conn)
}

// Applied returns the number of completed steps as conn sees them.
func Applied(ctx context.Context, conn Conn) (int, error) {
	var applied sql.Null[int]
	err := ScanOne(ctx, conn, "SELECT max(id) FROM cims_migrations", &applied)
	return applied.V, err
}

// Steps returns how many steps are done, and how many are left.
func (s *Store) Steps(ctx context.Context) (done, left int, err error) {
	done, err = s.Applied(ctx)
	if err != nil && s.dialect.Classify(err) != NoTable {
		return 0, 0, s.explain(err)
	}
	return done, max(s.dialect.Steps-done, 0), nil
}

// Checkpoints is the table that package copying creates in the target of a copy, and drops
// when the copy is finished.
const Checkpoints = "cims_copy"

// ErrUnfinished reports that a database holds the table Checkpoints.
var ErrUnfinished = errors.New("cims: the database holds an unfinished copy of another one: run the copy again to finish it")

// RefuseUnfinished returns ErrUnfinished for the target of an unfinished copy, so that an
// incomplete database isn't used.
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

// GiveWay waits a moment if err is nil or a conflict, which means that another process is
// in the way. It returns any other error at once.
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
