-- Makes the triggers that keep the rows of cims and of other programs in step.

-- Customers.

-- cims_grace returns how long a lead of another program is left to that program. An
-- invalid setting counts as none: it must not refuse the lead.
CREATE FUNCTION cims_grace() RETURNS INTERVAL LANGUAGE plpgsql STABLE AS $$
DECLARE
	setting TEXT := NULLIF(current_setting('cims.grace', TRUE), '');
BEGIN
	IF setting IS NOT NULL THEN
		BEGIN
			PERFORM now() + CAST(setting AS INTERVAL); -- fails where it is no time
			RETURN CAST(setting AS INTERVAL);
		EXCEPTION WHEN data_exception THEN
			NULL;
		END;
	END IF;
	RETURN INTERVAL '1 minute';
END $$;

-- cims_status_in_step keeps the name and the older program's enum in step. It corrects
-- what either program writes, and refuses nothing.
CREATE FUNCTION cims_status_in_step() RETURNS TRIGGER LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
	label TEXT;
BEGIN
	IF TG_OP = 'UPDATE' AND NEW.status IS DISTINCT FROM OLD.status AND NEW.{customer.status_name} IS NOT DISTINCT FROM OLD.{customer.status_name} THEN
		NEW.{customer.status_name} := NULL;
	END IF;
	NEW.{customer.status_name} := COALESCE(cims_name(NEW.{customer.status_name}), cims_name(CAST(NEW.status AS TEXT)), 'contacted');
	IF NOT EXISTS (SELECT 1 FROM customer_status WHERE name = NEW.{customer.status_name}) THEN
		PERFORM cims_add_entry('customer_status', NEW.{customer.status_name});
	END IF;
	SELECT e.enumlabel INTO label FROM pg_enum AS e WHERE e.enumtypid = pg_typeof(NEW.status) AND cims_name(e.enumlabel) = NEW.{customer.status_name};
	IF label IS NULL AND NEW.status IS NULL THEN -- the column may refuse NULL
		SELECT e.enumlabel INTO label FROM pg_enum AS e WHERE e.enumtypid = pg_typeof(NEW.status) ORDER BY e.enumsortorder LIMIT 1;
	END IF;
	IF label IS NOT NULL THEN
		NEW.status := label;
	END IF;
	RETURN NEW;
END $$;

-- cims_status_named corrects the names that a host writes, where there is no enum.
CREATE FUNCTION cims_status_named() RETURNS TRIGGER LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
	NEW.{customer.status_name} := COALESCE(cims_name(NEW.{customer.status_name}), 'contacted');
	PERFORM cims_add_entry('customer_status', NEW.{customer.status_name});
	RETURN NEW;
END $$;

-- cims_created sets a time of creation that is missing or out of range: customers are
-- listed by it.
CREATE FUNCTION cims_created() RETURNS TRIGGER LANGUAGE plpgsql SET timezone = 'UTC' SET search_path FROM CURRENT AS $$
BEGIN
	NEW.{customer.created_at} := now();
	RETURN NEW;
END $$;

-- cims_customer_inserted takes in a customer of another program. It has no owner yet.
CREATE FUNCTION cims_customer_inserted() RETURNS TRIGGER LANGUAGE plpgsql SET timezone = 'UTC' SET search_path FROM CURRENT AS $$
BEGIN
	INSERT INTO cims_unassigned (customer_id, customer_created_at, waiting, due_at) VALUES (NEW.{customer.id}, NEW.{customer.created_at}, TRUE, now() + cims_grace());
	INSERT INTO customer_status_history (customer_id, to_status, cause, changed_at) VALUES (NEW.{customer.id}, NEW.{customer.status_name}, 'external', clock_timestamp());
	RETURN NULL;
END $$;

-- cims_status_changed takes in the status that another program gives to a customer. If
-- the customer has no history yet, the status before it comes first.
CREATE FUNCTION cims_status_changed() RETURNS TRIGGER LANGUAGE plpgsql SET timezone = 'UTC' SET search_path FROM CURRENT AS $$
DECLARE
	owner BIGINT;
	before TEXT := cims_name(OLD.{customer.status_name});
