//go:build unix

package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// cluster is a PostgreSQL server of one test, which kills and restarts it. Its main
// process is our child, so that nothing else can be hit.
type cluster struct {
	programs, folder string
	port             int
	environment      []string // of the server's process, beside our own
	cmd              *exec.Cmd
	ended            chan error
}

// newCluster creates and starts a cluster. It skips the test if the programs are missing,
// since the test must not kill a server that it didn't start.
func newCluster(t *testing.T, settings string) *cluster {
	t.Helper()
	c := &cluster{programs: findPostgres()}
	if c.programs == "" {
		if os.Getenv("CIMS_TEST_REQUIRE_POSTGRES") != "" && os.Getenv("CIMS_TEST_POSTGRES_URL") == "" {
			t.Fatal("PostgreSQL's initdb and postgres are missing")
		}
		t.Skip("NOT RUN ON POSTGRESQL: initdb and postgres are missing, and a server that somebody else runs is not ours to kill")
	}
	// Not in t.TempDir, which only its owner can enter: as root we lend the
	// server an unprivileged user.
	folder, err := os.MkdirTemp("", "cims-faults-") //nolint:usetesting // see above
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(folder)) })
	require.NoError(t, os.Chmod(folder, 0o711)) //nolint:gosec // to be passed through, see above
	c.folder = filepath.Join(folder, "pg")
	require.NoError(t, os.Mkdir(c.folder, 0o700))
	if credential := serverUser(t); credential != nil {
		require.NoError(t, os.Chown(c.folder, int(credential.Uid), int(credential.Gid)))
	}
	var out []byte
	for _, locale := range []string{"C.UTF-8", "C"} { // not every system has the first
		initdb := c.command(t, "initdb", "-D", c.folder, "-U", "postgres", "--locale="+locale, "--encoding=UTF8", "--auth=trust", "--no-sync")
		if out, err = initdb.CombinedOutput(); err == nil {
			break
		}
	}
	require.NoError(t, err, "%s", out)
	config, err := os.OpenFile(filepath.Join(c.folder, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = config.WriteString("\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = on\nsynchronous_commit = on\n" + settings + "\n")
	require.NoError(t, errors.Join(err, config.Close()))
	for range 8 { // another program may take the port before the server does
		c.port = 20000 + rand.IntN(10000) //nolint:gosec // below what systems use for outgoing connections
		if err = c.start(t); err == nil {
			t.Cleanup(func() { c.stop(t, syscall.SIGQUIT) })
			return c
		}
	}
	require.NoError(t, err)
	return nil
}

// findPostgres returns the directory of the server's programs, or "".
func findPostgres() string {
	var folders []string
	if initdb, err := exec.LookPath("initdb"); err == nil {
		if initdb, err = filepath.EvalSymlinks(initdb); err == nil { // where the others are
			folders = append(folders, filepath.Dir(initdb))
		}
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/libexec/postgresql*",
		"/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin",
	} {
		found, _ := filepath.Glob(pattern) // the patterns are sound
		slices.Reverse(found)
		folders = append(folders, found...)
	}
	for _, folder := range folders {
		_, err := os.Stat(filepath.Join(folder, "initdb"))
		_, err2 := os.Stat(filepath.Join(folder, "postgres"))
		if err == nil && err2 == nil {
			return folder
		}
	}
	return ""
}

// serverUser returns the user that the server runs as, or nil for the present one.
// PostgreSQL refuses to run as root.
func serverUser(t *testing.T) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	who, err := user.Lookup("postgres")
	if err != nil {
		who, err = user.Lookup("nobody")
	}
	require.NoError(t, err)
	uid, err := strconv.ParseUint(who.Uid, 10, 32)
	require.NoError(t, err)
	gid, err := strconv.ParseUint(who.Gid, 10, 32)
	require.NoError(t, err)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (c *cluster) command(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(filepath.Join(c.programs, program), args...) //nolint:gosec,noctx // the server's own programs
	cmd.Dir = c.folder
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: serverUser(t)}
	return cmd
}

// url is of the cluster's only database.
func (c *cluster) url() string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", c.port)
}

// start waits until the server answers, or has ended.
func (c *cluster) start(t *testing.T) error {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(filepath.Dir(c.folder), "log"), os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	require.NoError(t, err)
	defer func() { _ = log.Close() }() // the server has its own
	c.cmd = c.command(t, "postgres", "-D", c.folder, "-p", strconv.Itoa(c.port))
	c.cmd.Env = append(os.Environ(), c.environment...)
	c.cmd.Stdout, c.cmd.Stderr = log, log
	require.NoError(t, c.cmd.Start())
	ended := make(chan error, 1)
	c.ended = ended
	go func() { ended <- c.cmd.Wait() }()
	for deadline := time.After(patience); ; {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		conn, err := pgx.Connect(ctx, c.url())
		if err == nil {
			err = conn.Close(ctx)
		}
		cancel()
		if err == nil {
			return nil
		}
		select {
		case end := <-ended:
			c.cmd = nil
			_, _ = log.Seek(max(0, size(log)-2000), io.SeekStart) // then all of it is read
			text, _ := io.ReadAll(log)
			return fmt.Errorf("the server has ended (%v): %s", end, text) //nolint:errorlint // nil is a way to end too
		case <-deadline:
			return fmt.Errorf("the server does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func size(file *os.File) int64 {
	info, err := file.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// stop ends the server by a signal: SIGINT asks it to disconnect everybody and
// end (a fast shutdown), SIGQUIT to drop everything (an immediate one), SIGKILL
// doesn't ask.
func (c *cluster) stop(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if c.cmd == nil {
		return
	}
	require.NoError(t, c.cmd.Process.Signal(signal))
	<-c.ended //nolint:errcheck // how it ended is the signal's doing
	c.cmd = nil
}

// restart starts the server again. After a kill -9 its processes take a moment
// to notice, and until then it refuses to start.
func (c *cluster) restart(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := c.start(t)
		if err == nil {
			return
		}
		require.True(t, time.Now().Before(deadline), "%v", err)
		time.Sleep(100 * time.Millisecond)
	}
}
