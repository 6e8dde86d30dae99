package cims

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"
)

// Assignment says who a customer's sales manager is. A customer has one or none.
type Assignment struct {
	ID             int64     `json:"id"`
	CustomerID     int64     `json:"customer_id"`
	SalesManagerID int64     `json:"sales_manager_id"`
	AssignedAt     time.Time `json:"assigned_at"`
	AssignedBy     *int64    `json:"assigned_by"` // nil when the rotation did it
	Active         bool      `json:"is_active"`
}

// turn is what a member of weight 1 pays for a turn, in virtual time. It is a
// multiple of 1 to 16, so that common weights divide it, and small enough that
// 12 thousand million turns fit.
const turn = 720_720_000

// next decides who gets the next n leads. It depends on nothing but the pool's
// state, which it leaves as it is, and returns the picks in order, none when
// nobody is eligible, and the state after them.
//
// Each pick is the eligible member with the lowest virtual time, the least
// recently picked of equals, then the lowest id; it then pays its turn. With
// equal weights that is plain round robin. Who has just joined or returned is
// lifted to the floor: it is not flooded with what it missed. Who returns with
// more than the floor keeps it: leaving and coming back wins no double turn.
// But nobody starts more than a turn above the floor, so that nobody is
// skipped either.
func next(pool Rotation, n int) (picks []int, after Rotation) {
	after = pool
	after.Members = slices.Clone(pool.Members)
	var eligible []int
	for i := range after.Members {
		if !after.Members[i].Paused {
			eligible = append(eligible, i)
		}
	}
	if len(eligible) == 0 {
		return nil, after
	}
	for _, i := range eligible {
		after.lift(i)
	}
	for range n {
		i := slices.MinFunc(eligible, func(i, j int) int { return before(after.Members[i], after.Members[j]) })
		after.take(i)
		picks = append(picks, i)
	}
	lowest := slices.MinFunc(eligible, func(i, j int) int {
		return cmp.Compare(after.Members[i].VirtualTime, after.Members[j].VirtualTime)
	})
	after.Floor = after.Members[lowest].VirtualTime // not below pool.Floor: all were lifted to it
	return picks, after
}

func before(a, b Member) int {
	return cmp.Or(
		cmp.Compare(a.VirtualTime, b.VirtualTime),
		cmp.Compare(a.LastTurn, b.LastTurn),
		cmp.Compare(a.ID, b.ID),
	)
}

// lift brings a member to where it starts, or may be at most: between the floor
// and a turn above it.
func (r *Rotation) lift(i int) {
	m := &r.Members[i]
	m.VirtualTime = min(max(m.VirtualTime, r.Floor), r.Floor+turn/int64(m.Weight))
}

// take makes a member pay for a turn.
func (r *Rotation) take(i int) {
	r.Turn++
	r.Members[i].VirtualTime += turn / int64(r.Members[i].Weight)
	r.Members[i].LastTurn = r.Turn
}

// changedFrom is the state with only those members that differ from an earlier
// state of the same members.
func (r Rotation) changedFrom(earlier Rotation) Rotation {
	changed := Rotation{Floor: r.Floor, Turn: r.Turn}
	for i, m := range r.Members {
		if m != earlier.Members[i] {
			changed.Members = append(changed.Members, m)
		}
	}
	return changed
}

func (r Rotation) index(id int64) int {
	return slices.IndexFunc(r.Members, func(m Member) bool { return m.ID == id })
}

// Assignment returns a customer's present assignment and its sales manager. It
// needs leads:read or, for the actor's own, leads:read:own. It returns
// ErrNotFound for the customer, or, with ReasonNoSalesManager, when it has none.
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

// Assign makes an active sales manager, paused or not, a customer's own, by
// hand: also instead of another. It takes no turn in the rotation, unless
// Config.ManualTakesTurn says so. Who has the customer already keeps it, and
// nothing changes. It needs leads:assign. It returns ErrNotFound for the
// customer or the sales manager.
func (m *Manager) Assign(ctx context.Context, actor Actor, customerID, salesManagerID int64) (Assignment, error) {
	if err := actor.need(LeadsAssign); err != nil {
		return Assignment{}, err
	}
	var assignment Assignment
	err := m.update(ctx, func(ctx context.Context, tx Tx) error {
		pool, err := tx.LockRotation(ctx)
		if err != nil {
			return err
		}
		customer, err := lockCustomer(ctx, tx, leadScope{}, customerID)
		if err != nil {
			return err
		}
		i := pool.index(salesManagerID)
		if i < 0 {
			return notFound(EntitySalesManager, salesManagerID)
		}
		if customer.SalesManager != nil && customer.SalesManager.ID == salesManagerID {
			assignment = *customer.Assignment
			return nil
		}
		after := pool
		after.Members = slices.Clone(pool.Members)
		if m.config.ManualTakesTurn {
			after.lift(i)
			after.take(i)
		}
		assignments, err := tx.SaveRotation(ctx, after.changedFrom(pool), nil, []OwnerChange{{
			CustomerID: customer.ID, CustomerCreatedAt: customer.CreatedAt,
			From: customer.owner(), To: &salesManagerID, Cause: CauseManual, By: actor.id(), At: m.after(customer.UpdatedAt),
		}})
		if err != nil {
			return err
		}
		assignment = assignments[0]
		owned := customer
		owned.SalesManager, owned.Assignment, owned.UpdatedAt = new(pool.Members[i].Person), new(assignment), assignment.AssignedAt
		return m.recordAssignments(ctx, tx, actor, []Customer{customer}, []Customer{owned}, CauseManual)
	})
	return zeroOnError(assignment, err)
}

