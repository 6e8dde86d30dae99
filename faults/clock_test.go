//go:build unix

package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

// TestFaultClockSetBack sets the clock of one of two programs back by hours, on and
// off, while leads come in and are worked on. Events stay in the order in which they
// happened, the last hundred stay the last hundred, and a repeated call is still
// known. The database's clock decides none of that.
func TestFaultClockSetBack(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		d := newDatabase(t, url, 3)
		var behind atomic.Int64
		clock := func() time.Time { return time.Now().Add(-time.Duration(behind.Load())) }
		store, err := openStorage(t.Context(), url)
		require.NoError(t, err)
		wrong := manageAt(t, store, clock)
		right, answers := d.open(t), newAnswers()

		rounds := times(4, 40)
		for round := range rounds {
			behind.Store(int64(time.Duration(round%4) * 5 * time.Hour))
			for n, crm := range []*cims.Manager{wrong, right} {
				name := fmt.Sprintf("lead/%d/%d", round, n)
				keyed := cims.NewCustomer{FullName: name, IdempotencyKey: name}
				customer, err := crm.AddCustomer(t.Context(), system, keyed)
				answers.note(name, customer, err)
				require.NoError(t, err)
				behind.Store(int64(time.Duration((round+1)%4) * 5 * time.Hour))
				again, err := crm.AddCustomer(t.Context(), system, keyed)
				require.NoError(t, err)
				require.Equal(t, customer.ID, again.ID, "a repeated call is known, however the clock jumps")

				// The changes of one lead are made one after another.
				for _, hand := range []*cims.Manager{right, wrong, right} {
					for _, status := range []string{"continuing", "finished"} {
						_, err := hand.SetStatus(t.Context(), system, customer.ID, status, "")
						require.NoError(t, err)
					}
					_, err = hand.Assign(t.Context(), system, customer.ID, d.team[round%3])
					require.NoError(t, err)
				}
				events, err := right.History(t.Context(), system, customer.ID, cims.PageRequest{Limit: 200})
				require.NoError(t, err)
				status, last := "", time.Time{}
				for _, event := range events.Items {
					require.False(t, event.At.Before(last), "in order")
					last = event.At
					if event.Kind == cims.StatusEvent {
						require.Equal(t, status, event.FromStatus, "each begins where the one before ended")
						status = event.ToStatus
					}
				}
				require.Equal(t, "finished", status)
			}
		}
		// Each program counts the same leads, at any time of its clock.
		for _, late := range []time.Duration{0, 5 * time.Hour, 15 * time.Hour} {
			behind.Store(int64(late))
			for _, last := range []int{1, 5, 100} {
				want, err := right.ConversionRate(t.Context(), system, cims.ConversionQuery{Last: last, Target: "finished"})
				require.NoError(t, err)
				got, err := wrong.ConversionRate(t.Context(), system, cims.ConversionQuery{Last: last, Target: "finished"})
				require.NoError(t, err)
				require.Equal(t, want, got)
				require.Equal(t, min(last, 2*rounds), got.Total)
				require.Equal(t, got.Total, got.Count)
			}
		}
		var page cims.PageRequest
		seen := map[int64]bool{}
		for {
			part, err := wrong.Customers(t.Context(), system, cims.CustomerFilter{}, page)
			require.NoError(t, err)
			for _, customer := range part.Items {
				require.False(t, seen[customer.ID], "once each")
				seen[customer.ID] = true
			}
			if page.Cursor = part.Next; part.Next == "" {
				break
			}
		}
		require.Len(t, seen, 2*rounds)

		// Waiting leads are found at any time of the clock.
		for _, id := range d.team {
			_, err := wrong.SetSalesManager(t.Context(), system, id, cims.SalesManagerUpdate{Paused: new(true)})
			require.NoError(t, err)
		}
		waits, err := wrong.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "waits"})
		require.NoError(t, err)
		require.Nil(t, waits.SalesManager)
		_, err = wrong.SetSalesManager(t.Context(), system, d.team[0], cims.SalesManagerUpdate{Paused: new(false)})
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			customer, err := right.Customer(t.Context(), system, waits.ID)
			return err == nil && customer.SalesManager != nil
		}, patience, time.Millisecond)
		report(t, "%d leads, each worked on by two programs whose clocks are up to 15 hours apart: all in order, the same cohort for both", 2*rounds+1)
	})
}

