-- The functions that fill in what the rows of others lack.

-- A digest of what was there before us in a range of rows.
CREATE FUNCTION cims_digest(tab TEXT, above BIGINT, up_to BIGINT, OUT row_count BIGINT, OUT digest NUMERIC)
LANGUAGE plpgsql STABLE SET timezone = 'UTC' SET datestyle = 'ISO' SET extra_float_digits = 1 SET search_path FROM CURRENT AS $$
DECLARE
	columns TEXT;
BEGIN
	-- Names of statuses and roles are ours, even where they were there before.
	SELECT string_agg(quote_ident(name), ', ' ORDER BY place) INTO columns
	FROM cims_original_column WHERE table_name = tab AND name NOT IN ({'customer.status_name'}, {'user.role_name'});
	IF columns IS NULL THEN
		row_count := 0; digest := 0;
		RETURN;
	END IF;
	EXECUTE format('SELECT count(*), COALESCE(sum(hashtextextended(CAST(ROW(%s) AS TEXT), 0)), 0) FROM %s WHERE %3$I > $1 AND %3$I <= $2',
		columns, cims_relation(tab), COALESCE((SELECT h.columns ->> 'id' FROM cims_host AS h WHERE h.table_name = tab), 'id'))
		INTO row_count, digest USING above, up_to;
END $$;

-- Finds the next range of rows of a table and locks it; up_to is NULL when none
-- is left. Who comes after the first call is filled in by the triggers.
CREATE FUNCTION cims_next_range(tab TEXT, batch INTEGER, OUT above BIGINT, OUT up_to BIGINT)
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
	IF NOT EXISTS (SELECT 1 FROM cims_fill WHERE table_name = tab) THEN
		EXECUTE format('INSERT INTO cims_fill SELECT $1, COALESCE(min(id), 1) - 1, COALESCE(max(id), 0), 0, count(*) FROM %I', tab) USING tab;
	END IF;
	SELECT position INTO above FROM cims_fill WHERE table_name = tab;
	EXECUTE format('SELECT max(id) FROM (SELECT id FROM %I WHERE id > $1 AND id <= (SELECT last FROM cims_fill WHERE table_name = $2) ORDER BY id LIMIT $3) AS b', tab)
		INTO up_to USING above, tab, batch;
	IF up_to IS NOT NULL THEN
		EXECUTE format('SELECT count(*) FROM (SELECT 1 FROM %I WHERE id > $1 AND id <= $2 ORDER BY id FOR NO KEY UPDATE) AS locked', tab) USING above, up_to;
		INSERT INTO cims_filled SELECT tab, above, up_to, d.row_count, d.digest FROM cims_digest(tab, above, up_to) AS d;
		PERFORM set_config('cims.filling', 'on', TRUE);
	END IF;
END $$;

CREATE FUNCTION cims_range_done(tab TEXT, up_to BIGINT, OUT done BIGINT, OUT total BIGINT, OUT finished BOOLEAN)
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
	IF up_to IS NOT NULL THEN
		UPDATE cims_fill AS f SET position = cims_range_done.up_to, done = f.done + filled.row_count
		FROM cims_filled AS filled WHERE f.table_name = tab AND filled.table_name = tab AND filled.up_to = cims_range_done.up_to;
	END IF;
	SELECT f.done, f.total INTO done, total FROM cims_fill AS f WHERE f.table_name = tab;
	finished := up_to IS NULL;
	PERFORM set_config('cims.filling', 'off', TRUE);
END $$;

-- A non-empty name wins over the enum.
CREATE FUNCTION cims_fill_users(batch INTEGER, OUT done BIGINT, OUT total BIGINT, OUT finished BOOLEAN)
LANGUAGE plpgsql SET timezone = 'UTC' SET search_path FROM CURRENT AS $$
DECLARE
	r RECORD;
	named TEXT := 'cims_name(u.role_name)';
BEGIN
	r := cims_next_range('user', batch);
	IF cims_is_enum('user', 'role') THEN
		named := 'COALESCE(' || named || ', cims_name(CAST(u.role AS TEXT)))';
	END IF;
	EXECUTE 'SELECT cims_add_entry(''user_role'', n.name) FROM (SELECT DISTINCT ' || named || ' AS name FROM "user" AS u WHERE id > $1 AND id <= $2) AS n
		WHERE n.name IS NOT NULL' USING r.above, r.up_to;
	IF NOT EXISTS (SELECT 1 FROM cims_added WHERE kind = 'column' AND table_name = 'user' AND name = {'user.role_name'}) THEN
		EXECUTE 'INSERT INTO cims_replaced_name SELECT ''user'', u.id, u.role_name, ' || named || ' FROM "user" AS u
			WHERE id > $1 AND id <= $2 AND u.role_name IS DISTINCT FROM ' || named || ' AND ' || named || ' IS NOT NULL ON CONFLICT DO NOTHING' USING r.above, r.up_to;
	END IF;
	EXECUTE 'UPDATE "user" AS u SET role_name = ' || named || ' WHERE id > $1 AND id <= $2
		AND u.role_name IS DISTINCT FROM ' || named || ' AND ' || named || ' IS NOT NULL' USING r.above, r.up_to;
	-- An empty name that says nothing, and no enum does either.
	INSERT INTO cims_replaced_name SELECT 'user', id, role_name, '' FROM "user" WHERE id > r.above AND id <= r.up_to AND btrim(role_name) = ''
	ON CONFLICT DO NOTHING;
	UPDATE "user" SET role_name = NULL WHERE id > r.above AND id <= r.up_to AND btrim(role_name) = '';
	SELECT * INTO done, total, finished FROM cims_range_done('user', r.up_to);
