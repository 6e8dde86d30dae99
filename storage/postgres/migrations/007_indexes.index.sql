-- Builds the indexes of customers, users and assignments, beside the work of others.

-- The list of customers, and the conversion rate.
CREATE INDEX cims_customer_newest ON {customer} ({customer.created_at} DESC, {customer.id} DESC) INCLUDE ({customer.status_name});

-- The customers in a status.
CREATE INDEX cims_customer_status ON {customer} ({customer.status_name}, {customer.created_at} DESC, {customer.id} DESC);

-- The search for a name and for a phone number.
CREATE INDEX cims_customer_name ON {customer} (lower({customer.full_name}) text_pattern_ops);
CREATE INDEX cims_customer_phone ON {customer} (lower({customer.phone_number}) text_pattern_ops);

-- The users with a role, and the user with an email.
CREATE INDEX cims_user_role ON {user} ({user.role_name});
CREATE INDEX cims_user_email ON {user} (lower({user.email}));

-- The customers of a sales manager.
CREATE INDEX cims_assignment_manager ON sales_manager_assignment (sales_manager_id, customer_created_at DESC, customer_id DESC) WHERE is_active;
