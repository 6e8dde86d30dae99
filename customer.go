package cims

import (
	"context"
	"errors"
	"iter"
	"time"
)

// Customer is a customer, and a lead on its way through the statuses.
type Customer struct {
	ID          int64     `json:"id"`
	FullName    string    `json:"full_name"`
	PhoneNumber Text      `json:"phone_number"`
	Platform    Text      `json:"platform"` // where the lead came from
	Username    Text      `json:"username"` // the customer's name on the platform
	Notes       Text      `json:"notes"`
	StatusName  string    `json:"status_name"`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`

	SalesManager *Person     `json:"sales_manager"` // the owner; nil if there is none
	Assignment   *Assignment `json:"-"`             // nil if there is no owner; not part of the JSON form
}

func (c Customer) owner() *int64 {
	if c.SalesManager == nil {
		return nil
	}
	return new(c.SalesManager.ID)
}

func customerIDs(customers []Customer) []int64 {
	ids := make([]int64, len(customers))
	for i, c := range customers {
		ids[i] = c.ID
	}
	return ids
}

// Customer returns a customer with its sales manager and assignment. It needs
// leads:read or, for the actor's own leads, leads:read:own. It returns ErrNotFound
// for an unknown customer.
func (m *Manager) Customer(ctx context.Context, actor Actor, id int64) (Customer, error) {
	scope, err := actor.leadScope(LeadsRead, LeadsReadOwn)
	if err != nil {
		return Customer{}, err
	}
	customer, err := m.storage.Customer(ctx, id)
	if err != nil {
		return Customer{}, err
	}
	if !scope.covers(customer) {
		return Customer{}, notFound(EntityCustomer, id)
	}
	return customer, nil
}

// CustomerFilter selects customers. A zero field matches all.
type CustomerFilter struct {
	Status         string
	SalesManagerID *int64
	Unassigned     bool   // only those without a sales manager
	Prefix         string // of the name or phone number, in any case; digits also find a number that begins with + and them
}

// Customers returns a page of customers, newest first. It needs leads:read or, for
// the actor's own leads, leads:read:own. It returns ErrInvalid for a malformed page
// request or an unknown status, and ErrNotFound for an unknown sales manager.
func (m *Manager) Customers(ctx context.Context, actor Actor, filter CustomerFilter, page PageRequest) (Page[Customer], error) {
	scope, err := actor.leadScope(LeadsRead, LeadsReadOwn)
	if err != nil {
		return Page[Customer]{}, err
	}
	query, err := m.customerQuery(ctx, filter, page)
	if err != nil {
		return Page[Customer]{}, err
	}
	if scope.own != nil {
		others := filter.SalesManagerID != nil && *filter.SalesManagerID != *scope.own
		if others || filter.Unassigned {
			return Page[Customer]{Items: []Customer{}}, nil
		}
		query.SalesManagerID = scope.own
	} else if filter.SalesManagerID != nil {
		if _, err := m.storage.Account(ctx, *filter.SalesManagerID); err != nil {
			return Page[Customer]{}, err
		}
	}
	return paginate(page, func(limit int) ([]Customer, error) {
		query.Limit = limit
		return m.storage.Customers(ctx, query)
	}, func(c Customer) string { return encodeCursor('c', c.CreatedAt.UnixMicro(), c.ID) })
}

// AllCustomers returns an iterator over all customers that Customers lists. It
// reads them page by page and keeps one page in memory:
//
//	for customer, err := range crm.AllCustomers(ctx, actor, cims.CustomerFilter{}) {
//		if err != nil {
//			return err
//		}
//		…
//	}
//
// The iteration ends after an error, including that of ctx. It holds no locks, so
// the loop may call the Manager. A customer that matches the filter throughout the
// loop appears exactly once. One that begins or ceases to match may appear or not.
// Each loop starts at the newest customer.
func (m *Manager) AllCustomers(ctx context.Context, actor Actor, filter CustomerFilter) iter.Seq2[Customer, error] {
	return allPages(ctx, func(page PageRequest) (Page[Customer], error) { return m.Customers(ctx, actor, filter, page) })
}

func (m *Manager) customerQuery(ctx context.Context, filter CustomerFilter, page PageRequest) (CustomerQuery, error) {
	var check checks
	query := CustomerQuery{
		Status:         normalName(filter.Status),
		SalesManagerID: filter.SalesManagerID,
		Unassigned:     filter.Unassigned,
		Prefix:         check.line("q", filter.Prefix, 0, 255),
	}
	if cursor := check.page(page, 'c', 2); cursor != nil {
		at, ok := microTime(cursor[0])
		if !ok {
			check.add("cursor", RuleFormat)
		}
		query.After = &CustomerPosition{CreatedAt: at, ID: cursor[1]}
	}
	if err := check.err(); err != nil {
		return CustomerQuery{}, err
	}
	if query.Status != "" {
		known, err := m.knownStatus(ctx, query.Status)
		if err != nil {
			return CustomerQuery{}, err
		}
		if !known {
			return CustomerQuery{}, invalid(FieldError{Field: "status", Rule: RuleUnknown})
		}
	}
	return query, nil
}

// SetStatus moves a customer to an active status and records that in its history.
// The reason may be empty and has at most 2000 characters. If the customer is in the
// status already, a reason is kept as a note in the history; without one SetStatus
// does nothing.
//
// SetStatus needs leads:write or, for the actor's own leads, leads:write:own. It
// returns ErrNotFound for an unknown customer, and ErrInvalid for a status that is
// unknown or inactive.
func (m *Manager) SetStatus(ctx context.Context, actor Actor, customerID int64, status, reason string) (Customer, error) {
	scope, err := actor.leadScope(LeadsWrite, LeadsWriteOwn)
	if err != nil {
		return Customer{}, err
	}
	var check checks
	reason = check.lines("reason", reason, 2000)
	if status = normalName(status); status == "" {
		check.add("status_name", RuleRequired)
	}
	if err := check.err(); err != nil {
		return Customer{}, err
	}
	var customer Customer
	err = m.update(ctx, func(ctx context.Context, tx Tx) error {
		// Statuses are locked before customers, as in DeleteStatus.
		_, refused := m.useStatus(ctx, tx, status, "status_name")
		if refused != nil && !errors.Is(refused, ErrInvalid) {
			return refused
		}
		var err error
		if customer, err = lockCustomer(ctx, tx, scope, customerID); err != nil {
			return err
		}
		switch noted := customer.StatusName == status; {
		case noted && reason == "":
			return nil
		case !noted && refused != nil: // the present status may be inactive now
			return refused
		}
		change := StatusChange{
			CustomerID: customer.ID, From: customer.StatusName, To: status,
			Cause: CauseManual, By: actor.id(), Reason: reason, Owner: customer.owner(), At: m.after(customer.UpdatedAt),
		}
		recorded := change.asChange(customer)
		customer.StatusName, customer.UpdatedAt = change.To, change.At
		if err := tx.ChangeStatuses(ctx, []StatusChange{change}); err != nil {
			return err
		}
		return m.record(ctx, tx, actor, recorded)
	})
	return zeroOnError(customer, err)
}

// asChange returns the change of a status as the audit log and hooks receive it.
func (c StatusChange) asChange(before Customer) Change {
	after := before
	after.StatusName, after.UpdatedAt = c.To, c.At
	return Change{
		Action: ActionStatus, Entity: EntityCustomer, EntityID: c.CustomerID,
		Before: before, After: after, At: c.At, Cause: c.Cause, Reason: c.Reason,
	}
}

// lockCustomer locks a customer within the scope. It returns ErrNotFound for others.
func lockCustomer(ctx context.Context, tx Tx, scope leadScope, id int64) (Customer, error) {
	customers, err := tx.LockCustomers(ctx, []int64{id})
	if err != nil {
		return Customer{}, err
	}
	if len(customers) == 0 || !scope.covers(customers[0]) {
		return Customer{}, notFound(EntityCustomer, id)
	}
	return customers[0], nil
}