END $$;

CREATE FUNCTION cims_fill_assignments(batch INTEGER, OUT done BIGINT, OUT total BIGINT, OUT finished BOOLEAN)
LANGUAGE plpgsql SET timezone = 'UTC' SET search_path FROM CURRENT AS $$
DECLARE
	r RECORD;
BEGIN
	r := cims_next_range('sales_manager_assignment', batch);
	WITH filled AS (
		UPDATE sales_manager_assignment AS a SET customer_created_at = c.created_at FROM customer AS c
		WHERE c.id = a.customer_id AND a.id > r.above AND a.id <= r.up_to AND a.customer_created_at IS NULL
		RETURNING a.sales_manager_id, a.is_active
	), counts AS (
		SELECT sales_manager_id, count(*) AS leads FROM filled WHERE is_active GROUP BY sales_manager_id
	)
	INSERT INTO sales_manager_rotation AS m (sales_manager_id, assigned_leads_count)
	SELECT sales_manager_id, leads FROM counts ORDER BY sales_manager_id
	ON CONFLICT (sales_manager_id) DO UPDATE SET assigned_leads_count = m.assigned_leads_count + excluded.assigned_leads_count;
	SELECT * INTO done, total, finished FROM cims_range_done('sales_manager_assignment', r.up_to);
END $$;

-- What is known of a lead's past is one row.
CREATE FUNCTION cims_fill_customers(batch INTEGER, OUT done BIGINT, OUT total BIGINT, OUT finished BOOLEAN)
LANGUAGE plpgsql SET timezone = 'UTC' SET search_path FROM CURRENT AS $$
DECLARE
	r RECORD;
	named CONSTANT TEXT := 'COALESCE(cims_name(c.status_name), cims_enum_status(c), ''contacted'')';
BEGIN
	r := cims_next_range('customer', batch);
	-- An assignment that is being made active again: whether it is shows when that
	-- is committed. All else that concerns the lead waits for the lock on its row.
	PERFORM 1 FROM sales_manager_assignment AS a
	WHERE a.customer_id > r.above AND a.customer_id <= r.up_to AND NOT a.is_active ORDER BY a.id FOR NO KEY UPDATE;
	EXECUTE 'SELECT cims_add_entry(''customer_status'', n.name) FROM (SELECT DISTINCT ' || named || ' AS name FROM customer AS c
		WHERE id > $1 AND id <= $2) AS n' USING r.above, r.up_to;
	IF NOT EXISTS (SELECT 1 FROM cims_added WHERE kind = 'column' AND table_name = 'customer' AND name = {'customer.status_name'}) THEN
		EXECUTE 'INSERT INTO cims_replaced_name SELECT ''customer'', c.id, c.status_name, ' || named || ' FROM customer AS c
			WHERE id > $1 AND id <= $2 AND c.status_name IS DISTINCT FROM ' || named || ' ON CONFLICT DO NOTHING' USING r.above, r.up_to;
	END IF;
	EXECUTE 'UPDATE customer AS c SET status_name = ' || named || ' WHERE id > $1 AND id <= $2 AND c.status_name IS DISTINCT FROM ' || named
		USING r.above, r.up_to;
	INSERT INTO customer_status_history (customer_id, to_status, cause, owner_id, changed_at)
	SELECT c.id, c.status_name, 'migrated', a.sales_manager_id, now() FROM customer AS c
	LEFT JOIN sales_manager_assignment AS a ON a.customer_id = c.id AND a.is_active
	WHERE c.id > r.above AND c.id <= r.up_to
	AND NOT EXISTS (SELECT 1 FROM customer_status_history AS h WHERE h.customer_id = c.id)
	ORDER BY c.id;
	INSERT INTO cims_unassigned (customer_id, customer_created_at, waiting)
	SELECT c.id, c.created_at, FALSE FROM customer AS c
	WHERE c.id > r.above AND c.id <= r.up_to
	AND NOT EXISTS (SELECT 1 FROM sales_manager_assignment AS a WHERE a.customer_id = c.id AND a.is_active)
	ON CONFLICT (customer_id) DO NOTHING;
	SELECT * INTO done, total, finished FROM cims_range_done('customer', r.up_to);
END $$;
