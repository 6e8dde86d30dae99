package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// olderProgram does to its database what the older program does, in the
// statements and transactions in which that does it, and knows nothing of ours:
// statuses and roles are enums, times are UTC without a zone, and its round
// robin commits its counter before it writes the assignment.
type olderProgram struct {
	pool *pgxpool.Pool
	// assigns: its own migration has run, so that there are assignments.
	assigns bool

	mu       sync.Mutex
	leads    []int64 // those that nobody is working on just now
	inserted map[int64]bool
	deleted  map[int64]bool
	touched  map[int64]bool // also those that are deleted
	done     map[string]int // how often each deed was done
	writes   int            // statements that change something
	slowest  map[string]time.Duration
	failures []string
}

// sessions is the size of its pool of connections.
const sessions = 8

// startOlder connects the older program to its database.
func startOlder(t *testing.T, url string) *olderProgram {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	config.MaxConns = sessions
	// As its driver does it: the server prepares nothing.
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	o := &olderProgram{
		pool: pool, inserted: map[int64]bool{}, deleted: map[int64]bool{}, touched: map[int64]bool{},
		done: map[string]int{}, slowest: map[string]time.Duration{},
	}
	rows, err := pool.Query(t.Context(), "SELECT id FROM customer")
	require.NoError(t, err)
	o.leads, err = pgx.CollectRows(rows, pgx.RowTo[int64])
	require.NoError(t, err)
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT to_regclass('sales_manager_assignment') IS NOT NULL").Scan(&o.assigns))
	return o
}

// session is a connection on which statements follow each other. After one has
// failed the others are not made.
type session struct {
	o    *olderProgram
	conn *pgxpool.Conn
	err  error
}

// transaction makes statements and commits them.
func (o *olderProgram) transaction(work func(s *session)) error {
	ctx := context.Background()
	conn, err := o.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	s := &session{o: o, conn: conn}
	s.ids("BEGIN")
	work(s)
	if s.ids("COMMIT"); s.err != nil {
		_, _ = conn.Exec(ctx, "ROLLBACK") // what failed is known
	}
	return s.err
}

// ids makes a statement, measures it, and returns the numbers in the first
// column of its answer, if it has any.
func (s *session) ids(statement string, args ...any) []int64 {
	if s.err != nil {
		return nil
	}
	begin := time.Now()
	rows, err := s.conn.Query(context.Background(), statement, args...)
	var ids []int64
	if err == nil {
		ids, err = pgx.CollectRows(rows, pgx.RowTo[int64])
	}
	took := time.Since(begin)
	s.o.mu.Lock()
	defer s.o.mu.Unlock()
	kind := strings.Join(strings.Fields(statement)[:min(3, len(strings.Fields(statement)))], " ")
	s.o.slowest[kind] = max(s.o.slowest[kind], took)
	if slices.Contains([]string{"INSERT", "UPDATE", "DELETE"}, strings.Fields(statement)[0]) {
		s.o.writes++
	}
	if err != nil {
		s.err = fmt.Errorf("%s %v at %s: %w", statement, args, begin.Format(time.StampMilli), err)
		s.o.failures = append(s.o.failures, s.err.Error())
	}
	return ids
}

