package move

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/rotation"
	"github.com/cimskit/cims/storage/internal/sqlstore"
	"github.com/cimskit/cims/storage/migration"
)

// Rollback removes what Migrate has added. Without options.Force it returns a
// *migration.RefusedError, and changes nothing, if data would be lost. It may be
// interrupted and run again.
func (m *Mover) Rollback(ctx context.Context, options migration.RollbackOptions) error {
	if err := m.names.check(ctx, sqlstore.SQL{IConn: m.db}); err != nil {
		return m.store.Explain(err)
	}
	p := planner{Mover: m, ctx: ctx}
	if !p.has("cims_added") {
		return m.store.Explain(p.err)
	}
	if lost := p.lost(); p.err == nil && len(lost) > 0 && !options.Force {
		return &migration.RefusedError{Reasons: lost}
	}
	if p.err != nil {
		return m.store.Explain(p.err)
	}
	if err := m.underLock(ctx, m.names.SQL(beginRollback)); err != nil {
		return err
	}
	for scalar[bool](&p, "SELECT EXISTS (SELECT 1 FROM cims_replaced_name WHERE table_name IN ('customer', 'user'))") {
		if err := m.underLock(ctx, restoreNames); err != nil {
			return err
		}
	}
	if p.err != nil {
		return m.store.Explain(p.err)
	}
	if err := m.returnRotation(ctx); err != nil {
		return err
	}
	return m.underLock(ctx, m.names.SQL(endRollback))
}

// returnRotation sets the older program's last index to continue where the rotation is, if
// cims has assigned a lead. The older program assigns to the next manager by id.
func (m *Mover) returnRotation(ctx context.Context) error {
	return m.store.Update(ctx, func(ctx context.Context, tx cims.Tx) error {
		state, err := tx.LockRotation(ctx)
		if err != nil || state.Turn == 0 || len(state.Members) == 0 {
			return err
		}
		next := 0
		if turn := rotation.Default.Decide(&state.State, rotation.Lead{}, time.Now()); turn.Member != 0 {
			next = slices.IndexFunc(state.Members, func(m rotation.Member) bool { return m.ID == turn.Member })
		}
		last := (next - 1 + len(state.Members)) % len(state.Members)
		_, err = tx.(cims.Executor).Exec(ctx, "UPDATE sales_manager_counter SET last_assigned_index = $1 WHERE "+sqlstore.TheCounter, last) //nolint:forcetypeassert // the store's own
		return err
	})
}

// lost returns what a rollback would lose.
func (p *planner) lost() []string {
	if p.ours("customer", "") && p.ours("user", "") {
		return []string{"nothing was here before cims: all customers and users would go"}
	}
	var lost []string
	for _, c := range []struct{ table, name, label, what string }{
		{"customer", "status_name", "status", "customers are in the status"}, {"user", "role_name", "role", "users have the role"},
	} {
		if !p.isEnum(c.table, c.label) || !p.ours(c.table, c.name) { // names that it knows itself stay
			continue
		}
		p.findings = nil
		p.find(c.table, "%d "+c.what+" “%s”, which has no label", "%s", fmt.Sprintf(`
			SELECT count(*), t.%[2]s, '' FROM %[1]q AS t WHERE t.%[2]s IS NOT NULL AND NOT EXISTS (
				SELECT 1 FROM pg_attribute AS a JOIN pg_enum AS e ON e.enumtypid = a.atttypid
				WHERE a.attrelid = cims_relation('%[1]s') AND a.attname = '%[3]s' AND cims_name(e.enumlabel) = t.%[2]s
			) GROUP BY t.%[2]s ORDER BY t.%[2]s`, c.table, c.name, c.label))
		for _, f := range p.findings {
			lost = append(lost, f.Found)
		}
	}
	if p.ours("sales_manager_assignment", "") && (p.isEnum("customer", "status") || p.isEnum("user", "role")) {
		p.findings = nil
		p.find("sales_manager_assignment", "%d leads have a sales manager, and the older program has no place for that%.0s", "%s",
			"SELECT count(*), '', '' FROM sales_manager_assignment WHERE is_active")
		for _, f := range p.findings {
			lost = append(lost, f.Found)
		}
	}
	return lost
}

// beginRollback undoes the steps after the functions. From then on the database doesn't
// count as migrated, and it accepts old names.
const beginRollback = `
	ALTER TABLE {customer} DROP CONSTRAINT IF EXISTS cims_customer_status_name;
	ALTER TABLE {user} DROP CONSTRAINT IF EXISTS cims_user_role_name;
	DELETE FROM cims_migrations WHERE name > '004_fill';
	DELETE FROM cims_fill;
	DELETE FROM cims_filled;`

// restoreNames restores one batch of names. Each table's statement takes its own rows.
const restoreNames = `
	SELECT set_config('cims.filling', 'on', TRUE);
	WITH back AS (
		DELETE FROM cims_replaced_name WHERE table_name = 'customer' AND row_id IN (
			SELECT row_id FROM cims_replaced_name WHERE table_name = 'customer' ORDER BY row_id LIMIT 1000) RETURNING *
	) UPDATE customer AS c SET status_name = back.old_name FROM back WHERE c.id = back.row_id AND c.status_name IS NOT DISTINCT FROM back.new_name;
	WITH back AS (
		DELETE FROM cims_replaced_name WHERE table_name = 'user' AND row_id IN (
			SELECT row_id FROM cims_replaced_name WHERE table_name = 'user' ORDER BY row_id LIMIT 1000) RETURNING *
	) UPDATE "user" AS u SET role_name = back.old_name FROM back WHERE u.id = back.row_id AND u.role_name IS NOT DISTINCT FROM NULLIF(back.new_name, '');`

