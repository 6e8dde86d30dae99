package postgres_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/internal/legacy"
	"github.com/cimskit/cims/internal/pgtest"
	"github.com/cimskit/cims/storage/migration"
	"github.com/cimskit/cims/storage/postgres"
)

// TestFillWaitsForTheOlderProgram makes a lead's assignment active again in a transaction
// that is open while the migration fills in the lead. The result has to match the state
// after that transaction.
func TestFillWaitsForTheOlderProgram(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), pgtest.URL(t)
	pgtest.Execute(t, url, legacy.Deployed)
	older := connect(t, url)
	// The rows need several batches, so that the last row isn't in the first batch.
	_, err := older.Exec(ctx, `INSERT INTO customer (full_name, platform, phone_number, status, created_at)
		SELECT 'Lead ' || n, 'site', '+998900000000', 'contacted', now() FROM generate_series(1, 6000) AS n`)
	require.NoError(t, err)
	var last, assignment int64
	require.NoError(t, older.QueryRow(ctx, "SELECT max(id) FROM customer").Scan(&last))
	require.NoError(t, older.QueryRow(ctx, `INSERT INTO sales_manager_assignment (customer_id, sales_manager_id, is_active)
		SELECT $1, min(id), FALSE FROM "user" WHERE role = 'sales_manager' RETURNING id`, last).Scan(&assignment))

	store := open(t, url)
	defer func() { require.NoError(t, store.Close()) }()
	begun, committed := false, make(chan error, 1)
	require.NoError(t, store.MigrateWithProgress(ctx, func(p migration.Progress) {
		if begun || p.Step != "005_rows" || p.Total-p.Done >= 6000 { // before the first customers
			return
		}
		begun = true
		_, err := older.Exec(ctx, "BEGIN")
		require.NoError(t, err)
		_, err = older.Exec(ctx, "UPDATE sales_manager_assignment SET is_active = TRUE WHERE id = $1", assignment)
		require.NoError(t, err)
		go func() {
			time.Sleep(time.Second / 2)
			_, err := older.Exec(ctx, "COMMIT")
			committed <- err
		}()
	}))
	require.True(t, begun)
	require.NoError(t, <-committed)
	var unassigned bool
	require.NoError(t, older.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM cims_unassigned WHERE customer_id = $1)", last).Scan(&unassigned))
	require.False(t, unassigned, "it has a sales manager")
}

// TestInterruptedIndexIsBuiltAgain interrupts the building of indexes on a table that is
// written meanwhile. It leaves an invalid index, which the next Migrate replaces.
func TestInterruptedIndexIsBuiltAgain(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), pgtest.URL(t)
	pgtest.Execute(t, url, legacy.Deployed+`
		INSERT INTO customer (full_name, platform, phone_number, status, created_at, notes)
		SELECT 'Lead ' || n, 'site', '+998900000000', 'contacted', now(), repeat('long ', 200) FROM generate_series(1, 6000) AS n`)
	older, watcher := connect(t, url), connect(t, url)
	invalid := func() (n int, err error) {
		err = watcher.QueryRow(ctx, "SELECT count(*) FROM pg_index WHERE NOT indisvalid AND indrelid = CAST('customer' AS regclass)").Scan(&n)
		return n, err
	}
	store := open(t, url)
	defer func() { require.NoError(t, store.Close()) }()

	short, cancel := context.WithCancel(ctx)
	defer cancel()
	begun := false
	err := store.MigrateWithProgress(short, func(p migration.Progress) {
		if begun || p.Step != "007_indexes" {
			return
		}
		begun = true
		_, err := older.Exec(ctx, "BEGIN; UPDATE customer SET notes = 'short' WHERE id = 1")
		require.NoError(t, err)
		go func() {
			defer cancel()
			for range 100 {
				if n, err := invalid(); err != nil || n > 0 {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
		}()
	})
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, begun)
	n, err := invalid()
	require.NoError(t, err)
	require.Equal(t, 1, n)
	_, err = older.Exec(ctx, "ROLLBACK")
	require.NoError(t, err)
	require.NoError(t, store.Migrate(ctx))
	n, err = invalid()
	require.NoError(t, err)
	require.Zero(t, n)
	verified(t, store)
}