// utc is how it writes a time.
func utc(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05.999999") }

// insert adds a lead.
func (o *olderProgram) insert(name, status string) (id int64, err error) {
	err = o.transaction(func(s *session) {
		ids := s.ids("INSERT INTO customer (full_name, platform, phone_number, status, created_at) VALUES ($1, $2, $3, $4, $5) RETURNING id",
			name, "telegram", "+998901234567", status, utc(time.Now()))
		if len(ids) == 1 {
			id = ids[0]
		}
	})
	return id, err
}

// nextManager takes a turn: the counter is committed before anything is done
// with it. It returns 0 where there is nobody.
func (o *olderProgram) nextManager() (manager int64, err error) {
	err = o.transaction(func(s *session) {
		pool := s.ids(`SELECT id FROM "user" WHERE role = 'sales_manager' AND is_active ORDER BY id`)
		counter := s.ids("SELECT id FROM sales_manager_counter ORDER BY id LIMIT 1")
		if len(pool) == 0 || s.err != nil {
			return
		}
		if len(counter) == 0 {
			counter = s.ids("INSERT INTO sales_manager_counter (last_assigned_index, updated_at) VALUES (-1, $1) RETURNING id", utc(time.Now()))
		}
		last := s.ids("SELECT COALESCE(last_assigned_index, 0) FROM sales_manager_counter WHERE id = $1", counter[0])
		if s.err != nil {
			return
		}
		next := (last[0] + 1) % int64(len(pool))
		s.ids("UPDATE sales_manager_counter SET last_assigned_index = $1, updated_at = $2 WHERE id = $3", next, utc(time.Now()), counter[0])
		manager = pool[next]
	})
	return manager, err
}

// assign writes down whose lead it is: in a new row, or in the one that is there.
func (o *olderProgram) assign(lead, manager int64) error {
	return o.transaction(func(s *session) {
		if present := s.ids("SELECT id FROM sales_manager_assignment WHERE customer_id = $1", lead); len(present) > 0 {
			s.ids("UPDATE sales_manager_assignment SET sales_manager_id = $1, assigned_at = $2, is_active = TRUE WHERE id = $3", manager, utc(time.Now()), present[0])
			return
		}
		s.ids("INSERT INTO sales_manager_assignment (customer_id, sales_manager_id, assigned_at, is_active) VALUES ($1, $2, $3, TRUE)",
			lead, manager, utc(time.Now()))
	})
}

// assignAnew does the same in another way: the row is deleted and made again.
func (o *olderProgram) assignAnew(lead, manager int64) error {
	return o.transaction(func(s *session) {
		s.ids("DELETE FROM sales_manager_assignment WHERE customer_id = $1", lead)
		s.ids("INSERT INTO sales_manager_assignment (customer_id, sales_manager_id, assigned_at, is_active) VALUES ($1, $2, $3, TRUE)",
			lead, manager, utc(time.Now()))
	})
}

func (o *olderProgram) setStatus(lead int64, status string) error {
	return o.transaction(func(s *session) { s.ids("UPDATE customer SET status = $1 WHERE id = $2", status, lead) })
}

func (o *olderProgram) setRole(user int64, role string) error {
	return o.transaction(func(s *session) { s.ids(`UPDATE "user" SET role = $1 WHERE id = $2`, role, user) })
}

func (o *olderProgram) setNotes(lead int64, notes string) error {
	return o.transaction(func(s *session) { s.ids("UPDATE customer SET notes = $1 WHERE id = $2", notes, lead) })
}

func (o *olderProgram) remove(lead int64) error {
	return o.transaction(func(s *session) { s.ids("DELETE FROM customer WHERE id = $1", lead) })
}

var enumLabels = []string{"contacted", "project_started", "continuing", "finished", "rejected", "need_to_call"}

// deed is something that its users do, with how many of a hundred deeds it is
// and how many statements of it change something.
type deed struct {
	name   string
	often  int
	writes int
	assign bool // needs assignments
	do     func(o *olderProgram, lead int64) error
}

var deeds = []deed{
	{"a new lead and its turn", 30, 3, true, func(o *olderProgram, _ int64) error { return o.takeIn() }},
	{"a new lead", 5, 1, false, func(o *olderProgram, _ int64) error { return o.takeIn() }},
	{"a status", 35, 1, false, func(o *olderProgram, lead int64) error {
		return o.setStatus(lead, enumLabels[rand.IntN(len(enumLabels))]) //nolint:gosec // no secret
	}},
	{"a note", 12, 1, false, func(o *olderProgram, lead int64) error { return o.setNotes(lead, "called, it's \"busy\" 📞") }},
	{"another manager", 10, 2, true, func(o *olderProgram, lead int64) error { return o.hand(lead, o.assign) }},
	{"another manager in a new row", 5, 3, true, func(o *olderProgram, lead int64) error { return o.hand(lead, o.assignAnew) }},
	{"a lead deleted", 3, 1, false, func(o *olderProgram, lead int64) error { return o.remove(lead) }},
}

func (o *olderProgram) takeIn() error {
	lead, err := o.insert("Lead", enumLabels[0])
	if err != nil {
		return err
	}
	if o.assigns {
		err = o.hand(lead, o.assign)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.inserted[lead], o.touched[lead] = true, true
	o.leads = append(o.leads, lead)
	return err
}

// hand assigns a lead to the next manager.
func (o *olderProgram) hand(lead int64, assign func(lead, manager int64) error) error {
	manager, err := o.nextManager()
	if err != nil || manager == 0 {
		return err
	}
	return assign(lead, manager)
}

// work does one deed. Its users never work on one lead at the same time: what
// then comes of it would be the older program's own fault.
func (o *olderProgram) work(d deed) {
	o.mu.Lock()
	if len(o.leads) == 0 {
		o.mu.Unlock()
		return
	}
	i := rand.IntN(len(o.leads)) //nolint:gosec // no secret
	lead := o.leads[i]
	o.leads[i] = o.leads[len(o.leads)-1]
	o.leads = o.leads[:len(o.leads)-1]
	o.touched[lead] = true
	o.mu.Unlock()

	err := d.do(o, lead)

	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		o.done[d.name]++
	}
	if err == nil && d.name == "a lead deleted" {
		o.deleted[lead] = true
	} else {
		o.leads = append(o.leads, lead)
	}
}

// begin works at a rate of writes a second until the returned function is
// called, which waits for what is under way.
func (o *olderProgram) begin(writesPerSecond int) (stop func()) {
	var bag []deed
	for _, d := range deeds {
		if o.assigns || !d.assign {
			bag = append(bag, slices.Repeat([]deed{d}, d.often)...)
		}
	}
	todo := make(chan deed)
	ended := make(chan struct{})
	var group sync.WaitGroup
	for range sessions {
		group.Go(func() {
			for d := range todo {
				o.work(d)
			}
		})
	}
	group.Go(func() {
		defer close(todo)
		for due := time.Now(); ; {
			d := bag[rand.IntN(len(bag))] //nolint:gosec // no secret
			due = due.Add(time.Duration(d.writes) * time.Second / time.Duration(writesPerSecond))
			select {
			case <-ended:
				return
			case <-time.After(time.Until(due)): // in the past where it lags behind
			}
			select {
			case <-ended:
				return
			case todo <- d:
			}
		}
	})
	return sync.OnceFunc(func() {
		close(ended)
		group.Wait()
	})
}

// deedsDone is how often each deed was done until now.
func (o *olderProgram) deedsDone() (done map[string]int, writes int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.done), o.writes
}

