-- Makes the triggers that take in what other programs write. schema.go replaces the braces.

-- Deletes. The number of leads stays right, and a customer without an owner waits for
-- another. Foreign keys would do the rest, but connections of a host may not check them.
CREATE TRIGGER cims_assignment_deleted AFTER DELETE ON sales_manager_assignment WHEN OLD.is_active BEGIN
	UPDATE sales_manager_rotation SET assigned_leads_count = assigned_leads_count - 1 WHERE sales_manager_id = OLD.sales_manager_id;
	INSERT OR REPLACE INTO cims_unassigned (customer_id, customer_created_at, waiting, due_at)
	SELECT {customer.id}, COALESCE({customer.created_at}, {now}), TRUE, {due} FROM {customer} WHERE {customer.id} = OLD.customer_id;
	INSERT INTO assignment_history (customer_id, from_manager_id, cause, changed_at)
	SELECT {customer.id}, OLD.sales_manager_id, 'external', {now} FROM {customer} WHERE {customer.id} = OLD.customer_id;
END;
CREATE TRIGGER cims_customer_deleted AFTER DELETE ON {customer} BEGIN
	DELETE FROM cims_unassigned WHERE customer_id = OLD.{customer.id};
	DELETE FROM sales_manager_assignment WHERE customer_id = OLD.{customer.id};
END;
CREATE TRIGGER cims_user_deleted AFTER DELETE ON {user} BEGIN
	DELETE FROM sales_manager_assignment WHERE sales_manager_id = OLD.{user.id};
	UPDATE sales_manager_assignment SET assigned_by = NULL WHERE assigned_by = OLD.{user.id};
	DELETE FROM sales_manager_rotation WHERE sales_manager_id = OLD.{user.id};
END;

-- Inserts. A customer of another program has no owner yet. It gets one after a minute,
-- unless that program names one.
CREATE TRIGGER cims_customer_inserted AFTER INSERT ON {customer} WHEN NEW.cims_version = 0 BEGIN
	INSERT INTO customer_status_history (customer_id, to_status, cause, changed_at)
	VALUES (NEW.{customer.id}, {status of NEW}, 'external', {now});
	UPDATE {customer} SET search_name = lower(COALESCE(NEW.{customer.full_name}, '')), {customer.status_name} = {status of NEW} WHERE {customer.id} = NEW.{customer.id};
	INSERT OR REPLACE INTO cims_unassigned (customer_id, customer_created_at, waiting, due_at)
	SELECT NEW.{customer.id}, COALESCE(NEW.{customer.created_at}, {now}), TRUE, {due}
	WHERE NOT EXISTS (SELECT 1 FROM sales_manager_assignment WHERE customer_id = NEW.{customer.id} AND is_active);
END;
CREATE TRIGGER cims_assignment_inserted AFTER INSERT ON sales_manager_assignment WHEN NEW.cims_version = 0 BEGIN
	UPDATE sales_manager_assignment SET customer_created_at = (SELECT {customer.created_at} FROM {customer} WHERE {customer.id} = NEW.customer_id) WHERE id = NEW.id;
	DELETE FROM cims_unassigned WHERE customer_id = NEW.customer_id AND NEW.is_active;
	INSERT INTO sales_manager_rotation (sales_manager_id, assigned_leads_count)
	SELECT NEW.sales_manager_id, 1 WHERE NEW.is_active
	ON CONFLICT (sales_manager_id) DO UPDATE SET assigned_leads_count = assigned_leads_count + 1;
	INSERT INTO assignment_history (customer_id, to_manager_id, cause, changed_by, changed_at)
	SELECT NEW.customer_id, NEW.sales_manager_id, 'external', NEW.assigned_by, {now} WHERE NEW.is_active;
END;

-- Changes of owners.
CREATE TRIGGER cims_assignment_changed AFTER UPDATE OF sales_manager_id, is_active ON sales_manager_assignment
WHEN NEW.cims_version = OLD.cims_version AND (NEW.sales_manager_id <> OLD.sales_manager_id OR NEW.is_active IS NOT OLD.is_active) BEGIN
	UPDATE sales_manager_rotation SET assigned_leads_count = assigned_leads_count - 1 WHERE sales_manager_id = OLD.sales_manager_id AND OLD.is_active;
	INSERT INTO sales_manager_rotation (sales_manager_id, assigned_leads_count)
	SELECT NEW.sales_manager_id, 1 WHERE NEW.is_active
	ON CONFLICT (sales_manager_id) DO UPDATE SET assigned_leads_count = assigned_leads_count + 1;
	DELETE FROM cims_unassigned WHERE customer_id = NEW.customer_id AND NEW.is_active;
	INSERT OR REPLACE INTO cims_unassigned (customer_id, customer_created_at, waiting, due_at)
	SELECT {customer.id}, COALESCE({customer.created_at}, {now}), TRUE, {due} FROM {customer} WHERE {customer.id} = NEW.customer_id AND NOT NEW.is_active;
	INSERT INTO assignment_history (customer_id, from_manager_id, to_manager_id, cause, changed_at)
	SELECT NEW.customer_id, CASE WHEN OLD.is_active THEN OLD.sales_manager_id END, CASE WHEN NEW.is_active THEN NEW.sales_manager_id END, 'external', {now}
	WHERE OLD.is_active OR NEW.is_active;
END;

-- Changes of statuses. The history ends in the status of its customer. It may do so
-- already, where the migration has just filled it in.
CREATE TRIGGER cims_status_changed AFTER UPDATE OF {customer.status_name} ON {customer} WHEN NEW.{customer.status_name} IS NOT OLD.{customer.status_name} AND NEW.cims_version = OLD.cims_version BEGIN
	INSERT INTO customer_status_history (customer_id, from_status, to_status, cause, owner_id, changed_at)
	SELECT NEW.{customer.id}, OLD.{customer.status_name}, {status of NEW}, 'external',
		(SELECT sales_manager_id FROM sales_manager_assignment WHERE customer_id = NEW.{customer.id} AND is_active), {now}
	WHERE {status of NEW} IS NOT (SELECT to_status FROM customer_status_history WHERE customer_id = NEW.{customer.id} ORDER BY +id DESC LIMIT 1);
	UPDATE {customer} SET {customer.status_name} = {status of NEW} WHERE {customer.id} = NEW.{customer.id} AND {customer.status_name} IS NOT {status of NEW};
END;

-- Changes of names.
CREATE TRIGGER cims_full_name_changed AFTER UPDATE OF {customer.full_name} ON {customer} WHEN NEW.{customer.full_name} IS NOT OLD.{customer.full_name} AND NEW.search_name IS OLD.search_name BEGIN
	UPDATE {customer} SET search_name = lower(COALESCE(NEW.{customer.full_name}, '')) WHERE {customer.id} = NEW.{customer.id};
END;

-- Roles. Names get their stored form.
CREATE TRIGGER cims_role_named_insert AFTER INSERT ON {user} WHEN NEW.{user.role_name} IS NOT {role of NEW} BEGIN
	UPDATE {user} SET {user.role_name} = {role of NEW} WHERE {user.id} = NEW.{user.id};
END;
CREATE TRIGGER cims_role_named AFTER UPDATE OF {user.role_name} ON {user} WHEN NEW.{user.role_name} IS NOT {role of NEW} BEGIN
	UPDATE {user} SET {user.role_name} = {role of NEW} WHERE {user.id} = NEW.{user.id};
END;