// TestASettingThatIsNone checks that an invalid grace setting doesn't make an insert of the
// older program fail.
func TestASettingThatIsNone(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), pgtest.URL(t)
	pgtest.Execute(t, url, legacy.Deployed)
	store := open(t, url)
	defer func() { require.NoError(t, store.Close()) }()
	require.NoError(t, store.Migrate(ctx))
	older := connect(t, url)
	for grace, want := range map[string]time.Duration{
		"five minutes": time.Minute, "5 minutes": 5 * time.Minute, "": time.Minute, "900000 years": time.Minute, "00:00:00:00": time.Minute, "10s": 10 * time.Second,
	} {
		var seconds int
		_, err := older.Exec(ctx, "SELECT set_config('cims.grace', $1, FALSE)", grace)
		require.NoError(t, err)
		require.NoError(t, older.QueryRow(ctx, `WITH lead AS (
				INSERT INTO customer (full_name, platform, phone_number, status, created_at) VALUES ('Lead', 'site', '1', 'contacted', now()) RETURNING id
			) SELECT id FROM lead`).Scan(new(int64)), grace)
		require.NoError(t, older.QueryRow(ctx, "SELECT round(EXTRACT(epoch FROM due_at - now()))::int FROM cims_unassigned ORDER BY customer_id DESC LIMIT 1").Scan(&seconds))
		require.InDelta(t, want.Seconds(), seconds, 3, grace)
	}
}

// TestEntriesOfTheOlderProgram checks that rows find the older program's entries in any
// spelling, and that a rollback restores that spelling.
func TestEntriesOfTheOlderProgram(t *testing.T) {
	t.Parallel()
	ctx, url, us := t.Context(), pgtest.URL(t), cims.System("test")
	pgtest.Execute(t, url, legacy.Deployed+`
		INSERT INTO customer_status (name, display_name, color, "order", is_active, is_system) VALUES
			('Nobody Knows', 'Who knows', '#123456', 9, TRUE, FALSE), ('Contacted', 'Beside it', NULL, 9, TRUE, FALSE),
			('Twice Said', 'Once', NULL, 9, FALSE, FALSE), ('twice said', 'Twice', NULL, 9, TRUE, FALSE);
		INSERT INTO user_role (name, display_name, is_active) VALUES ('Team Lead', 'Leads a team', TRUE);
		UPDATE customer_status SET name = 'Rejected', is_system = NULL WHERE name = 'rejected';
		UPDATE user_role SET is_system = FALSE WHERE name = 'member';
		UPDATE customer SET status_name = 'Nobody Knows' WHERE id = 1;
		UPDATE customer SET status_name = 'Twice Said' WHERE id = 2;
		UPDATE customer SET status_name = 'NOBODY KNOWS' WHERE id = 3;
		UPDATE "user" SET role_name = 'Team Lead' WHERE id = 11;`)
	conn, schema, store, before := asItWas(t, url)

	plan, err := store.Plan(ctx)
	require.NoError(t, err)
	says := map[string]string{}
	for _, f := range plan.Findings {
		says[f.Where+": "+f.Found] = f.Does
		require.NotContains(t, f.Does, "inactive entry nobody_knows")
		require.NotContains(t, f.Does, "inactive entry team_lead")
	}
	for found, does := range map[string]string{
		"customer_status.name: 1 rows are called “Nobody Knows”":                  "becomes nobody_knows",
		"customer_status.name: 1 rows are called “Rejected”":                      "becomes rejected",
		"customer_status.name: 1 rows are called “twice said”":                    "becomes twice_said",
		"customer_status.name: 1 rows are called “Twice Said”":                    "stays as it is, and is not used: twice_said is",
		"customer_status.name: 1 rows are called “Contacted”":                     "stays as it is, and is not used: contacted is",
		"user_role.name: 1 rows are called “Team Lead”":                           "becomes team_lead",
		"user_role.is_system: 1 rows are called like a system entry and are none": "becomes one, which can't be deleted",
		"customer.status_name: 1 rows say “NOBODY KNOWS”":                         "becomes nobody_knows",
	} {
		require.Equal(t, does, says[found], "%s\n%s", found, plan)
	}

	require.NoError(t, store.Migrate(ctx))
	verified(t, store)
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	statuses, err := crm.Statuses(ctx, us, cims.StatusFilter{})
	require.NoError(t, err)
	shown := map[string]cims.Status{}
	for _, status := range statuses {
		shown[status.Name] = status
	}
	require.Equal(t, "Who knows", shown["nobody_knows"].DisplayName)
	require.True(t, shown["nobody_knows"].Active)
	require.Equal(t, "Twice", shown["twice_said"].DisplayName)
	require.True(t, shown["rejected"].System)
	require.NotContains(t, shown, "Nobody Knows")
	for id, want := range map[int64]string{1: "nobody_knows", 2: "twice_said", 3: "nobody_knows"} {
		lead, err := crm.Customer(ctx, us, id)
		require.NoError(t, err)
		require.Equal(t, want, lead.StatusName)
	}
	// Entries that it adds or renames later are found too.
	_, err = conn.Exec(ctx, `INSERT INTO customer_status (name, display_name) VALUES ('Much Later', 'Later'), ('CONTACTED', 'Again');
		UPDATE customer_status SET name = 'NOBODY knows', display_name = 'Still' WHERE name = 'nobody_knows'; UPDATE customer SET status_name = 'much LATER' WHERE id = 4`)
	require.NoError(t, err)
	lead, err := crm.Customer(ctx, us, 4)
	require.NoError(t, err)
	require.Equal(t, "much_later", lead.StatusName)
	lead, err = crm.Customer(ctx, us, 1)
	require.NoError(t, err)
	require.Equal(t, "nobody_knows", lead.StatusName)
	verifiedButForOthers(t, store)
	_, err = conn.Exec(ctx, `UPDATE customer SET status_name = NULL WHERE id = 4; UPDATE customer_status SET display_name = 'Who knows' WHERE name = 'nobody_knows';
		DELETE FROM customer_status WHERE name IN ('much_later', 'CONTACTED')`)
	require.NoError(t, err)

	users, err := crm.Users(ctx, us, cims.UserFilter{Role: "team_lead"}, cims.PageRequest{})
	require.NoError(t, err)
	require.Len(t, users.Items, 1)

	require.NoError(t, crm.Close(ctx))
	require.NoError(t, store.Rollback(ctx, migration.RollbackOptions{}))
	require.Equal(t, before, dump(t, conn, schema), "all is as it was")
}

