package postgres_test

import (
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

// addTheirs adds a lead as another program, in a session with its own grace setting.
func addTheirs(t *testing.T, db *sql.DB, name, grace string) (id int64) {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), "SELECT set_config('cims.grace', $1, TRUE)", grace)
	require.NoError(t, err)
	require.NoError(t, tx.QueryRowContext(t.Context(), "INSERT INTO customer (full_name, company, size) VALUES ($1, '', 'small') RETURNING id", name).Scan(&id))
	require.NoError(t, tx.Commit())
	return id
}

// TestGraceIsTheOtherProgramsOwn checks that the grace period is that of the other program's
// session. Neither our own setting nor a wait for the rotation's lock changes it.
func TestGraceIsTheOtherProgramsOwn(t *testing.T) {
	t.Parallel()
	crm, db := hostCRM(t, standardNames)
	seller(t, crm, "anvar")
	lock, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { _ = lock.Rollback() }() // it is over
	_, err = lock.ExecContext(t.Context(), "SELECT 1 FROM sales_manager_counter FOR UPDATE")
	require.NoError(t, err)
	due := addTheirs(t, db, "Due", "0s")
	require.Eventually(t, func() bool {
		var waits bool
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT EXISTS (SELECT 1 FROM pg_stat_activity AS s
			JOIN pg_locks AS l ON l.pid = s.pid AND l.relation = to_regclass('sales_manager_counter')
			WHERE s.wait_event_type = 'Lock' AND s.query LIKE '%sales_manager_counter%')`).Scan(&waits))
		return waits
	}, 20*time.Second, 5*time.Millisecond)
	left := map[string]int64{"our time": addTheirs(t, db, "Meanwhile", ""), "more than ours": addTheirs(t, db, "Later", "5 minutes")}
	require.NoError(t, lock.Rollback())
	owner := func(id int64) *cims.Person {
		lead, err := crm.Customer(t.Context(), system, id)
		require.NoError(t, err)
		return lead.SalesManager
	}
	require.Eventually(t, func() bool { return owner(due) != nil }, 20*time.Second, 5*time.Millisecond)
	time.Sleep(1500 * time.Millisecond) // the Manager looks once a second
	for which, id := range left {
		require.Nil(t, owner(id), which)
	}

	// After a clock was set back by hours, no lead waits for that time to pass again.
	_, err = db.ExecContext(t.Context(), `UPDATE cims_unassigned SET due_at = due_at + interval '5 hours' WHERE customer_id = $1`, left["our time"])
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), `UPDATE customer_status_history SET changed_at = changed_at + interval '5 hours' WHERE customer_id = $1`, left["our time"])
	require.NoError(t, err)
	require.Eventually(t, func() bool { return owner(left["our time"]) != nil }, 20*time.Second, 5*time.Millisecond)
	require.Nil(t, owner(left["more than ours"]))
}
