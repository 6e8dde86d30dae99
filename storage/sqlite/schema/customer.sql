-- Makes the table of customers, where the host has none.

-- cims raises cims_version with each of its writes, here and in the assignments.
-- So a trigger can tell the writes of other programs.
-- search_name is the name in lower case. The function lower of SQLite knows only ASCII.
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
