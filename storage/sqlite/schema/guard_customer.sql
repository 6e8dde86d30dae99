-- Makes the triggers that stand for the foreign key to statuses: SQLite can't add one to a
-- host's table.

CREATE TRIGGER cims_customer_status_insert BEFORE INSERT ON {customer} WHEN NOT EXISTS (SELECT 1 FROM customer_status WHERE name = {status of NEW}) BEGIN
	SELECT RAISE(ABORT, 'FOREIGN KEY constraint failed: customer.status_name is no status');
END;
CREATE TRIGGER cims_customer_status_update BEFORE UPDATE OF {customer.status_name} ON {customer} WHEN NOT EXISTS (SELECT 1 FROM customer_status WHERE name = {status of NEW}) BEGIN
	SELECT RAISE(ABORT, 'FOREIGN KEY constraint failed: customer.status_name is no status');
END;
CREATE TRIGGER cims_status_used_delete BEFORE DELETE ON customer_status WHEN EXISTS (SELECT 1 FROM {customer} WHERE {customer.status_name} = OLD.name) BEGIN
	SELECT RAISE(ABORT, 'FOREIGN KEY constraint failed: customers are in this status');
END;
CREATE TRIGGER cims_status_used_rename BEFORE UPDATE OF name ON customer_status WHEN NEW.name IS NOT OLD.name AND EXISTS (SELECT 1 FROM {customer} WHERE {customer.status_name} = OLD.name) BEGIN
	SELECT RAISE(ABORT, 'FOREIGN KEY constraint failed: customers are in this status');
END;
CREATE TRIGGER cims_status_used_replace BEFORE INSERT ON customer_status WHEN EXISTS (SELECT 1 FROM customer_status AS s JOIN {customer} AS c ON c.{customer.status_name} = s.name WHERE s.id = NEW.id AND s.name <> NEW.name) BEGIN
	SELECT RAISE(ABORT, 'FOREIGN KEY constraint failed: customers are in this status');
END;
