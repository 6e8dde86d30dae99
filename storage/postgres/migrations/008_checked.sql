-- Checks all rows against the foreign keys, and lists what was added for Verify.

-- The locks come first: a lock that is not to be had then costs no check. Others may read
-- and write meanwhile.
LOCK TABLE {customer}, {user}, sales_manager_assignment IN SHARE UPDATE EXCLUSIVE MODE;
ALTER TABLE {customer} VALIDATE CONSTRAINT cims_customer_status_name;
ALTER TABLE {user} VALIDATE CONSTRAINT cims_user_role_name;
DO $$
DECLARE
	unchecked TEXT;
BEGIN
	FOR unchecked IN SELECT conname FROM pg_constraint WHERE conrelid = CAST('sales_manager_assignment' AS regclass) AND conname LIKE 'cims\_%' AND NOT convalidated LOOP
		EXECUTE format('ALTER TABLE sales_manager_assignment VALIDATE CONSTRAINT %I', unchecked);
	END LOOP;
END $$;

INSERT INTO cims_part SELECT kind, name, FALSE FROM cims_parts ON CONFLICT (kind, name) DO NOTHING;
