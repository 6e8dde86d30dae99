package main

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// sideBySide is both programs at work on one database.
type sideBySide struct {
	url    string
	conn   *pgx.Conn
	older  *olderProgram
	ceo    client
	before memory
}

// grace is how long a lead of the older program is left alone here.
const grace = 2 * time.Second

func startSideBySide(t *testing.T, d olderDatabase, grace string) sideBySide {
	t.Helper()
	url, _ := d.load(t)
	if grace != "" {
		url = withOptions(t, url, "-ccims.grace="+grace)
	}
	conn := connect(t, url)
	before := remember(t, conn)
	migrated(t, url, "up")
	return sideBySide{url, conn, startOlder(t, url), launch(t, url).as(d.ceo), before}
}

// requireWhole looks at all that the test left.
func (s sideBySide) requireWhole(t *testing.T) {
	t.Helper()
	require.Empty(t, s.older.failures)
	s.before.requireConsistent(t, s.conn)
	migrated(t, s.url, "verify", "-while-running")
}

func (s sideBySide) lead(id int64) map[string]any {
	s.ceo.p.t.Helper()
	return s.ceo.get(fmt.Sprintf("/crm/customers/%d", id))
}

func (s sideBySide) setStatus(id int64, status string) {
	s.ceo.p.t.Helper()
	s.ceo.call(http.StatusOK, "PUT", fmt.Sprintf("/crm/customers/%d/status", id), map[string]any{"status_name": status})
}

func (s sideBySide) enum(t *testing.T, id int64) string {
	t.Helper()
	return value[string](t, s.conn, "SELECT CAST(status AS TEXT) FROM customer WHERE id = $1", id)
}

// leads is how many a manager has: by the API, which must be what the table says.
func (s sideBySide) leads(t *testing.T, manager int64) int64 {
	t.Helper()
	for _, m := range s.ceo.list("/crm/sales-managers") {
		if number(m, "id") == manager {
			counted := value[int64](t, s.conn, "SELECT count(*) FROM sales_manager_assignment WHERE is_active AND sales_manager_id = $1", manager)
			require.Equal(t, counted, number(m, "assigned_leads_count"))
			return counted
		}
	}
	require.Fail(t, "no such manager", "%d", manager)
	return 0
}

func TestStatusesSideBySide(t *testing.T) {
	t.Parallel()
	for _, d := range olderDatabases[:2] {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			s := startSideBySide(t, d, "")
			lead := value[int64](t, s.conn, "SELECT min(id) FROM customer WHERE CAST(status AS TEXT) = 'contacted' AND status_name = 'contacted'")

			require.NoError(t, s.older.setStatus(lead, "project_started"))
			require.Equal(t, "project_started", s.lead(lead)["status_name"])
			changed := event(history(s.ceo, lead), "status", "project_started")
			require.Equal(t, "external", changed["cause"])
			require.Equal(t, "contacted", changed["from"])
			require.Nil(t, changed["by"])

			require.NoError(t, s.older.setNotes(lead, "a note changes no status"))
			require.NoError(t, s.older.setStatus(lead, "project_started"), "nor does the same status again")
			require.Len(t, history(s.ceo, lead), 2)

			s.setStatus(lead, "finished")
			require.Equal(t, "finished", s.enum(t, lead))
			s.ceo.post("/management/statuses", map[string]any{"name": "trial", "display_name": "Trial"})
			s.setStatus(lead, "trial")
			require.Contains(t, enumLabels, s.enum(t, lead), "there is no label, but it has to be one")
			events := history(s.ceo, lead)
			require.Len(t, events, 4, "ours are not recorded twice")
			require.Equal(t, "manual", events[2]["cause"])
			require.Equal(t, "manual", events[3]["cause"])

			require.NoError(t, s.older.setStatus(lead, "rejected"))
			require.Equal(t, "rejected", s.lead(lead)["status_name"])
			require.Equal(t, "trial", event(history(s.ceo, lead), "status", "rejected")["from"])

			require.NoError(t, s.older.remove(lead))
			s.ceo.call(http.StatusNotFound, "GET", fmt.Sprintf("/crm/customers/%d", lead), nil)
			s.requireWhole(t)
		})
	}
}

