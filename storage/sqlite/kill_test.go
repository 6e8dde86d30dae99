package sqlite_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims/storage/migration"
)

// migrateEnv names the file that a process of this test is to migrate.
const migrateEnv = "CIMS_TEST_MIGRATE"

func TestMigrateInAProcess(t *testing.T) { //nolint:paralleltest // it is a process of its own
	path := os.Getenv(migrateEnv)
	if path == "" {
		t.Skip("for TestMigrateSurvivesKills")
	}
	require.NoError(t, openStorage(t, path).Migrate(t.Context()))
}

func TestMigrateSurvivesKills(t *testing.T) {
	t.Parallel()
	rows, enough := 30_000, 4
	if os.Getenv("CIMS_FAULTS") == "full" {
		rows, enough = 100_000, 8
	}
	untouched, db := hostFile(t, hostSchemas["own names"], hostRows["own names"], "DROP TRIGGER customer_touched")
	manyCustomers(t, db, rows)
	before := everything(t, db)
	killed := filepath.Join(t.TempDir(), "killed.db")
	run(t, db, "VACUUM INTO ?", killed)
	started := time.Now()
	require.NoError(t, openStorage(t, untouched).Migrate(t.Context()))
	whole := time.Since(started)

	kills := 0
	for finished := false; !finished; {
		life := time.Duration(rand.Int64N(int64(whole)/2)) + 20*time.Millisecond //nolint:gosec // no secret
		if kills >= enough {
			life = time.Hour
		}
		processes := make([]*exec.Cmd, 1+rand.IntN(2)) //nolint:gosec // no secret
		for i := range processes {
			processes[i] = exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMigrateInAProcess$") //nolint:gosec // this test
			processes[i].Env = append(os.Environ(), migrateEnv+"="+killed)
			require.NoError(t, processes[i].Start())
		}
		timer := time.AfterFunc(life, func() {
			for _, p := range processes {
				_ = p.Process.Kill() // unless it has ended
			}
		})
		for _, p := range processes {
			err := p.Wait()
			var exit *exec.ExitError
			switch {
			case err == nil:
				finished = true
			case errors.As(err, &exit) && !exit.Exited():
				kills++
			default:
				require.NoError(t, err)
			}
		}
		timer.Stop()
	}
	t.Logf("killed %d times, %v without", kills, whole)
	require.Positive(t, kills)
	store := openStorage(t, killed)
	require.NoError(t, store.Migrate(t.Context())) // the one that ended may not have been the last
	requireRight(t, store)
	again := openFile(t, killed, "")
	require.Equal(t, everything(t, db), everything(t, again))
	for _, query := range []string{
		"SELECT name, is_active, is_system FROM customer_status ORDER BY name",
		"SELECT name, is_active, is_system FROM user_role ORDER BY name",
		"SELECT customer_id, from_status, to_status, cause, owner_id FROM customer_status_history ORDER BY customer_id, id",
		"SELECT customer_id, +customer_created_at, waiting, +due_at FROM cims_unassigned ORDER BY 1",
		"SELECT * FROM cims_replaced_name ORDER BY 1, 2",
		"SELECT * FROM cims_original ORDER BY 1, 2",
		"SELECT id, name FROM cims_migrations",
	} {
		require.Equal(t, dump(t, db, query), dump(t, again, query))
	}
	require.NoError(t, store.Rollback(t.Context(), migration.RollbackOptions{}))
	require.Equal(t, before, everything(t, again))
}
