//go:build unix

package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/internal/pgtest"
	"github.com/cimskit/cims/storage/postgres"
)

// openQuietly opens a Manager that does nothing by itself, so that all statements
// that pass the proxy are the test's.
func openQuietly(t *testing.T, url string) (crm *cims.Manager, closing func()) {
	t.Helper()
	store, err := postgres.Open(t.Context(), url)
	require.NoError(t, err)
	crm, err = cims.New(store, &cims.Config{WaitingInterval: time.Hour})
	require.NoError(t, err)
	return crm, func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, crm.Close(ctx))
		require.NoError(t, store.Close())
	}
}

// TestFaultConnectionCut cuts the connection before and after the server has committed. The
// caller's answer has to be true, and with an idempotency key the call can be repeated.
func TestFaultConnectionCut(t *testing.T) {
	t.Parallel()
	const first, later = true, false // of a Storage: it reads the rotation first, or remembers it
	const stored, absent = true, false
	refused, unknown := cims.ErrUnavailable, cims.ErrOutcomeUnknown
	cases := []struct {
		name   string
		keyed  bool
		first  bool
		at     func(statement string) bool
		do     action
		want   error // nil: it is stored, and known to be
		stored bool
	}{
		{"keyed, before the lead", true, later, isIntake, cutBefore, refused, absent},
		{"keyed, before COMMIT", true, later, isCommit, cutBefore, unknown, absent},
		{"keyed, after COMMIT", true, later, isCommit, cutAfter, unknown, stored},
		{"keyed, the server ends after COMMIT", true, later, isCommit, endAfter, unknown, stored},
		{"keyed, no answer to COMMIT", true, later, isCommit, stallAfter, unknown, stored},
		{"first, before the lead and COMMIT", false, first, isIntake, cutBefore, unknown, absent},
		{"first, before COMMIT", false, first, isCommit, cutBefore, unknown, absent},
		{"first, after COMMIT", false, first, isCommit, cutAfter, unknown, stored},
		{"first, the server ends after COMMIT", false, first, isCommit, endAfter, nil, stored},
		{"one statement, before it", false, later, isIntake, cutBefore, unknown, absent},
		{"one statement, after it", false, later, isIntake, cutAfter, unknown, stored},
		{"one statement, no answer", false, later, isIntake, stallAfter, unknown, stored},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t, pgtest.URL(t), 3)
			proxy, through := newProxy(t, d.url)
			crm, closing := openQuietly(t, through)
			defer closing()
			answers, leads := newAnswers(), 0
			if !c.first {
				require.True(t, addOnce(crm, answers, cims.NewCustomer{FullName: "before"}))
				leads++
			}
			in := cims.NewCustomer{FullName: "the lead"}
			if c.keyed {
				in.IdempotencyKey = "key"
			}
			fired := proxy.at(c.at, c.do)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			if c.do == stallAfter { // nothing else would end it
				ctx, cancel = context.WithTimeout(t.Context(), 2*time.Second)
			}
			customer, err := crm.AddCustomer(ctx, system, in)
			cancel()
			require.ErrorIs(t, err, c.want)
			answers.note(in.FullName, customer, err)
			requireCame(t, fired)

			if c.stored {
				leads++
			}
			require.Equal(t, leads, d.check(t, answers).leads)
			if c.keyed {
				require.True(t, addOnce(crm, answers, in))
				if !c.stored {
					leads++
				}
				require.Equal(t, leads, d.check(t, answers).leads)
				again, err := crm.AddCustomer(t.Context(), system, in)
				require.NoError(t, err)
				require.Equal(t, "the lead", answers.stored[again.ID].name, "the first result")
			}
			require.True(t, addOnce(crm, answers, cims.NewCustomer{FullName: "after"}))
			require.Equal(t, leads+1, d.check(t, answers).leads)
		})
	}
}