func TestNewLeadsSideBySide(t *testing.T) {
	t.Parallel()
	s := startSideBySide(t, deployed(0), "")

	lead, err := s.older.insert("Theirs", "need_to_call")
	require.NoError(t, err)
	require.Equal(t, "need_to_call", s.lead(lead)["status_name"])
	require.Equal(t, lead, number(s.ceo.get("/crm/customers?limit=1")["items"].([]any)[0], "id"), "the newest")
	events := history(s.ceo, lead)
	require.Len(t, events, 1)
	require.Equal(t, "external", events[0]["cause"])
	require.Nil(t, events[0]["from"])
	require.Nil(t, events[0]["by"])

	// Another lead of ours is assigned in the meantime, theirs is left alone.
	require.NotNil(t, s.ceo.post("/crm/customers", map[string]any{"full_name": "Ours"})["sales_manager"])
	require.Nil(t, s.lead(lead)["sales_manager"])
	manager, err := s.older.nextManager()
	require.NoError(t, err)
	had := s.leads(t, manager)
	require.NoError(t, s.older.assign(lead, manager))
	require.Equal(t, manager, number(s.lead(lead)["sales_manager"], "id"))
	require.Equal(t, had+1, s.leads(t, manager))
	owner := event(history(s.ceo, lead), "assignment", manager)
	require.Equal(t, "external", owner["cause"])
	require.Nil(t, owner["by"])

	// A later assignment by it is a reassignment, in any form.
	for i, assign := range []func(lead, manager int64) error{s.older.assign, s.older.assignAnew} {
		next, err := s.older.nextManager()
		require.NoError(t, err)
		had, hadNext := s.leads(t, manager), s.leads(t, next)
		require.NoError(t, assign(lead, next))
		require.Equal(t, next, number(s.lead(lead)["sales_manager"], "id"))
		require.Equal(t, had-1, s.leads(t, manager))
		require.Equal(t, hadNext+1, s.leads(t, next))
		require.Equal(t, "external", event(history(s.ceo, lead), "assignment", next)["cause"], "the %d. time", i+1)
		manager = next
	}
	s.ceo.post("/crm/assign-sales-manager", map[string]any{"customer_id": lead, "sales_manager_id": 3})
	require.EqualValues(t, 3, value[int64](t, s.conn, "SELECT sales_manager_id FROM sales_manager_assignment WHERE customer_id = $1", lead), "the older program sees ours")
	had = s.leads(t, 3)
	require.NoError(t, s.older.remove(lead))
	require.Equal(t, had-1, s.leads(t, 3))
	s.requireWhole(t)
}

// TestLeadsThatTheOlderProgramLeaves are assigned by ours, when it has had its
// time; where it assigns them after all, its word counts.
func TestLeadsThatTheOlderProgramLeaves(t *testing.T) {
	t.Parallel()
	s := startSideBySide(t, deployed(0), fmt.Sprintf("%dms", grace.Milliseconds()))
	waiting := value[int64](t, s.conn, "SELECT count(*) FROM cims_unassigned")
	var leads []int64
	for i := range 4 {
		lead, err := s.older.insert(fmt.Sprintf("Left %d", i), "contacted")
		require.NoError(t, err)
		leads = append(leads, lead)
	}
	for _, lead := range leads {
		require.Eventually(t, func() bool { return s.lead(lead)["sales_manager"] != nil }, time.Minute, 50*time.Millisecond, "it is never assigned")
		owner := number(s.lead(lead)["sales_manager"], "id")
		assigned := event(history(s.ceo, lead), "assignment", owner)
		require.Equal(t, "automatic", assigned["cause"])
		require.Greater(t, at(t, assigned).Sub(at(t, history(s.ceo, lead)[0])), grace-100*time.Millisecond, "it was not given its time")
		require.Equal(t, owner, value[int64](t, s.conn, "SELECT sales_manager_id FROM sales_manager_assignment WHERE customer_id = $1 AND is_active", lead))
	}
	require.Equal(t, waiting, value[int64](t, s.conn, "SELECT count(*) FROM cims_unassigned"), "those from before wait for a command")

	// It does not look whether there is an assignment: the first by a new row,
	// the second in the one that it finds.
	insert := func(lead, manager int64) error {
		return s.older.transaction(func(session *session) {
			made := session.ids("INSERT INTO sales_manager_assignment (customer_id, sales_manager_id, assigned_at, is_active) VALUES ($1, $2, $3, TRUE) RETURNING id",
				lead, manager, utc(time.Now()))
			require.LessOrEqual(t, len(made), 1)
		})
	}
	for i, assign := range []func(lead, manager int64) error{insert, s.older.assign, s.older.assignAnew} {
		lead := leads[i]
		present := number(s.lead(lead)["sales_manager"], "id")
		other := value[int64](t, s.conn, `SELECT id FROM "user" WHERE role = 'sales_manager' AND is_active AND id <> $1 ORDER BY id DESC LIMIT 1`, present)
		had, hadOther := s.leads(t, present), s.leads(t, other)
		require.NoError(t, assign(lead, other))
		require.Equal(t, other, number(s.lead(lead)["sales_manager"], "id"))
		require.Equal(t, had-1, s.leads(t, present))
		require.Equal(t, hadOther+1, s.leads(t, other))
		moved := event(history(s.ceo, lead), "assignment", other)
		require.Equal(t, "external", moved["cause"])
		require.Nil(t, moved["by"])
	}
	s.requireWhole(t)
}

func at(t *testing.T, event map[string]any) time.Time {
	t.Helper()
	moment, err := time.Parse(time.RFC3339Nano, event["at"].(string))
	require.NoError(t, err)
	return moment
}

