package postgres_test

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/internal/pgtest"
	"github.com/cimskit/cims/storage/postgres"
)

var system = cims.System("test")

// hostCRM is a Manager over a host's tables, and the host's connection.
func hostCRM(t *testing.T, tables string) (*cims.Manager, *sql.DB) {
	t.Helper()
	url := pgtest.URL(t)
	pgtest.Execute(t, url, tables)
	store := open(t, url)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	require.NoError(t, store.Migrate(t.Context()))
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, crm.Close(context.Background())) })
	return crm, host(t, url)
}

func seller(t *testing.T, crm *cims.Manager, name string) cims.User {
	t.Helper()
	user, err := crm.CreateUser(t.Context(), system, cims.NewUser{Email: name + "@example.com", Name: name, Surname: "S", RoleName: cims.RoleSalesManager})
	require.NoError(t, err)
	return user
}

// addAll adds leads at once, and returns each one's error.
func addAll(t *testing.T, crm *cims.Manager, names ...string) []error {
	t.Helper()
	errs := make([]error, len(names))
	var group sync.WaitGroup
	for i, name := range names {
		group.Go(func() { _, errs[i] = crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: name}) })
	}
	group.Wait()
	return errs
}

// TestARowThatTheHostLeavesOut checks that a row dropped by the host is an error of its
// caller only. Other leads of the batch are stored, and stored once.
func TestARowThatTheHostLeavesOut(t *testing.T) {
	t.Parallel()
	crm, db := hostCRM(t, standardNames+`
		CREATE FUNCTION no_spam() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN NEW.full_name LIKE 'Spam%' THEN NULL ELSE NEW END; END $$;
		CREATE TRIGGER no_spam BEFORE INSERT ON customer FOR EACH ROW EXECUTE FUNCTION no_spam();`)
	seller(t, crm, "anvar")
	seller(t, crm, "botir")
	var names []string
	for i := range 30 {
		names = append(names, fmt.Sprint("Lead ", i), fmt.Sprint("Spam ", i))
	}
	for range 2 { // with the cached rotation, and without
		for i, err := range addAll(t, crm, names...) {
			if strings.HasPrefix(names[i], "Spam") {
				require.ErrorContains(t, err, "drops inserted rows")
			} else {
				require.NoError(t, err)
			}
		}
	}
	var leads, most, assigned int
	require.NoError(t, db.QueryRowContext(t.Context(), `SELECT sum(n), max(n), (SELECT count(*) FROM sales_manager_assignment)
		FROM (SELECT count(*) AS n FROM customer GROUP BY full_name) AS names`).Scan(&leads, &most, &assigned))
	require.Equal(t, []int{60, 2, 60}, []int{leads, most, assigned})
}