// fakeClock restarts a cluster under libfaketime and returns a function that sets
// its clock.
func (c *cluster) fakeClock(t *testing.T) (set func(offset time.Duration)) {
	t.Helper()
	need(t, "faketime")
	libraries, err := filepath.Glob("/usr/lib*/*/faketime/libfaketime.so.1")
	require.NoError(t, err)
	if len(libraries) == 0 {
		libraries, err = filepath.Glob("/usr/lib*/faketime/libfaketime.so.1")
		require.NoError(t, err)
	}
	require.NotEmpty(t, libraries, "faketime is there without its library")
	file := filepath.Join(filepath.Dir(c.folder), "clock")
	set = func(offset time.Duration) {
		// By a rename: the server reads it at any time.
		require.NoError(t, os.WriteFile(file+".new", fmt.Appendf(nil, "%+ds\n", int(offset.Seconds())), 0o600))
		if credential := serverUser(t); credential != nil {
			require.NoError(t, os.Chown(file+".new", int(credential.Uid), int(credential.Gid)))
		}
		require.NoError(t, os.Rename(file+".new", file))
	}
	set(0)
	c.stop(t, syscall.SIGINT)
	c.environment = []string{"LD_PRELOAD=" + libraries[0], "FAKETIME_TIMESTAMP_FILE=" + file, "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"}
	c.restart(t)
	return set
}

// TestFaultServerClockJumps sets the clock of PostgreSQL's server forward and back by
// hours, while two programs and one that writes plain SQL work. The programs' changes
// follow the programs' clocks and stay in order. A lead of the plain one waits for the
// grace period, and not for the hours in between.
func TestFaultServerClockJumps(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "")
	set := c.fakeClock(t)
	d := newDatabase(t, c.url(), 3)
	d.url += "&options=-ccims.grace%3D1s"
	one, two, answers, db := d.open(t), d.open(t), newAnswers(), d.sql(t)

	offsets := []time.Duration{0, -5 * time.Hour, 10 * time.Hour, -15 * time.Hour, time.Hour}
	rounds := times(10, 100)
	var foreign []int64
	for round := range rounds {
		set(offsets[round%len(offsets)])
		for n, crm := range []*cims.Manager{one, two} {
			name := fmt.Sprintf("lead/%d/%d", round, n)
			keyed := cims.NewCustomer{FullName: name, IdempotencyKey: name}
			before := time.Now().Add(-time.Second)
			customer, err := crm.AddCustomer(t.Context(), system, keyed)
			answers.note(name, customer, err)
			require.NoError(t, err)
			require.WithinRange(t, customer.CreatedAt, before, time.Now().Add(time.Second), "by our clock")
			set(offsets[(round+1)%len(offsets)])
			again, err := two.AddCustomer(t.Context(), system, keyed)
			require.NoError(t, err)
			require.Equal(t, customer.ID, again.ID, "a repeated call is known")
			_, err = one.SetStatus(t.Context(), system, customer.ID, "finished", "")
			require.NoError(t, err)
		}
		var id int64
		require.NoError(t, db.QueryRowContext(t.Context(), "INSERT INTO customer (full_name, created_at, updated_at) VALUES ($1, now(), now()) RETURNING id", fmt.Sprintf("foreign/%d", round)).Scan(&id))
		foreign = append(foreign, id)
		for _, status := range []string{"continuing", "finished"} {
			set(offsets[(round+2)%len(offsets)])
			_, err := db.ExecContext(t.Context(), "UPDATE customer SET status_name = $1 WHERE id = $2", status, id)
			require.NoError(t, err)
			set(offsets[(round+3)%len(offsets)])
			_, err = two.SetStatus(t.Context(), system, id, "contacted", "")
			require.NoError(t, err)
		}
	}
	for _, id := range foreign {
		require.Eventually(t, func() bool {
			customer, err := one.Customer(t.Context(), system, id)
			return err == nil && customer.SalesManager != nil
		}, patience, 10*time.Millisecond, "it waits for the grace period alone")
		events, err := one.History(t.Context(), system, id, cims.PageRequest{Limit: 200})
		require.NoError(t, err)
		var statuses []string
		status := ""
		for _, event := range events.Items {
			if event.Kind == cims.StatusEvent {
				require.Equal(t, status, event.FromStatus, "each begins where the one before ended")
				status = event.ToStatus
				statuses = append(statuses, status)
			}
		}
		require.Equal(t, []string{"contacted", "continuing", "contacted", "finished", "contacted"}, statuses)
	}
	report(t, "%d leads, a third of them by another program, while the server's clock jumps between 15 hours behind and 10 ahead: all in order, all assigned", 3*rounds)
}
