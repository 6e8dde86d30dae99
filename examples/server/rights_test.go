package main

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims/internal/pgtest"
)

// roleOfItsOwn is a role that has rights on the tables that are there now, and on
// nothing that comes later.
func roleOfItsOwn(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	role := "older_" + uuid.NewString()[:8]
	schema := value[string](t, conn, "SELECT quote_ident(current_schema())")
	pgtest.Execute(t, pgtest.Need(t), fmt.Sprintf(`CREATE ROLE %[1]s; GRANT USAGE ON SCHEMA %[2]s TO %[1]s;
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %[2]s TO %[1]s; GRANT USAGE ON ALL SEQUENCES IN SCHEMA %[2]s TO %[1]s`, role, schema))
	t.Cleanup(func() { pgtest.Execute(t, pgtest.Need(t), fmt.Sprintf("DROP OWNED BY %[1]s; DROP ROLE %[1]s", role)) })
	return role
}

// TestTheOlderProgramUnderARoleOfItsOwn: what is ours is written for it, whatever
// it has rights on, and it gets no right by that.
func TestTheOlderProgramUnderARoleOfItsOwn(t *testing.T) {
	t.Parallel()
	for _, d := range olderDatabases[:2] {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			url, _ := d.load(t)
			conn := connect(t, url)
			before := remember(t, conn)
			role := roleOfItsOwn(t, conn)
			plan := migrated(t, withOptions(t, url, "-crole="+role+" -cdefault_transaction_read_only=on"), "plan")
			require.Contains(t, plan, "this user may create nothing in it")
			require.Contains(t, plan, "customer: this user does not own it")
			require.Contains(t, plan, "the server: it takes no writes from this user")
			plan = migrated(t, url, "plan")
			require.NotContains(t, plan, "this user")
			migrated(t, url, "up")
			theirs := withOptions(t, url, "-crole="+role+" -ccims.grace=1h")
			older := startOlder(t, theirs)
			older.assigns = d.names

			for _, deed := range deeds {
				if older.assigns || !deed.assign {
					older.work(deed)
				}
			}
			require.NoError(t, older.setRole(11, "member"))
			require.NoError(t, older.setRole(11, "financial_director"))
			lead, err := older.insert("Theirs", "need_to_call")
			require.NoError(t, err)
			require.NoError(t, older.setStatus(lead, "finished"))
			require.Empty(t, older.failures)
			require.True(t, value[bool](t, conn, "SELECT due_at > now() + INTERVAL '50 minutes' FROM cims_unassigned WHERE customer_id = $1", lead), "its own time of grace")

			restricted := connect(t, theirs)
			denied := func(statement string) {
				t.Helper()
				_, err := restricted.Exec(t.Context(), statement)
				var refused *pgconn.PgError
				require.ErrorAs(t, err, &refused, statement)
				require.Equal(t, "42501", refused.Code, statement)
			}
			denied("SELECT count(*) FROM cims_unassigned")
			denied("DELETE FROM cims_audit")
			// A trigger on a table of its own would have them write what it likes.
			_, err = restricted.Exec(t.Context(), "CREATE TEMP TABLE mine (id BIGINT, created_at TIMESTAMPTZ, status_name TEXT)")
			require.NoError(t, err)
			for _, function := range texts(t, conn, "SELECT proname::text FROM pg_proc WHERE prosecdef AND pronamespace = to_regnamespace(quote_ident(current_schema()))") {
				denied("CREATE TRIGGER mine AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION " + function + "()")
			}
			// A temporary table of a name of ours is not taken for ours.
			_, err = restricted.Exec(t.Context(), `CREATE TEMP TABLE cims_unassigned (customer_id BIGINT, customer_created_at TIMESTAMPTZ, waiting BOOLEAN, due_at TIMESTAMPTZ);
				CREATE TEMP TABLE customer_status (name TEXT, display_name TEXT, is_active BOOLEAN, is_system BOOLEAN, created_at TIMESTAMP, updated_at TIMESTAMP);
				CREATE TEMP TABLE cims_added (kind TEXT, table_name TEXT, name TEXT);
				INSERT INTO customer (full_name, platform, phone_number, status, created_at) VALUES ('Shadow', 'site', '1', 'contacted', now())`)
			require.NoError(t, err)
			_, err = restricted.Exec(t.Context(), "UPDATE customer SET status_name = 'shadowy' WHERE full_name = 'Shadow'")
			require.NoError(t, err)
			require.Zero(t, value[int64](t, restricted, "SELECT (SELECT count(*) FROM pg_temp.cims_unassigned) + (SELECT count(*) FROM pg_temp.customer_status) + (SELECT count(*) FROM pg_temp.cims_added)"))

			before.requireConsistent(t, conn)
			migrated(t, url, "verify", "-while-running")
			_, err = restricted.Exec(t.Context(), "DELETE FROM customer WHERE status_name = 'shadowy'") // which has no label
			require.NoError(t, err)
			migrated(t, url, "rollback")
		})
	}
}
