package sqlstore

import (
	"context"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/cimskit/cims"
)

// leadColumns are a customer's own columns and its sales manager, as joined by
// ownerJoin.
const (
	leadColumns = `c.id, c.full_name, COALESCE(c.phone_number, '') AS phone_number, COALESCE(c.platform, '') AS platform,
	COALESCE(c.username, '') AS username, COALESCE(c.notes, '') AS notes, COALESCE(c.status_name, '') AS status_name,
	c.created_at, c.updated_at, a.id AS assignment_id, a.assigned_at, a.assigned_by,
	u.id AS manager_id, COALESCE(u.email, '') AS email, COALESCE(u.name, '') AS name, COALESCE(u.surname, '') AS surname`
	ownerJoin = ` LEFT JOIN sales_manager_assignment AS a ON a.customer_id = c.id AND a.is_active
	LEFT JOIN "user" AS u ON u.id = a.sales_manager_id`
)

type customerRow struct {
	ID          int64
	FullName    string
	PhoneNumber string
	Platform    string
	Username    string
	Notes       string
	StatusName  string
	CreatedAt   time.Time
	UpdatedAt   *time.Time // NULL until this library changes a host's row

	AssignmentID *int64
	AssignedAt   *time.Time
	AssignedBy   *int64
	ManagerID    *int64
	Email        string
	Name         string
	Surname      string
}

func (r customerRow) customer() cims.Customer {
	c := cims.Customer{
		ID: r.ID, FullName: r.FullName, PhoneNumber: r.PhoneNumber, Platform: r.Platform,
		Username: r.Username, Notes: r.Notes, StatusName: r.StatusName,
		CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.CreatedAt.UTC(),
	}
	if r.UpdatedAt != nil {
		c.UpdatedAt = r.UpdatedAt.UTC()
	}
	if r.ManagerID != nil {
		c.SalesManager = &cims.Person{ID: *r.ManagerID, Email: r.Email, Name: r.Name, Surname: r.Surname}
		c.Assignment = &cims.Assignment{
			ID: *r.AssignmentID, CustomerID: r.ID, SalesManagerID: *r.ManagerID,
			AssignedAt: utc(r.AssignedAt), AssignedBy: r.AssignedBy, Active: true,
		}
	}
	return c
}

// Customer implements cims.Reader.
func (q *queries) Customer(ctx context.Context, id int64) (cims.Customer, error) {
	found, err := row[customerRow](ctx, q, "SELECT "+leadColumns+" FROM customer AS c"+ownerJoin+" WHERE c.id = ?", id)
	if err != nil {
		return cims.Customer{}, err
	}
	if found == nil {
		return cims.Customer{}, notFound(cims.EntityCustomer, id)
	}
	return found.customer(), nil
}

// LockCustomers implements cims.Tx.
func (q *queries) LockCustomers(ctx context.Context, ids []int64) ([]cims.Customer, error) {
	if q.dialect.ForUpdate != "" {
		// In a statement of its own: one that has to wait for the lock sees the
		// joined assignment as it was before the wait.
		if _, err := q.exec(ctx, "SELECT id FROM customer WHERE id IN (?) ORDER BY id"+q.dialect.ForUpdate, bun.List(ids)); err != nil {
			return nil, err
		}
	}
	list, err := rows[customerRow](ctx, q, "SELECT "+leadColumns+" FROM customer AS c"+ownerJoin+" WHERE c.id IN (?) ORDER BY c.id", bun.List(ids))
	return convert(list, customerRow.customer), err
}

