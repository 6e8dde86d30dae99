package cims

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cimskit/cims/rotation"
)

// NewCustomer is the input of AddCustomer. Only FullName is required.
type NewCustomer struct {
	FullName    string `json:"full_name,omitempty"`    // 1 to 500 characters
	PhoneNumber string `json:"phone_number,omitempty"` // up to 50
	Platform    string `json:"platform,omitempty"`     // up to 255
	Username    string `json:"username,omitempty"`     // up to 255
	Notes       string `json:"notes,omitempty"`        // up to 10,000
	StatusName  string `json:"status_name,omitempty"`  // an active status; empty for Config.InitialStatus

	// SalesManagerID, if set, gives the lead to this sales manager by hand, as
	// Assign does. That needs leads:assign.
	SalesManagerID *int64 `json:"sales_manager_id,omitempty"`

	// IdempotencyKey makes a call safe to repeat. A second call by the same
	// actor with the same key and input within 24 hours stores nothing and
	// returns the result of the first. A key has 1 to 255 visible ASCII
	// characters; empty means none.
	IdempotencyKey string `json:"-"`
}

// Validate checks the input without a database, so it doesn't check that the status
// exists. It returns ErrInvalid.
func (in NewCustomer) Validate() error {
	_, err := newLeadRequest(Actor{}, in)
	return err
}

// AddCustomer stores a new lead and gives it the next sales manager of the rotation
// in the same transaction. If no sales manager is present, the lead waits for one.
// Concurrent calls share a transaction.
//
// AddCustomer needs leads:write or leads:write:own. Under leads:write:own the lead
// starts in the initial status; any other StatusName is ErrInvalid. With
// KeepOwnLeads it belongs to the actor, if that is a sales manager.
//
// AddCustomer returns ErrInvalid for invalid input, ErrNotFound for an unknown sales
// manager, and ErrKeyReused for an idempotency key that was used with other input.
func (m *Manager) AddCustomer(ctx context.Context, actor Actor, in NewCustomer) (Customer, error) {
	scope, err := actor.leadScope(LeadsWrite, LeadsWriteOwn)
	if err != nil {
		return Customer{}, err
	}
	if in.SalesManagerID != nil {
		if err := actor.need(LeadsAssign); err != nil {
			return Customer{}, err
		}
	}
	request, err := newLeadRequest(actor, in)
	if err != nil {
		return Customer{}, err
	}
	request.scope, request.requestID = scope, RequestID(ctx)
	if err := m.intakes.do(ctx, request); err != nil {
		return Customer{}, err
	}
	if request.refused != nil {
		return Customer{}, request.refused
	}
	return request.customer, nil
}

// leadRequest is a call of AddCustomer.
type leadRequest struct {
	in    Customer // to be stored
	actor Actor
	key   Key // zero without an idempotency key

	scope leadScope
	owner *int64 // the sales manager that the input names

	requestID string

	customer Customer // the result
	refused  error    // the result if the request alone is refused

	// repeats is the request of the batch that this one repeats, with the same key.
	repeats *leadRequest
}

func newLeadRequest(actor Actor, in NewCustomer) (*leadRequest, error) {
	var check checks
	in.FullName = check.line("full_name", in.FullName, 1, 500)
	in.PhoneNumber = check.line("phone_number", in.PhoneNumber, 0, 50)
	in.Platform = check.line("platform", in.Platform, 0, 255)
	in.Username = check.line("username", in.Username, 0, 255)
	in.Notes = check.lines("notes", in.Notes, 10_000)
	in.StatusName = normalName(in.StatusName)
	request := &leadRequest{actor: actor, owner: in.SalesManagerID, in: Customer{
		FullName:    in.FullName,
		PhoneNumber: Text(in.PhoneNumber),
		Platform:    Text(in.Platform),
		Username:    Text(in.Username),
		Notes:       Text(in.Notes),
		StatusName:  in.StatusName,
	}}
	if in.IdempotencyKey != "" {
		request.key = Key{
			Scope:       actor.keyScope() + " customers",
			Key:         check.key("idempotency_key", in.IdempotencyKey),
			Fingerprint: fingerprint(in),
		}
	}
	return request, check.err()
}

// addLeads stores new leads in one transaction, in order, each with its sales
// manager and its first history row.
func (m *Manager) addLeads(ctx context.Context, requests []*leadRequest) error {
	for _, request := range requests { // a batch that failed is tried again in parts
		request.refused, request.repeats = nil, nil
	}
	done, err := m.addLeadsFast(ctx, requests)
	if done || err != nil {
		return err
	}
	return m.storage.Update(ctx, func(ctx context.Context, tx Tx) error {
		return m.addLeadsTx(ctx, tx, requests)
	})
}

