-- An index for the customers in a status.
CREATE INDEX cims_customer_status ON {customer} ({customer.status_name}, {customer.created_at} DESC, {customer.id} DESC);