// TestImpossibleAssignments checks that assignments that violate keys are set aside, can't
// occur again, and are restored by a rollback.
func TestImpossibleAssignments(t *testing.T) {
	t.Parallel()
	ctx, url, us := t.Context(), pgtest.URL(t), cims.System("test")
	pgtest.Execute(t, url, legacy.Deployed+`
		ALTER TABLE sales_manager_assignment DROP CONSTRAINT uq_customer_assignment, DROP CONSTRAINT sales_manager_assignment_customer_id_fkey,
			DROP CONSTRAINT sales_manager_assignment_sales_manager_id_fkey;
		DELETE FROM sales_manager_assignment WHERE customer_id BETWEEN 1 AND 4;
		INSERT INTO sales_manager_assignment (customer_id, sales_manager_id, assigned_at, is_active) VALUES
			(999999, 3, NULL, TRUE), (1, 888888, '2025-01-02 03:04:05.678901', TRUE), (2, 3, now(), TRUE), (2, 4, now(), TRUE), (2, 6, now(), FALSE),
			(3, 888888, now(), TRUE), (3, 3, now(), TRUE);`)
	conn, schema, store, before := asItWas(t, url)

	plan, err := store.Plan(ctx)
	require.NoError(t, err)
	rows := map[string]int64{}
	for _, f := range plan.Findings {
		if strings.Contains(f.Does, "is set aside, and comes back with a rollback") {
			rows[f.Found] = f.Rows
		}
	}
	require.Equal(t, map[string]int64{
		"1 rows are of a customer that is not there": 1, "2 rows are to a user who is not there": 2, "3 rows are of a lead that has another": 3,
	}, rows)
	require.Contains(t, plan.String(), "keys or a unique index are missing")

	require.NoError(t, store.Migrate(ctx))
	verified(t, store)
	report, err := store.Verify(ctx, migration.VerifyOptions{})
	require.NoError(t, err)
	require.Contains(t, report.Notes, "5 rows of sales_manager_assignment are set aside, until a rollback")
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	for id, want := range map[int64]int64{1: 0, 2: 4, 3: 3, 4: 0} {
		lead, err := crm.Customer(ctx, us, id)
		require.NoError(t, err)
		require.Equal(t, want, ownerOf(lead))
	}
	require.NoError(t, crm.Close(ctx))
	require.NoError(t, store.Rollback(ctx, migration.RollbackOptions{}))
	require.Equal(t, before, dump(t, conn, schema), "all is as it was")
	require.NoError(t, store.Migrate(ctx))

	crm, err = cims.New(store, nil)
	require.NoError(t, err)
	_, err = crm.Assign(ctx, us, 2, 6)
	require.NoError(t, err)
	_, err = conn.Exec(ctx, "INSERT INTO sales_manager_assignment (customer_id, sales_manager_id) VALUES (2, 3)")
	require.NoError(t, err, "the older program has its own way to say so")
	lead, err := crm.Customer(ctx, us, 2)
	require.NoError(t, err)
	require.EqualValues(t, 3, ownerOf(lead))
	_, err = conn.Exec(ctx, "DELETE FROM customer WHERE id = 5")
	require.NoError(t, err)
	verifiedButForOthers(t, store)
	require.NoError(t, crm.Close(ctx))
	require.NoError(t, store.Rollback(ctx, migration.RollbackOptions{}))
}