// endRollback drops what was added.
const endRollback = `
	DO $$
	DECLARE
		gone RECORD;
	BEGIN
		FOR gone IN SELECT tgname, tgrelid FROM pg_trigger WHERE tgname LIKE 'cims\_%' AND NOT tgisinternal
			AND tgrelid IN (SELECT cims_relation(name) FROM unnest(ARRAY['customer', 'user', 'sales_manager_assignment', 'customer_status', 'user_role']) AS t (name))
		LOOP
			EXECUTE format('DROP TRIGGER %I ON %s', gone.tgname, gone.tgrelid::regclass);
		END LOOP;
		FOR gone IN SELECT DISTINCT split_part(table_name, '.', 1) AS name FROM cims_replaced_name LOOP
			EXECUTE format('UPDATE %1$I AS e SET is_system = CAST(r.old_name AS BOOLEAN) FROM cims_replaced_name AS r WHERE r.table_name = %2$L AND r.row_id = e.id',
				gone.name, gone.name || '.is_system');
			EXECUTE format('UPDATE %1$I AS e SET name = r.old_name FROM cims_replaced_name AS r WHERE r.table_name = %1$L AND r.row_id = e.id AND r.new_name = e.name
				AND NOT EXISTS (SELECT 1 FROM %1$I AS t WHERE t.name = r.old_name)', gone.name);
		END LOOP;
		ALTER TABLE sales_manager_assignment DROP CONSTRAINT IF EXISTS cims_assignment_customer, DROP CONSTRAINT IF EXISTS cims_assignment_user;
		DROP INDEX IF EXISTS cims_assignment_unique;
		FOR gone IN SELECT original FROM cims_set_aside WHERE table_name = 'sales_manager_assignment' ORDER BY row_id LOOP
			BEGIN
				INSERT INTO sales_manager_assignment OVERRIDING SYSTEM VALUE
				SELECT (jsonb_populate_record(CAST(NULL AS sales_manager_assignment), gone.original)).*
				ON CONFLICT DO NOTHING; -- with one that was made since
			EXCEPTION WHEN foreign_key_violation THEN
				NULL; -- whom it was of, or to, has gone since, and would have taken it along
			END;
		END LOOP;
		-- Entries that we made, where nobody has worked on them since.
		FOR gone IN SELECT table_name, name FROM cims_added AS a WHERE kind = 'row' AND table_name IN ('customer_status', 'user_role')
			AND NOT EXISTS (SELECT 1 FROM cims_added AS t WHERE t.kind = 'table' AND t.table_name = a.table_name)
		LOOP
			EXECUTE format('DELETE FROM %I WHERE name = $1 AND updated_at = created_at', gone.table_name) USING gone.name;
		END LOOP;
		DELETE FROM sales_manager_counter AS k USING cims_added AS a WHERE a.kind = 'row' AND a.table_name = 'sales_manager_counter' AND a.name = CAST(k.id AS TEXT);
		DROP VIEW cims_parts;
		DROP TABLE IF EXISTS sales_manager_rotation, cims_unassigned, customer_status_history, assignment_history, cims_idempotency, cims_audit;
		FOR gone IN SELECT oid FROM pg_proc WHERE proname = 'cims_enum_status' AND pronamespace = CAST(quote_ident(current_schema()) AS regnamespace) LOOP
			EXECUTE format('DROP FUNCTION %s', CAST(gone.oid AS regprocedure));
		END LOOP;
		FOR gone IN SELECT table_name FROM cims_host WHERE relation <> quote_ident(table_name) LOOP
			EXECUTE format('DROP VIEW IF EXISTS %I', gone.table_name);
		END LOOP;
		FOR gone IN SELECT CAST(c.oid AS regclass) AS name FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
			WHERE c.relname IN (` + indexNames + `)
			AND i.indrelid IN (cims_relation('customer'), cims_relation('user'), cims_relation('sales_manager_assignment'))
		LOOP
			EXECUTE format('DROP INDEX %s', gone.name);
		END LOOP;
		FOR gone IN SELECT table_name, name FROM cims_added WHERE kind = 'column' LOOP
			EXECUTE format('ALTER TABLE %s DROP COLUMN %I', cims_relation(gone.table_name), gone.name);
		END LOOP;
		FOR gone IN SELECT table_name FROM cims_added WHERE kind = 'table'
			ORDER BY array_position(ARRAY['sales_manager_assignment', 'sales_manager_counter', 'customer', 'user', 'customer_status', 'user_role'], table_name)
		LOOP
			EXECUTE format('DROP TABLE %I', gone.table_name);
		END LOOP;
		FOR gone IN SELECT oid FROM pg_proc WHERE proname LIKE 'cims\_%' AND pronamespace = CAST(quote_ident(current_schema()) AS regnamespace) LOOP
			EXECUTE format('DROP FUNCTION %s', CAST(gone.oid AS regprocedure));
		END LOOP;
	END $$;
	DROP TABLE cims_host, cims_part, cims_added, cims_replaced_name, cims_set_aside, cims_original_column, cims_filled, cims_fill, cims_migrations;`
