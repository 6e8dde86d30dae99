-- An index for the customers in a status.
CREATE INDEX cims_customer_status ON customer (status_name, created_at DESC, id DESC);
