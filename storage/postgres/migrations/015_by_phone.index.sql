-- An index for the search of a phone number.
CREATE INDEX cims_customer_phone ON {customer} (lower({customer.phone_number}) text_pattern_ops);