BEGIN
	SELECT sales_manager_id INTO owner FROM sales_manager_assignment WHERE customer_id = NEW.{customer.id} AND is_active;
	IF NOT EXISTS (SELECT 1 FROM customer_status_history WHERE customer_id = NEW.{customer.id}) THEN
		before := COALESCE(before, cims_enum_status(OLD), 'contacted');
		PERFORM cims_add_entry('customer_status', before);
		INSERT INTO customer_status_history (customer_id, to_status, cause, owner_id, changed_at)
		VALUES (NEW.{customer.id}, before, 'migrated', owner, clock_timestamp());
	END IF;
	IF before IS DISTINCT FROM NEW.{customer.status_name} THEN
		INSERT INTO customer_status_history (customer_id, from_status, to_status, cause, owner_id, changed_at)
		VALUES (NEW.{customer.id}, before, NEW.{customer.status_name}, 'external', owner, clock_timestamp());
	END IF;
	RETURN NULL;
END $$;

-- cims_created_at_changed copies the new time of creation to where it is repeated.
CREATE FUNCTION cims_created_at_changed() RETURNS TRIGGER LANGUAGE plpgsql SET timezone = 'UTC' SET search_path FROM CURRENT AS $$
BEGIN
	UPDATE sales_manager_assignment SET customer_created_at = NEW.{customer.created_at} WHERE customer_id = NEW.{customer.id};
	UPDATE cims_unassigned SET customer_created_at = NEW.{customer.created_at} WHERE customer_id = NEW.{customer.id};
	RETURN NULL;
END $$;

DO $$
DECLARE
	row_type TEXT;
	label TEXT := 'NULL';
	columns TEXT := '{customer.status_name}';
BEGIN
	IF cims_is_enum('customer', 'status') THEN
		label := 'cims_name(CAST(c.status AS TEXT))';
		columns := 'status, {customer.status_name}';
		CREATE TRIGGER cims_status_in_step_insert BEFORE INSERT ON {customer}
			FOR EACH ROW EXECUTE FUNCTION cims_status_in_step();
		CREATE TRIGGER cims_status_in_step BEFORE UPDATE OF status, {customer.status_name} ON {customer}
			FOR EACH ROW WHEN (current_setting('cims.filling', TRUE) IS DISTINCT FROM 'on') EXECUTE FUNCTION cims_status_in_step();
	ELSIF EXISTS (SELECT 1 FROM cims_original_column WHERE table_name = 'customer' AND name = {'customer.status_name'}) THEN
		CREATE TRIGGER cims_status_named_insert BEFORE INSERT ON {customer}
			FOR EACH ROW WHEN (NEW.cims_version = 0) EXECUTE FUNCTION cims_status_named();
		CREATE TRIGGER cims_status_named BEFORE UPDATE OF {customer.status_name} ON {customer}
			FOR EACH ROW WHEN (OLD.cims_version = NEW.cims_version AND current_setting('cims.filling', TRUE) IS DISTINCT FROM 'on')
			EXECUTE FUNCTION cims_status_named();
	END IF;
	-- cims_enum_status returns the name that the enum of a row stands for, or NULL without
	-- an enum. A row is one of the table or of its view.
	FOR row_type IN SELECT DISTINCT unnest(ARRAY['customer', '{customer}']) LOOP
		EXECUTE 'CREATE FUNCTION cims_enum_status(c ' || row_type || ') RETURNS TEXT LANGUAGE sql STABLE AS $f$ SELECT ' || label || ' $f$';
	END LOOP;
	EXECUTE 'CREATE TRIGGER cims_status_changed AFTER UPDATE OF ' || columns || ' ON {customer} FOR EACH ROW
		WHEN (OLD.{customer.status_name} IS DISTINCT FROM NEW.{customer.status_name} AND OLD.cims_version = NEW.cims_version
			AND current_setting(''cims.filling'', TRUE) IS DISTINCT FROM ''on'')
		EXECUTE FUNCTION cims_status_changed()';
	IF EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = cims_relation('customer') AND attname = {'customer.created_at'} AND NOT attnotnull) THEN
		CREATE TRIGGER cims_created BEFORE INSERT OR UPDATE OF {customer.created_at} ON {customer}
			FOR EACH ROW WHEN (NEW.{customer.created_at} IS NULL) EXECUTE FUNCTION cims_created();
	END IF;
