-- Adds the foreign keys to statuses and roles, for rows that are written from now on.

-- Only foreign keys leave no orphan under concurrency. The check of all rows takes
-- longer, and is a step of its own: this one locks out writers.
ALTER TABLE {customer} ADD CONSTRAINT cims_customer_status_name FOREIGN KEY ({customer.status_name}) REFERENCES customer_status (name) NOT VALID;
ALTER TABLE {user} ADD CONSTRAINT cims_user_role_name FOREIGN KEY ({user.role_name}) REFERENCES user_role (name) NOT VALID;
