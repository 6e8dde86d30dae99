-- Makes the tables of cims, and adds to yours the columns that they lack; changes nothing else.

-- Names. The host may call its tables and columns otherwise.
CREATE TABLE cims_host (table_name TEXT PRIMARY KEY, relation TEXT NOT NULL, columns JSONB NOT NULL);
INSERT INTO cims_host VALUES ('customer', {'customer'}, {'customer.*'}), ('user', {'user'}, {'user.*'});

-- cims_relation returns the table that a name stands for, or NULL if there is none.
CREATE FUNCTION cims_relation(tab TEXT) RETURNS REGCLASS LANGUAGE sql STABLE SET search_path FROM CURRENT AS
	$$ SELECT to_regclass(COALESCE((SELECT relation FROM cims_host WHERE table_name = tab), quote_ident(tab))) $$;

-- cims_make_view makes the view by which cims reads and writes a table under
-- another name. A second call adds the columns that the table has gained since.
CREATE FUNCTION cims_make_view(tab TEXT) RETURNS VOID LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
	list TEXT;
	complete BOOLEAN;
BEGIN
	SELECT string_agg(format('%I AS %I', c.real_name, c.name), ', ' ORDER BY v.attnum, c.place), bool_and(v.attnum IS NOT NULL) INTO list, complete
	FROM (
		SELECT a.attname AS real_name, a.attnum AS place, COALESCE(
			(SELECT key FROM jsonb_each_text(h.columns) WHERE value = a.attname),
			CASE WHEN h.columns ? a.attname THEN 'cims_own_' ELSE '' END || a.attname
		) AS name
		FROM cims_host AS h JOIN pg_attribute AS a ON a.attrelid = cims_relation(h.table_name) AND a.attnum > 0 AND NOT a.attisdropped
		WHERE h.table_name = tab
	) AS c LEFT JOIN pg_attribute AS v ON v.attrelid = to_regclass(quote_ident(tab)) AND v.attname = c.name AND v.attnum > 0;
	IF NOT complete THEN
		EXECUTE format('CREATE OR REPLACE VIEW %I AS SELECT %s FROM %s', tab, list, cims_relation(tab));
	END IF;
END $$;

-- Rollback. These tables hold what a rollback drops and restores.

-- cims_added lists the tables, columns and entries that cims added.
CREATE TABLE cims_added (
	kind TEXT NOT NULL, -- table, column or row
	table_name TEXT NOT NULL,
	name TEXT NOT NULL DEFAULT '', -- of the column or the entry
	PRIMARY KEY (kind, table_name, name)
);

-- cims_replaced_name holds the names that cims changed.
CREATE TABLE cims_replaced_name (
	table_name TEXT NOT NULL,
	row_id BIGINT NOT NULL,
	old_name TEXT,
	new_name TEXT NOT NULL,
	PRIMARY KEY (table_name, row_id)
);

-- cims_set_aside holds rows, whole, that could not stay in their tables.
CREATE TABLE cims_set_aside (table_name TEXT NOT NULL, row_id BIGINT NOT NULL, original JSONB NOT NULL, PRIMARY KEY (table_name, row_id));

-- Verification. These tables hold what Verify compares with what it finds.

-- cims_original_column lists the columns that the tables had before cims.
CREATE TABLE cims_original_column (table_name TEXT NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL, place INTEGER NOT NULL, PRIMARY KEY (table_name, name));

-- cims_filled holds a digest of the original columns for each range of filled rows.
CREATE TABLE cims_filled (
	table_name TEXT NOT NULL,
	above BIGINT NOT NULL,
	up_to BIGINT NOT NULL,
	row_count BIGINT NOT NULL,
	digest NUMERIC NOT NULL,
	PRIMARY KEY (table_name, up_to)
);

