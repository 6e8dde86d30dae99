-- Makes the triggers that stand for the foreign key to roles: SQLite can't add one to a
-- host's table.

CREATE TRIGGER cims_user_role_insert BEFORE INSERT ON {user} WHEN {role of NEW} NOT IN (SELECT name FROM user_role) BEGIN
	SELECT RAISE(ABORT, 'FOREIGN KEY constraint failed: user.role_name is no role');
END;
CREATE TRIGGER cims_user_role_update BEFORE UPDATE OF {user.role_name} ON {user} WHEN {role of NEW} NOT IN (SELECT name FROM user_role) BEGIN
	SELECT RAISE(ABORT, 'FOREIGN KEY constraint failed: user.role_name is no role');
END;
CREATE TRIGGER cims_role_used_delete BEFORE DELETE ON user_role WHEN EXISTS (SELECT 1 FROM {user} WHERE {user.role_name} = OLD.name) BEGIN
	SELECT RAISE(ABORT, 'FOREIGN KEY constraint failed: users have this role');
END;
CREATE TRIGGER cims_role_used_rename BEFORE UPDATE OF name ON user_role WHEN NEW.name IS NOT OLD.name AND EXISTS (SELECT 1 FROM {user} WHERE {user.role_name} = OLD.name) BEGIN
	SELECT RAISE(ABORT, 'FOREIGN KEY constraint failed: users have this role');
END;
CREATE TRIGGER cims_role_used_replace BEFORE INSERT ON user_role WHEN EXISTS (SELECT 1 FROM user_role AS r JOIN {user} AS u ON u.{user.role_name} = r.name WHERE r.id = NEW.id AND r.name <> NEW.name) BEGIN
	SELECT RAISE(ABORT, 'FOREIGN KEY constraint failed: users have this role');
END;
