package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/internal/pgtest"
	"github.com/cimskit/cims/storage/postgres"
)

const (
	processes         = 4
	callersPerProcess = 16
	processURL        = "CIMS_BENCH_PROCESS" // makes the test binary one of the processes, on this database
)

func TestMain(m *testing.M) {
	if url := os.Getenv(processURL); url != "" {
		if err := beProcess(url, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// BenchmarkProcesses measures several processes that add leads at once. The floor is one
// process with as many callers of the bare statement. It shares neither a rotation nor the
// database with another process.
func BenchmarkProcesses(b *testing.B) {
	for _, managers := range []int{5, 50} {
		b.Run(fmt.Sprintf("PostgreSQL/managers=%d/callers=%dx%d", managers, processes, callersPerProcess), func(b *testing.B) {
			url := pgtest.URL(b)
			crm, floor := postgresAt(b, url, managers)
			team := make([]*process, processes)
			for i := range team {
				team[i] = startProcess(b, url)
			}
			for b.Loop() {
				compareRates(b,
					func(span time.Duration) float64 { return run(b, processes*callersPerProcess, floor, span) },
					func(span time.Duration) float64 { return runAll(b, team, span) })
			}
			requireFair(b, crm)
		})
	}
}

// process is another process that adds leads. It reads durations from its standard input.
// For each one it adds leads for that time and prints their number per second.
type process struct {
	in  io.Writer
	out *bufio.Reader
}

func startProcess(b *testing.B, url string) *process {
	b.Helper()
	self, err := os.Executable()
	require.NoError(b, err)
	cmd := exec.CommandContext(context.WithoutCancel(b.Context()), self) //nolint:gosec // it is this binary; it ends with its input
	cmd.Env = append(os.Environ(), processURL+"="+url)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		require.NoError(b, in.Close())
		require.NoError(b, cmd.Wait())
	})
	return &process{in, bufio.NewReader(out)}
}

func runAll(b *testing.B, team []*process, span time.Duration) float64 {
	b.Helper()
	for _, p := range team {
		_, err := fmt.Fprintln(p.in, span.Nanoseconds())
		require.NoError(b, err)
	}
	total := 0.0
	for _, p := range team {
		var rate float64
		_, err := fmt.Fscanln(p.out, &rate)
		require.NoError(b, err)
		total += rate
	}
	return total
}

// beProcess runs as such a process until its standard input ends.
func beProcess(url string, stdin io.Reader, stdout io.Writer) error {
	ctx := context.Background()
	store, err := postgres.Open(ctx, fmt.Sprintf("%s&pool_max_conns=%d", url, callersPerProcess))
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }() // the process ends anyway
	crm, err := cims.New(store, nil)
	if err != nil {
		return err
	}
	defer func() { _ = crm.Close(ctx) }()
	lines := bufio.NewReader(stdin)
	for {
		var span time.Duration
		if _, err := fmt.Fscanln(lines, &span); err != nil {
			return nil // the benchmark has ended
		}
		rate, err := rateOf(ctx, callersPerProcess, func(ctx context.Context, i int) error {
			_, err := crm.AddCustomer(ctx, trusted, cims.NewCustomer{FullName: leadName(i), PhoneNumber: leadPhone(i)})
			return err
		}, span)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(stdout, rate); err != nil {
			return err
		}
	}
}

// rateOf returns the calls per second that a number of callers complete.
func rateOf(ctx context.Context, callers int, take contender, span time.Duration) (float64, error) {
	var group sync.WaitGroup
	done, failed := make([]int, callers), make([]error, callers)
	begin := time.Now()
	for c := range callers {
		group.Go(func() {
			for i := c; time.Since(begin) < span; i += callers {
				if failed[c] = take(ctx, i); failed[c] != nil {
					return
				}
				done[c]++
			}
		})
	}
	group.Wait()
	seconds, total := time.Since(begin).Seconds(), 0
	for c := range callers {
		if failed[c] != nil {
			return 0, failed[c]
		}
		total += done[c]
	}
	return float64(total) / seconds, nil
}
