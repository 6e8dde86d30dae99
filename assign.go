package cims

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/cimskit/cims/rotation"
)

// Assignment records the owner of a customer: its sales manager, and since when.
// A customer has at most one.
type Assignment struct {
	ID             int64     `json:"id"`
	CustomerID     int64     `json:"customer_id"`
	SalesManagerID int64     `json:"sales_manager_id"`
	AssignedAt     time.Time `json:"assigned_at"`
	AssignedBy     *int64    `json:"assigned_by"` // id of a user; nil for the rotation and for System
	Active         bool      `json:"is_active"`
}

// policy has the gates that decide which members are eligible. No other code does.
var policy = rotation.Default

// Rotation is the state of the rotation, with the people behind its members.
type Rotation struct {
	rotation.State
	People map[int64]Person // by id, of all members
}

// clone returns a copy that decisions can change.
func (r Rotation) clone() Rotation {
	r.Members = slices.Clone(r.Members)
	return r
}

// member returns the member with this id, or nil.
func (r Rotation) member(id int64) *rotation.Member {
	i, found := slices.BinarySearchFunc(r.Members, id, func(m rotation.Member, id int64) int { return cmp.Compare(m.ID, id) })
	if !found {
		return nil
	}
	return &r.Members[i]
}

// person returns the person behind a member. It returns nil for 0, which stands
// for no member.
func (r Rotation) person(id int64) *Person {
	if id == 0 {
		return nil
	}
	return new(r.People[id])
}

// Assignment returns a customer's assignment and its sales manager. It needs
// leads:read or, for the actor's own leads, leads:read:own. It returns ErrNotFound
// for an unknown customer and, with ReasonNoSalesManager, for one without a sales
// manager.
func (m *Manager) Assignment(ctx context.Context, actor Actor, customerID int64) (Assignment, Person, error) {
	customer, err := m.Customer(ctx, actor, customerID)
	if err != nil {
		return Assignment{}, Person{}, err
	}
	if customer.Assignment == nil {
		return Assignment{}, Person{}, &Error{
			Kind: ErrNotFound, Reason: ReasonNoSalesManager, Entity: EntityAssignment, Name: strconv.FormatInt(customerID, 10),
		}
	}
	return *customer.Assignment, *customer.SalesManager, nil
}

// Assign gives a customer to a sales manager by hand, replacing its present one
// if there is one. The sales manager must be active but may be paused. Assigning
// the present owner changes nothing.
//
// Assign takes no turn in the rotation unless Config.ManualTakesTurn is set. It
// needs leads:assign. It returns ErrNotFound for an unknown customer or sales
// manager.
func (m *Manager) Assign(ctx context.Context, actor Actor, customerID, salesManagerID int64) (Assignment, error) {
	if err := actor.need(LeadsAssign); err != nil {
		return Assignment{}, err
	}
	var assignment Assignment
	err := m.update(ctx, func(ctx context.Context, tx Tx) error {
		state, err := tx.LockRotation(ctx)
		if err != nil {
			return err
		}
		customer, err := lockCustomer(ctx, tx, leadScope{}, customerID)
		if err != nil {
			return err
		}
		if state.member(salesManagerID) == nil {
			return notFound(EntitySalesManager, salesManagerID)
		}
		if customer.SalesManager != nil && customer.SalesManager.ID == salesManagerID {
			assignment = *customer.Assignment
			return nil
		}
		if m.config.ManualTakesTurn {
			after := state.clone()
			policy.Charge(&after.State, salesManagerID, m.now())
			if err := tx.SaveRotation(ctx, after); err != nil {
				return err
			}
		}
		assignments, err := tx.ChangeOwners(ctx, []OwnerChange{{
			CustomerID: customer.ID, CustomerCreatedAt: customer.CreatedAt,
			From: customer.owner(), To: &salesManagerID, Cause: CauseManual, By: actor.id(), At: m.after(customer.UpdatedAt),
		}})
		if err != nil {
			return err
		}
		assignment = assignments[0]
		owned := customer
		owned.SalesManager, owned.Assignment, owned.UpdatedAt = state.person(salesManagerID), new(assignment), assignment.AssignedAt
		return m.recordAssignments(ctx, tx, actor, []Customer{customer}, []Customer{owned}, CauseManual)
	})
	return zeroOnError(assignment, err)
}

// autoAssignment is a call of AutoAssign.
type autoAssignment struct {
	customerID int64
	actor      Actor
	requestID  string
	assignment *Assignment // the answer; nil while the customer waits
	found      bool
}

// AutoAssign gives a customer without a sales manager the next one of the
// rotation. It is for customers that were stored by other means than AddCustomer.
// A customer that has a sales manager keeps it. If nobody is eligible, AutoAssign
// returns nil, and the customer waits.
//
// Concurrent calls share a transaction. AutoAssign needs leads:assign. It returns
// ErrNotFound for an unknown customer.
func (m *Manager) AutoAssign(ctx context.Context, actor Actor, customerID int64) (*Assignment, error) {
	if err := actor.need(LeadsAssign); err != nil {
		return nil, err
	}
	request := &autoAssignment{customerID: customerID, actor: actor, requestID: RequestID(ctx)}
	if err := m.assignments.do(ctx, request); err != nil {
		return nil, err
	}
	if !request.found {
		return nil, notFound(EntityCustomer, customerID)
	}
	return request.assignment, nil
}