// verifiedButForOthers is like verified, with other programs at work.
func verifiedButForOthers(t *testing.T, store *postgres.Storage) {
	t.Helper()
	report, err := store.Verify(t.Context(), migration.VerifyOptions{WhileRunning: true})
	require.NoError(t, err)
	require.True(t, report.OK(), report)
}

func TestEntriesHaveToBeUnique(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pgtest.Execute(t, url, legacy.Deployed+"ALTER TABLE customer_status DROP CONSTRAINT customer_status_name_key")
	store := open(t, url)
	defer func() { require.NoError(t, store.Close()) }()
	require.ErrorContains(t, store.Migrate(t.Context()), `customer_status: the column "name" has to be unique`)
	plan, err := store.Plan(t.Context())
	require.NoError(t, err)
	require.Equal(t, "is refused: nothing is migrated", plan.Findings[0].Does)
}

func ownerOf(lead cims.Customer) int64 {
	if lead.SalesManager == nil {
		return 0
	}
	return lead.SalesManager.ID
}

// TestTimesThatAreNone checks that the migration refuses and names impossible times before
// it changes anything. A later row of the older program gets the time of its insert.
func TestTimesThatAreNone(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), pgtest.URL(t)
	pgtest.Execute(t, url, legacy.Deployed+`
		UPDATE customer SET created_at = 'infinity' WHERE id = 1;
		UPDATE customer SET created_at = '0044-03-15 12:00:00 BC' WHERE id = 2;
		UPDATE customer SET created_at = '10000-01-01' WHERE id = 3;
		UPDATE sales_manager_assignment SET assigned_at = '-infinity' WHERE id = 4;`)
	conn, schema, store, before := asItWas(t, url)
	plan, err := store.Plan(ctx)
	require.NoError(t, err)
	err = store.Migrate(ctx)
	for _, found := range []string{
		`customer: 3 rows hold a time in "created_at" that is none of the years 1 to 9999`,
		`sales_manager_assignment: 1 rows hold a time in "assigned_at" that is none of the years 1 to 9999`,
	} {
		require.Contains(t, plan.String(), found)
		require.ErrorContains(t, err, found)
	}
	require.Equal(t, before, dump(t, conn, schema))

	_, err = conn.Exec(ctx, `UPDATE customer SET created_at = now() AT TIME ZONE 'UTC' WHERE id < 4; UPDATE sales_manager_assignment SET assigned_at = NULL WHERE id = 4`)
	require.NoError(t, err)
	plan, err = store.Plan(ctx)
	require.NoError(t, err)
	require.Contains(t, plan.String(), "customer.created_at: its times have no zone\n    → stays as it is, and is read and written as UTC")
	require.NoError(t, store.Migrate(ctx))
	for _, at := range []string{"infinity", "-infinity", "0044-03-15 BC", "12025-01-01"} {
		_, err = conn.Exec(ctx, "INSERT INTO customer (full_name, platform, phone_number, status, created_at) VALUES ('Odd', 'site', '1', 'contacted', CAST(CAST($1 AS TEXT) AS TIMESTAMP))", at)
		require.NoError(t, err)
		_, err = conn.Exec(ctx, "UPDATE customer SET created_at = CAST(CAST($1 AS TEXT) AS TIMESTAMP) WHERE id = 1", at)
		require.NoError(t, err)
	}
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	page, err := crm.Customers(ctx, cims.System("test"), cims.CustomerFilter{}, cims.PageRequest{Limit: 5})
	require.NoError(t, err)
	for _, lead := range page.Items {
		require.WithinDuration(t, time.Now(), lead.CreatedAt, time.Hour)
	}
	require.NoError(t, crm.Close(ctx))
	verifiedButForOthers(t, store)
}

