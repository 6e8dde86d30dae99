package sqlstore

import (
	"context"

	"github.com/cimskit/cims"
)

// InsertLeads implements cims.Tx. It returns a *cims.LeadError for a refused lead.
func (q tx) InsertLeads(ctx context.Context, leads []*cims.Lead) error {
	if len(leads) == 0 {
		return nil
	}
	unfit, err := q.Unfit(ctx, leads)
	if err != nil {
		return err
	}
	if unfit != nil {
		return unfit
	}
	return q.explain(q.dialect.Intake(ctx, q.conn, q.Host, leads))
}

// SetFirst sets a new lead's first assignment.
func SetFirst(lead *cims.Lead, assignmentID int64) {
	c := &lead.Customer
	c.Assignment = &cims.Assignment{
		ID: assignmentID, CustomerID: c.ID, SalesManagerID: c.SalesManager.ID, AssignedAt: c.CreatedAt, Active: true,
	}
}
