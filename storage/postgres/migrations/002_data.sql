-- The system entries, and every name that is there already brought into order:
-- each customer in a status that exists, each user with such a role or none.

-- An older program's TIMESTAMP columns hold UTC, whatever the server's zone is.
SET LOCAL timezone = 'UTC';

INSERT INTO customer_status (name, display_name, description, color, "order", is_active, is_system, created_at, updated_at) VALUES
	('contacted', 'Contacted', 'Initial contact made', '#3B82F6', 1, TRUE, TRUE, now(), now()),
	('project_started', 'Project Started', 'Project has started', '#10B981', 2, TRUE, TRUE, now(), now()),
	('continuing', 'Continuing', 'Project is continuing', '#F59E0B', 3, TRUE, TRUE, now(), now()),
	('finished', 'Finished', 'Project completed', '#8B5CF6', 4, TRUE, TRUE, now(), now()),
	('rejected', 'Rejected', 'Lead rejected', '#EF4444', 5, TRUE, TRUE, now(), now()),
	('need_to_call', 'Need to Call', 'Follow-up call needed', '#F97316', 6, TRUE, TRUE, now(), now())
ON CONFLICT (name) DO NOTHING;

INSERT INTO user_role (name, display_name, description, is_active, is_system, created_at, updated_at) VALUES
	('ceo', 'CEO', 'Chief Executive Officer', TRUE, TRUE, now(), now()),
	('financial_director', 'Financial Director', 'Financial Director', TRUE, TRUE, now(), now()),
	('sales_manager', 'Sales Manager', 'Sales Manager for CRM', TRUE, TRUE, now(), now()),
	('member', 'Member', 'Team Member', TRUE, TRUE, now(), now()),
	('customer', 'Customer', 'Customer/Client', TRUE, TRUE, now(), now())
ON CONFLICT (name) DO NOTHING;

UPDATE user_role SET permissions = defaults.permissions
FROM (VALUES
	('ceo', 'statuses:read statuses:write roles:read roles:write users:read users:write leads:read leads:read:own leads:write leads:write:own leads:assign analytics:read audit:read'),
	('financial_director', 'statuses:read roles:read leads:read analytics:read'),
	('member', 'statuses:read roles:read leads:read analytics:read'),
	('sales_manager', 'statuses:read leads:read:own leads:write:own analytics:read')
) AS defaults (name, permissions)
WHERE user_role.name = defaults.name AND user_role.permissions = '';

-- The one form in which names are stored.
CREATE FUNCTION cims_name(raw TEXT) RETURNS TEXT LANGUAGE sql IMMUTABLE AS
	$$ SELECT NULLIF(left(replace(lower(btrim(raw)), ' ', '_'), 100), '') $$;

-- Whether a column is an enum: of the older program.
CREATE FUNCTION cims_is_enum(tab TEXT, col TEXT) RETURNS BOOLEAN LANGUAGE sql STABLE AS $$
	SELECT EXISTS (
		SELECT 1 FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
		WHERE a.attrelid = to_regclass(quote_ident(tab)) AND a.attname = col AND NOT a.attisdropped AND t.typtype = 'e'
	)
$$;

DO $$
DECLARE
	-- A name that says something wins over the enum.
	status TEXT := 'cims_name(c.status_name)';
	role TEXT := 'cims_name(u.role_name)';
BEGIN
	IF cims_is_enum('customer', 'status') THEN
		status := 'COALESCE(' || status || ', cims_name(CAST(c.status AS TEXT)))';
	ELSE
		ALTER TABLE customer ALTER COLUMN status_name SET DEFAULT 'contacted';
	END IF;
	IF cims_is_enum('user', 'role') THEN
		role := 'COALESCE(' || role || ', cims_name(CAST(u.role AS TEXT)))';
	END IF;
	EXECUTE 'CREATE TEMPORARY TABLE cims_status_of ON COMMIT DROP AS SELECT c.id, c.status_name AS old, COALESCE('
		|| status || ', ''contacted'') AS new FROM customer AS c';
	EXECUTE 'CREATE TEMPORARY TABLE cims_role_of ON COMMIT DROP AS SELECT u.id, u.role_name AS old, '
		|| role || ' AS new FROM "user" AS u';