func TestRolesSideBySide(t *testing.T) {
	t.Parallel()
	s := startSideBySide(t, deployed(0), "")
	member := value[int64](t, s.conn, `SELECT min(id) FROM "user" WHERE role = 'member' AND role_name = 'member' AND is_active`)
	role := func() string {
		return value[string](t, s.conn, `SELECT CAST(role AS TEXT) FROM "user" WHERE id = $1`, member)
	}
	require.NoError(t, s.older.setRole(member, "sales_manager"))
	require.Zero(t, s.leads(t, member))
	for range len(s.ceo.list("/crm/sales-managers")) { // each gets a turn
		s.ceo.post("/crm/customers", map[string]any{"full_name": "New"})
	}
	require.EqualValues(t, 1, s.leads(t, member))

	s.ceo.call(http.StatusOK, "PUT", fmt.Sprintf("/management/users/%d", member), map[string]any{"role_name": "financial_director"})
	require.Equal(t, "financial_director", role())
	s.ceo.call(http.StatusOK, "PUT", fmt.Sprintf("/management/users/%d", member), map[string]any{"role_name": "ceo"})
	require.Equal(t, "CEO", role(), "as the label is written")
	require.NoError(t, s.older.setRole(member, "member"))
	require.NoError(t, s.older.setRole(member, "CEO"))
	require.Equal(t, "ceo", value[string](t, s.conn, `SELECT role_name FROM "user" WHERE id = $1`, member))
	s.requireWhole(t)
}

// TestTheOlderProgramsOwnMigrationAgain: what its manual says to run runs, and
// ends in names of ours.
func TestTheOlderProgramsOwnMigrationAgain(t *testing.T) {
	t.Parallel()
	for _, d := range olderDatabases[:2] {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			s := startSideBySide(t, d, "")
			different := value[int64](t, s.conn, "SELECT count(*) FROM customer WHERE status_name <> CAST(status AS TEXT)")
			require.Equal(t, d.names, different > 0)
			for _, statement := range []string{"UPDATE customer SET status_name = status::text", `UPDATE "user" SET role_name = role::text`} {
				require.NoError(t, s.older.transaction(func(session *session) { session.ids(statement) }))
			}
			require.Zero(t, value[int64](t, s.conn, "SELECT count(*) FROM customer WHERE status_name IS DISTINCT FROM CAST(status AS TEXT)"))
			require.Zero(t, value[int64](t, s.conn, `SELECT count(*) FROM "user" WHERE role IS NOT NULL AND role_name IS DISTINCT FROM lower(CAST(role AS TEXT))`))
			require.Equal(t, different, value[int64](t, s.conn, "SELECT count(*) FROM customer_status_history WHERE cause = 'external'"), "only what changed")
			require.Equal(t, "ceo", s.ceo.get("/me")["role_name"])
			s.requireWhole(t)
		})
	}
}

// TestTheOlderProgramWorksOn is the promise that nobody notices: while up runs,
// no statement of the older program fails, and none waits for a second. Its
// sessions give up a lock that they don't get within a second, which is a failure
// whatever else this machine does; and all in all no statement takes a second but
// a COMMIT, which waits for nothing but the disk. It has the machine for itself,
// as far as this package goes.
//
// CIMS_MOVE_CUSTOMERS makes the database as large as one likes.
func TestTheOlderProgramWorksOn(t *testing.T) {
	customers := 30_000
	if setting := os.Getenv("CIMS_MOVE_CUSTOMERS"); setting != "" {
		var err error
		customers, err = strconv.Atoi(setting)
		require.NoError(t, err)
	}
	for _, d := range []olderDatabase{olderDatabases[0], olderDatabases[1]} {
		d.worse = customers
		t.Run(d.name, func(t *testing.T) {
			url := ownDatabase(t)
			d.fill(t, url)
			conn := connect(t, url)
			before := remember(t, conn)
			count := value[int64](t, conn, "SELECT count(*) FROM customer")
			older := startOlder(t, withOptions(t, url, "-clock_timeout=1000"))
			stop := older.begin(200)
			defer stop()
			older.awaitEachDeed(t, nil)

			_, writesBefore := older.deedsDone()
			begin := time.Now()
			migrated(t, url, "up")
			took := time.Since(begin)
			done, writes := older.deedsDone()
			require.Greater(t, writes, writesBefore, "nothing was written meanwhile")
			older.awaitEachDeed(t, done)
			stop()
			t.Logf("up of %d customers took %s; %d statements meanwhile, %.0f a second; the slowest of each kind ever: %s",
				count, took.Round(time.Millisecond), writes-writesBefore, float64(writes-writesBefore)/took.Seconds(), older.slowestOfEach())
			older.requireUnhurt(t, time.Second)

			before.requireConsistent(t, conn)
			before.requireOriginal(t, conn, ids(older.touched), nil)
			require.Equal(t, count+int64(len(older.inserted)-len(older.deleted)), value[int64](t, conn, "SELECT count(*) FROM customer"))
			require.Zero(t, value[int64](t, conn, "SELECT count(*) FROM customer WHERE id = ANY ($1)", ids(older.deleted)))
			migrated(t, url, "verify", "-while-running")
			migrated(t, url, "rollback", "-force") // it has put leads into statuses, too
			before.requireAway(t, conn, ids(older.touched), nil)
		})
	}
}
