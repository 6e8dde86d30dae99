package sqlstore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/internal/work"
)

// leadColumns are the columns of a customer and of its sales manager, joined by ownerJoin.
const leadColumns = `c.id, c.full_name, COALESCE(c.phone_number, '') AS phone_number, COALESCE(c.platform, '') AS platform,
	COALESCE(c.username, '') AS username, COALESCE(c.notes, '') AS notes, COALESCE(c.status_name, '') AS status_name,
	c.created_at, c.updated_at, a.id AS assignment_id, a.assigned_at, a.assigned_by,
	u.id AS manager_id, COALESCE(u.email, '') AS email, COALESCE(u.name, '') AS name, COALESCE(u.surname, '') AS surname`

func (q *queries) ownerJoin() string {
	return ` LEFT JOIN sales_manager_assignment AS a ON a.customer_id = c.id AND a.is_active
	LEFT JOIN ` + q.user + ` AS u ON u.id = a.sales_manager_id`
}

type customerRow struct {
	ID          int64
	FullName    string
	PhoneNumber cims.Text
	Platform    cims.Text
	Username    cims.Text
	Notes       cims.Text
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
	found, err := queryPreparedOne[customerRow](ctx, q, "SELECT "+leadColumns+" FROM "+q.customer+" AS c"+q.ownerJoin()+" WHERE c.id = CAST(? AS BIGINT)", id)
	if err != nil {
		return cims.Customer{}, err
	}
	if found == nil {
		return cims.Customer{}, notFound(cims.EntityCustomer, id)
	}
	return found.customer(), nil
}

// LockCustomers implements cims.Tx.
func (q tx) LockCustomers(ctx context.Context, ids []int64) ([]cims.Customer, error) {
	if q.dialect.ForUpdate != "" {
		// The lock is a separate statement. A single statement that waited for the lock would
		// see the joined assignment as it was before the wait.
		if _, err := q.exec(ctx, "SELECT id FROM "+q.customer+" WHERE id IN (?) ORDER BY id"+q.dialect.ForUpdate, bun.List(ids)); err != nil {
			return nil, err
		}
		// Another program may change an assignment without a lock on the customer.
		if _, err := q.exec(ctx, "SELECT id FROM sales_manager_assignment WHERE customer_id IN (?) ORDER BY customer_id"+q.dialect.ForUpdate, bun.List(ids)); err != nil {
			return nil, err
		}
	}
	list, err := rows[customerRow](ctx, q.queries, "SELECT "+leadColumns+" FROM "+q.customer+" AS c"+q.ownerJoin()+" WHERE c.id IN (?) ORDER BY c.id", bun.List(ids))
	return convert(list, customerRow.customer), err
}

// Customers implements cims.Reader. Each filter has an index in the order of the list.
func (q *queries) Customers(ctx context.Context, query cims.CustomerQuery) ([]cims.Customer, error) {
	from, where := q.customer+" AS c"+q.ownerJoin(), new(conditions)
	list, createdAt, id := q.customer+" AS c", "c.created_at", "c.id"
	switch {
	case query.Unassigned:
		list, createdAt, id = "cims_unassigned AS w", "w.customer_created_at", "w.customer_id"
		from = "cims_unassigned AS w JOIN " + q.customer + " AS c ON c.id = w.customer_id" + q.ownerJoin()
	case query.SalesManagerID != nil:
		list, createdAt, id = "sales_manager_assignment AS a", "a.customer_created_at", "a.customer_id"
		from = `sales_manager_assignment AS a JOIN ` + q.customer + ` AS c ON c.id = a.customer_id JOIN ` + q.user + ` AS u ON u.id = a.sales_manager_id`
		where.add("a.is_active")
	}
	if query.SalesManagerID != nil {
		where.add("a.sales_manager_id = CAST(? AS BIGINT)", *query.SalesManagerID)
	}
	if query.Status != "" {
		where.add("c.status_name = ?", query.Status)
	}
	read := queryPrepared[customerRow]
	if query.Prefix != "" {
		read = rows[customerRow] // the planner uses the prefix index only if it knows the prefix
		if err := q.whereStarts(ctx, where, query.Prefix); err != nil {
			return nil, err
		}
	}
	if after := query.After; after != nil {
		if q.dialect.TimesAsText {
			where.add("("+createdAt+", "+id+") < (COALESCE((SELECT "+createdAt+" FROM "+list+" WHERE "+id+" = ?), ?), ?)", after.ID, after.CreatedAt, after.ID)
		} else {
			where.add("("+createdAt+", "+id+") < (?, CAST(? AS BIGINT))", after.CreatedAt, after.ID)
		}
	}
	// The limit is part of the text. A plan for an unknown limit would expect many rows.
	found, err := read(ctx, q, fmt.Sprintf("SELECT %s FROM %s%s ORDER BY %s DESC, %s DESC LIMIT %d", leadColumns, from, where.text(), createdAt, id, query.Limit), where.args...)
	return convert(found, customerRow.customer), err
}