// addLeadsFast stores leads through an Intaker. It reports false, and leaves them to
// addLeadsTx, if any may be refused or needs more than the fast path does.
func (m *Manager) addLeadsFast(ctx context.Context, requests []*leadRequest) (bool, error) {
	fast, ok := m.storage.(Intaker)
	if !ok || len(m.config.Hooks) > 0 {
		return false, nil
	}
	leads := make([]*Lead, len(requests))
	for i, request := range requests {
		limited := request.scope.own != nil && (m.config.OwnLeads == KeepOwnLeads || request.in.StatusName != "")
		if request.key.Key != "" || request.owner != nil || limited {
			return false, nil
		}
		leads[i] = &Lead{Customer: request.in, By: request.actor.id()}
		if request.in.StatusName == "" {
			leads[i].Customer.StatusName = m.config.InitialStatus
		}
		if !possibleName(leads[i].Customer.StatusName) {
			return false, nil
		}
	}
	ok, err := fast.Intake(ctx, leads, func(state Rotation) Rotation { return m.decide(state, leads) })
	if ok {
		for i, lead := range leads {
			requests[i].customer = lead.Customer
		}
	}
	return ok, err
}

// decide sets the owners of new leads, in order, and returns the state after. It
// leaves out leads with a named owner.
func (m *Manager) decide(state Rotation, leads []*Lead, named ...namedOwner) Rotation {
	after, at := state.clone(), m.now()
	turns := policy.Batch(&after.State, at)
	for i, lead := range leads {
		c := &lead.Customer
		c.CreatedAt, c.UpdatedAt = at, at
		if slices.ContainsFunc(named, func(n namedOwner) bool { return n.lead == i }) {
			continue
		}
		c.SalesManager = after.person(turns.Decide(rotation.Lead{}).Member)
		lead.Waiting = c.SalesManager == nil
	}
	return after
}

func (m *Manager) addLeadsTx(ctx context.Context, tx Tx, requests []*leadRequest) error {
	// A caller that waits for a key must not hold the rotation's lock, which the
	// holder of the key needs.
	fresh, err := m.claimKeys(ctx, tx, requests)
	if err != nil || len(fresh) == 0 {
		return err
	}
	leads := make([]*Lead, 0, len(fresh))
	statuses := map[string]string{}
	for _, request := range fresh {
		lead := &Lead{Customer: request.in, By: request.actor.id()}
		lead.Customer.StatusName, err = m.statusFor(ctx, tx, statuses, request)
		switch {
		case err == nil:
			leads = append(leads, lead)
		case errors.Is(err, ErrInvalid) && request.key.Key == "": // a claimed key must not stay
			request.refused = err
		default:
			return err
		}
	}
	fresh = slices.DeleteFunc(fresh, func(r *leadRequest) bool { return r.refused != nil })
	if len(fresh) == 0 {
		return nil
	}
	state, err := tx.LockRotation(ctx)
	if err != nil {
		return err
	}
	named, err := m.namedOwners(state, fresh)
	if err != nil {
		return err
	}
	after := m.decide(state, leads, named...)
	if err := tx.InsertLeads(ctx, leads); err != nil {
		if refused, ok := errors.AsType[*LeadError](err); ok {
			return refused.Err
		}
		return err
	}
	if err := saveTurns(ctx, tx, state, after, gained(leads)); err != nil {
		return err
	}
	for i, lead := range leads {
		fresh[i].customer = lead.Customer
		if err := m.record(m.intakes.hookContext(ctx, fresh[i].requestID), tx, fresh[i].actor, created(lead.Customer)); err != nil {
			return err
		}
	}
	if err := m.giveNamed(ctx, tx, after, fresh, named); err != nil {
		return err
	}
	for _, request := range requests {
		if request.repeats != nil {
			request.customer = request.repeats.customer
		}
	}
	return saveKeys(ctx, tx, fresh)
}

// namedOwner is the owner of a new lead that the rotation doesn't choose.
type namedOwner struct {
	lead  int // its index
	id    int64
	cause Cause
}

// namedOwners returns the owners that the rotation doesn't choose: those that the
// input names, then the actors who keep their own leads.
func (m *Manager) namedOwners(state Rotation, requests []*leadRequest) (named []namedOwner, err error) {
	for i, request := range requests {
		own := request.scope.own
		switch {
		case request.owner != nil && state.member(*request.owner) == nil:
			return nil, notFound(EntitySalesManager, *request.owner)
		case request.owner != nil:
			named = append(named, namedOwner{i, *request.owner, CauseManual})
		case m.config.OwnLeads == KeepOwnLeads && own != nil && state.member(*own) != nil:
			named = append(named, namedOwner{i, *own, CauseOwn})
		}
	}
	return named, nil
}

