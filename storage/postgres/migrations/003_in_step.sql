-- Triggers: what another program writes into these tables shows here at once, and what is written here shows there.

-- How long a lead that another program has inserted is left to that program. A
-- setting that is none is no reason to refuse its lead.
CREATE FUNCTION cims_grace() RETURNS INTERVAL LANGUAGE plpgsql STABLE AS $$
DECLARE
	setting TEXT := NULLIF(current_setting('cims.grace', TRUE), '');
BEGIN
	IF setting IS NOT NULL THEN
		BEGIN
			PERFORM now() + CAST(setting AS INTERVAL); -- is it a time at all?
			RETURN CAST(setting AS INTERVAL);
		EXCEPTION WHEN data_exception THEN
			NULL;
		END;
	END IF;
	RETURN INTERVAL '1 minute';
END $$;

-- The older program's enums: what either writes is normalised, never refused.
-- The migration itself, which fills the names in, leaves the enums as they are.
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
	IF label IS NULL AND NEW.status IS NULL THEN -- a status without a label, and the column may not be NULL
		SELECT e.enumlabel INTO label FROM pg_enum AS e WHERE e.enumtypid = pg_typeof(NEW.status) ORDER BY e.enumsortorder LIMIT 1;
	END IF;
	IF label IS NOT NULL THEN
		NEW.status := label;
	END IF;
	RETURN NEW;
END $$;

-- A role without a label leaves the enum NULL, never a label with more rights.
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

-- A host that fills status_name or role_name itself is not refused either.
CREATE FUNCTION cims_status_named() RETURNS TRIGGER LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
	NEW.{customer.status_name} := COALESCE(cims_name(NEW.{customer.status_name}), 'contacted');
	PERFORM cims_add_entry('customer_status', NEW.{customer.status_name});
	RETURN NEW;
END $$;

CREATE FUNCTION cims_role_named() RETURNS TRIGGER LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
	NEW.{user.role_name} := cims_name(NEW.{user.role_name});
	IF NEW.{user.role_name} IS NOT NULL THEN
		PERFORM cims_add_entry('user_role', NEW.{user.role_name});
	END IF;
	RETURN NEW;
END $$;

-- An entry of theirs gets the one form of names, unless another has it: it is not
-- refused for that.
CREATE FUNCTION cims_entry_named() RETURNS TRIGGER LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
	taken BOOLEAN;
BEGIN
	IF TG_OP = 'UPDATE' AND NEW.name = OLD.name THEN -- left as it is: keys may refer to it
		RETURN NEW;
	END IF;
	EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I WHERE name = $1 AND id <> $2)', TG_TABLE_NAME) INTO taken USING cims_name(NEW.name), NEW.id;
	IF NOT taken THEN
		NEW.name := cims_name(NEW.name);
	END IF;
	RETURN NEW;
END $$;

-- A customer of theirs has no sales manager yet.
CREATE FUNCTION cims_foreign_customer() RETURNS TRIGGER LANGUAGE plpgsql SET timezone = 'UTC' SET search_path FROM CURRENT AS $$
BEGIN
	INSERT INTO cims_unassigned (customer_id, customer_created_at, waiting, due_at) VALUES (NEW.{customer.id}, NEW.{customer.created_at}, TRUE, now() + cims_grace());
	INSERT INTO customer_status_history (customer_id, to_status, cause, changed_at) VALUES (NEW.{customer.id}, NEW.{customer.status_name}, 'external', clock_timestamp());
	RETURN NULL;
END $$;

-- Customers are listed by the time of their creation, so each has one that can be told.
CREATE FUNCTION cims_created() RETURNS TRIGGER LANGUAGE plpgsql SET timezone = 'UTC' SET search_path FROM CURRENT AS $$
BEGIN
	NEW.{customer.created_at} := now();
	RETURN NEW;
END $$;

-- A lead that was not filled in yet
-- gets the row for what it was, too.
CREATE FUNCTION cims_foreign_status() RETURNS TRIGGER LANGUAGE plpgsql SET timezone = 'UTC' SET search_path FROM CURRENT AS $$
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

CREATE FUNCTION cims_foreign_time() RETURNS TRIGGER LANGUAGE plpgsql SET timezone = 'UTC' SET search_path FROM CURRENT AS $$
BEGIN
	UPDATE sales_manager_assignment SET customer_created_at = NEW.{customer.created_at} WHERE customer_id = NEW.{customer.id};
	UPDATE cims_unassigned SET customer_created_at = NEW.{customer.created_at} WHERE customer_id = NEW.{customer.id};
	RETURN NULL;
END $$;

-- An assignment of theirs is one. Where we have been faster, their word is a
-- reassignment: the row makes way for theirs.
CREATE FUNCTION cims_foreign_assignment() RETURNS TRIGGER LANGUAGE plpgsql SET timezone = 'UTC' SET search_path FROM CURRENT AS $$
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

