-- The roles of users, by name.
SELECT * FROM cims_fill_users(1000)
