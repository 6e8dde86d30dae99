-- The rotation goes on where the older one stands.

-- The older program takes the managers by id and keeps the place of the last one
-- in that list. The one after it has the lowest last_turn, and the others follow
-- in their order. It may go on until the first turn is taken here.
CREATE OR REPLACE FUNCTION cims_continue_rotation() RETURNS VOID LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
	IF EXISTS (SELECT 1 FROM cims_added WHERE kind = 'table' AND table_name = 'sales_manager_counter') THEN
		RETURN;
	END IF;
	PERFORM 1 FROM sales_manager_counter WHERE id = (SELECT min(id) FROM sales_manager_counter) AND turn = 0 FOR UPDATE;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	INSERT INTO sales_manager_rotation AS m (sales_manager_id, last_turn)
	SELECT pool.id, (pool.place - pool.next + pool.size) % pool.size - pool.size FROM (
		SELECT id, row_number() OVER (ORDER BY id) - 1 AS place, count(*) OVER () AS size,
			COALESCE((SELECT COALESCE(last_assigned_index, 0) + 1 FROM sales_manager_counter ORDER BY id LIMIT 1), 0) % count(*) OVER () AS next
		FROM "user" WHERE role_name = 'sales_manager' AND is_active
	) AS pool ORDER BY pool.id
	ON CONFLICT (sales_manager_id) DO UPDATE SET last_turn = excluded.last_turn WHERE m.last_turn <> excluded.last_turn;
	IF FOUND THEN -- what anybody remembers of the rotation does not hold any more
		UPDATE sales_manager_counter SET version = version + 1 WHERE id = (SELECT min(id) FROM sales_manager_counter);
	END IF;
END $$;
SELECT cims_continue_rotation();
