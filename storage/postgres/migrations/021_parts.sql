-- A list of what was added since, to be verified.
INSERT INTO cims_part SELECT kind, name, FALSE FROM cims_parts ON CONFLICT (kind, name) DO NOTHING;
