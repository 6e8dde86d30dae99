-- Adds the system statuses and roles that are missing, and sets impossible assignments aside.

-- The TIMESTAMP columns of the older program hold UTC.
SET LOCAL timezone = 'UTC';

-- Names.

-- cims_name returns the form in which names of statuses and roles are stored, or NULL
-- for an empty name.
CREATE FUNCTION cims_name(raw TEXT) RETURNS TEXT LANGUAGE sql IMMUTABLE AS
	$$ SELECT NULLIF(left(replace(lower(btrim(raw)), ' ', '_'), 100), '') $$;

-- cims_is_enum reports whether a column is an enum. Those of the older program are.
CREATE FUNCTION cims_is_enum(tab TEXT, col TEXT) RETURNS BOOLEAN LANGUAGE sql STABLE AS $$
	SELECT EXISTS (
		SELECT 1 FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
		WHERE a.attrelid = cims_relation(tab) AND a.attname = col AND NOT a.attisdropped AND t.typtype = 'e'
	)
$$;

-- cims_add_entry makes an entry for a name that has none. The entry is inactive: rows
-- keep the name, and nobody can choose it.
CREATE FUNCTION cims_add_entry(tab TEXT, new_name TEXT) RETURNS VOID LANGUAGE plpgsql SET timezone = 'UTC' SET search_path FROM CURRENT AS $$
DECLARE
	missing BOOLEAN;
	added TEXT;
