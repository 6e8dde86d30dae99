package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/internal/pgtest"
	"github.com/cimskit/cims/storage/migration"
)

// TestCountsFollowAnAssignmentChangedMeanwhile gives a lead away while another program's
// change of the same assignment is not committed yet.
func TestCountsFollowAnAssignmentChangedMeanwhile(t *testing.T) {
	t.Parallel()
	crm, db := hostCRM(t, standardNames)
	first := seller(t, crm, "first")
	lead, err := crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Lead"})
	require.NoError(t, err)
	require.Equal(t, first.ID, lead.SalesManager.ID)
	theirs, ours := seller(t, crm, "theirs"), seller(t, crm, "ours")

	holder, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { _ = holder.Rollback() }() // it is over
	var pid int
	require.NoError(t, holder.QueryRowContext(t.Context(), "SELECT pg_backend_pid()").Scan(&pid))
	_, err = holder.ExecContext(t.Context(), "UPDATE sales_manager_assignment SET sales_manager_id = $1 WHERE customer_id = $2", theirs.ID, lead.ID)
	require.NoError(t, err)
	assigned := make(chan error, 1)
	go func() {
		_, err := crm.Assign(t.Context(), system, lead.ID, ours.ID)
		assigned <- err
	}()
	require.Eventually(t, func() bool {
		var waits bool
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid)))", pid).Scan(&waits))
		return waits
	}, 20*time.Second, 5*time.Millisecond)
	require.NoError(t, holder.Commit())
	require.NoError(t, <-assigned)

	members, err := crm.SalesManagers(t.Context(), system)
	require.NoError(t, err)
	counts := map[int64]int{}
	for _, m := range members {
		counts[m.ID] = m.AssignedLeads
	}
	require.Equal(t, map[int64]int{first.ID: 0, theirs.ID: 0, ours.ID: 1}, counts)
}

// TestRepair spoils what is derived, and repairs it: first in a dry run, which changes nothing.
func TestRepair(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]string{
		"nothing":                 "SELECT 1",
		"counts":                  "UPDATE sales_manager_rotation SET assigned_leads_count = assigned_leads_count - 7",
		"members":                 "DELETE FROM sales_manager_rotation",
		"the counter":             "DELETE FROM sales_manager_counter",
		"unassigned":              "INSERT INTO cims_unassigned (customer_id, customer_created_at, waiting) SELECT customer_id, now(), TRUE FROM sales_manager_assignment",
		"unnoticed deletion":      "SET session_replication_role = replica; DELETE FROM sales_manager_assignment",
		"histories":               "DELETE FROM customer_status_history",
		"ends of histories":       "UPDATE customer_status_history SET to_status = 'on_hold'",
		"times of creation":       "UPDATE sales_manager_assignment SET customer_created_at = '2001-01-01'",
		"sequence of customers":   "SELECT setval(pg_get_serial_sequence('customer', 'id'), 1, FALSE)",
		"sequence of histories":   "SELECT setval(pg_get_serial_sequence('customer_status_history', 'id'), 1, FALSE)",
		"sequence of assignments": "SELECT setval(pg_get_serial_sequence('sales_manager_assignment', 'id'), 1, FALSE)",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			pgtest.Execute(t, url, standardNames)
			store := open(t, url)
			t.Cleanup(func() { require.NoError(t, store.Close()) })
			require.NoError(t, store.Migrate(t.Context()))
			crm, err := cims.New(store, nil)
			require.NoError(t, err)
			seller(t, crm, "one")
			seller(t, crm, "two")
			for _, err := range addAll(t, crm, "A", "B", "C") {
				require.NoError(t, err)
			}
			require.NoError(t, crm.Close(t.Context()))
			verify := func() migration.Report {
				report, err := store.Verify(t.Context(), migration.VerifyOptions{WhileRunning: true})
				require.NoError(t, err)
				return report
			}
			require.True(t, verify().OK(), verify())
			pgtest.Execute(t, url, spoil)
			spoiled := verify()
			require.Equal(t, name == "nothing", spoiled.OK(), spoiled)

			would, err := store.Repair(t.Context(), migration.RepairOptions{DryRun: true})
			require.NoError(t, err)
			require.Equal(t, name == "nothing", len(would) == 0)
			require.Equal(t, spoiled, verify(), "a dry run changes nothing")
			did, err := store.Repair(t.Context(), migration.RepairOptions{})
			require.NoError(t, err)
			require.Equal(t, would, did)
			require.True(t, verify().OK(), verify())
			crm, err = cims.New(store, nil)
			require.NoError(t, err)
			lead, err := crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "After"})
			require.NoError(t, err)
			require.NotNil(t, lead.SalesManager)
			require.NoError(t, crm.Close(t.Context()))
			require.True(t, verify().OK(), verify())
		})
	}
}

// TestNothingRunsWithoutTheLock deletes the row that is the rotation's lock under a running
// Manager, and repairs it.
func TestNothingRunsWithoutTheLock(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	store := open(t, url)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	require.NoError(t, store.Migrate(t.Context()))
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, crm.Close(context.Background())) })
	user := seller(t, crm, "one")
	_, err = crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Before"})
	require.NoError(t, err)
	pgtest.Execute(t, url, "DELETE FROM sales_manager_counter")
	for range 2 {
		_, err = crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Meanwhile"})
		require.ErrorIs(t, err, cims.ErrUnavailable)
		require.ErrorContains(t, err, "sales_manager_counter is empty")
		_, err = crm.UpdateUser(t.Context(), system, user.ID, cims.UserUpdate{Active: new(false)})
		require.ErrorIs(t, err, cims.ErrUnavailable)
		require.ErrorIs(t, crm.Ready(t.Context()), cims.ErrUnavailable)
	}
	found, err := store.Repair(t.Context(), migration.RepairOptions{})
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.NoError(t, crm.Ready(t.Context()))
	lead, err := crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "After"})
	require.NoError(t, err)
	require.Equal(t, user.ID, lead.SalesManager.ID)
}

// TestCountsFollowTruncate truncates tables of leads, of assignments and of users.
func TestCountsFollowTruncate(t *testing.T) {
	t.Parallel()
	for statement, unassigned := range map[string]int{
		"TRUNCATE customer CASCADE":         0,
		"TRUNCATE sales_manager_assignment": 2,
		`TRUNCATE "user" CASCADE`:           2,
	} {
		t.Run(statement, func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			store := open(t, url)
			t.Cleanup(func() { require.NoError(t, store.Close()) })
			require.NoError(t, store.Migrate(t.Context()))
			crm, err := cims.New(store, nil)
			require.NoError(t, err)
			seller(t, crm, "one")
			for _, err := range addAll(t, crm, "A", "B") {
				require.NoError(t, err)
			}
			require.NoError(t, crm.Close(t.Context()))
			pgtest.Execute(t, url, statement)
			report, err := store.Verify(t.Context(), migration.VerifyOptions{WhileRunning: true})
			require.NoError(t, err)
			require.True(t, report.OK(), report)
			waiting, err := store.Unassigned(t.Context(), cims.UnassignedQuery{Limit: 10})
			require.NoError(t, err)
			require.Empty(t, waiting, "they wait for another program first")
			var n int
			require.NoError(t, host(t, url).QueryRowContext(t.Context(), "SELECT count(*) FROM cims_unassigned WHERE waiting").Scan(&n))
			require.Equal(t, unassigned, n)
		})
	}
}
