-- Makes the functions that fill in the rows of other programs.

-- cims_digest returns the number of rows in a range of ids, and a digest of their
-- original columns.
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

-- cims_fill_users fills in the names of roles. A name that is not empty wins over the
-- enum.
CREATE FUNCTION cims_fill_users(above BIGINT, up_to BIGINT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
	named TEXT := 'cims_name(u.role_name)';
BEGIN
	IF cims_is_enum('user', 'role') THEN
		named := 'COALESCE(' || named || ', cims_name(CAST(u.role AS TEXT)))';
	END IF;
	EXECUTE 'SELECT cims_add_entry(''user_role'', n.name) FROM (SELECT DISTINCT ' || named || ' AS name FROM "user" AS u WHERE id > $1 AND id <= $2) AS n
		WHERE n.name IS NOT NULL' USING above, up_to;
	IF NOT EXISTS (SELECT 1 FROM cims_added WHERE kind = 'column' AND table_name = 'user' AND name = {'user.role_name'}) THEN
		EXECUTE 'INSERT INTO cims_replaced_name SELECT ''user'', u.id, u.role_name, ' || named || ' FROM "user" AS u
			WHERE id > $1 AND id <= $2 AND u.role_name IS DISTINCT FROM ' || named || ' AND ' || named || ' IS NOT NULL ON CONFLICT DO NOTHING' USING above, up_to;
	END IF;
	EXECUTE 'UPDATE "user" AS u SET role_name = ' || named || ' WHERE id > $1 AND id <= $2
		AND u.role_name IS DISTINCT FROM ' || named || ' AND ' || named || ' IS NOT NULL' USING above, up_to;
	-- An empty name, without an enum.
	INSERT INTO cims_replaced_name SELECT 'user', id, role_name, '' FROM "user" WHERE id > above AND id <= up_to AND btrim(role_name) = ''
	ON CONFLICT DO NOTHING;
	UPDATE "user" SET role_name = NULL WHERE id > above AND id <= up_to AND btrim(role_name) = '';
END $$;

-- cims_fill_assignments fills in when the customer came, and counts the leads of each
-- sales manager.
CREATE FUNCTION cims_fill_assignments(above BIGINT, up_to BIGINT) RETURNS VOID LANGUAGE plpgsql AS $$
BEGIN
	WITH filled AS (
		UPDATE sales_manager_assignment AS a SET customer_created_at = c.created_at FROM customer AS c
		WHERE c.id = a.customer_id AND a.id > above AND a.id <= up_to AND a.customer_created_at IS NULL
		RETURNING a.sales_manager_id, a.is_active
	), counts AS (
		SELECT sales_manager_id, count(*) AS leads FROM filled WHERE is_active GROUP BY sales_manager_id
	)
	INSERT INTO sales_manager_rotation AS m (sales_manager_id, assigned_leads_count)
	SELECT sales_manager_id, leads FROM counts ORDER BY sales_manager_id
	ON CONFLICT (sales_manager_id) DO UPDATE SET assigned_leads_count = m.assigned_leads_count + excluded.assigned_leads_count;
END $$;

-- cims_fill_customers fills in the names of statuses, and the first row of each history:
-- nothing more is known of the past. It lists the customers without an owner.
CREATE FUNCTION cims_fill_customers(above BIGINT, up_to BIGINT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
	named CONSTANT TEXT := 'COALESCE(cims_name(c.status_name), cims_enum_status(c), ''contacted'')';
BEGIN
	-- Another transaction may be making one of these active again. All other changes
	-- of the lead wait for the lock on its row.
	PERFORM 1 FROM sales_manager_assignment AS a
	WHERE a.customer_id > above AND a.customer_id <= up_to AND NOT a.is_active ORDER BY a.id FOR NO KEY UPDATE;
	EXECUTE 'SELECT cims_add_entry(''customer_status'', n.name) FROM (SELECT DISTINCT ' || named || ' AS name FROM customer AS c
		WHERE id > $1 AND id <= $2) AS n' USING above, up_to;
	IF NOT EXISTS (SELECT 1 FROM cims_added WHERE kind = 'column' AND table_name = 'customer' AND name = {'customer.status_name'}) THEN
		EXECUTE 'INSERT INTO cims_replaced_name SELECT ''customer'', c.id, c.status_name, ' || named || ' FROM customer AS c
			WHERE id > $1 AND id <= $2 AND c.status_name IS DISTINCT FROM ' || named || ' ON CONFLICT DO NOTHING' USING above, up_to;
	END IF;
	EXECUTE 'UPDATE customer AS c SET status_name = ' || named || ' WHERE id > $1 AND id <= $2 AND c.status_name IS DISTINCT FROM ' || named
		USING above, up_to;
	INSERT INTO customer_status_history (customer_id, to_status, cause, owner_id, changed_at)
	SELECT c.id, c.status_name, 'migrated', a.sales_manager_id, now() FROM customer AS c
	LEFT JOIN sales_manager_assignment AS a ON a.customer_id = c.id AND a.is_active
	WHERE c.id > above AND c.id <= up_to
	AND NOT EXISTS (SELECT 1 FROM customer_status_history AS h WHERE h.customer_id = c.id)
	ORDER BY c.id;
	INSERT INTO cims_unassigned (customer_id, customer_created_at, waiting)
	SELECT c.id, c.created_at, FALSE FROM customer AS c
	WHERE c.id > above AND c.id <= up_to
	AND NOT EXISTS (SELECT 1 FROM sales_manager_assignment AS a WHERE a.customer_id = c.id AND a.is_active)
	ON CONFLICT (customer_id) DO NOTHING;
END $$;

-- cims_fill_rows fills in the next batch of rows. It returns
-- the number of rows done so far and of all, and whether nothing is left.
CREATE FUNCTION cims_fill_rows(batch INTEGER, OUT done BIGINT, OUT total BIGINT, OUT finished BOOLEAN)
LANGUAGE plpgsql SET timezone = 'UTC' SET search_path FROM CURRENT AS $$
DECLARE
	tables CONSTANT TEXT[] := ARRAY['user', 'sales_manager_assignment', 'customer'];
	tab TEXT;
	above BIGINT;
	up_to BIGINT;
	last BIGINT;
	counted BIGINT;
BEGIN
	IF NOT EXISTS (SELECT 1 FROM cims_fill) THEN
		FOREACH tab IN ARRAY tables LOOP
			EXECUTE format('INSERT INTO cims_fill SELECT $1, COALESCE(min(id), 1) - 1, COALESCE(max(id), 0), 0, count(*) FROM %I', tab) USING tab;
		END LOOP;
	END IF;
	SELECT f.table_name, f.position, f.last INTO tab, above, last FROM cims_fill AS f
	WHERE f.position < f.last ORDER BY array_position(tables, f.table_name) LIMIT 1;
	finished := NOT FOUND;
	IF NOT finished THEN
		EXECUTE format('SELECT max(id) FROM (SELECT id FROM %I WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3) AS b', tab)
			INTO up_to USING above, last, batch;
		up_to := COALESCE(up_to, last); -- the remaining rows may have been deleted
		EXECUTE format('SELECT count(*) FROM (SELECT 1 FROM %I WHERE id > $1 AND id <= $2 ORDER BY id FOR NO KEY UPDATE) AS locked', tab) USING above, up_to;
		INSERT INTO cims_filled SELECT tab, above, up_to, d.row_count, d.digest FROM cims_digest(tab, above, up_to) AS d RETURNING row_count INTO counted;
		PERFORM set_config('cims.filling', 'on', TRUE);
		CASE tab
			WHEN 'user' THEN PERFORM cims_fill_users(above, up_to);
			WHEN 'sales_manager_assignment' THEN PERFORM cims_fill_assignments(above, up_to);
			WHEN 'customer' THEN PERFORM cims_fill_customers(above, up_to);
		END CASE;
		PERFORM set_config('cims.filling', 'off', TRUE);
		UPDATE cims_fill AS f SET position = up_to, done = f.done + counted WHERE f.table_name = tab;
	END IF;
	SELECT sum(f.done), sum(f.total) INTO done, total FROM cims_fill AS f;
END $$;
