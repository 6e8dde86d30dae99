package move

import (
	"context"
	"fmt"

	"github.com/cimskit/cims/storage/internal/sqlstore"
	"github.com/cimskit/cims/storage/migration"
)

// Repair sets right what is derived from other rows, and returns what it has changed. With
// options.DryRun it changes nothing. The transaction locks the file.
func (m *Mover) Repair(ctx context.Context, options migration.RepairOptions) ([]migration.Finding, error) {
	n, err := m.host.Applied(ctx, m.reader)
	if err != nil {
		return nil, m.store.Explain(err)
	}
	if err := m.store.RefuseUnfinished(ctx); err != nil {
		return nil, err
	}
	if steps := m.host.Steps(); n < steps {
		return nil, fmt.Errorf("cims: the schema is at step %d of %d: run Migrate", n, steps)
	}
	repairs := append([]sqlstore.Repair{{
		Where: "sales_manager_assignment", Found: "assignments without their customer or user", Does: "deletes them",
		SQL: `DELETE FROM sales_manager_assignment
			WHERE customer_id NOT IN (SELECT {customer.id} FROM {customer}) OR sales_manager_id NOT IN (SELECT {user.id} FROM {user})`,
	}}, sqlstore.Repairs(nowSQL)...)
	repairs = append(repairs, sqlstore.Repair{
		Where: "customer.search_name", Found: "customers are not found by their names", Does: "writes the names in lower case",
		SQL: `UPDATE {customer} SET search_name = cims_lower(COALESCE({customer.full_name}, ''))
			WHERE search_name IS NOT cims_lower(COALESCE({customer.full_name}, '')) AND search_name IS NOT lower(COALESCE({customer.full_name}, ''))`,
	})
	for i := range repairs {
		repairs[i].SQL = m.host.SQL(repairs[i].SQL)
	}
	return m.store.Repair(ctx, options, nil, repairs)
}
