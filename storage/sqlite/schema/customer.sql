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
