-- Makes the table of users, where the host has none.

CREATE TABLE "user" (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	email VARCHAR(255) NOT NULL UNIQUE,
	name VARCHAR(255) NOT NULL,
	surname VARCHAR(255) NOT NULL,
	role_name VARCHAR(100) REFERENCES user_role (name),
	is_active BOOLEAN NOT NULL DEFAULT TRUE
);
