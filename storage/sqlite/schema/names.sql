-- What has to be there before customer and "user": the names they refer to, and
-- what they were before.

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

-- What a rollback has to know: which of customer and "user" were there before,
-- what the host calls them and which of their columns (a JSON object), with which
-- columns (a JSON array), which columns we have added to them, and which names we
-- have replaced.
CREATE TABLE cims_adopted (table_name TEXT PRIMARY KEY, relation TEXT NOT NULL, names TEXT NOT NULL, columns TEXT NOT NULL);
CREATE TABLE cims_added_column (table_name TEXT NOT NULL, column_name TEXT NOT NULL, PRIMARY KEY (table_name, column_name));
CREATE TABLE cims_replaced_name (table_name TEXT NOT NULL, row_id INTEGER NOT NULL, old_name, new_name TEXT, PRIMARY KEY (table_name, row_id));

-- The ranges of ids that were gone through, one after the other, with a digest
-- of what the host's own columns held.
CREATE TABLE cims_original (
	table_name TEXT NOT NULL,
	last_id INTEGER NOT NULL,
	row_count INTEGER NOT NULL,
	digest BLOB NOT NULL,
	PRIMARY KEY (table_name, last_id)
);