// conditions are the conditions of a WHERE clause, joined by AND.
type conditions struct {
	list []string
	args []any
}

func (c *conditions) add(condition string, args ...any) {
	c.list, c.args = append(c.list, condition), append(c.args, args...)
}

func (c *conditions) text() string {
	if len(c.list) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.list, " AND ")
}

// manyMatches is the number of matches of a prefix from which scanning the list in its
// order is cheaper than finding and sorting all matches. With half a million customers and
// pages of fifty, both read about the same number of rows.
const manyMatches = 5_000

// whereStarts selects the customers whose name or phone number starts with a prefix. A
// phone number is also found without its plus sign, which reads as a space in a URL's query.
// If few match, it uses the prefix indexes. If many match, it scans the list in its order;
// the CASE keeps the database from using the prefix indexes then.
func (q *queries) whereStarts(ctx context.Context, where *conditions, prefix string) error {
	columns, prefixes := []string{"full_name", "phone_number"}, []string{prefix, prefix}
	if prefix[0] >= '0' && prefix[0] <= '9' {
		columns, prefixes = append(columns, "phone_number"), append(prefixes, "+"+prefix)
	}
	matches, starts, rest := make([]string, len(columns)), make([]any, len(columns)), make([]any, len(columns))
	for i, column := range columns {
		matches[i] = "SELECT id FROM " + q.customer + " AS c WHERE ?"
		starts[i], rest[i] = q.dialect.StartsWith(column, prefixes[i]), q.dialect.StartsWith("c."+column, prefixes[i])
	}
	union := strings.Join(matches, " UNION ALL ")
	n, err := row[int](ctx, q, "SELECT count(*) FROM (SELECT 1 FROM ("+union+") AS m LIMIT ?) AS n", append(slices.Clone(starts), manyMatches)...)
	if err != nil {
		return err
	}
	if *n < manyMatches {
		where.add("c.id IN ("+union+")", starts...)
		return nil
	}
	where.add("CASE WHEN ?"+strings.Repeat(" OR ?", len(rest)-1)+" THEN TRUE ELSE FALSE END", rest...)
	return nil
}

// CountCustomers implements cims.Reader.
func (q *queries) CountCustomers(ctx context.Context, status string, limit int) (int, error) {
	return q.count(ctx, q.customer, "status_name", status, limit)
}

// Unassigned implements cims.Reader.
func (q *queries) Unassigned(ctx context.Context, query cims.UnassignedQuery) ([]int64, error) {
	condition := "NOT waiting"
	if query.Waiting {
		condition = "waiting AND (due_at IS NULL OR " + q.dialect.Due + ")"
	}
	return rows[int64](ctx, q, "SELECT customer_id FROM cims_unassigned WHERE "+condition+
		" ORDER BY customer_created_at, customer_id LIMIT ?", query.Limit)
}

// ChangeStatuses implements cims.Tx.
func (q tx) ChangeStatuses(ctx context.Context, changes []cims.StatusChange) error {
	t := table{name: "customer_status_history", columns: []string{
		"customer_id", "from_status", "to_status", "cause", "changed_by", "reason", "owner_id", "changed_at",
	}}
	// One statement makes all successive changes to the same status, usually all changes.
	for i := 0; i < len(changes); {
		first, ids := changes[i], []int64{}
		for ; i < len(changes) && changes[i].To == first.To && changes[i].At.Equal(first.At); i++ {
			c := changes[i]
			t.add(c.CustomerID, c.From, c.To, c.Cause, c.By, null(c.Reason), c.Owner, c.At)
			ids = append(ids, c.CustomerID)
		}
		if _, err := q.exec(ctx, q.dialect.Names.SQL("UPDATE {customer} SET {customer.status_name} = ?, {customer.updated_at} = ?, cims_version = cims_version + 1 WHERE {customer.id} IN (?)"), first.To, first.At, bun.List(ids)); err != nil {
			return err
		}
	}
	return q.execInsert(ctx, t)
}

