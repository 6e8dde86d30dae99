package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/internal/pgtest"
	"github.com/cimskit/cims/storage/migration"
	"github.com/cimskit/cims/storage/postgres"
)

// These are common tables of a host.
const (
	hostUser     = `CREATE TABLE "user" (id serial PRIMARY KEY, email varchar(255) NOT NULL UNIQUE, name varchar(255) NOT NULL, surname varchar(255) NOT NULL, is_active boolean);`
	hostCustomer = `CREATE TABLE customer (id serial PRIMARY KEY, full_name varchar(500) NOT NULL, phone_number varchar(50), created_at timestamp NOT NULL DEFAULT now());`
	hostTables   = hostUser + hostCustomer
	hostRows     = `INSERT INTO customer (full_name, phone_number) VALUES ('Old', '+998901234567'), ('Older', 'none'); INSERT INTO "user" (email, name, surname) VALUES ('a@example.com', 'A', 'A');`
)

// with returns the common table of customers with more columns or constraints.
func with(more string) string {
	return hostUser + strings.TrimSuffix(hostCustomer, ");") + ", " + more + ");"
}

// hostSchemas are schemas of hosts. A schema works if refused is empty. Otherwise Plan's
// findings contain it.
var hostSchemas = []struct{ name, tables, refused string }{
	{"common", hostTables + hostRows, ""},
	{"without rows", hostTables, ""},
	{"only users", hostUser, ""},
	{"only customers", hostCustomer + `INSERT INTO customer (full_name) VALUES ('Old');`, ""},
	{"trigger that touches", with("touched int NOT NULL DEFAULT 0, updated_at timestamptz") + hostRows + `
		CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.touched := OLD.touched + 1; NEW.updated_at := now(); RETURN NEW; END $$;
		CREATE TRIGGER touch BEFORE UPDATE ON customer FOR EACH ROW EXECUTE FUNCTION touch();`, ""},
	{"trigger that would touch renamed rows", with("touched int NOT NULL DEFAULT 0, status_name text") + `
		INSERT INTO customer (full_name, status_name) VALUES ('Old', 'Won Deal');
		CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.touched := OLD.touched + 1; RETURN NEW; END $$;
		CREATE TRIGGER touch BEFORE UPDATE ON customer FOR EACH ROW EXECUTE FUNCTION touch();`, `the trigger "touch" would fire`},
	{"constraint that old rows break", hostTables + hostRows + `ALTER TABLE customer ADD CONSTRAINT digits CHECK (phone_number ~ '^[+0-9]+$') NOT VALID;`, ""},
	{"constraint that renamed rows break", with("status_name text") + `INSERT INTO customer (full_name, phone_number, status_name) VALUES ('Old', 'none', 'Won Deal');
		ALTER TABLE customer ADD CONSTRAINT digits CHECK (phone_number ~ '^[+0-9]+$') NOT VALID;`, `1 rows get another form in "status_name", and the rows break the constraint "digits"`},
	{"partitioned", hostUser + `CREATE TABLE customer (id int PRIMARY KEY, full_name varchar(500) NOT NULL, created_at timestamp NOT NULL DEFAULT now()) PARTITION BY HASH (id);
		CREATE TABLE customer_0 PARTITION OF customer FOR VALUES WITH (MODULUS 1, REMAINDER 0);`, "it is partitioned"},
	{"a partition", hostUser + `CREATE TABLE every (id int PRIMARY KEY, full_name varchar(500) NOT NULL, created_at timestamp NOT NULL DEFAULT now()) PARTITION BY HASH (id);
		CREATE TABLE customer PARTITION OF every FOR VALUES WITH (MODULUS 1, REMAINDER 0);`, "it is a partition of another table"},
	{"parent", hostTables + "CREATE TABLE vip (discount int) INHERITS (customer);", "other tables inherit from it"},
	{"child", hostUser + `CREATE TABLE person (full_name text NOT NULL);
		CREATE TABLE customer (id serial PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now()) INHERITS (person);`, ""},
	{"arrays", with("tags text[] NOT NULL, numbers integer[] NOT NULL, letters varchar(1)[] NOT NULL") + `INSERT INTO customer (full_name, tags, numbers, letters) VALUES ('Old', '{a}', '{1}', '{}');`, ""},
	{"array with default", with("tags text[] NOT NULL DEFAULT '{}'"), ""},
	{"reference", "CREATE TABLE company (id serial PRIMARY KEY);" + with("company_id int NOT NULL REFERENCES company"), `it takes no lead: insert or update on table "customer" violates foreign key constraint`},
	{"deferred reference", "CREATE TABLE company (id serial PRIMARY KEY);" + with("company_id int NOT NULL REFERENCES company DEFERRABLE INITIALLY DEFERRED"), `violates foreign key constraint`},
	{"kinds", with("kind text NOT NULL CHECK (kind IN ('A', 'B'))"), `violates check constraint "customer_kind_check"`},
	{"kinds with default", with("kind text NOT NULL DEFAULT 'A' CHECK (kind IN ('A', 'B'))"), ""},
	{"users' kinds", strings.Replace(hostTables, "is_active boolean", "kind text NOT NULL CHECK (kind IN ('A', 'B'))", 1), "it takes no user: "},
	{"enum", "CREATE TYPE size AS ENUM ('small', 'large');" + with("size size NOT NULL"), ""},
	{"domain", "CREATE DOMAIN phone AS text CHECK (VALUE ~ '^[+0-9]+$');" + with("fax phone NOT NULL"), `value for domain phone violates check constraint`},
	{"domain of names", "CREATE DOMAIN title AS varchar(300);" + hostUser + `CREATE TABLE customer (id serial PRIMARY KEY, full_name title NOT NULL, created_at timestamptz NOT NULL DEFAULT now());`, ""},
	{"interval", with("age interval NOT NULL"), "no harmless value of type interval"},
	{"ranges", with("span int4range NOT NULL"), "no harmless value of type int4range"},
	{"points", with("place point NOT NULL"), "no harmless value of type point"},
	{"uuid beside", with("public_id uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE"), ""},
	{"uuid key", hostUser + `CREATE TABLE customer (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), full_name text NOT NULL);`, "has to be of type integer"},
	{"key without default", hostUser + `CREATE TABLE customer (id int PRIMARY KEY, full_name text NOT NULL, created_at timestamptz NOT NULL DEFAULT now());`, `null value in column "id"`},
	{"identity", hostUser + `CREATE TABLE customer (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, full_name text NOT NULL, created_at timestamptz NOT NULL DEFAULT now());`, ""},
	{"generated", with("initial text GENERATED ALWAYS AS (left(full_name, 1)) STORED") + hostRows, ""},
	{"generated name", hostUser + `CREATE TABLE customer (id serial PRIMARY KEY, first text NOT NULL, full_name text GENERATED ALWAYS AS (first || '!') STORED, created_at timestamptz NOT NULL DEFAULT now());`, `column "full_name"`},
	{"view", hostUser + `CREATE TABLE person (id serial PRIMARY KEY, full_name text NOT NULL); CREATE VIEW customer AS SELECT * FROM person;`, "there is no such table"},
	{"view over it", hostTables + hostRows + `CREATE VIEW newest AS SELECT * FROM customer ORDER BY id DESC;`, ""},
	{"trigger that raises", hostTables + `
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'only by the form'; END $$;
		CREATE TRIGGER refuse BEFORE INSERT ON customer FOR EACH ROW EXECUTE FUNCTION refuse();`, "it takes no lead: only by the form"},
	{"trigger that drops", hostTables + `
		CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
		CREATE TRIGGER forget BEFORE INSERT ON customer FOR EACH ROW EXECUTE FUNCTION forget();`, "a trigger or rule drops the row"},
	{"trigger that fills", with("code text NOT NULL") + `
		CREATE FUNCTION code() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.code := md5(NEW.full_name); RETURN NEW; END $$;
		CREATE TRIGGER code BEFORE INSERT ON customer FOR EACH ROW EXECUTE FUNCTION code();`, ""},
	{"constraint trigger", hostTables + `
		CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'too late'; END $$;
		CREATE CONSTRAINT TRIGGER late AFTER INSERT ON customer DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();`, "it takes no lead: too late"},
	{"exclusion", with("EXCLUDE USING btree (phone_number WITH =)"), ""},
	{"unique phone", with("UNIQUE (phone_number)") + hostRows, ""},
	{"statuses", with("status_name text NOT NULL DEFAULT 'new' CHECK (status_name IN ('new', 'won'))"), `violates check constraint "customer_status_name_check"`},
	{"statuses in any form", with("status_name text") + `INSERT INTO customer (full_name, status_name) VALUES ('Old', 'Won Deal'), ('Older', NULL);`, ""},
	{"reserved and mixed names", with(`"order" int, "select" text NOT NULL DEFAULT '', "Mixed Case" text NOT NULL, "quo""te" int NOT NULL`), ""},
	{"json, bytes and numbers", with("data jsonb NOT NULL, raw bytea NOT NULL, price numeric(10, 2) NOT NULL, born date NOT NULL, small smallint NOT NULL"), ""},
	{"shorter texts", hostUser + `CREATE TABLE customer (id smallserial PRIMARY KEY, full_name varchar(10) NOT NULL, phone_number varchar(9), created_at timestamptz NOT NULL DEFAULT now());`, ""},
	{"short names of statuses", with("status_name varchar(5)"), "value too long"},
	{"row level security of others", hostTables + hostRows + "ALTER TABLE customer ENABLE ROW LEVEL SECURITY;", ""},
}