BEGIN
	EXECUTE format('SELECT NOT EXISTS (SELECT 1 FROM %I WHERE name = $1)', tab) INTO missing USING new_name;
	IF missing THEN
		EXECUTE format('INSERT INTO %I (name, display_name, is_active, is_system, created_at, updated_at)
			VALUES ($1, $1, FALSE, FALSE, now(), now()) ON CONFLICT (name) DO NOTHING RETURNING name', tab) INTO added USING new_name;
		IF added IS NOT NULL THEN
			INSERT INTO cims_added VALUES ('row', tab, added);
		END IF;
	END IF;
END $$;

-- Statuses and roles.

-- The entries of the older program get the stored form of their names. Of several
-- with one form, an active entry gets it. None gets it where an entry has it already,
-- or where foreign keys refer to the names and don't follow a change. System entries
-- are marked as such. A rollback restores both.
DO $$
DECLARE
	tab TEXT;
BEGIN
	FOREACH tab IN ARRAY ARRAY['customer_status', 'user_role'] LOOP
		IF NOT EXISTS (
			SELECT 1 FROM pg_constraint AS k JOIN pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = ANY (k.confkey)
			WHERE k.contype = 'f' AND k.confrelid = CAST(tab AS regclass) AND k.confupdtype <> 'c' AND a.attname = 'name'
		) THEN
			EXECUTE format('INSERT INTO cims_replaced_name SELECT DISTINCT ON (cims_name(name)) %1$L, id, name, cims_name(name) FROM %1$I AS e
				WHERE name <> cims_name(name) AND NOT EXISTS (SELECT 1 FROM %1$I AS t WHERE t.name = cims_name(e.name))
				ORDER BY cims_name(name), is_active DESC NULLS LAST, id', tab);
		END IF;
		EXECUTE format('UPDATE %1$I AS e SET name = r.new_name FROM cims_replaced_name AS r WHERE r.table_name = %1$L AND r.row_id = e.id', tab);
		EXECUTE format('INSERT INTO cims_replaced_name SELECT %2$L, id, CAST(is_system AS TEXT), name FROM %1$I WHERE is_system IS NOT TRUE AND name = ANY ($1)',
			tab, tab || '.is_system') USING CASE tab
			WHEN 'user_role' THEN ARRAY['ceo', 'financial_director', 'sales_manager', 'member', 'customer']
			ELSE ARRAY['contacted', 'project_started', 'continuing', 'finished', 'rejected', 'need_to_call'] END;
		EXECUTE format('UPDATE %1$I AS e SET is_system = TRUE FROM cims_replaced_name AS r WHERE r.table_name = %2$L AND r.row_id = e.id', tab, tab || '.is_system');
	END LOOP;
END $$;

WITH added AS (
	INSERT INTO customer_status (name, display_name, description, color, "order", is_active, is_system, created_at, updated_at)
	SELECT e.name, e.display_name, e.description, e.color, e.place, TRUE, TRUE, now(), now() FROM (VALUES
		('contacted', 'Contacted', 'Initial contact made', '#3B82F6', 1),
		('project_started', 'Project Started', 'Project has started', '#10B981', 2),
		('continuing', 'Continuing', 'Project is continuing', '#F59E0B', 3),
		('finished', 'Finished', 'Project completed', '#8B5CF6', 4),
		('rejected', 'Rejected', 'Lead rejected', '#EF4444', 5),
		('need_to_call', 'Need to Call', 'Follow-up call needed', '#F97316', 6)
	) AS e (name, display_name, description, color, place)
	WHERE NOT EXISTS (SELECT 1 FROM customer_status AS t WHERE t.name = e.name)
	ON CONFLICT (name) DO NOTHING RETURNING name
) INSERT INTO cims_added SELECT 'row', 'customer_status', name FROM added;

WITH added AS (
	INSERT INTO user_role (name, display_name, description, is_active, is_system, created_at, updated_at)
	SELECT e.name, e.display_name, e.description, TRUE, TRUE, now(), now() FROM (VALUES
		('ceo', 'CEO', 'Chief Executive Officer'),
		('financial_director', 'Financial Director', 'Financial Director'),
		('sales_manager', 'Sales Manager', 'Sales Manager for CRM'),
		('member', 'Member', 'Team Member'),
		('customer', 'Customer', 'Customer/Client')
	) AS e (name, display_name, description)
	WHERE NOT EXISTS (SELECT 1 FROM user_role AS t WHERE t.name = e.name)
	ON CONFLICT (name) DO NOTHING RETURNING name
) INSERT INTO cims_added SELECT 'row', 'user_role', name FROM added;

UPDATE user_role SET permissions = defaults.permissions
FROM (VALUES
	('ceo', 'statuses:read statuses:write roles:read roles:write users:read users:write leads:read leads:read:own leads:write leads:write:own leads:assign analytics:read audit:read'),
	('financial_director', 'statuses:read roles:read leads:read analytics:read'),
	('member', 'statuses:read roles:read leads:read analytics:read'),
	('sales_manager', 'statuses:read leads:read:own leads:write:own analytics:read')
) AS defaults (name, permissions)
WHERE user_role.name = defaults.name AND user_role.permissions = '';

-- The counter has one row, and new customers one status.
WITH added AS (
	INSERT INTO sales_manager_counter (last_assigned_index, updated_at)
	SELECT -1, now() WHERE NOT EXISTS (SELECT 1 FROM sales_manager_counter) RETURNING id
) INSERT INTO cims_added SELECT 'row', 'sales_manager_counter', id FROM added;

DO $$ BEGIN
	IF NOT cims_is_enum('customer', 'status') AND EXISTS (
		SELECT 1 FROM cims_added WHERE table_name = 'customer' AND (kind = 'table' OR kind = 'column' AND name = {'customer.status_name'})
	) THEN
		ALTER TABLE {customer} ALTER COLUMN {customer.status_name} SET DEFAULT 'contacted';
	END IF;
END $$;

-- Assignments.

-- cims_set_aside sets aside each assignment without its customer or its user. Of
-- several assignments of one customer it keeps the last active one.
CREATE FUNCTION cims_set_aside() RETURNS VOID LANGUAGE sql SET search_path FROM CURRENT AS $$
	WITH looked_at AS (
		SELECT a.id, a.customer_id, a.is_active, EXISTS (SELECT 1 FROM customer AS c WHERE c.id = a.customer_id)
			AND EXISTS (SELECT 1 FROM "user" AS u WHERE u.id = a.sales_manager_id) AS possible
		FROM sales_manager_assignment AS a
	), ranked AS (
		SELECT id, possible, row_number() OVER (PARTITION BY customer_id ORDER BY possible DESC, is_active DESC NULLS LAST, id DESC) AS place FROM looked_at
	), gone AS (
		DELETE FROM sales_manager_assignment AS a USING ranked AS r WHERE r.id = a.id AND (r.place > 1 OR NOT r.possible) RETURNING a.*
	)
	INSERT INTO cims_set_aside SELECT 'sales_manager_assignment', id, to_jsonb(gone) FROM gone
$$;

-- The table may lack the keys that prevent such assignments. It gets them under a lock,
-- so that no such assignment comes in between. Most of the work is done before that.
DO $$
DECLARE
	lacking TEXT[] := (
		SELECT array_agg(format('ALTER TABLE sales_manager_assignment ADD CONSTRAINT %I FOREIGN KEY (%I) REFERENCES %s ON DELETE CASCADE NOT VALID', k.name, k.col, k.target))
		FROM (VALUES ('cims_assignment_customer', 'customer_id', '{customer} ({customer.id})'), ('cims_assignment_user', 'sales_manager_id', '{user} ({user.id})')) AS k (name, col, target)
		JOIN pg_attribute AS a ON a.attrelid = CAST('sales_manager_assignment' AS regclass) AND a.attname = k.col
		WHERE NOT EXISTS (SELECT 1 FROM pg_constraint AS c WHERE c.conrelid = a.attrelid AND c.contype = 'f' AND c.conkey = ARRAY[a.attnum])
	);
BEGIN
	IF NOT EXISTS (
		SELECT 1 FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
		WHERE i.indrelid = CAST('sales_manager_assignment' AS regclass) AND a.attname = 'customer_id' AND i.indnkeyatts = 1
		AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
	) THEN
		lacking := lacking || CAST('CREATE UNIQUE INDEX cims_assignment_unique ON sales_manager_assignment (customer_id)' AS TEXT);
	END IF;
	PERFORM cims_set_aside(); -- also where there are keys: some rows may be older than these
	IF lacking IS NULL THEN
		RETURN;
	END IF;
	LOCK TABLE sales_manager_assignment, {customer}, {user} IN SHARE ROW EXCLUSIVE MODE;
	PERFORM cims_set_aside();
	FOR place IN 1 .. cardinality(lacking) LOOP
		EXECUTE lacking[place];
	END LOOP;
END $$;
