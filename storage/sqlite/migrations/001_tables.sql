-- Every table of ours, in an empty file. See the PostgreSQL migration of the
-- same number for what each is for.

CREATE TABLE customer_status (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	name VARCHAR(100) NOT NULL UNIQUE,
	display_name VARCHAR(255) NOT NULL,
	description TEXT,
	color VARCHAR(50),
	"order" INTEGER NOT NULL DEFAULT 0,
	is_active BOOLEAN NOT NULL DEFAULT TRUE,
	is_system BOOLEAN NOT NULL DEFAULT FALSE,
	created_at TIMESTAMP NOT NULL,
	updated_at TIMESTAMP NOT NULL
);

CREATE TABLE user_role (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	name VARCHAR(100) NOT NULL UNIQUE,
	display_name VARCHAR(255) NOT NULL,
	description TEXT,
	permissions TEXT NOT NULL DEFAULT '',
	is_active BOOLEAN NOT NULL DEFAULT TRUE,
	is_system BOOLEAN NOT NULL DEFAULT FALSE,
	created_at TIMESTAMP NOT NULL,
	updated_at TIMESTAMP NOT NULL
);

CREATE TABLE "user" (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	email VARCHAR(255) NOT NULL UNIQUE,
	name VARCHAR(255) NOT NULL,
	surname VARCHAR(255) NOT NULL,
	role_name VARCHAR(100) REFERENCES user_role (name),
	is_active BOOLEAN NOT NULL DEFAULT TRUE
);
CREATE INDEX cims_user_role ON "user" (role_name);

-- Whoever writes a row through cims raises its cims_version, here and in the
-- assignments: so a trigger can tell what others write.
-- search_name is the lower-case name, in any script: SQLite's own lower, and so
-- an index over it, knows ASCII only.
CREATE TABLE customer (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	full_name VARCHAR(500) NOT NULL,
	phone_number VARCHAR(50),
	platform VARCHAR(255),
	username VARCHAR(255),
	notes TEXT,
	status_name VARCHAR(100) NOT NULL DEFAULT 'contacted' REFERENCES customer_status (name),
	created_at TIMESTAMP NOT NULL,
	updated_at TIMESTAMP,
	search_name TEXT,
	cims_version INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX cims_customer_newest ON customer (created_at DESC, id DESC, status_name);
CREATE INDEX cims_customer_status ON customer (status_name, created_at DESC, id DESC);
CREATE INDEX cims_customer_name ON customer (search_name);
CREATE INDEX cims_customer_phone ON customer (lower(phone_number));

CREATE TABLE sales_manager_assignment (
	id INTEGER PRIMARY KEY,
	customer_id INTEGER NOT NULL UNIQUE REFERENCES customer (id) ON DELETE CASCADE,
	sales_manager_id INTEGER NOT NULL REFERENCES "user" (id) ON DELETE CASCADE,
	assigned_at TIMESTAMP NOT NULL,
	assigned_by INTEGER REFERENCES "user" (id) ON DELETE SET NULL,
	is_active BOOLEAN NOT NULL DEFAULT TRUE,
	customer_created_at TIMESTAMP,
	cims_version INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX cims_assignment_manager ON sales_manager_assignment (sales_manager_id, customer_created_at DESC, customer_id DESC) WHERE is_active;

CREATE TABLE sales_manager_counter (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	last_assigned_index INTEGER DEFAULT 0,
	updated_at TIMESTAMP,
	floor BIGINT NOT NULL DEFAULT 0,
	turn BIGINT NOT NULL DEFAULT 0,
	version BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE sales_manager_rotation (
	sales_manager_id INTEGER PRIMARY KEY REFERENCES "user" (id) ON DELETE CASCADE,
	virtual_time BIGINT NOT NULL DEFAULT 0,
	last_turn BIGINT NOT NULL DEFAULT 0,
	weight INTEGER NOT NULL DEFAULT 1,
	paused BOOLEAN NOT NULL DEFAULT FALSE,
	assigned_leads_count BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE cims_unassigned (
	customer_id INTEGER PRIMARY KEY REFERENCES customer (id) ON DELETE CASCADE,
	customer_created_at TIMESTAMP NOT NULL,
	waiting BOOLEAN NOT NULL,
	due_at TIMESTAMP
);
CREATE INDEX cims_unassigned_newest ON cims_unassigned (customer_created_at DESC, customer_id DESC);

CREATE TABLE customer_status_history (
	id INTEGER PRIMARY KEY,
	customer_id INTEGER NOT NULL,
	from_status VARCHAR(100),
	to_status VARCHAR(100) NOT NULL,
	cause VARCHAR(20) NOT NULL,
	changed_by INTEGER,
	reason TEXT,
	owner_id INTEGER,
	changed_at TIMESTAMP NOT NULL
);
CREATE INDEX customer_status_history_customer ON customer_status_history (customer_id, to_status);

CREATE TABLE assignment_history (
	id INTEGER PRIMARY KEY,
	customer_id INTEGER NOT NULL,
	from_manager_id INTEGER,
	to_manager_id INTEGER,
	cause VARCHAR(20) NOT NULL,
	changed_by INTEGER,
	changed_at TIMESTAMP NOT NULL
);
CREATE INDEX assignment_history_customer ON assignment_history (customer_id);

CREATE TABLE cims_idempotency (
	scope VARCHAR(400) NOT NULL,
	key VARCHAR(255) NOT NULL,
	fingerprint VARCHAR(64) NOT NULL,
	result TEXT NOT NULL,
	created_at TIMESTAMP NOT NULL,
	PRIMARY KEY (scope, key)
) WITHOUT ROWID;
CREATE INDEX cims_idempotency_created ON cims_idempotency (created_at);

-- Whoever deletes a customer or an assignment: the manager's count stays right.
CREATE TRIGGER cims_assignment_deleted AFTER DELETE ON sales_manager_assignment WHEN OLD.is_active BEGIN
	UPDATE sales_manager_rotation SET assigned_leads_count = assigned_leads_count - 1 WHERE sales_manager_id = OLD.sales_manager_id;
END;

-- Rows that others insert have none of our columns filled, ours always do. A
-- customer of theirs has no sales manager yet; an assignment of theirs is one.
CREATE TRIGGER cims_foreign_customer AFTER INSERT ON customer WHEN NEW.cims_version = 0 BEGIN
	UPDATE customer SET search_name = lower(NEW.full_name) WHERE id = NEW.id;
	INSERT INTO cims_unassigned (customer_id, customer_created_at, waiting) VALUES (NEW.id, NEW.created_at, FALSE);
END;
CREATE TRIGGER cims_foreign_assignment AFTER INSERT ON sales_manager_assignment WHEN NEW.cims_version = 0 BEGIN
	UPDATE sales_manager_assignment SET customer_created_at = (SELECT created_at FROM customer WHERE id = NEW.customer_id) WHERE id = NEW.id;
	DELETE FROM cims_unassigned WHERE customer_id = NEW.customer_id AND NEW.is_active;
	INSERT INTO sales_manager_rotation (sales_manager_id, assigned_leads_count)
	SELECT NEW.sales_manager_id, 1 WHERE NEW.is_active
	ON CONFLICT (sales_manager_id) DO UPDATE SET assigned_leads_count = assigned_leads_count + 1;
END;