-- cims_part lists tables, columns, indexes, keys, triggers and functions: first the
-- original ones, and in the last step those of cims. cims_parts lists the present
-- ones. Of a host's tables, they list only the columns that cims added.
CREATE TABLE cims_part (kind TEXT NOT NULL, name TEXT NOT NULL, original BOOLEAN NOT NULL, PRIMARY KEY (kind, name));
CREATE VIEW cims_parts AS
	WITH ours AS (
		SELECT c.oid, c.relname FROM pg_class AS c WHERE c.oid IN (cims_relation('customer'), cims_relation('user'))
		OR c.relkind = 'r' AND c.relnamespace = to_regnamespace(quote_ident(current_schema())) AND (c.relname IN ('customer_status', 'user_role', 'sales_manager_assignment', 'sales_manager_counter',
			'sales_manager_rotation', 'customer_status_history', 'assignment_history') OR c.relname LIKE 'cims\_%')
	)
	SELECT 'table' AS kind, CAST(relname AS TEXT) AS name FROM ours
	UNION ALL SELECT 'index', CAST(c.relname AS TEXT) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
		WHERE i.indrelid IN (SELECT oid FROM ours) AND i.indisvalid
	UNION ALL SELECT 'key', o.relname || '.' || k.conname FROM pg_constraint AS k JOIN ours AS o ON o.oid = k.conrelid
		WHERE k.contype IN ('f', 'u', 'p') AND k.convalidated
	UNION ALL SELECT 'trigger', o.relname || '.' || t.tgname FROM pg_trigger AS t JOIN ours AS o ON o.oid = t.tgrelid
		WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'
	UNION ALL SELECT 'column', o.relname || '.' || a.attname FROM ours AS o JOIN pg_attribute AS a ON a.attrelid = o.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE NOT EXISTS (SELECT 1 FROM cims_original_column AS t WHERE cims_relation(t.table_name) = o.oid)
		OR EXISTS (SELECT 1 FROM cims_added AS t WHERE t.kind = 'column' AND t.name = a.attname AND cims_relation(t.table_name) = o.oid)
	UNION ALL SELECT DISTINCT 'function', p.proname || ', as it was (' || md5(p.prosrc || CASE WHEN p.prosecdef THEN ' with the rights of its owner' ELSE '' END) || ')'
		FROM pg_proc AS p WHERE p.proname LIKE 'cims\_%' AND p.pronamespace = to_regnamespace(quote_ident(current_schema()));

INSERT INTO cims_original_column (table_name, name, type, place)
SELECT t.name, a.attname, format_type(a.atttypid, a.atttypmod), a.attnum
FROM (VALUES ('customer'), ('user'), ('customer_status'), ('user_role'), ('sales_manager_assignment'), ('sales_manager_counter')) AS t (name)
JOIN pg_attribute AS a ON a.attrelid = cims_relation(t.name) AND a.attnum > 0 AND NOT a.attisdropped;

INSERT INTO cims_part SELECT kind, name, TRUE FROM cims_parts WHERE name NOT LIKE 'cims\_%';

INSERT INTO cims_added (kind, table_name)
SELECT 'table', t.name
FROM (VALUES ('customer'), ('user'), ('customer_status'), ('user_role'), ('sales_manager_assignment'), ('sales_manager_counter')) AS t (name)
WHERE cims_relation(t.name) IS NULL;

-- Progress. cims_fill holds how far each table is filled.
CREATE TABLE cims_fill (
	table_name TEXT PRIMARY KEY,
	position BIGINT NOT NULL, -- the last filled id
	last BIGINT NOT NULL, -- triggers fill the rows after this id
	done BIGINT NOT NULL,
	total BIGINT NOT NULL
);

-- Tables that may be there already.

CREATE TABLE IF NOT EXISTS customer_status (
	id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	name VARCHAR(100) NOT NULL UNIQUE,
	display_name VARCHAR(255) NOT NULL,
	description TEXT,
	color VARCHAR(50),
	"order" INTEGER DEFAULT 0,
	is_active BOOLEAN DEFAULT TRUE,
	is_system BOOLEAN DEFAULT FALSE,
	created_at TIMESTAMPTZ,
	updated_at TIMESTAMPTZ
);

CREATE TABLE IF NOT EXISTS user_role (
	id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	name VARCHAR(100) NOT NULL UNIQUE,
	display_name VARCHAR(255) NOT NULL,
	description TEXT,
	is_active BOOLEAN DEFAULT TRUE,
	is_system BOOLEAN DEFAULT FALSE,
	created_at TIMESTAMPTZ,
	updated_at TIMESTAMPTZ
);
ALTER TABLE user_role ADD COLUMN IF NOT EXISTS permissions TEXT NOT NULL DEFAULT '';