// TestFaultHalfOpenConnection makes the server fall silent. Callers wait no longer than their
// deadline, and no goroutine is left. The test runs alone, so that it can count goroutines.
func TestFaultHalfOpenConnection(t *testing.T) { //nolint:paralleltest // see above
	d := newDatabase(t, pgtest.URL(t), 3)
	answers := newAnswers()
	before := goroutines(t)
	add := func(ctx context.Context, crm *cims.Manager, name, key string) error {
		customer, err := crm.AddCustomer(ctx, system, cims.NewCustomer{FullName: name, IdempotencyKey: strings.ReplaceAll(key, " ", "_")})
		answers.note(name, customer, err)
		return err
	}
	list := func(ctx context.Context, crm *cims.Manager) error {
		_, err := crm.Customers(ctx, system, cims.CustomerFilter{}, cims.PageRequest{})
		return err
	}
	cases := []struct {
		name string
		at   func(statement string) bool
		do   action
		call func(ctx context.Context, crm *cims.Manager, name string) error
	}{
		{"a read", isRead, stall, func(ctx context.Context, crm *cims.Manager, _ string) error { return list(ctx, crm) }},
		{"a read, slow", isRead, slow, func(ctx context.Context, crm *cims.Manager, _ string) error { return list(ctx, crm) }},
		{"an intake", isIntake, stall, func(ctx context.Context, crm *cims.Manager, name string) error { return add(ctx, crm, name, "") }},
		{"an intake, carried out", isIntake, stallAfter, func(ctx context.Context, crm *cims.Manager, name string) error { return add(ctx, crm, name, "") }},
		{"an intake, slow", isIntake, slow, func(ctx context.Context, crm *cims.Manager, name string) error { return add(ctx, crm, name, "") }},
		{"COMMIT", isCommit, stall, func(ctx context.Context, crm *cims.Manager, name string) error { return add(ctx, crm, name, name) }},
		{"COMMIT, carried out", isCommit, stallAfter, func(ctx context.Context, crm *cims.Manager, name string) error { return add(ctx, crm, name, name) }},
		{"a new connection", isConnection, stall, func(ctx context.Context, crm *cims.Manager, _ string) error { return list(ctx, crm) }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			proxy, through := newProxy(t, d.url)
			crm, closing := openQuietly(t, through+"&pool_max_conns=2")
			require.NoError(t, add(t.Context(), crm, "before "+c.name, ""))
			require.NoError(t, list(t.Context(), crm))
			fired := proxy.at(c.at, c.do)
			if c.name == "a new connection" {
				proxy.cut() // there are none
			}
			// On a busy machine the time may be over before the statement is there.
			for deadline, came := slowness/2, false; !came; deadline *= 2 {
				require.Less(t, deadline, patience/4, "the statement does not come")
				ctx, cancel := context.WithTimeout(t.Context(), deadline)
				started := time.Now()
				err := c.call(ctx, crm, fmt.Sprintf("during %s %s", c.name, deadline))
				require.Less(t, time.Since(started), patience/2, "the deadline is kept")
				cancel()
				require.True(t, isTyped(err), "%v", err)
				select {
				case <-fired:
					came = true
				case <-time.After(slowness):
				}
			}

			// Others go on meanwhile, on other connections.
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			require.NoError(t, add(ctx, crm, "after "+c.name, ""))
			require.NoError(t, list(ctx, crm))
			closing()
			proxy.close()
		})
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) { // some are about to end
		assert.Empty(c, grown(before, goroutines(t)))
	}, patience, 10*time.Millisecond)
	found := d.check(t, answers)
	refused, unknown := answers.faults()
	report(t, "%d silent or slow connections: %d calls refused, %d of unknown outcome, each by its deadline; %d leads, no goroutine left",
		len(cases), refused, unknown, found.leads)
}

// requireCame waits until the proxy has received the statement that it waits for.
func requireCame(t *testing.T, fired <-chan struct{}) {
	t.Helper()
	select {
	case <-fired:
	case <-time.After(patience):
		require.Fail(t, "the statement does not come")
	}
}

func isTyped(err error) bool {
	return errors.Is(err, cims.ErrUnavailable) || errors.Is(err, cims.ErrOutcomeUnknown)
}

// TestFaultNobodySetsADeadline makes the connection of a caller without a deadline fall
// silent. Other callers must not wait for it forever.
func TestFaultNobodySetsADeadline(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, pgtest.URL(t), 3)
	proxy, through := newProxy(t, d.url)
	crm, closing := openQuietly(t, through)
	defer closing()
	answers := newAnswers()
	fired := proxy.at(isIntake, stallAfter)
	answered := make(chan error, 1)
	go func() {
		customer, err := crm.AddCustomer(context.Background(), system, cims.NewCustomer{FullName: "silent"})
		answers.note("silent", customer, err)
		answered <- err
	}()
	requireCame(t, fired)
	require.True(t, addOnce(crm, answers, cims.NewCustomer{FullName: "behind it"}))
	require.ErrorIs(t, <-answered, cims.ErrOutcomeUnknown)
	d.check(t, answers)
	report(t, "a silent connection under a caller without a deadline holds the others up for half a minute, not for ever")
}

// goroutines counts the goroutines of the library and its drivers, by where they started.
func goroutines(t *testing.T) map[string]int {
	t.Helper()
	var text bytes.Buffer
	require.NoError(t, pprof.Lookup("goroutine").WriteTo(&text, 2))
	count := map[string]int{}
	for stack := range strings.SplitSeq(text.String(), "\n\n") {
		if _, began, ok := strings.Cut(stack, "created by "); ok {
			origin, _, _ := strings.Cut(began, " in goroutine")
			if !strings.HasPrefix(origin, "testing.") && !strings.HasPrefix(origin, "github.com/stretchr/testify/") {
				count[origin]++
			}
		}
	}
	return count
}

// grown returns the entries that have grown, and by how much.
func grown(before, after map[string]int) map[string]int {
	more := map[string]int{}
	for origin, n := range after {
		if n > before[origin] {
			more[origin] = n - before[origin]
		}
	}
	return more
}