// autoAssign serves the requests in order. Two may name the same customer.
func (m *Manager) autoAssign(ctx context.Context, requests []*autoAssignment) error {
	return m.storage.Update(ctx, func(ctx context.Context, tx Tx) error {
		state, err := tx.LockRotation(ctx)
		if err != nil {
			return err
		}
		ids := make([]int64, len(requests))
		for i, request := range requests {
			ids[i] = request.customerID
		}
		known, err := tx.LockCustomers(ctx, ids)
		if err != nil {
			return err
		}
		byID := make(map[int64]*Customer, len(known))
		for i := range known {
			byID[known[i].ID] = &known[i]
		}
		var leads []Customer
		var askedBy []*autoAssignment
		places := map[int64]int{} // of a customer in leads
		for i, id := range ids {
			customer := byID[id]
			if _, again := places[id]; customer == nil || customer.SalesManager != nil || again {
				continue
			}
			places[id] = len(leads)
			leads, askedBy = append(leads, *customer), append(askedBy, requests[i])
		}
		if len(leads) > 0 {
			before := slices.Clone(leads)
			if _, err := m.assignNext(ctx, tx, state, leads, CauseAutomatic, nil); err != nil {
				return err
			}
			for i := range leads { // each has an actor of its own
				if err := m.recordAssignments(m.assignments.hookContext(ctx, askedBy[i].requestID), tx, askedBy[i].actor, before[i:i+1], leads[i:i+1], CauseAutomatic); err != nil {
					return err
				}
			}
		}
		for _, request := range requests {
			customer := byID[request.customerID]
			if request.found = customer != nil; !request.found {
				continue
			}
			if place, served := places[request.customerID]; served {
				customer = &leads[place]
			}
			request.assignment = customer.Assignment
		}
		return nil
	})
}

// batchSize is the largest number of leads that one statement changes.
const batchSize = 500

// assignNext gives the leads, in order, to the members whose turn it is, and fills
// in their new owners. A lead for which nobody is eligible waits. It returns the
// state after its decisions. The caller holds the rotation's lock.
func (m *Manager) assignNext(ctx context.Context, tx Tx, state Rotation, leads []Customer, cause Cause, by *int64) (Rotation, error) {
	after := state.clone()
	turns := policy.Batch(&after.State, m.now())
	changes := make([]OwnerChange, len(leads))
	for i := range leads {
		lead := &leads[i]
		owner := after.person(turns.Decide(rotation.Lead{}).Member)
		changes[i] = OwnerChange{
			CustomerID: lead.ID, CustomerCreatedAt: lead.CreatedAt,
			From: lead.owner(), Cause: cause, By: by, At: m.after(lead.UpdatedAt),
		}
		lead.SalesManager, lead.Assignment, lead.UpdatedAt = owner, nil, changes[i].At
		changes[i].To = lead.owner()
	}
	if after.Turn > state.Turn {
		if err := tx.SaveRotation(ctx, after); err != nil {
			return state, err
		}
	}
	assignments, err := tx.ChangeOwners(ctx, changes)
	if err != nil {
		return state, err
	}
	for i := range leads {
		if leads[i].SalesManager != nil {
			leads[i].Assignment = &assignments[i]
		}
	}
	return after, nil
}

// redistributeLeadsOf hands out all leads of a user that is no longer an active
// sales manager. The caller holds the rotation's lock.
func (m *Manager) redistributeLeadsOf(ctx context.Context, tx Tx, actor Actor, user User) error {
	state, err := tx.Rotation(ctx)
	if err != nil {
		return err
	}
	if state.member(user.ID) != nil {
		return invalid(FieldError{Field: "leads", Rule: RuleChoice})
	}
	for {
		owned, err := tx.Customers(ctx, CustomerQuery{SalesManagerID: &user.ID, Limit: batchSize})
		if err != nil || len(owned) == 0 {
			return err
		}
		state, _, _, err = m.assignAll(ctx, tx, actor, state, customerIDs(owned), CauseRedistributed, func(c Customer) bool {
			return c.SalesManager != nil && c.SalesManager.ID == user.ID
		})
		if err != nil {
			return err
		}
	}
}

// assignAll locks leads and hands out those that still qualify: another program may
// have assigned some in the meantime. It returns the numbers of leads that got a
// sales manager and of those that wait. The caller holds the rotation's lock.
func (m *Manager) assignAll(
	ctx context.Context, tx Tx, actor Actor, state Rotation, ids []int64, cause Cause, still func(Customer) bool,
) (after Rotation, assigned, waiting int, err error) {
	leads, err := tx.LockCustomers(ctx, ids)
	if err != nil {
		return state, 0, 0, err
	}
	leads = slices.DeleteFunc(leads, func(c Customer) bool { return !still(c) })
	if len(leads) == 0 {
		return state, 0, 0, nil
	}
	slices.SortFunc(leads, func(a, b Customer) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	before := slices.Clone(leads)
	if after, err = m.assignNext(ctx, tx, state, leads, cause, actor.id()); err != nil {
		return state, 0, 0, err
	}
	for _, lead := range leads {
		if lead.SalesManager != nil {
			assigned++
		}
	}
	return after, assigned, len(leads) - assigned, m.recordAssignments(ctx, tx, actor, before, leads, cause)
}