END $$;

-- Names that nothing has become inactive entries, so that nothing is lost.
INSERT INTO customer_status (name, display_name, is_active, is_system, created_at, updated_at)
SELECT DISTINCT new, new, FALSE, FALSE, now(), now() FROM cims_status_of
ON CONFLICT (name) DO NOTHING;
INSERT INTO user_role (name, display_name, is_active, is_system, created_at, updated_at)
SELECT DISTINCT new, new, FALSE, FALSE, now(), now() FROM cims_role_of WHERE new IS NOT NULL
ON CONFLICT (name) DO NOTHING;

INSERT INTO cims_replaced_name (table_name, row_id, old_name, new_name)
SELECT 'customer', id, old, new FROM cims_status_of
WHERE old IS DISTINCT FROM new AND NOT EXISTS (SELECT 1 FROM cims_added_column WHERE table_name = 'customer')
UNION ALL
SELECT 'user', id, old, new FROM cims_role_of
WHERE old IS DISTINCT FROM new AND new IS NOT NULL AND NOT EXISTS (SELECT 1 FROM cims_added_column WHERE table_name = 'user');

UPDATE customer SET status_name = n.new FROM cims_status_of AS n WHERE n.id = customer.id AND n.old IS DISTINCT FROM n.new;
UPDATE "user" SET role_name = n.new FROM cims_role_of AS n WHERE n.id = "user".id AND n.old IS DISTINCT FROM n.new AND n.new IS NOT NULL;
UPDATE sales_manager_assignment AS a SET customer_created_at = c.created_at FROM customer AS c WHERE c.id = a.customer_id;

-- What the older program knows of the past: one row for each lead.
INSERT INTO customer_status_history (customer_id, to_status, cause, owner_id, changed_at)
SELECT c.id, c.status_name, 'migrated', a.sales_manager_id, now() FROM customer AS c
LEFT JOIN sales_manager_assignment AS a ON a.customer_id = c.id AND a.is_active;

INSERT INTO cims_unassigned (customer_id, customer_created_at, waiting)
SELECT c.id, c.created_at, FALSE FROM customer AS c
WHERE NOT EXISTS (SELECT 1 FROM sales_manager_assignment AS a WHERE a.customer_id = c.id AND a.is_active);

-- The rotation goes on where the older one stood: it took the managers by id
-- and kept the place of the last one in that list. The one after it has the
-- lowest last_turn, and the others follow in their order.
INSERT INTO sales_manager_rotation (sales_manager_id, last_turn, assigned_leads_count)
SELECT u.id, CASE WHEN pool.place IS NULL THEN 0 ELSE (pool.place - pool.next + pool.size) % pool.size - pool.size END, COALESCE(owned.leads, 0)
FROM "user" AS u
LEFT JOIN (
	SELECT id, row_number() OVER (ORDER BY id) - 1 AS place, count(*) OVER () AS size,
		COALESCE((SELECT COALESCE(last_assigned_index, 0) + 1 FROM sales_manager_counter ORDER BY id LIMIT 1), 0) % count(*) OVER () AS next
	FROM "user" WHERE role_name = 'sales_manager' AND is_active
) AS pool ON pool.id = u.id
LEFT JOIN (
	SELECT sales_manager_id, count(*) AS leads FROM sales_manager_assignment WHERE is_active GROUP BY sales_manager_id
) AS owned ON owned.sales_manager_id = u.id
WHERE pool.id IS NOT NULL OR owned.leads > 0;

INSERT INTO sales_manager_counter (last_assigned_index, updated_at)
SELECT 0, now() WHERE NOT EXISTS (SELECT 1 FROM sales_manager_counter);
