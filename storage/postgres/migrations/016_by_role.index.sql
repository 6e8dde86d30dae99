-- An index for the users with a role.
CREATE INDEX cims_user_role ON {user} ({user.role_name});