// TestRollbackWhereALeadOfWhatWasSetAsideIsGone checks that a rollback succeeds although the
// older program's keys now refuse a row that was set aside.
func TestRollbackWhereALeadOfWhatWasSetAsideIsGone(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), pgtest.URL(t)
	pgtest.Execute(t, url, legacy.Deployed+`
		ALTER TABLE sales_manager_assignment DROP CONSTRAINT uq_customer_assignment;
		DELETE FROM sales_manager_assignment WHERE customer_id BETWEEN 1 AND 2;
		INSERT INTO sales_manager_assignment (customer_id, sales_manager_id, assigned_at, is_active) VALUES
			(1, 3, now(), TRUE), (1, 4, now(), TRUE), (2, 3, now(), TRUE), (2, 4, now(), TRUE);`)
	conn := connect(t, url)
	store := open(t, url)
	defer func() { require.NoError(t, store.Close()) }()
	require.NoError(t, store.Migrate(ctx))
	_, err := conn.Exec(ctx, "DELETE FROM customer WHERE id = 1")
	require.NoError(t, err)
	require.NoError(t, store.Rollback(ctx, migration.RollbackOptions{}))
	var first, second int
	require.NoError(t, conn.QueryRow(ctx, `SELECT count(*) FILTER (WHERE customer_id = 1), count(*) FILTER (WHERE customer_id = 2)
		FROM sales_manager_assignment`).Scan(&first, &second))
	require.Equal(t, []int{0, 2}, []int{first, second})
}

// TestEntriesThatKeysReferTo checks that entries keep their names if foreign keys refer to
// these and don't follow a change.
func TestEntriesThatKeysReferTo(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ key, does string }{
		"that stop it": {"", "stays as it is, and is not used: nobody_knows is"},
		"that follow":  {"ON UPDATE CASCADE", "becomes nobody_knows"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, url := t.Context(), pgtest.URL(t)
			pgtest.Execute(t, url, legacy.Deployed+`
				INSERT INTO customer_status (name, display_name) VALUES ('Nobody Knows', 'Who knows');
				UPDATE customer SET status_name = NULL WHERE status_name NOT IN (SELECT name FROM customer_status);
				UPDATE customer SET status_name = 'Nobody Knows' WHERE id = 1;
				ALTER TABLE customer ADD CONSTRAINT theirs FOREIGN KEY (status_name) REFERENCES customer_status (name) `+test.key)
			conn, schema, store, before := asItWas(t, url)
			plan, err := store.Plan(ctx)
			require.NoError(t, err)
			require.Contains(t, plan.String(), test.does)
			require.NoError(t, store.Migrate(ctx))
			verified(t, store)
			var status string
			require.NoError(t, conn.QueryRow(ctx, "SELECT status_name FROM customer WHERE id = 1").Scan(&status))
			require.Equal(t, "nobody_knows", status)
			require.NoError(t, store.Rollback(ctx, migration.RollbackOptions{}))
			require.Equal(t, before, dump(t, conn, schema), "all is as it was")
		})
	}
}

// TestImpossibleAssignmentsInSpiteOfKeys covers rows that were inserted before the keys, or
// while these were disabled.
func TestImpossibleAssignmentsInSpiteOfKeys(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), pgtest.URL(t)
	pgtest.Execute(t, url, legacy.Deployed+`
		ALTER TABLE sales_manager_assignment DROP CONSTRAINT sales_manager_assignment_customer_id_fkey;
		INSERT INTO sales_manager_assignment (customer_id, sales_manager_id, assigned_at, is_active) VALUES (999999, 3, NULL, TRUE);
		ALTER TABLE sales_manager_assignment ADD CONSTRAINT theirs FOREIGN KEY (customer_id) REFERENCES customer (id) ON DELETE CASCADE NOT VALID;`)
	store := open(t, url)
	defer func() { require.NoError(t, store.Close()) }()
	plan, err := store.Plan(ctx)
	require.NoError(t, err)
	require.Contains(t, plan.String(), "1 rows are of a customer that is not there")
	require.NoError(t, store.Migrate(ctx))
	verified(t, store)
	require.NoError(t, store.Rollback(ctx, migration.RollbackOptions{}))
}

// TestMigrateAfterAnInterruptedRollback continues from the point of the interruption.
func TestMigrateAfterAnInterruptedRollback(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), pgtest.URL(t)
	pgtest.Execute(t, url, legacy.Deployed)
	conn := connect(t, url)
	store := open(t, url)
	defer func() { require.NoError(t, store.Close()) }()
	require.NoError(t, store.Migrate(ctx))
	_, err := conn.Exec(ctx, "BEGIN; LOCK TABLE sales_manager_assignment IN ROW EXCLUSIVE MODE")
	require.NoError(t, err)
	short, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	require.Error(t, store.Rollback(short, migration.RollbackOptions{}))
	_, err = conn.Exec(ctx, "ROLLBACK")
	require.NoError(t, err)
	require.NoError(t, store.Migrate(ctx))
	verified(t, store)
}