type eventRow struct {
	ID          int64
	At          time.Time
	Kind        int // index in eventKinds
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

// These are the parts of a customer's history. Each takes the customer's id. The row of the
// customer's creation holds the first owner.
const (
	ownersHistory = `SELECT id, changed_at AS at, 1 AS kind, '' AS from_status, '' AS to_status,
		from_manager_id AS from_manager, to_manager_id AS to_manager, changed_by AS done_by, cause, '' AS reason, to_manager_id AS owner
		FROM assignment_history WHERE customer_id = CAST(? AS BIGINT)`
	firstOwnerHistory = `SELECT -id AS id, changed_at AS at, 1 AS kind, '' AS from_status, '' AS to_status,
		NULL AS from_manager, owner_id AS to_manager, NULL AS done_by, '` + string(cims.CauseAutomatic) + `' AS cause, '' AS reason, owner_id AS owner
		FROM customer_status_history WHERE customer_id = CAST(? AS BIGINT) AND cause = '` + string(cims.CauseCreated) + `' AND owner_id IS NOT NULL`
	statusesHistory = `SELECT id, changed_at AS at, 0 AS kind, COALESCE(from_status, '') AS from_status, to_status,
		NULL AS from_manager, NULL AS to_manager, changed_by AS done_by, cause, COALESCE(reason, '') AS reason, owner_id AS owner
		FROM customer_status_history WHERE customer_id = CAST(? AS BIGINT)`
)

// History implements cims.Reader. Events of one kind are in the order of their ids. Since
// clocks differ and may be set back, no event gets an earlier time than the one before it.
func (q *queries) History(ctx context.Context, query cims.HistoryQuery) ([]cims.Event, error) {
	where, args := "", []any{query.CustomerID, query.CustomerID, query.CustomerID}
	if after := query.After; after != nil {
		where = " WHERE (at, kind, id) > (?, ?, CAST(? AS BIGINT))"
		args = append(args, after.At, slices.Index(eventKinds, after.Kind), after.ID)
	}
	list, err := queryPrepared[eventRow](ctx, q, fmt.Sprintf(`SELECT * FROM (
		SELECT id, max(at) OVER (PARTITION BY kind ORDER BY id) AS at, kind, from_status, to_status, from_manager, to_manager, done_by, cause, reason, owner
		FROM (%s UNION ALL %s UNION ALL %s) AS event) AS event%s ORDER BY at, kind, id LIMIT %d`,
		ownersHistory, firstOwnerHistory, statusesHistory, where, query.Limit), args...)
	return convert(list, eventRow.event), err
}

// Conversion implements cims.Reader. It takes the newest leads from an index and looks only
// these up in the history.
func (q *queries) Conversion(ctx context.Context, query cims.ConversionQuery) (cims.Conversion, error) {
	from, newest, where := q.customer+" AS c", "c.created_at DESC, c.id DESC", new(conditions)
	if query.SalesManagerID != nil {
		from, newest = "sales_manager_assignment AS a JOIN "+q.customer+" AS c ON c.id = a.customer_id", "a.customer_created_at DESC, a.customer_id DESC"
		where.add("a.is_active AND a.sales_manager_id = CAST(? AS BIGINT)", *query.SalesManagerID)
	}
	if query.ExcludeOwn {
		where.add(`NOT EXISTS (SELECT 1 FROM customer_status_history AS h JOIN sales_manager_assignment AS o
			ON o.customer_id = h.customer_id AND o.is_active AND o.sales_manager_id = h.changed_by
			WHERE h.customer_id = c.id AND h.cause = '` + string(cims.CauseCreated) + `' LIMIT 1 OFFSET 0)`)
	}
	cohort := "SELECT c.id, c.status_name FROM " + from + where.text() + " ORDER BY " + newest
	reached, args := "cohort.status_name = ?", slices.Concat(where.args, []any{query.Target})
	if query.Mode == cims.Reached {
		// OFFSET makes PostgreSQL look up each lead. Without statistics it would read the
		// whole history.
		reached += " OR EXISTS (SELECT 1 FROM customer_status_history AS h WHERE h.customer_id = cohort.id AND h.to_status = ? LIMIT 1 OFFSET 0)"
		args = append(args, query.Target)
	}
	// The limit is part of the text, as in Customers. Only small cohorts are requested
	// often enough to be worth a prepared statement.
	read := queryPreparedOne[conversionRow]
	if query.Last > usualCohort {
		read = row[conversionRow]
		ctx = work.With(ctx, work.Heavy)
	}
	found, err := read(ctx, q, fmt.Sprintf(
		"WITH cohort AS (%s LIMIT %d) SELECT (SELECT count(*) FROM cohort) AS total, (SELECT count(*) FROM cohort WHERE %s) AS converted",
		cohort, query.Last, reached), args...)
	if err != nil {
		return cims.Conversion{}, err
	}
	return cims.Conversion{Total: found.Total, Count: found.Converted}, nil
}

const usualCohort = 200

type conversionRow struct{ Total, Converted int }
