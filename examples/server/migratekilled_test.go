package main

import (
	"io"
	"math/rand/v2"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// startMigrate begins a migrate command and returns its process.
func startMigrate(t *testing.T, url string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(binary, append(append([]string{"migrate"}, args...), "-db", url)...) //nolint:gosec,noctx // our own binary; killed or waited for
	cmd.Env, cmd.Stdout, cmd.Stderr = cleanEnv(), io.Discard, io.Discard
	require.NoError(t, cmd.Start())
	return cmd
}

// killAtOnce runs a command in several processes, kills all of them after a
// while, and returns whether that hit one that was still at work. Who has ended
// by itself must have ended well.
func killAtOnce(t *testing.T, url string, processes int, after time.Duration, args ...string) (hit bool) {
	t.Helper()
	running := make([]*exec.Cmd, processes)
	for i := range running {
		running[i] = startMigrate(t, url, args...)
	}
	time.Sleep(after) // this is no waiting for something: the moment is random
	for _, cmd := range running {
		_ = cmd.Process.Kill() // it may have ended
	}
	for _, cmd := range running {
		err := cmd.Wait()
		if cmd.ProcessState.ExitCode() == -1 {
			hit = true
			continue
		}
		require.NoError(t, err, "of a process that was not killed")
	}
	return hit
}

// TestKilledAtAnyMoment repeatedly kills three concurrent migrations until nothing is left to
// do. Then it kills rollbacks in the same way. The result is that of uninterrupted runs.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	kills, older := 3, deployed(2_000)
	if full() {
		kills, older = 50, deployed(20_000)
	}
	undisturbed, _ := older.load(t)
	begin := time.Now()
	migrated(t, undisturbed, "up")
	long := time.Since(begin)
	want := takePicture(t, connect(t, undisturbed))
	begin = time.Now()
	migrated(t, undisturbed, "rollback")
	longBack := time.Since(begin)

	hits, hitsBack := 0, 0
	for hits < kills || hitsBack < kills {
		url, _ := older.load(t)
		conn := connect(t, url)
		before, beforePicture := remember(t, conn), takePicture(t, conn)
		for killAtOnce(t, url, 3, rand.N(long), "up") { //nolint:gosec // no secret
			hits++
			before.requireOriginal(t, conn, nil, nil) // at any moment
		}
		migrated(t, url, "up")
		want.requireSame(t, takePicture(t, conn), "killed, and not")
		before.requireOriginal(t, conn, nil, nil)
		before.requireNames(t, conn)
		before.requireConsistent(t, conn)
		migrated(t, url, "verify")

		for killAtOnce(t, url, 1, rand.N(longBack), "rollback") { //nolint:gosec // no secret
			hitsBack++
			before.requireOriginal(t, conn, nil, nil)
		}
		migrated(t, url, "rollback")
		beforePicture.requireSame(t, takePicture(t, conn), "killed on the way back, and not")
	}
	t.Logf("%d kills on the way there, %d on the way back; undisturbed they take %s and %s", hits, hitsBack, long.Round(time.Millisecond), longBack.Round(time.Millisecond))
}

// TestManyProcessesAtOnce: each ends well, and it is done once.
func TestManyProcessesAtOnce(t *testing.T) {
	t.Parallel()
	older := deployed(1_000)
	alone, _ := older.load(t)
	migrated(t, alone, "up")
	url, _ := older.load(t)
	running := make([]*exec.Cmd, 10)
	for i := range running {
		running[i] = startMigrate(t, url, "up")
	}
	for _, cmd := range running {
		require.NoError(t, cmd.Wait())
	}
	takePicture(t, connect(t, alone)).requireSame(t, takePicture(t, connect(t, url)), "by one, and by ten")
	migrated(t, url, "verify")
}
