-- The statuses of customers, by name, and the first row of their history.
SELECT * FROM cims_fill_customers(1000)
