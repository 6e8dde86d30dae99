-- The foreign key of users, checked for all that is there.
ALTER TABLE {user} VALIDATE CONSTRAINT cims_user_role_name;
