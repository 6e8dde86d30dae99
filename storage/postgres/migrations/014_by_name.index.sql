-- An index for the search of a name.
CREATE INDEX cims_customer_name ON {customer} (lower({customer.full_name}) text_pattern_ops);
