package sqlstore

import (
	"context"
	"slices"
	"strings"

	"github.com/cimskit/cims"
)

func newStatusHistory() table {
	return table{name: "customer_status_history", columns: []string{
		"customer_id", "from_status", "to_status", "cause", "changed_by", "reason", "owner_id", "changed_at",
	}}
}

// Intake implements cims.Tx.
func (q *queries) Intake(ctx context.Context, leads []*cims.Lead) error {
	if len(leads) == 0 {
		return nil
	}
	if err := q.insertCustomers(ctx, leads); err != nil {
		return err
	}
	history := newStatusHistory()
	owned, unowned := newAssignments(), newUnassigned()
	for _, lead := range leads {
		c := lead.Customer
		if c.SalesManager == nil {
			unowned.add(c.ID, c.CreatedAt, lead.Waiting)
			history.add(c.ID, nil, c.StatusName, cims.CauseCreated, lead.By, nil, nil, c.CreatedAt)
			continue
		}
		owned.add(c.ID, c.SalesManager.ID, c.CreatedAt, nil, true, c.CreatedAt)
		history.add(c.ID, nil, c.StatusName, cims.CauseCreated, lead.By, nil, c.SalesManager.ID, c.CreatedAt)
	}
	if err := q.execInsert(ctx, history); err != nil {
		return err
	}
	if err := q.execInsert(ctx, unowned); err != nil {
		return err
	}
	return q.insertAssignments(ctx, owned, leads)
}

func (q *queries) insertCustomers(ctx context.Context, leads []*cims.Lead) error {
	extra, err := q.fill(ctx, "customer")
	if err != nil {
		return err
	}
	t := table{name: "customer", columns: []string{
		"full_name", "phone_number", "platform", "username", "notes", "status_name", "created_at", "updated_at",
	}}
	for _, lead := range leads {
		c := lead.Customer
		t.add(c.FullName, extra.text("phone_number", c.PhoneNumber), extra.text("platform", c.Platform),
			extra.text("username", c.Username), extra.text("notes", c.Notes), c.StatusName, c.CreatedAt, c.UpdatedAt)
	}
	extra.appendTo(&t)
	if q.dialect.NameColumn != "" {
		t.columns = append(t.columns, q.dialect.NameColumn)
		for i, lead := range leads {
			t.rows[i] = append(t.rows[i], strings.ToLower(lead.Customer.FullName))
		}
	}
	query, args := q.insert(t, "RETURNING id")
	ids, err := rows[int64](ctx, q, query, args...)
	if err != nil {
		return err
	}
	slices.Sort(ids) // given out in the order of the rows, returned in any
	for i, id := range ids {
		leads[i].Customer.ID = id
	}
	return nil
}

func (q *queries) insertAssignments(ctx context.Context, owned table, leads []*cims.Lead) error {
	if len(owned.rows) == 0 {
		return nil
	}
	query, args := q.insert(owned, "RETURNING id, customer_id")
	stored, err := rows[struct{ ID, CustomerID int64 }](ctx, q, query, args...)
	if err != nil {
		return err
	}
	ids := map[int64]int64{}
	for _, s := range stored {
		ids[s.CustomerID] = s.ID
	}
	for _, lead := range leads {
		if lead.Customer.SalesManager != nil {
			SetFirst(lead, ids[lead.Customer.ID])
		}
	}
	return nil
}

// SetFirst fills in a new lead's first assignment.
func SetFirst(lead *cims.Lead, assignmentID int64) {
	c := &lead.Customer
	c.Assignment = &cims.Assignment{
		ID: assignmentID, CustomerID: c.ID, SalesManagerID: c.SalesManager.ID, AssignedAt: c.CreatedAt, Active: true,
	}
}