// giveNamed gives new leads, which have no owner yet, to their named owners. The
// caller holds the rotation's lock.
func (m *Manager) giveNamed(ctx context.Context, tx Tx, state Rotation, requests []*leadRequest, named []namedOwner) error {
	if len(named) == 0 {
		return nil
	}
	after, changes := state.clone(), make([]OwnerChange, len(named))
	for i, n := range named {
		if n.cause == CauseManual && m.config.ManualTakesTurn {
			policy.Charge(&after.State, n.id, m.now())
		}
		lead := requests[n.lead].customer
		changes[i] = OwnerChange{
			CustomerID: lead.ID, CustomerCreatedAt: lead.CreatedAt,
			To: &n.id, Cause: n.cause, By: requests[n.lead].actor.id(), At: m.after(lead.UpdatedAt),
		}
	}
	if after.Turn > state.Turn {
		if err := tx.SaveRotation(ctx, after); err != nil {
			return err
		}
	}
	assignments, err := tx.ChangeOwners(ctx, changes)
	if err != nil {
		return err
	}
	for i, n := range named {
		request := requests[n.lead]
		before, lead := request.customer, &request.customer
		lead.SalesManager, lead.Assignment, lead.UpdatedAt = state.person(n.id), &assignments[i], changes[i].At
		ctx := m.intakes.hookContext(ctx, request.requestID)
		if err := m.recordAssignments(ctx, tx, request.actor, []Customer{before}, []Customer{*lead}, n.cause); err != nil {
			return err
		}
	}
	return nil
}

// statusFor returns the status of a request's lead. Under leads:write:own that is the
// initial status, since otherwise the actor would choose the conversion rate.
func (m *Manager) statusFor(ctx context.Context, tx Tx, known map[string]string, request *leadRequest) (string, error) {
	status, err := m.statusOf(ctx, tx, known, request.in.StatusName)
	if err != nil || request.scope.own == nil || request.in.StatusName == "" {
		return status, err
	}
	initial, err := m.statusOf(ctx, tx, known, "")
	if err == nil && status != initial {
		err = invalid(FieldError{Field: "status_name", Rule: RuleChoice})
	}
	return status, err
}

// statusOf returns the status of a new customer. A batch looks up each name once.
func (m *Manager) statusOf(ctx context.Context, tx Tx, known map[string]string, name string) (string, error) {
	if status, ok := known[name]; ok {
		return status, nil
	}
	use := m.initialStatus
	if name != "" {
		use = func(ctx context.Context, tx Tx) (Status, error) { return m.useStatus(ctx, tx, name, "status_name") }
	}
	status, err := use(ctx, tx)
	if err == nil {
		known[name] = status.Name
	}
	return status.Name, err
}

const keyLifetime = 24 * time.Hour

// fingerprint returns a hash of the JSON form of an input. The form omits empty
// fields, so a field added later doesn't change stored fingerprints.
func fingerprint(input any) string {
	sum := sha256.Sum256(mustMarshal(input))
	return hex.EncodeToString(sum[:])
}

// keptCustomer is the result that is stored with an idempotency key.
type keptCustomer struct {
	Customer   Customer    `json:"customer"`
	Assignment *Assignment `json:"assignment"`
}

// claimKeys fills in the results of repeated and refused requests and returns the others.
func (m *Manager) claimKeys(ctx context.Context, tx Tx, requests []*leadRequest) ([]*leadRequest, error) {
	var fresh []*leadRequest
	type claim struct{ scope, key string }
	claimed := map[claim]*leadRequest{}
	for _, request := range requests {
		request.refused, request.repeats = nil, nil // of an attempt before
		if request.key.Key == "" {
			fresh = append(fresh, request)
			continue
		}
		this := claim{request.key.Scope, request.key.Key}
		if first := claimed[this]; first != nil {
			if first.key.Fingerprint == request.key.Fingerprint {
				request.repeats = first
			} else {
				request.refused = &Error{Kind: ErrKeyReused, Name: request.key.Key}
			}
			continue
		}
		request.key.At = m.now()
		kept, err := tx.ClaimKey(ctx, request.key, request.key.At.Add(-keyLifetime))
		switch {
		case err != nil:
			return nil, err
		case kept == nil:
			claimed[this] = request
			fresh = append(fresh, request)
		case kept.Fingerprint != request.key.Fingerprint:
			request.refused = &Error{Kind: ErrKeyReused, Name: request.key.Key}
		default:
			var answer keptCustomer
			if err := json.Unmarshal(kept.Result, &answer); err != nil {
				return nil, fmt.Errorf("cims: stored result of idempotency key %q: %w", request.key.Key, err)
			}
			request.customer = answer.Customer
			request.customer.Assignment = answer.Assignment
		}
	}
	return fresh, nil
}

func saveKeys(ctx context.Context, tx Tx, requests []*leadRequest) error {
	for _, request := range requests {
		if request.key.Key == "" {
			continue
		}
		request.key.Result = mustMarshal(keptCustomer{request.customer, request.customer.Assignment})
		if err := tx.SaveKey(ctx, request.key); err != nil {
			return err
		}
	}
	return nil
}

// saveTurns stores the state after decisions, and the number of leads that each sales
// manager gained by them.
func saveTurns(ctx context.Context, tx Tx, before, after Rotation, gained map[int64]int) error {
	if after.Turn == before.Turn {
		return nil // all of the leads wait
	}
	if err := tx.SaveRotation(ctx, after); err != nil {
		return err
	}
	return tx.CountLeads(ctx, gained)
}

// gained returns the number of leads that each sales manager gets.
func gained(leads []*Lead) map[int64]int {
	counts := map[int64]int{}
	for _, lead := range leads {
		if owner := lead.Customer.SalesManager; owner != nil {
			counts[owner.ID]++
		}
	}
	return counts
}