// autoAssignment is one customer that asks for the rotation's next.
type autoAssignment struct {
	customerID int64
	actor      Actor
	requestID  string
	assignment *Assignment // the answer
	found      bool
}

// AutoAssign gives a customer that has no sales manager the next one of the
// rotation: for customers that came in otherwise than by AddCustomer. Who has
// one keeps it. It returns nil when nobody is eligible: then the customer
// waits. Calls that come at once share a transaction. It needs leads:assign. It
// returns ErrNotFound.
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

// autoAssign serves the requests in their order; two may name one customer.
func (m *Manager) autoAssign(ctx context.Context, requests []*autoAssignment) error {
	return m.storage.Update(ctx, func(ctx context.Context, tx Tx) error {
		pool, err := tx.LockRotation(ctx)
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
			if _, err := m.assignNext(ctx, tx, pool, leads, CauseAutomatic, nil); err != nil {
				return err
			}
			for i := range leads { // each on behalf of somebody else
				if err := m.recordAssignments(m.assignments.shared(ctx, askedBy[i].requestID), tx, askedBy[i].actor, before[i:i+1], leads[i:i+1], CauseAutomatic); err != nil {
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

// batch is how many leads are handed out under one statement.
const batchSize = 500

// handOut gives leads, in their order, to those whose turn it is, and fills in
// who got them. When nobody is eligible they wait. It returns the state after.
// The rotation's lock is held.
func (m *Manager) assignNext(ctx context.Context, tx Tx, pool Rotation, leads []Customer, cause Cause, by *int64) (Rotation, error) {
	picks, after := next(pool, len(leads))
	changes := make([]OwnerChange, len(leads))
	for i, lead := range leads {
		changes[i] = OwnerChange{
			CustomerID: lead.ID, CustomerCreatedAt: lead.CreatedAt,
			From: lead.owner(), Cause: cause, By: by, At: m.after(lead.UpdatedAt),
		}
		leads[i].UpdatedAt = changes[i].At
		leads[i].SalesManager, leads[i].Assignment = nil, nil
		if picks != nil {
			person := after.Members[picks[i]].Person
			changes[i].To, leads[i].SalesManager = new(person.ID), &person
		}
	}
	assignments, err := tx.SaveRotation(ctx, after.changedFrom(pool), nil, changes)
	if err != nil {
		return pool, err
	}
	for i := range leads {
		if picks != nil {
			leads[i].Assignment = &assignments[i]
		}
	}
	return after, nil
}

// redistribute hands out all leads of somebody who is no active sales manager
// (any more). The rotation's lock is held.
func (m *Manager) redistributeLeadsOf(ctx context.Context, tx Tx, actor Actor, user User) error {
	pool, err := tx.Rotation(ctx)
	if err != nil {
		return err
	}
	if pool.index(user.ID) >= 0 {
		return invalid(FieldError{Field: "leads", Rule: RuleChoice})
	}
	for {
		owned, err := tx.Customers(ctx, CustomerQuery{SalesManagerID: &user.ID, Limit: batchSize})
		if err != nil || len(owned) == 0 {
			return err
		}
		pool, _, err = m.assignAll(ctx, tx, actor, pool, customerIDs(owned), CauseRedistributed, func(c Customer) bool {
			return c.SalesManager != nil && c.SalesManager.ID == user.ID
		})
		if err != nil {
			return err
		}
	}
}

// handOutLocked locks leads and hands out those that are still what they were
// found as: the older program may have given one to somebody just now. It returns
// how many there were.
func (m *Manager) assignAll(
	ctx context.Context, tx Tx, actor Actor, pool Rotation, ids []int64, cause Cause, still func(Customer) bool,
) (after Rotation, n int, err error) {
	leads, err := tx.LockCustomers(ctx, ids)
	if err != nil {
		return pool, 0, err
	}
	leads = slices.DeleteFunc(leads, func(c Customer) bool { return !still(c) })
	if len(leads) == 0 {
		return pool, 0, nil
	}
	slices.SortFunc(leads, func(a, b Customer) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	before := slices.Clone(leads)
	if after, err = m.assignNext(ctx, tx, pool, leads, cause, actor.id()); err != nil {
		return pool, 0, err
	}
	return after, len(leads), m.recordAssignments(ctx, tx, actor, before, leads, cause)
}
