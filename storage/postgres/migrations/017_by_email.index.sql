-- An index for the user with an email.
CREATE INDEX cims_user_email ON {user} (lower({user.email}));