-- One that was not filled in yet is
-- counted by whoever fills it in.
CREATE FUNCTION cims_foreign_reassignment() RETURNS TRIGGER LANGUAGE plpgsql SET timezone = 'UTC' SET search_path FROM CURRENT AS $$
DECLARE
	before BIGINT := CASE WHEN OLD.is_active THEN OLD.sales_manager_id END;
	after BIGINT := CASE WHEN NEW.is_active THEN NEW.sales_manager_id END;
BEGIN
	-- In the order of the ids, so that two of them can't wait for each other.
	PERFORM cims_count_leads(m.id, m.leads) FROM (VALUES (before, -1), (after, 1)) AS m (id, leads) WHERE m.id IS NOT NULL ORDER BY m.id;
	PERFORM cims_owner_changed(NEW.customer_id, NEW.customer_created_at, before, after);
	RETURN NULL;
END $$;

CREATE FUNCTION cims_count_leads(manager BIGINT, leads INTEGER) RETURNS VOID LANGUAGE sql SET search_path FROM CURRENT AS $$
	INSERT INTO sales_manager_rotation (sales_manager_id, assigned_leads_count) VALUES (manager, leads)
	ON CONFLICT (sales_manager_id) DO UPDATE SET assigned_leads_count = sales_manager_rotation.assigned_leads_count + leads
$$;

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

-- Whoever deletes a customer or an assignment: the manager's count stays right.
-- A customer that is still there is without a sales manager then.
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
	IF EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = cims_relation('customer') AND attname = {'customer.created_at'} AND NOT attnotnull) THEN
		CREATE TRIGGER cims_created BEFORE INSERT OR UPDATE OF {customer.created_at} ON {customer}
			FOR EACH ROW WHEN (NEW.{customer.created_at} IS NULL) EXECUTE FUNCTION cims_created();
	END IF;
	CREATE TRIGGER cims_created_when BEFORE INSERT OR UPDATE OF {customer.created_at} ON {customer}
		FOR EACH ROW WHEN (NEW.{customer.created_at} < '0001-01-01' OR NEW.{customer.created_at} >= '10000-01-01') EXECUTE FUNCTION cims_created();
	FOR row_type IN SELECT e.name FROM (VALUES ('customer_status'), ('user_role')) AS e (name)
		WHERE NOT EXISTS (SELECT 1 FROM cims_added AS a WHERE a.kind = 'table' AND a.table_name = e.name)
	LOOP
		EXECUTE format('CREATE TRIGGER cims_entry_named BEFORE INSERT OR UPDATE OF name ON %I
			FOR EACH ROW WHEN (NEW.name <> cims_name(NEW.name)) EXECUTE FUNCTION cims_entry_named()', row_type);
	END LOOP;
	-- What the older program's column says, if it has one: of a row of the table,
	-- and of the view, if there is one.
	FOR row_type IN SELECT DISTINCT unnest(ARRAY['customer', '{customer}']) LOOP
		EXECUTE 'CREATE FUNCTION cims_enum_status(c ' || row_type || ') RETURNS TEXT LANGUAGE sql STABLE AS $f$ SELECT ' || label || ' $f$';
	END LOOP;
	EXECUTE 'CREATE TRIGGER cims_foreign_status AFTER UPDATE OF ' || columns || ' ON {customer} FOR EACH ROW
		WHEN (OLD.{customer.status_name} IS DISTINCT FROM NEW.{customer.status_name} AND OLD.cims_version = NEW.cims_version
			AND current_setting(''cims.filling'', TRUE) IS DISTINCT FROM ''on'')
		EXECUTE FUNCTION cims_foreign_status()';
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

CREATE TRIGGER cims_foreign_customer AFTER INSERT ON {customer}
	FOR EACH ROW WHEN (NEW.cims_version = 0) EXECUTE FUNCTION cims_foreign_customer();
CREATE TRIGGER cims_foreign_time AFTER UPDATE OF {customer.created_at} ON {customer}
	FOR EACH ROW WHEN (OLD.{customer.created_at} IS DISTINCT FROM NEW.{customer.created_at}) EXECUTE FUNCTION cims_foreign_time();
CREATE TRIGGER cims_foreign_assignment BEFORE INSERT ON sales_manager_assignment
	FOR EACH ROW WHEN (NEW.cims_version = 0) EXECUTE FUNCTION cims_foreign_assignment();
CREATE TRIGGER cims_foreign_reassignment AFTER UPDATE OF sales_manager_id, is_active ON sales_manager_assignment
	FOR EACH ROW WHEN (OLD.cims_version = NEW.cims_version AND OLD.customer_created_at IS NOT NULL)
	EXECUTE FUNCTION cims_foreign_reassignment();
CREATE TRIGGER cims_assignment_deleted AFTER DELETE ON sales_manager_assignment
	REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION cims_assignment_deleted();

-- A program whose rights are on the tables that it knows writes into ours by
-- these: so triggers run with the rights of whoever migrates. Nothing that a
-- caller can make is looked up in them, neither a temporary table nor a schema of
-- its own, and nobody else can put them on a table of theirs. Whoever may create
-- something in the schema itself has to be trusted, as with all that its owner runs.
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
