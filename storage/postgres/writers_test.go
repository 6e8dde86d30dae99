package postgres_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
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
