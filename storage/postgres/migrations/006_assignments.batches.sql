-- The leads of each sales manager, counted.
SELECT * FROM cims_fill_assignments(1000)
