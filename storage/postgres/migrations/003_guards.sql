-- Foreign keys guard statuses and roles in use: they are the only guard that
-- leaves no orphan under concurrency. The indexes carry the lists and the keys.

ALTER TABLE customer ADD CONSTRAINT cims_customer_status_name FOREIGN KEY (status_name) REFERENCES customer_status (name);
ALTER TABLE "user" ADD CONSTRAINT cims_user_role_name FOREIGN KEY (role_name) REFERENCES user_role (name);

CREATE INDEX cims_customer_newest ON customer (created_at DESC, id DESC) INCLUDE (status_name);
CREATE INDEX cims_customer_status ON customer (status_name, created_at DESC, id DESC);
CREATE INDEX cims_customer_name ON customer (lower(full_name) text_pattern_ops);
CREATE INDEX cims_customer_phone ON customer (lower(phone_number) text_pattern_ops);
CREATE INDEX cims_user_role ON "user" (role_name);
CREATE INDEX cims_user_email ON "user" (lower(email));
CREATE INDEX cims_assignment_manager ON sales_manager_assignment (sales_manager_id, customer_created_at DESC, customer_id DESC) WHERE is_active;

-- Whoever deletes a customer or an assignment: the manager's count stays right.
CREATE FUNCTION cims_assignment_deleted() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
	UPDATE sales_manager_rotation AS m SET assigned_leads_count = m.assigned_leads_count - gone.leads
	FROM (SELECT sales_manager_id, count(*) AS leads FROM deleted WHERE is_active GROUP BY sales_manager_id) AS gone
	WHERE m.sales_manager_id = gone.sales_manager_id;
	RETURN NULL;
END $$;
CREATE TRIGGER cims_assignment_deleted AFTER DELETE ON sales_manager_assignment
	REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION cims_assignment_deleted();

-- Rows that others insert have none of our columns filled, ours always do. A
-- customer of theirs has no sales manager yet; an assignment of theirs is one.
CREATE FUNCTION cims_foreign_customer() RETURNS TRIGGER LANGUAGE plpgsql SET timezone = 'UTC' AS $$
BEGIN
	INSERT INTO cims_unassigned (customer_id, customer_created_at, waiting) VALUES (NEW.id, NEW.created_at, FALSE);
	RETURN NULL;
END $$;
CREATE TRIGGER cims_foreign_customer AFTER INSERT ON customer
	FOR EACH ROW WHEN (NEW.updated_at IS NULL) EXECUTE FUNCTION cims_foreign_customer();

CREATE FUNCTION cims_foreign_assignment() RETURNS TRIGGER LANGUAGE plpgsql SET timezone = 'UTC' AS $$
BEGIN
	SELECT created_at INTO NEW.customer_created_at FROM customer WHERE id = NEW.customer_id;
	IF NEW.is_active THEN
		DELETE FROM cims_unassigned WHERE customer_id = NEW.customer_id;
		INSERT INTO sales_manager_rotation (sales_manager_id, assigned_leads_count) VALUES (NEW.sales_manager_id, 1)
		ON CONFLICT (sales_manager_id) DO UPDATE SET assigned_leads_count = sales_manager_rotation.assigned_leads_count + 1;
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER cims_foreign_assignment BEFORE INSERT ON sales_manager_assignment
	FOR EACH ROW WHEN (NEW.customer_created_at IS NULL) EXECUTE FUNCTION cims_foreign_assignment();

-- The older program's enums, while both programs run: what either writes shows
-- in the other's column. It is normalised, never refused.
CREATE FUNCTION cims_status_in_step() RETURNS TRIGGER LANGUAGE plpgsql SET timezone = 'UTC' AS $$
DECLARE
	label TEXT;
BEGIN
	IF TG_OP = 'UPDATE' AND NEW.status IS DISTINCT FROM OLD.status AND NEW.status_name IS NOT DISTINCT FROM OLD.status_name THEN
		NEW.status_name := NULL;
	END IF;
	NEW.status_name := COALESCE(cims_name(NEW.status_name), cims_name(CAST(NEW.status AS TEXT)), 'contacted');
	INSERT INTO customer_status (name, display_name, is_active, is_system, created_at, updated_at)
	SELECT NEW.status_name, NEW.status_name, FALSE, FALSE, now(), now()
	WHERE NOT EXISTS (SELECT 1 FROM customer_status WHERE name = NEW.status_name)
	ON CONFLICT (name) DO NOTHING;
	SELECT e.enumlabel INTO label FROM pg_enum AS e WHERE e.enumtypid = pg_typeof(NEW.status) AND cims_name(e.enumlabel) = NEW.status_name;
	IF label IS NULL AND NEW.status IS NULL THEN -- a status without a label, and the column may not be NULL
		SELECT e.enumlabel INTO label FROM pg_enum AS e WHERE e.enumtypid = pg_typeof(NEW.status) ORDER BY e.enumsortorder LIMIT 1;
	END IF;
	IF label IS NOT NULL THEN
		NEW.status := label;
	END IF;
	RETURN NEW;
END $$;

-- A role without a label leaves the enum NULL, never a label with more rights.
CREATE FUNCTION cims_role_in_step() RETURNS TRIGGER LANGUAGE plpgsql SET timezone = 'UTC' AS $$
DECLARE
	label TEXT;
BEGIN
	IF TG_OP = 'UPDATE' AND NEW.role IS DISTINCT FROM OLD.role AND NEW.role_name IS NOT DISTINCT FROM OLD.role_name THEN
		NEW.role_name := NULL;
	END IF;
	NEW.role_name := COALESCE(cims_name(NEW.role_name), cims_name(CAST(NEW.role AS TEXT)));
	IF NEW.role_name IS NOT NULL THEN
		INSERT INTO user_role (name, display_name, is_active, is_system, created_at, updated_at)
		SELECT NEW.role_name, NEW.role_name, FALSE, FALSE, now(), now()
		WHERE NOT EXISTS (SELECT 1 FROM user_role WHERE name = NEW.role_name)
		ON CONFLICT (name) DO NOTHING;
		SELECT e.enumlabel INTO label FROM pg_enum AS e WHERE e.enumtypid = pg_typeof(NEW.role) AND cims_name(e.enumlabel) = NEW.role_name;
		NEW.role := label;
	END IF;
	RETURN NEW;
END $$;

DO $$
BEGIN
	IF cims_is_enum('customer', 'status') THEN
		CREATE TRIGGER cims_status_in_step BEFORE INSERT OR UPDATE OF status, status_name ON customer
			FOR EACH ROW EXECUTE FUNCTION cims_status_in_step();
	END IF;
	IF cims_is_enum('user', 'role') THEN
		CREATE TRIGGER cims_role_in_step BEFORE INSERT OR UPDATE OF role, role_name ON "user"
			FOR EACH ROW EXECUTE FUNCTION cims_role_in_step();
	END IF;
END $$;