// Customers implements cims.Reader. Each of its selections has an index in the
// order of the list.
func (q *queries) Customers(ctx context.Context, query cims.CustomerQuery) ([]cims.Customer, error) {
	sel := q.db.NewSelect().Conn(q.conn).ColumnExpr(leadColumns).Limit(int64(query.Limit))
	createdAt, id := "c.created_at", "c.id"
	switch {
	case query.Unassigned:
		createdAt, id = "w.customer_created_at", "w.customer_id"
		sel.TableExpr("cims_unassigned AS w JOIN customer AS c ON c.id = w.customer_id" + ownerJoin)
	case query.SalesManagerID != nil:
		createdAt, id = "a.customer_created_at", "a.customer_id"
		sel.TableExpr(`sales_manager_assignment AS a JOIN customer AS c ON c.id = a.customer_id JOIN "user" AS u ON u.id = a.sales_manager_id`).
			Where("a.is_active")
	default:
		sel.TableExpr("customer AS c" + ownerJoin)
	}
	if query.SalesManagerID != nil {
		sel.Where("a.sales_manager_id = ?", *query.SalesManagerID)
	}
	if query.Status != "" {
		sel.Where("c.status_name = ?", query.Status)
	}
	if query.Prefix != "" {
		if err := q.whereStarts(ctx, sel, query.Prefix); err != nil {
			return nil, err
		}
	}
	if after := query.After; after != nil {
		sel.Where("(?, ?) < (?, ?)", bun.Safe(createdAt), bun.Safe(id), after.CreatedAt, after.ID)
	}
	list := []customerRow{}
	err := sel.OrderExpr("? DESC, ? DESC", bun.Safe(createdAt), bun.Safe(id)).Scan(ctx, &list)
	return convert(list, customerRow.customer), q.explain(err)
}

// manyMatches is from how many on it is cheaper to look for matches of a prefix
// in the order of the list than to find and sort all of them: for a page of
// fifty the one reads as many rows as the other among half a million customers.
const manyMatches = 5_000

// whereStarts selects the customers whose name or phone number starts with a
// prefix. Few are found by their own indexes. Where most customers match, the
// list is walked in its order; the CASE keeps the database from using those
// indexes then.
func (q *queries) whereStarts(ctx context.Context, sel *bun.SelectQuery, prefix string) error {
	name, phone := q.dialect.StartsWith("full_name", prefix), q.dialect.StartsWith("phone_number", prefix)
	const matches = "SELECT id FROM customer WHERE ? UNION ALL SELECT id FROM customer WHERE ?"
	n, err := row[int](ctx, q, "SELECT count(*) FROM (SELECT 1 FROM ("+matches+") AS m LIMIT ?) AS n", name, phone, manyMatches)
	if err != nil {
		return err
	}
	if *n < manyMatches {
		sel.Where("c.id IN ("+matches+")", name, phone)
		return nil
	}
	name, phone = q.dialect.StartsWith("c.full_name", prefix), q.dialect.StartsWith("c.phone_number", prefix)
	sel.Where("CASE WHEN ? OR ? THEN TRUE ELSE FALSE END", name, phone)
	return nil
}

// CountCustomers implements cims.Reader.
func (q *queries) CountCustomers(ctx context.Context, status string, limit int) (int, error) {
	return q.count(ctx, "customer", "status_name", status, limit)
}

// Unassigned implements cims.Reader.
func (q *queries) Unassigned(ctx context.Context, waiting bool, limit int) ([]int64, error) {
	condition := "NOT waiting"
	if waiting {
		condition = "waiting"
	}
	return rows[int64](ctx, q, "SELECT customer_id FROM cims_unassigned WHERE "+condition+
		" ORDER BY customer_created_at, customer_id LIMIT ?", limit)
}

// ChangeStatuses implements cims.Tx.
func (q *queries) ChangeStatuses(ctx context.Context, changes []cims.StatusChange) error {
	t := newStatusHistory()
	// Those in a row that end alike are changed by one statement: usually all.
	for i := 0; i < len(changes); {
		first, ids := changes[i], []int64{}
		for ; i < len(changes) && changes[i].To == first.To && changes[i].At.Equal(first.At); i++ {
			c := changes[i]
			t.add(c.CustomerID, c.From, c.To, c.Cause, c.By, null(c.Reason), c.Owner, c.At)
			ids = append(ids, c.CustomerID)
		}
		if _, err := q.exec(ctx, "UPDATE customer SET status_name = ?, updated_at = ? WHERE id IN (?)", first.To, first.At, bun.List(ids)); err != nil {
			return err
		}
	}
	return q.execInsert(ctx, t)
}

type eventRow struct {
	ID          int64
	At          time.Time
	Kind        int // its place in eventKinds
	FromStatus  string
	ToStatus    string
	FromManager *int64
	ToManager   *int64
	By          *int64 `bun:"done_by"`
	Cause       string
	Reason      string
	Owner       *int64
}

