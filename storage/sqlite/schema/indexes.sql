-- The indexes of customer and "user", which may be long: each is built in a
-- transaction of its own.

CREATE INDEX cims_user_role ON "user" (role_name);
CREATE INDEX cims_customer_newest ON customer (created_at DESC, id DESC, status_name);
CREATE INDEX cims_customer_status ON customer (status_name, created_at DESC, id DESC);
CREATE INDEX cims_customer_name ON customer (search_name);
CREATE INDEX cims_customer_phone ON customer (lower(phone_number));
