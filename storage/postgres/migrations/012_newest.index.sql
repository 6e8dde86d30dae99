-- An index for the list of customers and the conversion rate.
CREATE INDEX cims_customer_newest ON customer (created_at DESC, id DESC) INCLUDE (status_name);
