package cims

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Assignment says who a customer's sales manager is. A customer has one or none.
type Assignment struct {
	ID             int64
	CustomerID     int64
	SalesManagerID int64
	AssignedAt     time.Time
	AssignedBy     *int64 // nil when the rotation did it
	Active         bool
}

// SalesManager is an active user with the role sales_manager, and its place in
// the rotation.
type SalesManager struct {
	Person
	AssignedLeads int  // customers whose present sales manager this is
	Weight        int  // of weight 2 gets two turns for the others' one
	Paused        bool // keeps the leads, gets no new ones
}

// SalesManagerUpdate is the input of SetSalesManager. A nil field stays as it is.
type SalesManagerUpdate struct {
	Weight *int // 1 to 100
	Paused *bool
}

const maxWeight = 100

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

// handOut gives leads, in their order, to those whose turn it is, and fills in
// who got them. When nobody is eligible they wait. It returns the state after.
// The rotation's lock is held.
func (m *Manager) handOut(ctx context.Context, tx Tx, pool Rotation, leads []Customer, cause Cause, by *int64) (Rotation, error) {
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

// SalesManagers lists the active sales managers by name (code points), then id.
// It needs leads:read or leads:read:own; either sees all. Its cost does not
// grow with the number of leads.
func (m *Manager) SalesManagers(ctx context.Context, actor Actor) ([]SalesManager, error) {
	if _, err := actor.leads(LeadsRead, LeadsReadOwn); err != nil {
		return nil, err
	}
	rotation, err := m.storage.Rotation(ctx)
	if err != nil {
		return nil, err
	}
	managers := make([]SalesManager, len(rotation.Members))
	for i, member := range rotation.Members {
		managers[i] = member.manager()
	}
	slices.SortFunc(managers, func(a, b SalesManager) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return managers, nil
}

// AllSalesManagers ranges over all that SalesManagers lists, which is short and
// read in one piece.
func (m *Manager) AllSalesManagers(ctx context.Context, actor Actor) iter.Seq2[SalesManager, error] {
	return every(ctx, func(PageRequest) (Page[SalesManager], error) {
		managers, err := m.SalesManagers(ctx, actor)
		return Page[SalesManager]{Items: managers}, err
	})
}

func (m Member) manager() SalesManager {
	return SalesManager{Person: m.Person, AssignedLeads: m.Leads, Weight: m.Weight, Paused: m.Paused}
}

// NextSalesManagers tells who would get the next n leads (at most 1000), if
// nothing changes until then; nobody when none is eligible. It needs
// leads:read. It returns ErrInvalid for another n.
func (m *Manager) NextSalesManagers(ctx context.Context, actor Actor, n int) ([]Person, error) {
	if err := actor.need(LeadsRead); err != nil {
		return nil, err
	}
	var check checks
	check.between("n", n, 1, 1000)
	if err := check.err(); err != nil {
		return nil, err
	}
	rotation, err := m.storage.Rotation(ctx)
	if err != nil {
		return nil, err
	}
	picks, _ := next(rotation, n)
	people := make([]Person, len(picks))
	for i, pick := range picks {
		people[i] = rotation.Members[pick].Person
	}
	return people, nil
}

// SetSalesManager changes an active sales manager's weight, or pauses it. It
// needs leads:assign. Once a pause has returned, the manager gets no lead from
// the rotation. It returns ErrNotFound or ErrInvalid.
func (m *Manager) SetSalesManager(ctx context.Context, actor Actor, id int64, update SalesManagerUpdate) (SalesManager, error) {
	if err := actor.need(LeadsAssign); err != nil {
		return SalesManager{}, err
	}
	var check checks
	if update == (SalesManagerUpdate{}) {
		check.add("body", RuleNoField)
	}
	check.between("weight", or(update.Weight, 1), 1, maxWeight)
	if err := check.err(); err != nil {
		return SalesManager{}, err
	}
	var manager SalesManager
	err := m.update(ctx, func(ctx context.Context, tx Tx) error {
		pool, err := tx.LockRotation(ctx)
		if err != nil {
			return err
		}
		i := pool.index(id)
		if i < 0 {
			return notFound(EntitySalesManager, id)
		}
		after := pool
		after.Members = slices.Clone(pool.Members)
		after.Members[i].Weight = or(update.Weight, after.Members[i].Weight)
		after.Members[i].Paused = or(update.Paused, after.Members[i].Paused)
		manager = after.Members[i].manager()
		before := pool.Members[i].manager()
		if manager == before {
			return nil
		}
		if _, err = tx.SaveRotation(ctx, after.changedFrom(pool), nil, nil); err != nil {
			return err
		}
		return m.tell(ctx, tx, actor, Change{Action: ActionUpdated, Entity: EntitySalesManager, EntityID: id, Before: before, After: manager})
	})
	if err != nil {
		return SalesManager{}, err
	}
	m.lookForWaiting()
	return manager, nil
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
		customer, err := lockCustomer(ctx, tx, reach{}, customerID)
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
		return m.tellAssigned(ctx, tx, actor, []Customer{customer}, []Customer{owned}, CauseManual)
	})
	return orZero(assignment, err)
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
			if _, err := m.handOut(ctx, tx, pool, leads, CauseAutomatic, nil); err != nil {
				return err
			}
			for i := range leads { // each on behalf of somebody else
				if err := m.tellAssigned(m.assignments.shared(ctx, askedBy[i].requestID), tx, askedBy[i].actor, before[i:i+1], leads[i:i+1], CauseAutomatic); err != nil {
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

// batch is how many leads are handed out under one statement.
const batch = 500

// redistribute hands out all leads of somebody who is no active sales manager
// (any more). The rotation's lock is held.
func (m *Manager) redistribute(ctx context.Context, tx Tx, actor Actor, user User) error {
	pool, err := tx.Rotation(ctx)
	if err != nil {
		return err
	}
	if pool.index(user.ID) >= 0 {
		return invalid(FieldError{Field: "leads", Rule: RuleChoice})
	}
	for {
		owned, err := tx.Customers(ctx, CustomerQuery{SalesManagerID: &user.ID, Limit: batch})
		if err != nil || len(owned) == 0 {
			return err
		}
		pool, _, err = m.handOutLocked(ctx, tx, actor, pool, customerIDs(owned), CauseRedistributed, func(c Customer) bool {
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
func (m *Manager) handOutLocked(
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
	if after, err = m.handOut(ctx, tx, pool, leads, cause, actor.id()); err != nil {
		return pool, 0, err
	}
	return after, len(leads), m.tellAssigned(ctx, tx, actor, before, leads, cause)
}

// BacklogResult says what AssignBacklog did.
type BacklogResult struct {
	Assigned int // got a sales manager
	Waiting  int // would have, but nobody is eligible: they wait now
}

// AssignBacklog hands out the customers that were left without a sales manager
// before this library came, oldest first. It needs leads:assign. It works in
// transactions of some hundreds; when it returns an error, what Assigned counts
// has been done. Where another program assigns the same ones at the same time, some
// may be left.
func (m *Manager) AssignBacklog(ctx context.Context, actor Actor) (BacklogResult, error) {
	var result BacklogResult
	if err := actor.need(LeadsAssign); err != nil {
		return result, err
	}
	for {
		assigned, waiting, err := m.assignUnassigned(ctx, false, actor)
		result.Assigned += assigned
		result.Waiting += waiting
		if err != nil || assigned+waiting == 0 {
			return result, unwrapped(err)
		}
	}
}

// assignUnassigned hands out up to a batch of those who wait, or of those who
// were left without, oldest first. It returns how many got somebody and how
// many wait now: none where nobody is left.
func (m *Manager) assignUnassigned(ctx context.Context, waiting bool, actor Actor) (assigned, left int, err error) {
	const attempts = 10 // somebody else takes them faster, or a list that isn't true would have us look for ever
	for taken, n := true, 0; taken && err == nil && n < attempts; n++ {
		assigned, left, taken, err = m.tryUnassigned(ctx, waiting, actor)
	}
	return assigned, left, err
}

// tryUnassigned also tells whether the older program has just given all of them
// to somebody, so that others may be left.
func (m *Manager) tryUnassigned(ctx context.Context, waiting bool, actor Actor) (assigned, left int, taken bool, err error) {
	err = m.storage.Update(ctx, func(ctx context.Context, tx Tx) error {
		assigned, left, taken = 0, 0, false
		pool, err := tx.LockRotation(ctx)
		if err != nil {
			return err
		}
		if waiting && !pool.anyEligible() {
			return nil
		}
		ids, err := tx.Unassigned(ctx, waiting, batch)
		if err != nil || len(ids) == 0 {
			return err
		}
		_, n, err := m.handOutLocked(ctx, tx, actor, pool, ids, CauseAutomatic, func(c Customer) bool { return c.SalesManager == nil })
		if pool.anyEligible() {
			assigned = n
		} else {
			left = n
		}
		taken = n == 0
		return err
	})
	return assigned, left, taken, err
}

func (r Rotation) anyEligible() bool {
	return slices.ContainsFunc(r.Members, func(m Member) bool { return !m.Paused })
}

// lookForWaiting is called when somebody may have become eligible.
func (m *Manager) lookForWaiting() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

var waitingLeads = System("waiting leads")

// work runs until the Manager is closed: it assigns waiting leads as soon as
// somebody is eligible, whichever process made it so, and forgets old
// idempotency keys.
func (m *Manager) work(ctx context.Context) {
	defer close(m.closed)
	tick := time.NewTicker(m.config.WaitingInterval)
	defer tick.Stop()
	var forgotten time.Time
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		case <-tick.C:
		}
		begin := time.Now()
		err := apart(func() error { return m.assignWaiting(ctx) })
		if err == nil && m.now().Sub(forgotten) > time.Hour {
			forgotten = m.now()
			err = m.forgetKeys(ctx)
		}
		// A fault that lasts is said once, not every second.
		if err != nil && !failing && ctx.Err() == nil {
			m.config.Logger.ErrorContext(ctx, "cims: waiting leads can't be assigned", "error", unwrapped(err))
		}
		failing = err != nil
		// A hook that refuses thousands would have us hold the rotation's lock all the time.
		rest := m.config.WaitingInterval
		if ofHost(err) {
			rest = max(rest, 10*time.Since(begin))
		}
		tick.Reset(rest)
	}
}

// assignWaiting looks without a lock first, so that the usual case, nobody
// waits, costs next to nothing.
func (m *Manager) assignWaiting(ctx context.Context) error {
	for {
		ids, err := m.storage.Unassigned(ctx, true, 1)
		if err != nil || len(ids) == 0 {
			return err
		}
		pool, err := m.storage.Rotation(ctx)
		if err != nil || !pool.anyEligible() {
			return err
		}
		var assigned int
		err = apart(func() (err error) {
			assigned, _, err = m.assignUnassigned(ctx, true, waitingLeads)
			return err
		})
		if ofHost(err) {
			return m.assignEach(ctx)
		}
		if err != nil || assigned == 0 {
			return err
		}
		m.config.Logger.InfoContext(ctx, "cims: waiting leads assigned", "leads", assigned)
	}
}

// assignEach assigns the waiting leads one by one, and passes over those that a
// hook refuses: they are tried again, and keep no others waiting. It returns why
// the first of them was refused.
func (m *Manager) assignEach(ctx context.Context) (refusal error) {
	refused := map[int64]bool{}
	for {
		ids, err := m.storage.Unassigned(ctx, true, len(refused)+batch)
		if err != nil {
			return err
		}
		ids = slices.DeleteFunc(ids, func(id int64) bool { return refused[id] })
		if len(ids) == 0 {
			return refusal
		}
		for _, id := range ids {
			request := &autoAssignment{customerID: id, actor: waitingLeads}
			err := apart(func() error { return m.autoAssign(ctx, []*autoAssignment{request}) })
			switch {
			case err == nil && !request.found:
				refused[id] = true // deleted just now, or the list isn't true
			case err == nil && request.assignment == nil:
				return refusal // nobody is eligible any more
			case err != nil && !ofHost(err):
				return err
			case err != nil:
				refused[id] = true
				refusal = cmp.Or(refusal, error(&foreign{fmt.Errorf("customer %d: %w", id, unwrapped(err))}))
			}
		}
	}
}

func (m *Manager) forgetKeys(ctx context.Context) error {
	for {
		forgotten := 0
		err := m.update(ctx, func(ctx context.Context, tx Tx) error {
			var err error
			forgotten, err = tx.ForgetKeys(ctx, m.now().Add(-keyLifetime), batch)
			return err
		})
		if err != nil || forgotten < batch {
			return err
		}
	}
}
