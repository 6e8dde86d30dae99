-- An index for a sales manager's customers.
CREATE INDEX cims_assignment_manager ON sales_manager_assignment (sales_manager_id, customer_created_at DESC, customer_id DESC) WHERE is_active;