// awaitEachDeed waits until each deed was done since then.
func (o *olderProgram) awaitEachDeed(t *testing.T, since map[string]int) {
	t.Helper()
	require.Eventually(t, func() bool {
		done, _ := o.deedsDone()
		for _, d := range deeds {
			if (o.assigns || !d.assign) && done[d.name] <= since[d.name] {
				return false
			}
		}
		return true
	}, time.Minute, 10*time.Millisecond, "the older program gets nothing done")
}

// requireUnhurt is what its users would say: nothing failed, nothing hung. A
// COMMIT waits for the disk alone, and has no part in this.
func (o *olderProgram) requireUnhurt(t *testing.T, longest time.Duration) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	require.Empty(t, o.failures, "statements of the older program failed")
	for kind, took := range o.slowest {
		if kind == "COMMIT" {
			continue
		}
		require.Less(t, took, longest, "%s had to wait", kind)
	}
}

// slowestOfEach is how long the slowest statement of each kind took.
func (o *olderProgram) slowestOfEach() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []string
	for _, kind := range slices.Sorted(maps.Keys(o.slowest)) {
		list = append(list, fmt.Sprintf("%s %s", kind, o.slowest[kind].Round(time.Millisecond)))
	}
	return strings.Join(list, ", ")
}

func ids(set map[int64]bool) []int64 { return slices.Sorted(maps.Keys(set)) }