// description describes the tables, columns, constraints, triggers, sequences and rows of a schema.
const description = `SELECT string_agg(line, E'\n' ORDER BY line) FROM (
	SELECT 'relation ' || c.relname || ' ' || CAST(c.relkind AS TEXT) AS line FROM pg_class AS c WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema()))
	UNION ALL SELECT 'column ' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || COALESCE(pg_get_expr(d.adbin, d.adrelid), '')
		FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid AND c.relkind = 'r' LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
		WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema())) AND a.attnum > 0 AND NOT a.attisdropped
	UNION ALL SELECT 'constraint ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = to_regnamespace(quote_ident(current_schema()))
	UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema())) AND NOT tgisinternal
	UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = to_regnamespace(quote_ident(current_schema()))
	UNION ALL SELECT 'sequence ' || sequencename || ' ' || COALESCE(last_value, 0) FROM pg_sequences WHERE schemaname = current_schema()
	UNION ALL SELECT 'rows ' || c.relname || ' ' || CAST(query_to_xml(format('SELECT * FROM %s', CAST(c.oid AS regclass)), TRUE, TRUE, '') AS TEXT)
		FROM pg_class AS c WHERE c.relkind IN ('r', 'p') AND c.relnamespace = to_regnamespace(quote_ident(current_schema()))
) AS lines`