var eventKinds = []cims.EventKind{cims.StatusEvent, cims.AssignmentEvent}

func (r eventRow) event() cims.Event {
	return cims.Event{
		ID: r.ID, At: r.At.UTC(), Kind: eventKinds[r.Kind],
		FromStatus: r.FromStatus, ToStatus: r.ToStatus, FromManager: r.FromManager, ToManager: r.ToManager,
		By: r.By, Cause: cims.Cause(r.Cause), Reason: r.Reason, Owner: r.Owner,
	}
}

// History implements cims.Reader.
func (q *queries) History(ctx context.Context, query cims.HistoryQuery) ([]cims.Event, error) {
	statuses := q.db.NewSelect().TableExpr("customer_status_history").
		ColumnExpr(`id, changed_at AS at, 0 AS kind, COALESCE(from_status, '') AS from_status, to_status,
			NULL AS from_manager, NULL AS to_manager, changed_by AS done_by, cause, COALESCE(reason, '') AS reason, owner_id AS owner`).
		Where("customer_id = ?", query.CustomerID)
	owners := q.db.NewSelect().TableExpr("assignment_history").
		ColumnExpr(`id, changed_at AS at, 1 AS kind, '' AS from_status, '' AS to_status,
			from_manager_id AS from_manager, to_manager_id AS to_manager, changed_by AS done_by, cause, '' AS reason, to_manager_id AS owner`).
		Where("customer_id = ?", query.CustomerID)
	// Who got a customer when it came in stands in the row of its creation.
	first := q.db.NewSelect().TableExpr("customer_status_history").
		ColumnExpr(`-id, changed_at AS at, 1 AS kind, '' AS from_status, '' AS to_status,
			NULL AS from_manager, owner_id AS to_manager, NULL AS done_by, ? AS cause, '' AS reason, owner_id AS owner`, cims.CauseAutomatic).
		Where("customer_id = ?", query.CustomerID).Where("cause = ? AND owner_id IS NOT NULL", cims.CauseCreated)
	if after := query.After; after != nil {
		kind := slices.Index(eventKinds, after.Kind)
		statuses.Where("(changed_at, 0, id) > (?, ?, ?)", after.At, kind, after.ID)
		owners.Where("(changed_at, 1, id) > (?, ?, ?)", after.At, kind, after.ID)
		first.Where("(changed_at, 1, -id) > (?, ?, ?)", after.At, kind, after.ID)
	}
	list, err := rows[eventRow](ctx, q, "SELECT * FROM (? UNION ALL ? UNION ALL ?) AS event ORDER BY at, kind, id LIMIT ?", owners, first, statuses, query.Limit)
	return convert(list, eventRow.event), err
}

// Conversion implements cims.Reader. The newest leads come from an index; only
// they are looked up in the history.
func (q *queries) Conversion(ctx context.Context, query cims.ConversionQuery) (cims.Conversion, error) {
	cohort := q.db.NewSelect().TableExpr("customer AS c").ColumnExpr("c.id, c.status_name").
		OrderExpr("c.created_at DESC, c.id DESC").Limit(int64(query.Last))
	if query.SalesManagerID != nil {
		cohort = q.db.NewSelect().ColumnExpr("c.id, c.status_name").
			TableExpr("sales_manager_assignment AS a JOIN customer AS c ON c.id = a.customer_id").
			Where("a.is_active AND a.sales_manager_id = ?", *query.SalesManagerID).
			OrderExpr("a.customer_created_at DESC, a.customer_id DESC").Limit(int64(query.Last))
	}
	reached := q.db.NewSelect().TableExpr("cohort").ColumnExpr("count(*)").Where("cohort.status_name = ?", query.Target)
	if query.Mode == cims.Reached {
		reached.WhereOr("EXISTS (SELECT 1 FROM customer_status_history AS h WHERE h.customer_id = cohort.id AND h.to_status = ?)", query.Target)
	}
	found, err := row[struct{ Total, Converted int }](ctx, q,
		"WITH cohort AS (?) SELECT (SELECT count(*) FROM cohort) AS total, (?) AS converted", cohort, reached)
	if err != nil {
		return cims.Conversion{}, err
	}
	return cims.Conversion{Total: found.Total, Count: found.Converted}, nil
}
