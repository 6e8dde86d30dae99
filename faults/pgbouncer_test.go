//go:build unix

package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/postgres"
	"github.com/cimskit/cims/storage/storagetest"
)

// need finds a program that a test needs, or skips the test. In CI a missing program fails
// the test.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + program)
	}
	if err != nil {
		if os.Getenv("CIMS_TEST_REQUIRE_FAULTS") != "" {
			t.Fatalf("%s is missing", program)
		}
		t.Skipf("NOT TESTED: %s is missing; ./scripts/test installs it", program)
	}
	return path
}

// newBouncer starts a pgbouncer in transaction mode before a cluster, and returns
// the URL of a database through it.
func newBouncer(t *testing.T, c *cluster) func(database string) string {
	t.Helper()
	program := need(t, "pgbouncer")
	folder := filepath.Join(filepath.Dir(c.folder), "pgbouncer")
	require.NoError(t, os.Mkdir(folder, 0o700))
	config := filepath.Join(folder, "pgbouncer.ini")
	for range 8 {
		port := 20000 + rand.IntN(10000) //nolint:gosec // below what systems use for outgoing connections
		require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `[databases]
* = host=127.0.0.1 port=%d user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 5
max_client_conn = 1000
server_login_retry = 1
server_idle_timeout = 1
`, c.port, port), 0o600))
		if credential := serverUser(t); credential != nil {
			for _, path := range []string{folder, config} {
				require.NoError(t, os.Chown(path, int(credential.Uid), int(credential.Gid)))
			}
		}
		cmd := exec.Command(program, "-q", config) //nolint:gosec,noctx // ended below
		cmd.Dir = folder
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: serverUser(t)}
		require.NoError(t, cmd.Start())
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		through := func(database string) string {
			return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable&default_query_exec_mode=exec", port, database)
		}
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			conn, err := pgx.Connect(t.Context(), through("postgres"))
			if err == nil {
				require.NoError(t, conn.Close(t.Context()))
				t.Cleanup(func() {
					_ = cmd.Process.Signal(syscall.SIGTERM) // at once: nobody is waited for
					<-ended                                 //nolint:errcheck // how it ended is the signal's doing
				})
				return through
			}
			if len(ended) > 0 {
				break
			}
		}
		_ = cmd.Process.Kill()
	}
	require.Fail(t, "pgbouncer does not start")
	return nil
}

// pooled works through a pooler, and migrates without it.
type pooled struct {
	*postgres.Storage
	direct string
}

func (p pooled) Migrate(ctx context.Context) error {
	store, err := postgres.Open(ctx, p.direct)
	if err != nil {
		return err
	}
	return errors.Join(store.Migrate(ctx), store.Close())
}

// TestFaultPgbouncer has callers share few connections by the transaction: more of
// them than there are, in several processes, with the pooler's connections killed
// meanwhile. In full, the whole suite runs through it.
func TestFaultPgbouncer(t *testing.T) { //nolint:tparallel // the suite is parallel in itself
	t.Parallel()
	c := newCluster(t, "max_connections = 300")
	through := newBouncer(t, c)
	d := newDatabase(t, c.url(), 5)
	d.url = through("postgres")
	answers := newAnswers()
	workers := []*worker{d.start(t, answers, "first", 0), d.start(t, answers, "second", 0), d.start(t, answers, "third", 0)}
	for range times(2, 20) {
		answers.requireMore(t, 100)
		killBackend(t, c)
		require.Eventually(t, func() bool {
			conn, err := pgx.Connect(t.Context(), c.url())
			return err == nil && conn.Close(t.Context()) == nil
		}, patience, 10*time.Millisecond)
	}
	answers.requireMore(t, 100)
	for _, w := range workers {
		w.finish(t, true)
	}
	refused, unknown := answers.faults()
	d.url = c.url()
	found := d.check(t, answers)
	report(t, "through pgbouncer in transaction mode, 24 callers on 5 connections: %d leads acknowledged, 0 lost; %d calls refused, %d of unknown outcome; spread %d",
		len(answers.stored), refused, unknown, found.spread)

	if !full {
		return
	}
	t.Run("suite", func(t *testing.T) {
		storagetest.Run(t, func(t *testing.T) storagetest.Open {
			name := "t" + strings.ReplaceAll(uuid.NewString(), "-", "")
			direct, err := url.Parse(c.url())
			require.NoError(t, err)
			direct.Path = name
			conn, err := pgx.Connect(t.Context(), c.url())
			require.NoError(t, err)
			_, err = conn.Exec(t.Context(), "CREATE DATABASE "+name)
			require.NoError(t, errors.Join(err, conn.Close(t.Context())))
			return func(t *testing.T) cims.Storage {
				store, err := postgres.Open(t.Context(), through(name))
				require.NoError(t, err)
				return pooled{store, direct.String()}
			}
		})
	})
}
