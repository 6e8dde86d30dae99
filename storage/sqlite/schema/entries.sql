-- Adds the system statuses and roles, and the row of the counter.

INSERT INTO customer_status (name, display_name, description, color, "order", is_active, is_system, created_at, updated_at)
SELECT column1, column2, column3, column4, column5, TRUE, TRUE, t.now, t.now FROM (VALUES
	('contacted', 'Contacted', 'Initial contact made', '#3B82F6', 1),
	('project_started', 'Project Started', 'Project has started', '#10B981', 2),
	('continuing', 'Continuing', 'Project is continuing', '#F59E0B', 3),
	('finished', 'Finished', 'Project completed', '#8B5CF6', 4),
	('rejected', 'Rejected', 'Lead rejected', '#EF4444', 5),
	('need_to_call', 'Need to Call', 'Follow-up call needed', '#F97316', 6)
), (SELECT {now} AS now) AS t;

INSERT INTO user_role (name, display_name, description, permissions, is_active, is_system, created_at, updated_at)
SELECT column1, column2, column3, column4, TRUE, TRUE, t.now, t.now FROM (VALUES
	('ceo', 'CEO', 'Chief Executive Officer', 'statuses:read statuses:write roles:read roles:write users:read users:write leads:read leads:read:own leads:write leads:write:own leads:assign analytics:read audit:read'),
	('financial_director', 'Financial Director', 'Financial Director', 'statuses:read roles:read leads:read analytics:read'),
	('sales_manager', 'Sales Manager', 'Sales Manager for CRM', 'statuses:read leads:read:own leads:write:own analytics:read'),
	('member', 'Member', 'Team Member', 'statuses:read roles:read leads:read analytics:read'),
	('customer', 'Customer', 'Customer/Client', '')
), (SELECT {now} AS now) AS t;

INSERT INTO sales_manager_counter (last_assigned_index, updated_at) VALUES (-1, {now});
