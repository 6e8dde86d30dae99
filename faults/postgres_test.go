//go:build unix

package faults

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/internal/pgtest"
)

// TestFaultPostgresKilled ends the server in each way there is while leads come
// in. Some callers repeat failed calls with an idempotency key; others go on to
// the next lead. The Managers stay: their pools have to heal by themselves.
func TestFaultPostgresKilled(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "max_connections = 60")
	d := newDatabase(t, c.url(), 5)
	answers := newAnswers()
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	const callers = 8
	plain, keyed := d.open(t), d.open(t)
	for caller := range callers {
		group.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				name := fmt.Sprintf("plain %d/%d", caller, n)
				addOnce(plain, answers, cims.NewCustomer{FullName: name})
			}
		})
		group.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				name := fmt.Sprintf("keyed/%d/%d", caller, n)
				for !addOnce(keyed, answers, cims.NewCustomer{FullName: name, IdempotencyKey: name}) {
					time.Sleep(time.Millisecond) // a client's pause before it tries again
				}
			}
		})
	}
	kinds := []struct {
		name string
		end  func()
	}{
		{"kill -9", func() { c.stop(t, syscall.SIGKILL); c.restart(t) }},
		{"fast restart", func() { c.stop(t, syscall.SIGINT); c.restart(t) }},
		{"immediate restart", func() { c.stop(t, syscall.SIGQUIT); c.restart(t) }},
		{"kill -9 of a connection's process", func() { killBackend(t, c) }},
	}
	kills := times(len(kinds), 20)
	for n := range kills {
		answers.requireMore(t, 100)
		kinds[n%len(kinds)].end()
	}
	answers.requireMore(t, 100)
	stop()
	group.Wait()

	refused, unknown := answers.faults()
	for name := range answers.unknown {
		require.NotContains(t, name, "keyed/", "repeated until it was answered")
	}
	require.Positive(t, refused, "nobody noticed")
	found := d.check(t, answers)
	report(t, "%d kills and restarts, %d leads acknowledged, 0 lost; %d calls refused and none of them stored, %d of unknown outcome, %d of those stored; spread %d",
		kills, len(answers.stored), refused, unknown, found.leads-len(answers.stored), found.spread)
}

// addOnce adds one lead and records the answer.
func addOnce(crm *cims.Manager, answers *answers, in cims.NewCustomer) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	customer, err := crm.AddCustomer(ctx, system, in)
	answers.note(in.FullName, customer, err)
	return err == nil
}

// killBackend kills -9 the process behind one connection of ours: the server
// then drops all others too, and recovers.
func killBackend(t *testing.T, c *cluster) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.url())
	require.NoError(t, err)
	var pid int
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() LIMIT 1`).Scan(&pid))
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	// Until the server has dropped us too, it has not noticed.
	require.Eventually(t, func() bool { return conn.Ping(t.Context()) != nil }, patience, time.Millisecond)
	_ = conn.Close(t.Context()) // dead already
}

// TestFaultTooManyClients occupies all connections of a server. Callers get an error within
// their deadline, and succeed once there are connections again.
func TestFaultTooManyClients(t *testing.T) {
	t.Parallel()
	const connections = 12
	c := newCluster(t, fmt.Sprintf("max_connections = %d\nsuperuser_reserved_connections = 0", connections))
	d := newDatabase(t, c.url(), 3)
	crm, answers := d.open(t, "pool_max_conn_idle_time=1ms", "pool_health_check_period=10ms"), newAnswers()
	require.True(t, addOnce(crm, answers, cims.NewCustomer{FullName: "before"}))

	// The pool closes its connection when it has been idle; then all are ours.
	var taken []*pgx.Conn
	require.Eventually(t, func() bool {
		conn, err := pgx.Connect(t.Context(), c.url())
		if err == nil {
			taken = append(taken, conn)
		}
		return len(taken) == connections
	}, patience, 10*time.Millisecond)

	var group sync.WaitGroup
	for n := range 16 {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience/2)
			defer cancel()
			name := fmt.Sprintf("meanwhile %d", n)
			customer, err := crm.AddCustomer(ctx, system, cims.NewCustomer{FullName: name})
			answers.note(name, customer, err)
			if ctx.Err() != nil {
				t.Error("the answer did not come in time")
			}
		})
	}
	group.Wait()
	_, err := crm.Customers(t.Context(), system, cims.CustomerFilter{}, cims.PageRequest{})
	require.ErrorIs(t, err, cims.ErrUnavailable)
	require.ErrorIs(t, crm.Ready(t.Context()), cims.ErrUnavailable)
	refused, unknown := answers.faults()
	require.Equal(t, 16, refused, "%v %v", answers.unknown, answers.unexpected)
	require.Zero(t, unknown)

	for _, conn := range taken {
		require.NoError(t, conn.Close(t.Context()))
	}
	require.Eventually(t, func() bool { return crm.Ready(t.Context()) == nil }, patience, time.Millisecond)
	require.True(t, addOnce(crm, answers, cims.NewCustomer{FullName: "after"}))
	found := d.check(t, answers)
	require.Equal(t, 2, found.leads)
	report(t, "%d of %d calls refused as unavailable while there was no connection, none stored; recovered", refused, refused)
}

// TestFaultPoolExhausted makes all connections of the pool wait for a lock of another
// program. Other callers wait no longer than their deadline.
func TestFaultPoolExhausted(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, pgtest.URL(t), 3)
	crm, answers := d.open(t, "pool_max_conns=2", "application_name=exhausted"), newAnswers()
	require.True(t, addOnce(crm, answers, cims.NewCustomer{FullName: "before"}))
	holder, err := d.sql(t).BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = holder.ExecContext(t.Context(), "UPDATE sales_manager_counter SET id = id")
	require.NoError(t, err)

	// More changes than there are connections, and all need the lock.
	var group sync.WaitGroup
	for n := range 4 {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := crm.SetSalesManager(ctx, system, d.team[n%3], cims.SalesManagerUpdate{Weight: new(1)})
			if err != nil {
				t.Error(err)
			}
		})
	}
	observer := d.sql(t)
	require.Eventually(t, func() bool {
		var waiting int
		err := observer.QueryRowContext(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE application_name = 'exhausted' AND wait_event_type = 'Lock'`).Scan(&waiting)
		return err == nil && waiting == 2
	}, patience, time.Millisecond, "both connections wait")
	for n := range 8 {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
			defer cancel()
			name := fmt.Sprintf("meanwhile %d", n)
			customer, err := crm.AddCustomer(ctx, system, cims.NewCustomer{FullName: name})
			answers.note(name, customer, err)
			_, err = crm.Customers(ctx, system, cims.CustomerFilter{}, cims.PageRequest{})
			answers.note(name+" (read)", cims.Customer{}, err)
		})
	}
	require.Eventually(t, func() bool { refused, unknown := answers.faults(); return refused+unknown == 16 }, patience, time.Millisecond,
		"everybody is told so")
	refused, unknown := answers.faults()
	require.GreaterOrEqual(t, refused, 8, "who only reads knows that nothing was stored")
	require.NoError(t, holder.Rollback())
	group.Wait()
	require.True(t, addOnce(crm, answers, cims.NewCustomer{FullName: "after"}))
	d.check(t, answers)
	report(t, "pool of 2, both waiting for a lock: %d calls refused, %d of unknown outcome; recovered", refused, unknown)
}
