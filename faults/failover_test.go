//go:build unix

package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// standby makes a synchronous replica of a cluster: from then on a commit is
// answered when both have it.
func (c *cluster) standby(t *testing.T) *cluster {
	t.Helper()
	folder, err := os.MkdirTemp("", "cims-faults-") //nolint:usetesting // see newCluster
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(folder)) })
	require.NoError(t, os.Chmod(folder, 0o711)) //nolint:gosec // to be passed through, see newCluster
	replica := &cluster{programs: c.programs, folder: filepath.Join(folder, "pg")}
	require.NoError(t, os.Mkdir(replica.folder, 0o700))
	if credential := serverUser(t); credential != nil {
		require.NoError(t, os.Chown(replica.folder, int(credential.Uid), int(credential.Gid)))
	}
	out, err := replica.command(t, "pg_basebackup", "-D", replica.folder, "-R", "-X", "stream", "--checkpoint=fast", "--no-sync", "-d", c.url()).CombinedOutput()
	require.NoError(t, err, "%s", out)
	for range 8 {
		replica.port = 20000 + rand.IntN(10000) //nolint:gosec // below what systems use for outgoing connections
		if err = replica.start(t); err == nil {
			break
		}
	}
	require.NoError(t, err)
	t.Cleanup(func() { replica.stop(t, syscall.SIGQUIT) })
	c.execute(t, "ALTER SYSTEM SET synchronous_standby_names = '*'")
	c.execute(t, "SELECT pg_reload_conf()")
	require.Eventually(t, func() bool {
		return c.queryNumber(t, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == 1
	}, patience, 10*time.Millisecond)
	return replica
}

func (c *cluster) execute(t *testing.T, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.url())
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), statement)
	require.NoError(t, err, statement)
	require.NoError(t, conn.Close(t.Context()))
}

// queryNumber returns the number that a query returns, or -1.
func (c *cluster) queryNumber(t *testing.T, query string) int {
	t.Helper()
	number := -1
	conn, err := pgx.Connect(t.Context(), c.url())
	if err != nil {
		return number
	}
	defer func() { _ = conn.Close(t.Context()) }() // nothing is left to be lost
	_ = conn.QueryRow(t.Context(), query).Scan(&number)
	return number
}

// TestFaultFailover kills the primary -9 under load, makes its synchronous standby
// the primary, and again with a standby of that. The programs know both addresses
// and find the one that takes writes by themselves. The test promotes the standby
// and keeps the older primary away, as Patroni would.
func TestFaultFailover(t *testing.T) {
	t.Parallel()
	const settings = "max_connections = 100\nmax_wal_senders = 4\nwal_level = replica\nhot_standby = on"
	primary := newCluster(t, settings)
	d := newDatabase(t, primary.url(), 5)
	answers := newAnswers()
	failovers := times(1, 6)
	for n := range failovers {
		standby := primary.standby(t)
		address := func(c *cluster) string { return fmt.Sprintf("127.0.0.1:%d", c.port) }
		d.url = strings.Replace(primary.url(), address(primary), address(primary)+","+address(standby), 1) + "&target_session_attrs=read-write&connect_timeout=5"
		workers := []*worker{d.start(t, answers, fmt.Sprintf("first%d", n), 0), d.start(t, answers, fmt.Sprintf("second%d", n), 0)}
		answers.requireMore(t, 200)
		primary.stop(t, syscall.SIGKILL)
		standby.execute(t, "SELECT pg_promote(TRUE, 60)")
		standby.execute(t, "ALTER SYSTEM SET synchronous_standby_names = ''") // it has none yet
		standby.execute(t, "SELECT pg_reload_conf()")
		answers.requireMore(t, 200)
		for _, w := range workers {
			w.finish(t, true)
		}
		primary = standby
	}
	refused, unknown := answers.faults()
	require.Positive(t, refused+unknown, "nobody noticed")
	d.url = primary.url()
	found := d.check(t, answers)
	report(t, "%d failovers to a synchronous standby, %d leads acknowledged, 0 lost; %d calls refused and none of them stored, %d of unknown outcome, %d of those stored; spread %d",
		failovers, len(answers.stored), refused, unknown, found.leads-len(answers.stored), found.spread)
}
