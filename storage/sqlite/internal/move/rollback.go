package move

import (
	"context"
	"fmt"
	"slices"

	"github.com/uptrace/bun"

	"github.com/cimskit/cims/storage/internal/hosttables"
	"github.com/cimskit/cims/storage/migration"
)

// Rollback removes what Migrate and this library have added, all or nothing. Without
// options.Force it returns a *migration.RefusedError if rows of cims's tables customer
// and "user" would be lost.
func (m *Mover) Rollback(ctx context.Context, options migration.RollbackOptions) error {
	return m.store.Retry(ctx, func() error {
		err := m.inTransaction(ctx, func(conn bun.IConn) error { return m.host.rollback(ctx, conn, options) })
		if err != nil {
			return fmt.Errorf("rollback: %w", err)
		}
		return nil
	})
}

func (h *Host) rollback(ctx context.Context, conn bun.IConn, options migration.RollbackOptions) error {
	n, err := h.Applied(ctx, conn)
	if err != nil {
		return err
	}
	if n > 0 {
		if err := h.undo(ctx, conn, options); err != nil {
			return err
		}
	}
	_, err = conn.ExecContext(ctx, "DROP TABLE IF EXISTS cims_migrations")
	return err
}

func (h *Host) undo(ctx context.Context, conn bun.IConn, options migration.RollbackOptions) error {
	ours := h.objects("names") // in the order in which they were made
	var lost []string
	tables := 0
	for _, t := range h.tables() {
		columns, err := t.adopted(ctx, conn)
		if err != nil {
			return err
		}
		if columns != nil {
			continue
		}
		rows, err := value[int64](ctx, conn, t.sql("SELECT count(*) FROM {t}"))
		if err != nil {
			return err
		}
		if rows > 0 {
			lost = append(lost, fmt.Sprintf("the table %q is of cims, and would be lost with its %d rows", t.name, rows))
		}
		tables++
		ours = append(ours, h.objects(t.name)...)
	}
	if tables == len(h.tables()) {
		lost = append(lost, "the database is all of cims: nothing would be left")
	}
	if len(lost) > 0 && !options.Force {
		return &migration.RefusedError{Reasons: lost}
	}
	onHosts := slices.Concat(h.objects("indexes"), []object{h.uniqueEmail()}, h.objects("guard_user"), h.objects("guard_customer"), h.objects("triggers"))
	if err := drop(ctx, conn, onHosts); err != nil {
		return err
	}
	for _, t := range h.tables() {
		if err := t.putBack(ctx, conn); err != nil {
			return err
		}
	}
	return drop(ctx, conn, slices.Concat(ours, h.objects("tables")))
}

// putBack restores a host's table to the state it would have without cims.
func (t *hostable) putBack(ctx context.Context, conn bun.IConn) error {
	if err := t.quietly(ctx, conn, func() error {
		_, err := conn.ExecContext(ctx, t.sql(`UPDATE {t} SET {t.entry} = r.old_name FROM cims_replaced_name AS r
			WHERE r.table_name = ? AND r.row_id = {t.id} AND r.new_name IS {t.entry}`), t.name)
		return err
	}); err != nil {
		return err
	}
	added, err := values[string](ctx, conn, "SELECT column_name FROM cims_added_column WHERE table_name = ? ORDER BY rowid DESC", t.name)
	if err != nil {
		return err
	}
	columns, err := t.shape(ctx, conn)
	if err != nil {
		return err
	}
	for _, column := range added {
		if find(columns, column) == nil {
			continue // another program has dropped it
		}
		if _, err := conn.ExecContext(ctx, t.sql("ALTER TABLE {t} DROP COLUMN ")+column); err != nil {
			return fmt.Errorf("table %q: column %q: %w", t.table(), column, err)
		}
	}
	return nil
}

// drop drops objects in reverse order of creation, so that a reference goes before its
// target.
func drop(ctx context.Context, conn bun.IConn, all []object) error {
	for _, o := range slices.Backward(all) {
		if _, err := conn.ExecContext(ctx, "DROP "+o.kind+" IF EXISTS "+hosttables.Quote(o.name)); err != nil {
			return fmt.Errorf("%s %s: %w", o.kind, o.name, err)
		}
	}
	return nil
}