END $$;
CREATE TRIGGER cims_created_when BEFORE INSERT OR UPDATE OF {customer.created_at} ON {customer}
	FOR EACH ROW WHEN (NEW.{customer.created_at} < '0001-01-01' OR NEW.{customer.created_at} >= '10000-01-01') EXECUTE FUNCTION cims_created();
CREATE TRIGGER cims_customer_inserted AFTER INSERT ON {customer}
	FOR EACH ROW WHEN (NEW.cims_version = 0) EXECUTE FUNCTION cims_customer_inserted();
CREATE TRIGGER cims_created_at_changed AFTER UPDATE OF {customer.created_at} ON {customer}
	FOR EACH ROW WHEN (OLD.{customer.created_at} IS DISTINCT FROM NEW.{customer.created_at}) EXECUTE FUNCTION cims_created_at_changed();

-- Users.

-- cims_role_in_step keeps the name and the older program's enum in step. A role without
-- a label leaves the enum NULL: another label could grant more rights.
CREATE FUNCTION cims_role_in_step() RETURNS TRIGGER LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
	label TEXT;
BEGIN
	IF TG_OP = 'UPDATE' AND NEW.role IS DISTINCT FROM OLD.role AND NEW.{user.role_name} IS NOT DISTINCT FROM OLD.{user.role_name} THEN
		NEW.{user.role_name} := NULL;
	END IF;
	NEW.{user.role_name} := COALESCE(cims_name(NEW.{user.role_name}), cims_name(CAST(NEW.role AS TEXT)));
	IF NEW.{user.role_name} IS NOT NULL THEN
		PERFORM cims_add_entry('user_role', NEW.{user.role_name});
		SELECT e.enumlabel INTO label FROM pg_enum AS e WHERE e.enumtypid = pg_typeof(NEW.role) AND cims_name(e.enumlabel) = NEW.{user.role_name};
		NEW.role := label;
	END IF;
	RETURN NEW;
END $$;

-- cims_role_named corrects the names that a host writes, where there is no enum.
CREATE FUNCTION cims_role_named() RETURNS TRIGGER LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
	NEW.{user.role_name} := cims_name(NEW.{user.role_name});
	IF NEW.{user.role_name} IS NOT NULL THEN
		PERFORM cims_add_entry('user_role', NEW.{user.role_name});
	END IF;
	RETURN NEW;
END $$;

DO $$ BEGIN
	IF cims_is_enum('user', 'role') THEN
		CREATE TRIGGER cims_role_in_step_insert BEFORE INSERT ON {user}
			FOR EACH ROW EXECUTE FUNCTION cims_role_in_step();
		CREATE TRIGGER cims_role_in_step BEFORE UPDATE OF role, {user.role_name} ON {user}
			FOR EACH ROW WHEN (current_setting('cims.filling', TRUE) IS DISTINCT FROM 'on') EXECUTE FUNCTION cims_role_in_step();
	ELSIF EXISTS (SELECT 1 FROM cims_original_column WHERE table_name = 'user' AND name = {'user.role_name'}) THEN
		CREATE TRIGGER cims_role_named_insert BEFORE INSERT ON {user} FOR EACH ROW EXECUTE FUNCTION cims_role_named();
		CREATE TRIGGER cims_role_named BEFORE UPDATE OF {user.role_name} ON {user}
			FOR EACH ROW WHEN (current_setting('cims.filling', TRUE) IS DISTINCT FROM 'on') EXECUTE FUNCTION cims_role_named();
	END IF;
END $$;

-- Statuses and roles.

-- cims_entry_named gives an entry of another program the stored form of its name, unless
-- another entry has that.
CREATE FUNCTION cims_entry_named() RETURNS TRIGGER LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
	taken BOOLEAN;
