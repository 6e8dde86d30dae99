-- An index for the list of customers and the conversion rate.
CREATE INDEX cims_customer_newest ON {customer} ({customer.created_at} DESC, {customer.id} DESC) INCLUDE ({customer.status_name});