CREATE TABLE IF NOT EXISTS {user} (
	id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	email VARCHAR(255) NOT NULL UNIQUE,
	name VARCHAR(255) NOT NULL,
	surname VARCHAR(255) NOT NULL,
	is_active BOOLEAN NOT NULL DEFAULT TRUE
);
ALTER TABLE {user}
	ADD COLUMN IF NOT EXISTS {user.name} VARCHAR(255) NOT NULL DEFAULT '',
	ADD COLUMN IF NOT EXISTS {user.surname} VARCHAR(255) NOT NULL DEFAULT '',
	ADD COLUMN IF NOT EXISTS {user.is_active} BOOLEAN NOT NULL DEFAULT TRUE,
	ADD COLUMN IF NOT EXISTS {user.role_name} VARCHAR(100);

CREATE TABLE IF NOT EXISTS {customer} (
	id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	full_name VARCHAR(500) NOT NULL,
	phone_number VARCHAR(50),
	platform VARCHAR(255),
	username VARCHAR(255),
	notes TEXT,
	created_at TIMESTAMPTZ NOT NULL
);
-- A default fills in the rows without writing them: no trigger fires, and no constraint is
-- checked. The enum of the older program says more than the default.
DO $$ BEGIN
	IF NOT EXISTS (
		SELECT 1 FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
		WHERE a.attrelid = cims_relation('customer') AND a.attname = 'status' AND NOT a.attisdropped AND t.typtype = 'e'
	) THEN
		ALTER TABLE {customer} ADD COLUMN IF NOT EXISTS {customer.status_name} VARCHAR(100) DEFAULT 'contacted';
	END IF;
END $$;
-- cims raises cims_version with each of its writes, here and in the assignments.
-- So a trigger can tell the writes of other programs.
ALTER TABLE {customer}
	ADD COLUMN IF NOT EXISTS {customer.phone_number} VARCHAR(50),
	ADD COLUMN IF NOT EXISTS {customer.platform} VARCHAR(255),
	ADD COLUMN IF NOT EXISTS {customer.username} VARCHAR(255),
	ADD COLUMN IF NOT EXISTS {customer.notes} TEXT,
	ADD COLUMN IF NOT EXISTS {customer.created_at} TIMESTAMPTZ NOT NULL DEFAULT now(),
	ADD COLUMN IF NOT EXISTS {customer.updated_at} TIMESTAMPTZ,
	ADD COLUMN IF NOT EXISTS {customer.status_name} VARCHAR(100),
	ADD COLUMN cims_version INTEGER NOT NULL DEFAULT 0;

-- sales_manager_assignment holds the owner of each lead, in one row. It repeats the
-- lead's time of creation: one index then lists the newest leads of an owner.
CREATE TABLE IF NOT EXISTS sales_manager_assignment (
	id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	customer_id BIGINT NOT NULL REFERENCES {customer} ({customer.id}) ON DELETE CASCADE,
	sales_manager_id BIGINT NOT NULL REFERENCES {user} ({user.id}) ON DELETE CASCADE,
	assigned_at TIMESTAMPTZ,
	assigned_by BIGINT REFERENCES {user} ({user.id}) ON DELETE SET NULL,
	is_active BOOLEAN DEFAULT TRUE,
	CONSTRAINT uq_customer_assignment UNIQUE (customer_id)
);
ALTER TABLE sales_manager_assignment
	ADD COLUMN IF NOT EXISTS customer_created_at TIMESTAMPTZ,
	ADD COLUMN cims_version INTEGER NOT NULL DEFAULT 0;

-- sales_manager_counter is the lock of the rotation, with its floor and its number
-- of turns. Taking the lock raises the version. So one statement can take it and
-- tell whether the rotation has changed since it was read.
CREATE TABLE IF NOT EXISTS sales_manager_counter (
	id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	last_assigned_index INTEGER DEFAULT 0,
	updated_at TIMESTAMPTZ
);
ALTER TABLE sales_manager_counter
	ADD COLUMN IF NOT EXISTS ledger TEXT NOT NULL DEFAULT '[]',
	ADD COLUMN IF NOT EXISTS turn BIGINT NOT NULL DEFAULT 0,
	ADD COLUMN IF NOT EXISTS version BIGINT NOT NULL DEFAULT 0;

