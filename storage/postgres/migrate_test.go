package postgres_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims/internal/legacy"
	"github.com/cimskit/cims/internal/pgtest"
	"github.com/cimskit/cims/storage/migration"
)

// TestFillWaitsForTheOlderProgram has it make a lead's assignment active again
// in a transaction that is open while the lead's rows are filled in: what is
// filled in is what holds after it.
func TestFillWaitsForTheOlderProgram(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), pgtest.URL(t)
	pgtest.Execute(t, url, legacy.Deployed)
	older := connect(t, url)
	// So many that they don't fit in one batch: the last is not in the first.
	_, err := older.Exec(ctx, `INSERT INTO customer (full_name, platform, phone_number, status, created_at)
		SELECT 'Lead ' || n, 'site', '+998900000000', 'contacted', now() FROM generate_series(1, 6000) AS n`)
	require.NoError(t, err)
	var last, assignment int64
	require.NoError(t, older.QueryRow(ctx, "SELECT max(id) FROM customer").Scan(&last))
	require.NoError(t, older.QueryRow(ctx, `INSERT INTO sales_manager_assignment (customer_id, sales_manager_id, is_active)
		SELECT $1, min(id), FALSE FROM "user" WHERE role = 'sales_manager' RETURNING id`, last).Scan(&assignment))

	store := open(t, url)
	defer func() { require.NoError(t, store.Close()) }()
	begun, committed := false, make(chan error, 1)
	require.NoError(t, store.MigrateWithProgress(ctx, func(p migration.Progress) {
		if begun || !strings.HasPrefix(p.Step, "007") {
			return
		}
		begun = true
		_, err := older.Exec(ctx, "BEGIN")
		require.NoError(t, err)
		_, err = older.Exec(ctx, "UPDATE sales_manager_assignment SET is_active = TRUE WHERE id = $1", assignment)
		require.NoError(t, err)
		go func() {
			time.Sleep(time.Second / 2)
			_, err := older.Exec(ctx, "COMMIT")
			committed <- err
		}()
	}))
	require.True(t, begun)
	require.NoError(t, <-committed)
	var unassigned bool
	require.NoError(t, older.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM cims_unassigned WHERE customer_id = $1)", last).Scan(&unassigned))
	require.False(t, unassigned, "it has a sales manager")
}

// TestASettingThatIsNone has the older program work under a time of grace that
// is none: that is no reason to refuse its lead.
func TestASettingThatIsNone(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), pgtest.URL(t)
	pgtest.Execute(t, url, legacy.Deployed)
	store := open(t, url)
	defer func() { require.NoError(t, store.Close()) }()
	require.NoError(t, store.Migrate(ctx))
	older := connect(t, url)
	for grace, want := range map[string]time.Duration{
		"five minutes": time.Minute, "5 minutes": 5 * time.Minute, "": time.Minute, "900000 years": time.Minute, "00:00:00:00": time.Minute, "10s": 10 * time.Second,
	} {
		var seconds int
		_, err := older.Exec(ctx, "SELECT set_config('cims.grace', $1, FALSE)", grace)
		require.NoError(t, err)
		require.NoError(t, older.QueryRow(ctx, `WITH lead AS (
				INSERT INTO customer (full_name, platform, phone_number, status, created_at) VALUES ('Lead', 'site', '1', 'contacted', now()) RETURNING id
			) SELECT id FROM lead`).Scan(new(int64)), grace)
		require.NoError(t, older.QueryRow(ctx, "SELECT round(EXTRACT(epoch FROM due_at - now()))::int FROM cims_unassigned ORDER BY customer_id DESC LIMIT 1").Scan(&seconds))
		require.InDelta(t, want.Seconds(), seconds, 3, grace)
	}
}