// TestTextsThatTheHostHasNoRoomFor checks that texts too long for the host's columns are
// refused with the field's name.
func TestTextsThatTheHostHasNoRoomFor(t *testing.T) {
	t.Parallel()
	crm, _ := hostCRM(t, `
		CREATE DOMAIN short AS VARCHAR(10);
		CREATE TABLE "user" (id SERIAL PRIMARY KEY, email VARCHAR(30) NOT NULL UNIQUE, name TEXT NOT NULL, surname short NOT NULL);
		CREATE TABLE customer (id SERIAL PRIMARY KEY, full_name VARCHAR(20) NOT NULL, phone_number CHAR(9), notes short, created_at TIMESTAMPTZ NOT NULL DEFAULT now());`)
	tooLong := func(err error, want ...string) {
		t.Helper()
		refused, ok := err.(*cims.Error) //nolint:errorlint // as it is
		require.True(t, ok, "%v", err)
		require.ErrorIs(t, err, cims.ErrInvalid)
		var got []string
		for _, field := range refused.Fields {
			got = append(got, fmt.Sprint(field.Field, " ", field.Rule, " ", field.Max))
		}
		require.Equal(t, want, got)
	}
	ctx := t.Context()
	user := seller(t, crm, "anvar")
	_, err := crm.UpdateUser(ctx, system, user.ID, cims.UserUpdate{Surname: new(strings.Repeat("я", 11))})
	tooLong(err, "surname length 10")
	_, err = crm.CreateUser(ctx, system, cims.NewUser{Email: strings.Repeat("b", 30) + "@example.com", Name: "B", Surname: "B", RoleName: "member"})
	tooLong(err, "email length 30")

	fits := cims.NewCustomer{FullName: strings.Repeat("я", 20), PhoneNumber: "998901234", Notes: strings.Repeat("я", 10), Platform: strings.Repeat("p", 200)}
	_, err = crm.AddCustomer(ctx, system, fits)
	require.NoError(t, err)
	long := cims.NewCustomer{FullName: strings.Repeat("я", 21), PhoneNumber: "+998901234", Notes: strings.Repeat("я", 11)}
	_, err = crm.AddCustomer(ctx, system, long)
	tooLong(err, "full_name length 20", "phone_number length 9", "notes length 10")
	long.IdempotencyKey = "key"
	_, err = crm.AddCustomer(ctx, system, long)
	tooLong(err, "full_name length 20", "phone_number length 9", "notes length 10")
	long.IdempotencyKey = ""
	_, err = crm.AddCustomers(ctx, system, append(slices.Repeat([]cims.NewCustomer{fits}, 1234), long), nil)
	var which *cims.LeadError
	require.ErrorAs(t, err, &which)
	require.Equal(t, 1234, which.Index)
	tooLong(which.Err, "full_name length 20", "phone_number length 9", "notes length 10")

	for i, err := range addAll(t, crm, slices.Repeat([]string{"fits", strings.Repeat("long", 6)}, 20)...) {
		if i%2 == 0 {
			require.NoError(t, err)
		} else {
			tooLong(err, "full_name length 20")
		}
	}
	page, err := crm.Customers(ctx, system, cims.CustomerFilter{}, cims.PageRequest{})
	require.NoError(t, err)
	require.Len(t, page.Items, 21)
}

// waitForLock returns when a statement of another session waits for a lock of db.
func waitForLock(t *testing.T, db *sql.DB) {
	t.Helper()
	require.Eventually(t, func() bool {
		var waits bool
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT EXISTS (SELECT 1 FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE%')`).Scan(&waits))
		return waits
	}, 20*time.Second, 5*time.Millisecond)
}

// TestWhatTheOlderProgramAssignsMeanwhile checks that a lead assigned by the older program
// keeps its owner.
func TestWhatTheOlderProgramAssignsMeanwhile(t *testing.T) {
	t.Parallel()
	const given = "INSERT INTO sales_manager_assignment (customer_id, sales_manager_id, assigned_at, is_active) VALUES ($1, $2, now(), TRUE)"
	t.Run("of the backlog", func(t *testing.T) {
		t.Parallel()
		crm, db := hostCRM(t, standardNames+`INSERT INTO customer (full_name, company, size, created_at) VALUES ('One', '', 'small', now() - interval '1 hour'), ('Two', '', 'small', now());`)
		anvar, botir := seller(t, crm, "anvar"), seller(t, crm, "botir")
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(t.Context(), given, 1, botir.ID)
		require.NoError(t, err)
		var result cims.BacklogResult
		var group sync.WaitGroup
		group.Go(func() { result, err = crm.AssignBacklog(t.Context(), system) })
		waitForLock(t, db)
		require.NoError(t, tx.Commit())
		group.Wait()
		require.NoError(t, err)
		require.Equal(t, cims.BacklogResult{Assigned: 1}, result)
		requireOwners(t, crm, botir.ID, anvar.ID)
	})
	t.Run("of who leaves", func(t *testing.T) {
		t.Parallel()
		crm, db := hostCRM(t, standardNames)
		anvar, botir, vali := seller(t, crm, "anvar"), seller(t, crm, "botir"), seller(t, crm, "vali")
		for n := range 2 {
			lead, err := crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: fmt.Sprint("Lead ", n)})
			require.NoError(t, err)
			_, err = crm.Assign(t.Context(), system, lead.ID, vali.ID)
			require.NoError(t, err)
		}
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(t.Context(), "UPDATE sales_manager_assignment SET is_active = FALSE WHERE customer_id = 1")
		require.NoError(t, err)
		_, err = tx.ExecContext(t.Context(), given, 1, botir.ID)
		require.NoError(t, err)
		var group sync.WaitGroup
		group.Go(func() {
			_, err = crm.UpdateUser(t.Context(), system, vali.ID, cims.UserUpdate{Active: new(false), Leads: cims.RedistributeLeads})
		})
		waitForLock(t, db)
		require.NoError(t, tx.Commit())
		group.Wait()
		require.NoError(t, err)
		owner, _, err := crm.Assignment(t.Context(), system, 1)
		require.NoError(t, err)
		require.Equal(t, botir.ID, owner.SalesManagerID)
		owner, _, err = crm.Assignment(t.Context(), system, 2)
		require.NoError(t, err)
		require.Contains(t, []int64{anvar.ID, botir.ID}, owner.SalesManagerID)
	})
}

