-- Foreign keys from customers and users to statuses and roles, for what is written from now on.

-- They guard what is in use: no other guard leaves no orphan under concurrency.
ALTER TABLE {customer} ADD CONSTRAINT cims_customer_status_name FOREIGN KEY ({customer.status_name}) REFERENCES customer_status (name) NOT VALID;
ALTER TABLE {user} ADD CONSTRAINT cims_user_role_name FOREIGN KEY ({user.role_name}) REFERENCES user_role (name) NOT VALID;
