-- The foreign key of customers, and those that assignments lacked, checked for all that is there.
ALTER TABLE {customer} VALIDATE CONSTRAINT cims_customer_status_name;
DO $$
DECLARE
	unchecked TEXT;
BEGIN
	FOR unchecked IN SELECT conname FROM pg_constraint WHERE conrelid = CAST('sales_manager_assignment' AS regclass) AND conname LIKE 'cims\_%' AND NOT convalidated LOOP
		EXECUTE format('ALTER TABLE sales_manager_assignment VALIDATE CONSTRAINT %I', unchecked);
	END LOOP;
END $$;
