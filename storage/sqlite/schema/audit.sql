-- The audit log, which can only be added to. See the PostgreSQL migration.

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

CREATE TRIGGER cims_audit_no_update BEFORE UPDATE ON cims_audit BEGIN
	SELECT RAISE(ABORT, 'cims_audit can only be added to');
END;
CREATE TRIGGER cims_audit_no_delete BEFORE DELETE ON cims_audit BEGIN
	SELECT RAISE(ABORT, 'cims_audit can only be added to');
END;
CREATE TRIGGER cims_audit_no_replace BEFORE INSERT ON cims_audit WHEN EXISTS (SELECT 1 FROM cims_audit WHERE id = NEW.id) BEGIN
	SELECT RAISE(ABORT, 'cims_audit can only be added to');
END;
