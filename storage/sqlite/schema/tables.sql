-- Makes the tables that refer to customer and "user", and those that stand by themselves.
-- storage/postgres/migrations/001_tables.sql says what each is for.

CREATE TABLE sales_manager_assignment (
	id INTEGER PRIMARY KEY,
	customer_id INTEGER NOT NULL UNIQUE REFERENCES {customer} ({customer.id}) ON DELETE CASCADE,
	sales_manager_id INTEGER NOT NULL REFERENCES {user} ({user.id}) ON DELETE CASCADE,
	assigned_at TIMESTAMP NOT NULL,
	assigned_by INTEGER REFERENCES {user} ({user.id}) ON DELETE SET NULL,
	is_active BOOLEAN NOT NULL DEFAULT TRUE,
	customer_created_at TIMESTAMP,
	cims_version INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX cims_assignment_manager ON sales_manager_assignment (sales_manager_id, customer_created_at DESC, customer_id DESC) WHERE is_active;

CREATE TABLE sales_manager_counter (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	last_assigned_index INTEGER DEFAULT 0,
	updated_at TIMESTAMP,
	turn BIGINT NOT NULL DEFAULT 0,
	ledger TEXT NOT NULL DEFAULT '[]',
	version BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE sales_manager_rotation (
	sales_manager_id INTEGER PRIMARY KEY REFERENCES {user} ({user.id}) ON DELETE CASCADE,
	weight INTEGER NOT NULL DEFAULT 1,
	paused BOOLEAN NOT NULL DEFAULT FALSE,
	assigned_leads_count BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE cims_unassigned (
	customer_id INTEGER PRIMARY KEY REFERENCES {customer} ({customer.id}) ON DELETE CASCADE,
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

CREATE TABLE cims_audit (
	id INTEGER PRIMARY KEY,
	change_id VARCHAR(36) NOT NULL,
	at TIMESTAMP NOT NULL,
	request_id VARCHAR(128),
	user_id INTEGER,
	email TEXT,
	name TEXT,
	surname TEXT,
	system VARCHAR(100),
	action VARCHAR(20) NOT NULL,
	entity VARCHAR(20) NOT NULL,
	entity_id INTEGER NOT NULL,
	cause VARCHAR(20),
	move_to VARCHAR(100),
	old_state TEXT,
	new_state TEXT
);
CREATE INDEX cims_audit_entity ON cims_audit (entity, entity_id, id);
CREATE INDEX cims_audit_user ON cims_audit (user_id, id);

-- Rows of cims_audit can't be changed, deleted or replaced.
CREATE TRIGGER cims_audit_no_update BEFORE UPDATE ON cims_audit BEGIN
	SELECT RAISE(ABORT, 'cims_audit can only be added to');
END;
CREATE TRIGGER cims_audit_no_delete BEFORE DELETE ON cims_audit BEGIN
	SELECT RAISE(ABORT, 'cims_audit can only be added to');
END;
CREATE TRIGGER cims_audit_no_replace BEFORE INSERT ON cims_audit WHEN EXISTS (SELECT 1 FROM cims_audit WHERE id = NEW.id) BEGIN
	SELECT RAISE(ABORT, 'cims_audit can only be added to');
END;
