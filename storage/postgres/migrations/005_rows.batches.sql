-- Fills in the rows that are there: names, times, counts, histories, and then the rotation.
SELECT * FROM cims_fill_rows(1000)
