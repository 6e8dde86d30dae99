package cims

import (
	"context"
	"errors"
	"iter"
	"time"
)

// Customer is a lead, and what becomes of it.
type Customer struct {
	ID          int64     `json:"id"`
	FullName    string    `json:"full_name"`
	PhoneNumber Text      `json:"phone_number"`
	Platform    Text      `json:"platform"` // where the lead came from
	Username    Text      `json:"username"` // the lead's name there
	Notes       Text      `json:"notes"`
	StatusName  string    `json:"status_name"`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`

	SalesManager *Person     `json:"sales_manager"` // nil while it waits for one
	Assignment   *Assignment `json:"-"`             // nil likewise; left out of the JSON form
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

// Customer returns one customer with its sales manager and assignment. It needs
// leads:read or, for the actor's own, leads:read:own. It returns ErrNotFound.
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

// CustomerFilter selects customers; zero fields select nothing away.
type CustomerFilter struct {
	Status         string
	SalesManagerID *int64
	Unassigned     bool   // only those without a sales manager
	Prefix         string // of the name or phone number, in any case
}

// Customers lists customers, newest first. It needs leads:read or, for the
// actor's own, leads:read:own. It returns ErrInvalid for a malformed page
// request or an unknown status, ErrNotFound for an unknown sales manager.
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

// AllCustomers ranges over all that Customers lists, page after page, with no
// more than a page in memory:
//
//	for customer, err := range crm.AllCustomers(ctx, actor, cims.CustomerFilter{}) {
//		if err != nil {
//			return err
//		}
//		…
//	}
//
// It ends after an error, also the context's. Nothing is locked meanwhile, so
// that the loop may call the Manager, and others may write: who is in the list
// from the loop's begin to its end comes exactly once, who joins or leaves it
// may come or not. Each loop begins anew.
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

// SetStatus puts a customer into an active status, with history; into the one
// that it is in already changes nothing. Reason, up to 2000 characters, may be
// empty. It needs leads:write or, for the actor's own, leads:write:own. It
// returns ErrNotFound or ErrInvalid.
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
		// The status first: a deletion that moves customers locks in this order.
		_, refused := m.useStatus(ctx, tx, status, "status_name")
		if refused != nil && !errors.Is(refused, ErrInvalid) {
			return refused
		}
		var err error
		if customer, err = lockCustomer(ctx, tx, scope, customerID); err != nil {
			return err
		}
		if customer.StatusName == status { // which may have become inactive since
			return nil
		}
		if refused != nil {
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

// lockCustomer locks a customer that is within reach. ErrNotFound.
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