INSERT INTO cims_added (kind, table_name, name)
SELECT 'column', t.name, a.attname
FROM (SELECT DISTINCT table_name AS name FROM cims_original_column) AS t
JOIN pg_attribute AS a ON a.attrelid = cims_relation(t.name) AND a.attnum > 0 AND NOT a.attisdropped
WHERE NOT EXISTS (SELECT 1 FROM cims_original_column AS o WHERE o.table_name = t.name AND o.name = a.attname);

SELECT cims_make_view(table_name) FROM cims_host
WHERE relation <> quote_ident(table_name);

-- Tables of cims alone.

-- sales_manager_rotation holds the members of the rotation.
CREATE TABLE sales_manager_rotation (
	sales_manager_id BIGINT PRIMARY KEY REFERENCES {user} ({user.id}) ON DELETE CASCADE,
	weight INTEGER NOT NULL DEFAULT 1,
	paused BOOLEAN NOT NULL DEFAULT FALSE,
	assigned_leads_count BIGINT NOT NULL DEFAULT 0
);

-- cims_unassigned holds the leads without an owner. A waiting lead gets one as soon as
-- due_at has passed. The others had none before cims, and get one on request only.
CREATE TABLE cims_unassigned (
	customer_id BIGINT PRIMARY KEY REFERENCES {customer} ({customer.id}) ON DELETE CASCADE,
	customer_created_at TIMESTAMPTZ NOT NULL,
	waiting BOOLEAN NOT NULL,
	due_at TIMESTAMPTZ
);
CREATE INDEX cims_unassigned_newest ON cims_unassigned (customer_created_at DESC, customer_id DESC);

-- Histories refer to nothing by a foreign key: they outlast the rows that they tell of.
CREATE TABLE customer_status_history (
	id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	customer_id BIGINT NOT NULL,
	from_status VARCHAR(100),
	to_status VARCHAR(100) NOT NULL,
	cause VARCHAR(20) NOT NULL,
	changed_by BIGINT,
	reason TEXT,
	owner_id BIGINT,
	changed_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX customer_status_history_customer ON customer_status_history (customer_id, to_status);

CREATE TABLE assignment_history (
	id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	customer_id BIGINT NOT NULL,
	from_manager_id BIGINT,
	to_manager_id BIGINT,
	cause VARCHAR(20) NOT NULL,
	changed_by BIGINT,
	changed_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX assignment_history_customer ON assignment_history (customer_id);

-- cims_idempotency keeps the answers to requests with an idempotency key.
CREATE TABLE cims_idempotency (
	scope VARCHAR(400) NOT NULL,
	key VARCHAR(255) NOT NULL,
	fingerprint VARCHAR(64) NOT NULL,
	result TEXT NOT NULL,
	created_at TIMESTAMPTZ NOT NULL,
	PRIMARY KEY (scope, key)
);
CREATE INDEX cims_idempotency_created ON cims_idempotency (created_at);

-- cims_audit is the audit log. Like the histories, it has no foreign keys.
-- old_state and new_state keep their JSON as it was written.
CREATE TABLE cims_audit (
	id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	change_id VARCHAR(36) NOT NULL,
	at TIMESTAMPTZ NOT NULL,
	request_id VARCHAR(128),
	user_id BIGINT,
	email TEXT,
	name TEXT,
	surname TEXT,
	system VARCHAR(100),
	action VARCHAR(20) NOT NULL,
	entity VARCHAR(20) NOT NULL,
	entity_id BIGINT NOT NULL,
	cause VARCHAR(20),
	move_to VARCHAR(100),
	old_state TEXT,
	new_state TEXT
);
CREATE INDEX cims_audit_entity ON cims_audit (entity, entity_id, id);
CREATE INDEX cims_audit_user ON cims_audit (user_id, id);

-- Rows of cims_audit can't be changed or deleted, unless the owner of the table drops
-- this trigger.
CREATE FUNCTION cims_audit_kept() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'cims_audit can only be added to' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER cims_audit_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON cims_audit
	FOR EACH STATEMENT EXECUTE FUNCTION cims_audit_kept();
ALTER TABLE cims_audit ENABLE ALWAYS TRIGGER cims_audit_kept;
