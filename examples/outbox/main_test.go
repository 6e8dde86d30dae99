package main

import (
	"bufio"
	"database/sql"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

// TestMain lets the test run itself as the program.
func TestMain(m *testing.M) {
	if os.Getenv("CIMS_OUTBOX") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// receiver counts how often each event has arrived. Now and then it refuses one.
type receiver struct {
	mu     sync.Mutex
	events map[string]int
	leads  map[int64]bool
	calls  int
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var e event
	body, err := io.ReadAll(request.Body)
	if err == nil {
		err = json.Unmarshal(body, &e)
	}
	if r.calls++; err != nil || r.calls%7 == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	r.events[e.ID]++
	if e.Entity == cims.EntityCustomer {
		r.leads[e.Subject] = true
	}
	w.WriteHeader(http.StatusNoContent)
}

func (r *receiver) has(lead int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.leads[lead]
}

// TestNothingIsLostWhenItIsKilled kills the program at random moments.
func TestNothingIsLostWhenItIsKilled(t *testing.T) {
	t.Parallel()
	received := &receiver{events: map[string]int{}, leads: map[int64]bool{}}
	server := httptest.NewServer(received)
	defer server.Close()
	file := filepath.Join(t.TempDir(), "crm.db")
	const kills = 4
	var acknowledged []int64
	for kill := range kills + 1 {
		leads := 100_000 // more than it can add before the kill
		if kill == kills {
			leads = 0 // it only delivers the remaining events
		}
		program := exec.CommandContext(t.Context(), os.Args[0], "-db", file, "-to", server.URL, "-leads", strconv.Itoa(leads)) //nolint:gosec // ourselves
		program.Env = append(os.Environ(), "CIMS_OUTBOX=1")
		output, err := program.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, program.Start())
		var reading sync.WaitGroup
		first := make(chan struct{})
		reading.Go(func() {
			begin := sync.OnceFunc(func() { close(first) })
			defer begin() // it has ended by itself
			for lines := bufio.NewScanner(output); lines.Scan(); {
				id, err := strconv.ParseInt(lines.Text(), 10, 64)
				if assert.NoError(t, err) {
					acknowledged = append(acknowledged, id)
					begin()
				}
			}
		})
		switch {
		case kill == 0: // before it has started
			time.Sleep(rand.N(300 * time.Millisecond)) //nolint:gosec // no secret
		case kill < kills:
			<-first                                    // however long that takes on a busy machine
			time.Sleep(rand.N(300 * time.Millisecond)) //nolint:gosec // no secret
		default:
			require.Eventually(t, func() bool { return left(t, file) == 0 }, time.Minute, 50*time.Millisecond)
		}
		require.NoError(t, program.Process.Kill())
		reading.Wait()
		_ = program.Wait() // it was killed
	}
	require.NotEmpty(t, acknowledged)
	for _, id := range acknowledged {
		require.True(t, received.has(id), "lead %d was never told of", id)
	}
	db := open(t, file)
	var stored int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM customer").Scan(&stored))
	require.Len(t, received.leads, stored, "told of those that are there, and of no other")
	require.Len(t, received.events, stored+1, "and of the sales manager")
	t.Logf("%d leads, %d of them acknowledged, %d calls", stored, len(acknowledged), received.calls)
}

func left(t *testing.T, file string) (events int) {
	t.Helper()
	db := open(t, file)
	defer func() { _ = db.Close() }()
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM outbox").Scan(&events))
	return events
}

func open(t *testing.T, file string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro&_pragma=busy_timeout(5000)")
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}
