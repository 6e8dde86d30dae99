//go:build unix

package faults

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/internal/pgtest"
)

func nameOf(n int) string { return fmt.Sprintf("lead %d", n) }

// stream adds leads from a number of callers until stop is closed.
func stream(t *testing.T, answers *answers, callers int, stop chan struct{}, crms ...*cims.Manager) *sync.WaitGroup {
	t.Helper()
	var group sync.WaitGroup
	for caller := range callers {
		group.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				addOnce(crms[caller%len(crms)], answers, cims.NewCustomer{FullName: fmt.Sprintf("%d/%d", caller, n)})
			}
		})
	}
	return &group
}

// TestFaultConflicts has the server refuse transactions by the hundred, as
// engines that speak PostgreSQL's protocol do. They are repeated, and no caller
// sees an error.
func TestFaultConflicts(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, pgtest.URL(t), 5)
	db := d.sql(t)
	execute(t, db, "CREATE SEQUENCE refusals")
	execute(t, db, `CREATE FUNCTION refuse() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
		IF random() < 0.15 THEN
			PERFORM nextval('refusals'); -- is not rolled back
			IF random() < 0.5 THEN RAISE 'serialization' USING ERRCODE = '40001'; END IF;
			RAISE 'deadlock' USING ERRCODE = '40P01';
		END IF;
		RETURN NULL;
	END $$`)
	execute(t, db, "CREATE TRIGGER refuse AFTER INSERT ON sales_manager_assignment FOR EACH STATEMENT EXECUTE FUNCTION refuse()")
	answers, stop := newAnswers(), make(chan struct{})
	group := stream(t, answers, 16, stop, d.open(t), d.open(t))
	refusals := countTo(t, db, "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM refusals", times(50, 500))
	close(stop)
	group.Wait()
	found := d.checkNoFailures(t, answers)
	report(t, "%d transactions refused by the server, %d leads stored, nobody was told, spread %d", refusals, found.leads, found.spread)
}

// countTo waits until the count that a query returns has reached a number.
func countTo(t *testing.T, db *sql.DB, query string, want int) (count int) {
	t.Helper()
	require.Eventually(t, func() bool {
		err := db.QueryRowContext(t.Context(), query).Scan(&count)
		return err == nil && count >= want
	}, 2*patience, 5*time.Millisecond)
	return count
}

// checkNobodyTold checks the database, and that no caller got an error.
func (d *database) checkNoFailures(t *testing.T, answers *answers) result {
	t.Helper()
	refused, unknown := answers.faults()
	require.Zero(t, refused+unknown, "%v %v", answers.refused, answers.unknown)
	return d.check(t, answers)
}

// TestFaultDeadlocks has a program beside the library lock in the other order.
func TestFaultDeadlocks(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, pgtest.URL(t)+"&deadlock_timeout=20ms", 3)
	db := d.sql(t)
	answers, stop := newAnswers(), make(chan struct{})
	group := stream(t, answers, 16, stop, d.open(t), d.open(t))
	for beside := range 2 {
		group.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				tx, err := db.BeginTx(t.Context(), nil)
				if err != nil {
					t.Error(err)
					return
				}
				_, err = tx.ExecContext(t.Context(), `SELECT 1 FROM "user" WHERE id = $1 FOR UPDATE`, d.team[(n+beside)%3])
				if err == nil {
					_, err = tx.ExecContext(t.Context(), "UPDATE sales_manager_counter SET updated_at = now()")
				}
				if err == nil {
					err = tx.Commit()
				}
				if err != nil {
					_ = tx.Rollback() // it was the one to give way
				}
			}
		})
	}
	deadlocks := countTo(t, db, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()", times(5, 100))
	close(stop)
	group.Wait()
	found := d.checkNoFailures(t, answers)
	report(t, "%d deadlocks, %d leads stored, nobody was told, spread %d", deadlocks, found.leads, found.spread)
}

// TestFaultTeamChanges lets managers join, leave, pause and return while two programs add
// leads. Managers that stay never differ by more than one lead, and those that have left get
// none.
func TestFaultTeamChanges(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		d := newDatabase(t, url, 3)
		crm, other := d.open(t), d.open(t)
		answers, stop := newAnswers(), make(chan struct{})
		var leaver atomic.Int64
		leaver.Store(hire(t, other, "Leaver"))
		group := stream(t, answers, 6, stop, crm, other)
		owned := func(id int64) int {
			managers, err := other.SalesManagers(t.Context(), system)
			require.NoError(t, err)
			i := slices.IndexFunc(managers, func(m cims.SalesManager) bool { return m.ID == id })
			if i < 0 {
				n := 0
				require.NoError(t, d.sql(t).QueryRowContext(t.Context(),
					fmt.Sprintf("SELECT count(*) FROM sales_manager_assignment WHERE is_active AND sales_manager_id = %d", id)).Scan(&n))
				return n
			}
			return managers[i].AssignedLeads
		}
		ctx := context.Background()
		rounds := times(8, 60)
		for n := range rounds {
			id := leaver.Load()
			answers.requireMore(t, 8)
			require.Positive(t, owned(id), "who is there gets leads")
			quiet := func(away, back func() error) {
				require.NoError(t, away())
				before := owned(id)
				answers.requireMore(t, 8)
				require.Equal(t, before, owned(id), "who is away gets none")
				require.NoError(t, back())
			}
			quiet(func() error {
				_, err := other.UpdateUser(ctx, system, id, cims.UserUpdate{Active: new(false)})
				return err
			}, func() error {
				_, err := other.UpdateUser(ctx, system, id, cims.UserUpdate{Active: new(true)})
				return err
			})
			quiet(func() error {
				_, err := other.SetSalesManager(ctx, system, id, cims.SalesManagerUpdate{Paused: new(true)})
				return err
			}, func() error {
				_, err := other.SetSalesManager(ctx, system, id, cims.SalesManagerUpdate{Paused: new(false), Weight: new(1 + n%3)})
				return err
			})
			if n%4 == 3 { // for good, and somebody new
				_, err := other.UpdateUser(ctx, system, id, cims.UserUpdate{RoleName: new("member")})
				require.NoError(t, err)
				leaver.Store(hire(t, other, fmt.Sprintf("Newcomer %d", n)))
			}
		}
		close(stop)
		group.Wait()
		refused, unknown := answers.faults()
		require.Zero(t, refused+unknown, "%v %v", answers.refused, answers.unknown)
		found := d.check(t, answers)
		report(t, "%d rounds of leaving and coming back, %d leads, spread of those who stayed %d", rounds, found.leads, found.spread)
	})
}