func dumped(t *testing.T, url string) (text string) {
	t.Helper()
	require.NoError(t, connect(t, url).QueryRow(t.Context(), description).Scan(&text))
	return text
}

// refusals returns the findings of a plan for which nothing is migrated.
func refusals(plan migration.Plan) (found []string) {
	for _, f := range plan.Findings {
		if strings.HasPrefix(f.Does, "is refused") {
			found = append(found, f.Where+": "+f.Found)
		}
	}
	return found
}

// TestPlanMeansIt checks that a host's schema either works with all that belongs to it, or is
// refused by Plan and Migrate before anything is written.
func TestPlanMeansIt(t *testing.T) {
	t.Parallel()
	for _, s := range hostSchemas {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			pgtest.Execute(t, url, s.tables)
			meansIt(t, url, s.refused)
		})
	}
}

func meansIt(t *testing.T, url, refused string, options ...postgres.Option) {
	t.Helper()
	ctx, before := t.Context(), dumped(t, url)
	store := open(t, url, options...)
	defer func() { require.NoError(t, store.Close()) }()
	plan, err := store.Plan(ctx)
	require.NoError(t, err)
	require.Equal(t, before, dumped(t, url), "Plan changes nothing")
	found := refusals(plan)
	if refused != "" {
		require.Contains(t, strings.Join(found, "\n"), refused)
		require.ErrorContains(t, store.Migrate(ctx), refused)
		_, err := store.SQL(ctx)
		require.ErrorContains(t, err, refused)
		require.Equal(t, before, dumped(t, url), "nothing is written")
		return
	}
	require.Empty(t, found)
	require.NoError(t, store.Migrate(ctx))
	verified(t, store)
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	user := seller(t, crm, "anvar")
	lead, err := crm.AddCustomer(ctx, system, cims.NewCustomer{FullName: "New", PhoneNumber: "990000000"})
	require.NoError(t, err)
	require.Equal(t, user.ID, lead.SalesManager.ID)
	require.NoError(t, crm.Close(ctx))
	pgtest.Execute(t, url, `DELETE FROM customer WHERE full_name = 'New'; DELETE FROM "user" WHERE email = 'anvar@example.com';`)
	verified(t, store)
	require.NoError(t, store.Rollback(ctx, migration.RollbackOptions{Force: true}))
	require.Equal(t, withoutSequences(before), withoutSequences(dumped(t, url)), "Rollback leaves it as it was")
}

