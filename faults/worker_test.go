//go:build unix

package faults

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

// Environment variables that make the test binary a worker.
const (
	workerSetting = "CIMS_FAULTS_WORKER"       // the beginning of its leads' names
	urlSetting    = "CIMS_FAULTS_WORKER_URL"   // the database
	leadsSetting  = "CIMS_FAULTS_WORKER_LEADS" // how many for each of its callers; 0 means until stdin ends
)

const workerCallers = 8

// work adds leads and prints each answer, until its stdin ends or it is killed. The lines
// written to the pipe survive the process.
func work() int {
	leads, err := strconv.Atoi(os.Getenv(leadsSetting))
	if err != nil {
		return fail(err)
	}
	ctx := context.Background()
	store, err := openStorage(ctx, os.Getenv(urlSetting))
	if err != nil {
		return fail(err)
	}
	crm, err := cims.New(store, nil)
	if err != nil {
		return fail(err)
	}
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends when the parent closes it, or dies
		close(stop)
	}()
	var group sync.WaitGroup
	for caller := range workerCallers {
		group.Go(func() {
			for n := 0; leads == 0 || n < leads; n++ {
				select {
				case <-stop:
					return
				default:
				}
				name := fmt.Sprintf("%s/%d/%d", os.Getenv(workerSetting), caller, n)
				ctx, cancel := context.WithTimeout(ctx, patience)
				customer, err := crm.AddCustomer(ctx, system, cims.NewCustomer{FullName: name})
				cancel()
				fmt.Fprintln(os.Stdout, line(name, customer, err)) // one write, unbuffered
			}
		})
	}
	group.Wait()
	if err := errors.Join(crm.Close(ctx), store.Close()); err != nil {
		return fail(err)
	}
	return 0
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "worker:", err)
	return 1
}

// line words an answer; read reads it.
func line(name string, customer cims.Customer, err error) string {
	switch {
	case err == nil:
		return fmt.Sprintf("stored\t%s\t%d\t%d", name, customer.ID, ownerOf(customer))
	case errors.Is(err, cims.ErrUnavailable):
		return fmt.Sprintf("refused\t%s\t%q", name, err)
	case errors.Is(err, cims.ErrOutcomeUnknown):
		return fmt.Sprintf("unknown\t%s\t%q", name, err)
	default:
		return fmt.Sprintf("failed\t%s\t%q", name, err)
	}
}

func (o *answers) read(line string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	word := strings.Split(line, "\t")
	switch {
	case word[0] == "stored" && len(word) == 4:
		id, err := strconv.ParseInt(word[2], 10, 64)
		owner, err2 := strconv.ParseInt(word[3], 10, 64)
		if err := errors.Join(err, err2); err != nil {
			o.unexpected = append(o.unexpected, line)
		}
		o.stored[id] = answer{name: word[1], owner: owner}
	case word[0] == "refused" && len(word) == 3:
		o.refused[word[1]] = word[2]
	case word[0] == "unknown" && len(word) == 3:
		o.unknown[word[1]] = word[2]
	default:
		o.unexpected = append(o.unexpected, line)
	}
}

// worker is a process that adds leads.
type worker struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	stderr  *strings.Builder
	read    chan struct{} // closed when all that it said has been taken down
	answers *answers      // of this worker; they also go to those of the test
}

// start starts a worker, if need be by another program.
func (d *database) start(t *testing.T, all *answers, name string, leads int, by ...string) *worker {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	command := append(slices.Clone(by), self)
	w := &worker{
		cmd:    exec.Command(command[0], command[1:]...), //nolint:gosec,noctx // ourselves; ended by kill or finish
		stderr: new(strings.Builder), read: make(chan struct{}), answers: newAnswers(),
	}
	w.cmd.Env = append(os.Environ(), workerSetting+"="+name, urlSetting+"="+d.url, leadsSetting+"="+strconv.Itoa(leads))
	w.cmd.Stderr = w.stderr
	w.stdin, err = w.cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := w.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, w.cmd.Start())
	t.Cleanup(func() {
		if w.cmd.ProcessState == nil {
			w.kill(t)
		}
	})
	go func() {
		defer close(w.read)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			w.answers.read(lines.Text())
			all.read(lines.Text())
		}
	}()
	return w
}

// kill is kill -9.
func (w *worker) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, w.cmd.Process.Kill(), w.stderr)
	<-w.read
	require.Error(t, w.cmd.Wait())
}

// finish lets a worker end by itself, now or when it has done its leads.
func (w *worker) finish(t *testing.T, now bool) {
	t.Helper()
	if now {
		require.NoError(t, w.stdin.Close())
	}
	late := time.AfterFunc(4*patience, func() { _ = w.cmd.Process.Kill() })
	<-w.read
	err := w.cmd.Wait()
	late.Stop()
	require.NoError(t, err, w.stderr)
}

// requireSome waits until the worker has said that some leads are stored.
func (w *worker) requireSome(t *testing.T, leads int) {
	t.Helper()
	for deadline := time.After(patience); w.answers.count() < leads; {
		select {
		case <-w.read:
			require.GreaterOrEqual(t, w.answers.count(), leads, "the worker has ended: %v %s", w.answers.snapshot().unexpected, w.stderr)
		case <-deadline:
			require.Fail(t, "the worker takes no leads in")
		case <-time.After(time.Millisecond):
		}
	}
}
