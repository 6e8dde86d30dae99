package move

import (
	"context"
	"errors"
	"strings"

	"github.com/cimskit/cims/storage/internal/sqlstore"
	"github.com/cimskit/cims/storage/migration"
)

// repairLocks keep other writers out, in the order in which these take their locks. Times
// without a zone are in UTC.
var repairLocks = []string{
	"SET LOCAL timezone = 'UTC'",
	`LOCK TABLE sales_manager_counter, {customer}, {user}, sales_manager_assignment, cims_unassigned, sales_manager_rotation, customer_status_history
		IN SHARE ROW EXCLUSIVE MODE`,
}

// Repair sets right what is derived from other rows, and returns what it has changed. With
// options.DryRun it changes nothing.
func (m *Mover) Repair(ctx context.Context, options migration.RepairOptions) ([]migration.Finding, error) {
	if err := errors.Join(m.store.Complete(ctx), m.names.check(ctx, sqlstore.SQL{IConn: m.db})); err != nil {
		return nil, m.store.Explain(err)
	}
	repairs := append(sqlstore.Repairs("clock_timestamp()"), sqlstore.Repair{
		Where: "sales_manager_assignment.customer_created_at", Found: "differs from when the customer came", Does: "copies it", SQL: `
			UPDATE sales_manager_assignment AS a SET customer_created_at = c.{customer.created_at}
			FROM {customer} AS c WHERE c.{customer.id} = a.customer_id AND a.customer_created_at IS DISTINCT FROM CAST(c.{customer.created_at} AS TIMESTAMPTZ)`,
	}, sqlstore.Repair{
		Where: "sequences", Found: "they are behind the ids of their tables", Does: "sets them to the highest id",
		SQL: "SELECT setval(sequence, highest) FROM (" + behind + ") AS s", DrySQL: behind,
	})
	for i := range repairs {
		repairs[i].SQL, repairs[i].DrySQL = m.names.SQL(repairs[i].SQL), m.names.SQL(repairs[i].DrySQL)
	}
	locks := make([]string, len(repairLocks))
	for i, lock := range repairLocks {
		locks[i] = m.names.SQL(lock)
	}
	return m.store.Repair(ctx, options, locks, repairs)
}

// behind is a query for the sequences whose next value is not above the ids of their tables.
var behind = func() string {
	tables := []string{
		"SELECT CAST(pg_get_serial_sequence({'customer'}, {'customer.id'}) AS regclass) AS sequence, max({customer.id}) AS highest FROM {customer}",
		"SELECT CAST(pg_get_serial_sequence({'user'}, {'user.id'}) AS regclass), max({user.id}) FROM {user}",
	}
	for _, t := range []string{"customer_status", "user_role", "sales_manager_assignment", "sales_manager_counter", "customer_status_history", "assignment_history"} {
		tables = append(tables, "SELECT CAST(pg_get_serial_sequence('"+t+"', 'id') AS regclass), max(id) FROM "+t)
	}
	return `SELECT t.sequence, t.highest FROM (` + strings.Join(tables, " UNION ALL ") + `) AS t
		JOIN pg_sequence AS s ON s.seqrelid = t.sequence AND s.seqincrement > 0
		WHERE COALESCE(pg_sequence_last_value(t.sequence) + s.seqincrement, s.seqstart) <= t.highest`
}()