// withoutSequences leaves out the numbers that sequences have given.
func withoutSequences(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "sequence ") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// TestRowLevelSecurityIsRefused checks that a user from whom a policy hides rows can't
// migrate.
func TestRowLevelSecurityIsRefused(t *testing.T) {
	t.Parallel()
	url, role := pgtest.URL(t), "owner_"+uuid.NewString()[:8]
	pgtest.Execute(t, url, fmt.Sprintf(`CREATE ROLE %s; %s %s
		ALTER TABLE customer OWNER TO %[1]s; ALTER TABLE "user" OWNER TO %[1]s;
		DO $$ BEGIN EXECUTE format('GRANT ALL ON SCHEMA %%I TO %[1]s', current_schema()); END $$;
		ALTER TABLE customer ENABLE ROW LEVEL SECURITY; ALTER TABLE customer FORCE ROW LEVEL SECURITY;
		CREATE POLICY few ON customer USING (full_name <> 'Old');`, role, hostTables, hostRows))
	t.Cleanup(func() { pgtest.Execute(t, pgtest.Need(t), fmt.Sprintf("DROP OWNED BY %[1]s; DROP ROLE %[1]s", role)) })
	before := dumped(t, url)
	store := open(t, url+"&options=-crole%3D"+role)
	defer func() { require.NoError(t, store.Close()) }()
	plan, err := store.Plan(t.Context())
	require.NoError(t, err)
	require.Contains(t, strings.Join(refusals(plan), "\n"), "customer: row level security hides rows")
	require.ErrorContains(t, store.Migrate(t.Context()), "row level security hides rows")
	require.Equal(t, before, dumped(t, url))
}

// TestPlanMentionsAStatusThatNobodyMapped checks that Plan says how a host's own column of
// statuses can be used.
func TestPlanMentionsAStatusThatNobodyMapped(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pgtest.Execute(t, url, with("status varchar(50)")+`INSERT INTO customer (full_name, status) VALUES ('Old', 'won');`)
	store := open(t, url)
	defer func() { require.NoError(t, store.Close()) }()
	plan, err := store.Plan(t.Context())
	require.NoError(t, err)
	require.Empty(t, refusals(plan))
	require.Contains(t, plan.String(), `customer.status: it seems to hold statuses`)
	require.Contains(t, plan.String(), `Columns: {"status_name": "status"}`)
}
