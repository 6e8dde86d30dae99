-- The foreign key of customers, checked for all that is there.
ALTER TABLE {customer} VALIDATE CONSTRAINT cims_customer_status_name;