func requireOwners(t *testing.T, crm *cims.Manager, owners ...int64) {
	t.Helper()
	for i, want := range owners {
		assignment, _, err := crm.Assignment(t.Context(), system, int64(i+1))
		require.NoError(t, err)
		require.Equal(t, want, assignment.SalesManagerID, "customer %d", i+1)
	}
}

// TestHostTablesAreReadWithoutAConnectionToSpare checks that the first read of a host's
// columns doesn't deadlock when all connections wait for it.
func TestHostTablesAreReadWithoutAConnectionToSpare(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	db := host(t, url)
	db.SetMaxOpenConns(1)
	store, err := postgres.New(db)
	require.NoError(t, err)
	require.NoError(t, store.Migrate(t.Context()))
	var group sync.WaitGroup
	defer group.Wait()
	require.NoError(t, store.Update(t.Context(), func(ctx context.Context, tx cims.Tx) error {
		begun := make(chan struct{})
		group.Go(func() {
			close(begun)
			ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
			defer cancel()
			_, _ = store.Intake(ctx, []*cims.Lead{{Customer: cims.Customer{FullName: "Lead"}}}, func(r cims.Rotation) cims.Rotation { return r }) // its end is of no interest
		})
		<-begun
		time.Sleep(50 * time.Millisecond) // most likely it waits for the connection by now
		began := time.Now()
		_, err := tx.InsertUser(ctx, cims.User{Email: "anvar@example.com", Name: "Anvar", Surname: "S", RoleName: cims.RoleSalesManager})
		require.Less(t, time.Since(began), 10*time.Second)
		return err
	}))
}

// TestConflictThatATriggerRaisesHarmsItsOwnLead adds leads at once. A host's trigger refuses
// some of them with the code of a conflict.
func TestConflictThatATriggerRaisesHarmsItsOwnLead(t *testing.T) {
	t.Parallel()
	url := databases(t, "").URL(t)
	pgtest.Execute(t, url, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			RAISE EXCEPTION 'refused' USING ERRCODE = '40001';
		END $$;
		CREATE TRIGGER refuse BEFORE INSERT ON customer FOR EACH ROW WHEN (NEW.full_name = 'Refused') EXECUTE FUNCTION refuse()`)
	store := open(t, url)
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	const leads = 64
	errs := make([]error, leads)
	var group sync.WaitGroup
	for i := range leads {
		group.Go(func() {
			name := "Welcome"
			if i%8 == 0 {
				name = "Refused"
			}
			_, errs[i] = crm.AddCustomer(t.Context(), cims.System("test"), cims.NewCustomer{FullName: name})
		})
	}
	group.Wait()
	for i, err := range errs {
		if i%8 == 0 {
			require.ErrorIs(t, err, cims.ErrUnavailable)
		} else {
			require.NoError(t, err)
		}
	}
	require.NoError(t, crm.Close(t.Context()))
	require.NoError(t, store.Close())
}