BEGIN
	IF TG_OP = 'UPDATE' AND NEW.name = OLD.name THEN -- foreign keys may refer to it
		RETURN NEW;
	END IF;
	EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I WHERE name = $1 AND id <> $2)', TG_TABLE_NAME) INTO taken USING cims_name(NEW.name), NEW.id;
	IF NOT taken THEN
		NEW.name := cims_name(NEW.name);
	END IF;
	RETURN NEW;
END $$;

DO $$
DECLARE
	tab TEXT;
BEGIN
	FOR tab IN SELECT e.name FROM (VALUES ('customer_status'), ('user_role')) AS e (name)
		WHERE NOT EXISTS (SELECT 1 FROM cims_added AS a WHERE a.kind = 'table' AND a.table_name = e.name)
	LOOP
		EXECUTE format('CREATE TRIGGER cims_entry_named BEFORE INSERT OR UPDATE OF name ON %I
			FOR EACH ROW WHEN (NEW.name <> cims_name(NEW.name)) EXECUTE FUNCTION cims_entry_named()', tab);
	END LOOP;
END $$;

-- Assignments.

-- cims_count_leads adds to the number of leads of a sales manager.
CREATE FUNCTION cims_count_leads(manager BIGINT, leads INTEGER) RETURNS VOID LANGUAGE sql SET search_path FROM CURRENT AS $$
	INSERT INTO sales_manager_rotation (sales_manager_id, assigned_leads_count) VALUES (manager, leads)
	ON CONFLICT (sales_manager_id) DO UPDATE SET assigned_leads_count = sales_manager_rotation.assigned_leads_count + leads
$$;

-- cims_owner_changed records that a customer has another owner, or none any more.
CREATE FUNCTION cims_owner_changed(customer BIGINT, created TIMESTAMPTZ, before BIGINT, after BIGINT) RETURNS VOID
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
	IF before IS NOT DISTINCT FROM after THEN
		RETURN;
	END IF;
	IF after IS NULL THEN
		INSERT INTO cims_unassigned (customer_id, customer_created_at, waiting, due_at) VALUES (customer, created, TRUE, now() + cims_grace())
		ON CONFLICT (customer_id) DO NOTHING;
	ELSE
		DELETE FROM cims_unassigned WHERE customer_id = customer;
	END IF;
	INSERT INTO assignment_history (customer_id, from_manager_id, to_manager_id, cause, changed_at)
	VALUES (customer, before, after, 'external', clock_timestamp());
END $$;

-- cims_assignment_inserted takes in an assignment of another program. It replaces the
-- one that cims may have made before.
CREATE FUNCTION cims_assignment_inserted() RETURNS TRIGGER LANGUAGE plpgsql SET timezone = 'UTC' SET search_path FROM CURRENT AS $$
DECLARE
	before BIGINT;
BEGIN
	SELECT created_at INTO NEW.customer_created_at FROM customer WHERE id = NEW.customer_id FOR NO KEY UPDATE;
	PERFORM set_config('cims.replaced', CAST(NEW.customer_id AS TEXT), TRUE);
	DELETE FROM sales_manager_assignment WHERE customer_id = NEW.customer_id
	RETURNING CASE WHEN is_active THEN sales_manager_id END INTO before;
	PERFORM set_config('cims.replaced', '', TRUE);
	PERFORM cims_owner_changed(NEW.customer_id, NEW.customer_created_at, before, CASE WHEN NEW.is_active THEN NEW.sales_manager_id END);
	IF NEW.is_active THEN
		PERFORM cims_count_leads(NEW.sales_manager_id, 1);
	END IF;
	RETURN NEW;
END $$;

-- cims_assignment_changed takes in the change of an assignment by another program. An
-- assignment that is not filled in yet is counted when it is.
CREATE FUNCTION cims_assignment_changed() RETURNS TRIGGER LANGUAGE plpgsql SET timezone = 'UTC' SET search_path FROM CURRENT AS $$
DECLARE
	before BIGINT := CASE WHEN OLD.is_active THEN OLD.sales_manager_id END;
	after BIGINT := CASE WHEN NEW.is_active THEN NEW.sales_manager_id END;
BEGIN
	-- The order of the ids prevents a deadlock.
	PERFORM cims_count_leads(m.id, m.leads) FROM (VALUES (before, -1), (after, 1)) AS m (id, leads) WHERE m.id IS NOT NULL ORDER BY m.id;
	PERFORM cims_owner_changed(NEW.customer_id, NEW.customer_created_at, before, after);
	RETURN NULL;
END $$;

-- cims_assignment_deleted takes in deleted assignments, also those deleted with their
-- customer. A customer that is still there has no owner then.
CREATE FUNCTION cims_assignment_deleted() RETURNS TRIGGER LANGUAGE plpgsql SET timezone = 'UTC' SET search_path FROM CURRENT AS $$
BEGIN
	PERFORM cims_count_leads(gone.sales_manager_id, CAST(-gone.leads AS INTEGER))
	FROM (
		SELECT sales_manager_id, count(*) AS leads FROM deleted
		WHERE is_active AND customer_created_at IS NOT NULL
		AND EXISTS (SELECT 1 FROM "user" AS u WHERE u.id = deleted.sales_manager_id)
		GROUP BY sales_manager_id ORDER BY sales_manager_id
	) AS gone;
	PERFORM cims_owner_changed(d.customer_id, c.created_at, d.sales_manager_id, NULL)
	FROM deleted AS d JOIN customer AS c ON c.id = d.customer_id
	WHERE d.is_active AND CAST(d.customer_id AS TEXT) IS DISTINCT FROM current_setting('cims.replaced', TRUE);
	RETURN NULL;
END $$;

-- cims_assignments_truncated takes in a TRUNCATE, also one of the customers or users, as if
-- the assignments were deleted.
CREATE FUNCTION cims_assignments_truncated() RETURNS TRIGGER LANGUAGE plpgsql SET timezone = 'UTC' SET search_path FROM CURRENT AS $$
BEGIN
	DELETE FROM sales_manager_assignment;
	RETURN NULL;
END $$;

CREATE TRIGGER cims_assignment_inserted BEFORE INSERT ON sales_manager_assignment
	FOR EACH ROW WHEN (NEW.cims_version = 0) EXECUTE FUNCTION cims_assignment_inserted();
CREATE TRIGGER cims_assignment_changed AFTER UPDATE OF sales_manager_id, is_active ON sales_manager_assignment
	FOR EACH ROW WHEN (OLD.cims_version = NEW.cims_version AND OLD.customer_created_at IS NOT NULL)
	EXECUTE FUNCTION cims_assignment_changed();
CREATE TRIGGER cims_assignment_deleted AFTER DELETE ON sales_manager_assignment
	REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION cims_assignment_deleted();
CREATE TRIGGER cims_assignments_truncated BEFORE TRUNCATE ON sales_manager_assignment
	FOR EACH STATEMENT EXECUTE FUNCTION cims_assignments_truncated();

-- Rights.

-- Triggers run with the rights of their owner: another program may have none on the
-- tables of cims. Their search_path leaves nothing that a caller can create to be found
-- first, and no one else can put them on a table. Only users who may create something
-- in this schema have to be trusted.
DO $$
DECLARE
	path TEXT := (SELECT string_agg(quote_ident(name), ', ') FROM unnest(current_schemas(FALSE)) AS s (name)) || ', pg_temp';
	made RECORD;
BEGIN
	FOR made IN SELECT CAST(oid AS regprocedure) AS name, prorettype = CAST('trigger' AS regtype) AS is_trigger FROM pg_proc
		WHERE proname LIKE 'cims\_%' AND pronamespace = CAST(quote_ident(current_schema()) AS regnamespace)
		AND EXISTS (SELECT 1 FROM unnest(proconfig) AS c (setting) WHERE setting LIKE 'search\_path=%')
	LOOP
		EXECUTE format('ALTER FUNCTION %s SET search_path = %s', made.name, path);
		IF made.is_trigger THEN
			EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER', made.name);
			EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', made.name);
		END IF;
	END LOOP;
END $$;
