package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cimskit/cims/storage/migration"
)

// Repair is a statement that sets right what is derived from other rows. It changes no row
// that is right. Braces stand for a host's names.
type Repair struct {
	Where, Found, Does string // of its migration.Finding
	SQL                string
	DrySQL             string // has as many rows as SQL; only where a rollback doesn't undo SQL
}

// Repairs returns the repairs for both databases, in their order. now is SQL for the present
// time.
func Repairs(now string) []Repair {
	version := strconv.FormatInt(time.Now().UnixMicro(), 10) // one that no process knows
	return []Repair{
		{Where: "sales_manager_counter", Found: "the table is empty", Does: "inserts its row: the rotation begins anew", SQL: `
			INSERT INTO sales_manager_counter (last_assigned_index, updated_at, version)
			SELECT -1, ` + now + `, ` + version + ` WHERE NOT EXISTS (SELECT 1 FROM sales_manager_counter)`},
		{Where: "cims_unassigned", Found: "customers that have a sales manager, or are no more", Does: "deletes their rows", SQL: `
			DELETE FROM cims_unassigned WHERE NOT EXISTS (SELECT 1 FROM {customer} AS c WHERE c.{customer.id} = cims_unassigned.customer_id)
			OR EXISTS (SELECT 1 FROM sales_manager_assignment AS a WHERE a.customer_id = cims_unassigned.customer_id AND a.is_active)`},
		{Where: "cims_unassigned", Found: "customers without a sales manager are missing", Does: "inserts them: they wait, or are backlog if they are older than cims", SQL: `
			INSERT INTO cims_unassigned (customer_id, customer_created_at, waiting)
			SELECT c.{customer.id}, COALESCE(c.{customer.created_at}, ` + now + `),
				NOT EXISTS (SELECT 1 FROM customer_status_history AS h WHERE h.customer_id = c.{customer.id} AND h.cause = 'migrated')
			FROM {customer} AS c WHERE NOT EXISTS (SELECT 1 FROM cims_unassigned AS w WHERE w.customer_id = c.{customer.id})
			AND NOT EXISTS (SELECT 1 FROM sales_manager_assignment AS a WHERE a.customer_id = c.{customer.id} AND a.is_active)`},
		{Where: "sales_manager_rotation.assigned_leads_count", Found: "counts differ from the number of leads", Does: "counts again", SQL: `
			INSERT INTO sales_manager_rotation (sales_manager_id, assigned_leads_count)
			SELECT n.id, n.leads FROM (
				SELECT u.{user.id} AS id, (SELECT count(*) FROM sales_manager_assignment AS a WHERE a.sales_manager_id = u.{user.id} AND a.is_active) AS leads FROM {user} AS u
			) AS n LEFT JOIN sales_manager_rotation AS m ON m.sales_manager_id = n.id WHERE n.leads <> COALESCE(m.assigned_leads_count, 0)
			ON CONFLICT (sales_manager_id) DO UPDATE SET assigned_leads_count = excluded.assigned_leads_count`},
		{Where: "customer_status_history", Found: "histories don't end in the status of their customers", Does: "adds the change to that status", SQL: `
			INSERT INTO customer_status_history (customer_id, from_status, to_status, cause, owner_id, changed_at)
			SELECT c.{customer.id}, h.to_status, c.{customer.status_name}, CASE WHEN h.id IS NULL THEN 'migrated' ELSE 'external' END,
				(SELECT a.sales_manager_id FROM sales_manager_assignment AS a WHERE a.customer_id = c.{customer.id} AND a.is_active), ` + now + `
			FROM {customer} AS c LEFT JOIN customer_status_history AS h ON h.id = (SELECT max(l.id) FROM customer_status_history AS l WHERE l.customer_id = c.{customer.id})
			WHERE (h.id IS NULL OR h.to_status <> c.{customer.status_name}) AND c.{customer.status_name} IN (SELECT name FROM customer_status)`},
	}
}

func (r Repair) statement(options migration.RepairOptions) string {
	if options.DryRun && r.DrySQL != "" {
		return r.DrySQL
	}
	return r.SQL
}

// errDry ends the transaction of a dry run.
var errDry = errors.New("dry run")

// Repair runs lock and the repairs in one transaction, and returns what they change.
// With options.DryRun it changes nothing.
func (s *Store) Repair(ctx context.Context, options migration.RepairOptions, lock []string, repairs []Repair) (found []migration.Finding, err error) {
	err = s.Retry(ctx, func() error {
		found = nil
		return s.Transact(ctx, s.dialect.Begin, func(tx Transaction) error {
			for _, statement := range lock {
				if _, err := tx.ExecContext(ctx, statement); err != nil {
					return err
				}
			}
			for _, r := range repairs {
				result, err := tx.ExecContext(ctx, r.statement(options))
				if err != nil {
					return fmt.Errorf("repair of %s: %w", r.Where, err)
				}
				n, err := result.RowsAffected()
				if err != nil {
					return err
				}
				if n > 0 {
					found = append(found, migration.Finding{Where: r.Where, Found: r.Found, Rows: n, Does: r.Does})
				}
			}
			if options.DryRun {
				return errDry
			}
			return nil
		})
	})
	if errors.Is(err, errDry) {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	return found, nil
}
