-- Makes the indexes of customer and "user". Each is built in a transaction of its own, as
-- the tables may be long.

CREATE INDEX cims_user_role ON {user} ({user.role_name});
CREATE INDEX cims_customer_newest ON {customer} ({customer.created_at} DESC, {customer.id} DESC, {customer.status_name});
CREATE INDEX cims_customer_status ON {customer} ({customer.status_name}, {customer.created_at} DESC, {customer.id} DESC);
CREATE INDEX cims_customer_name ON {customer} (search_name);
CREATE INDEX cims_customer_phone ON {customer} (lower({customer.phone_number}));
