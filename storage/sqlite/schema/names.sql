-- Makes the tables that come before customer and "user": statuses, roles, and the tables
-- that a rollback and Verify need.

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

-- cims_adopted lists which of customer and "user" were there before: their names, the
-- names of their columns (a JSON object) and their original columns (a JSON array).
CREATE TABLE cims_adopted (table_name TEXT PRIMARY KEY, relation TEXT NOT NULL, names TEXT NOT NULL, columns TEXT NOT NULL);

-- cims_added_column lists the columns that cims added to them.
CREATE TABLE cims_added_column (table_name TEXT NOT NULL, column_name TEXT NOT NULL, PRIMARY KEY (table_name, column_name));

-- cims_replaced_name holds the names of statuses and roles that cims changed in them.
CREATE TABLE cims_replaced_name (table_name TEXT NOT NULL, row_id INTEGER NOT NULL, old_name, new_name TEXT, PRIMARY KEY (table_name, row_id));

-- cims_original lists the filled ranges of ids, in order, each with a digest of the
-- original columns.
CREATE TABLE cims_original (
	table_name TEXT NOT NULL,
	last_id INTEGER NOT NULL,
	row_count INTEGER NOT NULL,
	digest BLOB NOT NULL,
	PRIMARY KEY (table_name, last_id)
);
