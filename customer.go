package cims

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Customer is a lead, and what becomes of it.
type Customer struct {
	ID          int64
	FullName    string
	PhoneNumber string // this and the following three: empty for none
	Platform    string // where the lead came from
	Username    string // the lead's name there
	Notes       string
	StatusName  string
	CreatedAt   time.Time
	UpdatedAt   time.Time

	SalesManager *Person     // nil while it waits for one
	Assignment   *Assignment // nil likewise
}

// NewCustomer is the input of AddCustomer. Only FullName is required.
type NewCustomer struct {
	FullName    string // 1 to 500 characters
	PhoneNumber string // up to 50
	Platform    string // up to 255
	Username    string // up to 255
	Notes       string // up to 10,000
	StatusName  string // an active status; empty for Config.InitialStatus

	// IdempotencyKey, 1 to 255 visible ASCII characters, makes a repetition
	// harmless: the same actor's call with the same key and input within 24
	// hours returns the first one's answer and stores nothing.
	IdempotencyKey string `json:"-"`
}

const keyLifetime = 24 * time.Hour

// Cause says how a change came about.
type Cause string

// The causes.
const (
	CauseCreated       Cause = "created"       // the customer was added
	CauseManual        Cause = "manual"        // somebody did it
	CauseAutomatic     Cause = "automatic"     // the rotation did it
	CauseRedistributed Cause = "redistributed" // the rotation did it, since the owner left
	CauseMoved         Cause = "moved"         // the status was deleted
	CauseMigrated      Cause = "migrated"      // it was so before this library came
	CauseExternal      Cause = "external"      // another program did it
)

// EventKind tells the two histories of a customer apart.
type EventKind string

// The kinds of event.
const (
	StatusEvent     EventKind = "status"
	AssignmentEvent EventKind = "assignment"
)

// Event is one thing that happened to a customer.
type Event struct {
	ID   int64     // unique within its kind
	At   time.Time // never before the event before it, whatever clocks do
	Kind EventKind

	FromStatus, ToStatus   string // of a StatusEvent; From is empty for the first
	FromManager, ToManager *int64 // of an AssignmentEvent; nil for nobody

	By     *int64 // the user who did it; nil for the rotation and for System
	Cause  Cause
	Reason string
	Owner  *int64 // the sales manager at that moment
}

// PageRequest asks for a part of a list.
type PageRequest struct {
	Limit  int    // 1 to 200; 0 means 50
	Cursor string // Page.Next of the part before; empty for the first
}

// Page is a part of a list.
type Page[T any] struct {
	Items []T
	Next  string // the cursor of the next part; empty at the end
}

const (
	defaultLimit = 50
	maxLimit     = 200
)

// page checks a page request and reads its cursor, if it has one.
func (c *checks) page(page PageRequest, kind byte, numbers int) []int64 {
	if page.Limit != 0 {
		c.between("limit", page.Limit, 1, maxLimit)
	}
	if page.Cursor == "" {
		return nil
	}
	cursor, ok := decodeCursor(kind, numbers, page.Cursor)
	if !ok {
		c.add("cursor", RuleFormat)
	}
	return cursor
}

// paginate asks for one more than the page holds, to know whether it is the last.
func paginate[T any](page PageRequest, list func(limit int) ([]T, error), cursor func(T) string) (Page[T], error) {
	limit := page.Limit
	if limit == 0 {
		limit = defaultLimit
	}
	items, err := list(limit + 1)
	if err != nil || len(items) <= limit {
		return Page[T]{Items: items}, err
	}
	return Page[T]{Items: items[:limit], Next: cursor(items[limit-1])}, nil
}

// every ranges over a list, page after page, with no more than one in memory.
// After an error, which may be the context's, it ends.
func every[T any](ctx context.Context, list func(PageRequest) (Page[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		for page := (PageRequest{Limit: maxLimit}); ; {
			part, err := list(page)
			if err != nil {
				yield(none, err)
				return
			}
			for _, item := range part.Items {
				if err := ctx.Err(); err != nil {
					yield(none, &Error{Kind: ErrUnavailable, Err: err})
					return
				}
				if !yield(item, nil) {
					return
				}
			}
			if part.Next == "" {
				return
			}
			page.Cursor = part.Next
		}
	}
}

// A cursor is opaque to callers: the list's letter and the numbers that place
// its last item.
func encodeCursor(kind byte, numbers ...int64) string {
	text := []byte{kind}
	for _, n := range numbers {
		text = strconv.AppendInt(append(text, '.'), n, 10)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func decodeCursor(kind byte, count int, cursor string) ([]int64, bool) {
	if len(cursor) > 100 {
		return nil, false
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil {
		return nil, false
	}
	parts := strings.Split(string(text), ".")
	if parts[0] != string(kind) || len(parts) != count+1 {
		return nil, false
	}
	numbers := make([]int64, count)
	for i := range numbers {
		if numbers[i], err = strconv.ParseInt(parts[i+1], 10, 64); err != nil {
			return nil, false
		}
	}
	return numbers, encodeCursor(kind, numbers...) == cursor // no other text stands for the same
}

// microTime reads a time out of a cursor and refuses what no database holds.
func microTime(micros int64) (time.Time, bool) {
	t := time.UnixMicro(micros).UTC()
	return t, t.Year() >= 1 && t.Year() <= 9999
}

// AddCustomer stores a new lead and gives it its sales manager at once, by the
// rotation. When no sales manager is active it is stored all the same, and
// waits for the first one. It needs leads:write or leads:write:own. It returns
// ErrInvalid, or ErrKeyReused for an idempotency key that was used with other
// input.
func (m *Manager) AddCustomer(ctx context.Context, actor Actor, in NewCustomer) (Customer, error) {
	if _, err := actor.leads(LeadsWrite, LeadsWriteOwn); err != nil {
		return Customer{}, err
	}
	request, err := newIntake(actor, in)
	if err != nil {
		return Customer{}, err
	}
	request.requestID = RequestID(ctx)
	if err := m.intakes.do(ctx, request); err != nil {
		return Customer{}, err
	}
	return request.customer, nil
}

func newIntake(actor Actor, in NewCustomer) (*intake, error) {
	var check checks
	request := &intake{actor: actor, in: Customer{
		FullName:    check.line("full_name", in.FullName, 1, 500),
		PhoneNumber: check.line("phone_number", in.PhoneNumber, 0, 50),
		Platform:    check.line("platform", in.Platform, 0, 255),
		Username:    check.line("username", in.Username, 0, 255),
		Notes:       check.lines("notes", in.Notes, 10_000),
		StatusName:  normalName(in.StatusName),
	}}
	if in.IdempotencyKey != "" {
		request.key = Key{
			Scope:       actor.scope() + " customers",
			Key:         check.key("idempotency_key", in.IdempotencyKey),
			Fingerprint: fingerprint(request.in),
		}
	}
	return request, check.err()
}

func (c *checks) key(field, key string) string {
	if len(key) > 255 {
		*c = append(*c, FieldError{Field: field, Rule: RuleLength, Min: 1, Max: 255})
	} else if strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		c.add(field, RuleText)
	}
	return key
}

// fingerprint tells inputs apart without keeping them.
func fingerprint(in Customer) string {
	text, err := json.Marshal(in)
	if err != nil {
		panic(fmt.Sprintf("cims: a customer is always marshalable: %v", err))
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func (c Customer) owner() *int64 {
	if c.SalesManager == nil {
		return nil
	}
	return new(c.SalesManager.ID)
}

// Customer returns one customer with its sales manager and assignment. It needs
// leads:read or, for the actor's own, leads:read:own. It returns ErrNotFound.
func (m *Manager) Customer(ctx context.Context, actor Actor, id int64) (Customer, error) {
	reach, err := actor.leads(LeadsRead, LeadsReadOwn)
	if err != nil {
		return Customer{}, err
	}
	customer, err := m.storage.Customer(ctx, id)
	if err != nil {
		return Customer{}, err
	}
	if !reach.covers(customer) {
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
	reach, err := actor.leads(LeadsRead, LeadsReadOwn)
	if err != nil {
		return Page[Customer]{}, err
	}
	query, err := m.customerQuery(ctx, filter, page)
	if err != nil {
		return Page[Customer]{}, err
	}
	if reach.own != nil {
		others := filter.SalesManagerID != nil && *filter.SalesManagerID != *reach.own
		if others || filter.Unassigned {
			return Page[Customer]{Items: []Customer{}}, nil
		}
		query.SalesManagerID = reach.own
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
	return every(ctx, func(page PageRequest) (Page[Customer], error) { return m.Customers(ctx, actor, filter, page) })
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

func (m *Manager) knownStatus(ctx context.Context, name string) (bool, error) {
	statuses, err := m.storage.Statuses(ctx)
	return slices.ContainsFunc(statuses, func(s Status) bool { return s.Name == name }), err
}

// SetStatus puts a customer into an active status, with history; into the one
// that it is in already changes nothing. Reason, up to 2000 characters, may be
// empty. It needs leads:write or, for the actor's own, leads:write:own. It
// returns ErrNotFound or ErrInvalid.
func (m *Manager) SetStatus(ctx context.Context, actor Actor, customerID int64, status, reason string) (Customer, error) {
	reach, err := actor.leads(LeadsWrite, LeadsWriteOwn)
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
		if customer, err = lockCustomer(ctx, tx, reach, customerID); err != nil {
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
		told := change.change(customer)
		customer.StatusName, customer.UpdatedAt = change.To, change.At
		if err := tx.ChangeStatuses(ctx, []StatusChange{change}); err != nil {
			return err
		}
		return m.tell(ctx, tx, actor, told)
	})
	return orZero(customer, err)
}

// change is what to tell of it.
func (c StatusChange) change(before Customer) Change {
	after := before
	after.StatusName, after.UpdatedAt = c.To, c.At
	return Change{
		Action: ActionStatus, Entity: EntityCustomer, EntityID: c.CustomerID,
		Before: before, After: after, At: c.At, Cause: c.Cause, Reason: c.Reason,
	}
}

// lockCustomer locks a customer that is within reach. ErrNotFound.
func lockCustomer(ctx context.Context, tx Tx, reach reach, id int64) (Customer, error) {
	customers, err := tx.LockCustomers(ctx, []int64{id})
	if err != nil {
		return Customer{}, err
	}
	if len(customers) == 0 || !reach.covers(customers[0]) {
		return Customer{}, notFound(EntityCustomer, id)
	}
	return customers[0], nil
}

// History lists what happened to a customer, oldest first. It needs leads:read
// or, for the actor's own, leads:read:own. It returns ErrNotFound, or
// ErrInvalid for a malformed page request.
func (m *Manager) History(ctx context.Context, actor Actor, customerID int64, page PageRequest) (Page[Event], error) {
	query := HistoryQuery{CustomerID: customerID}
	var check checks
	cursor := check.page(page, 'h', 4)
	if _, err := m.Customer(ctx, actor, customerID); err != nil {
		return Page[Event]{}, err
	}
	if cursor != nil {
		at, ok := microTime(cursor[0])
		if !ok || cursor[1] < 0 || cursor[1] >= int64(len(eventKinds)) || cursor[3] != customerID {
			check.add("cursor", RuleFormat)
		} else {
			query.After = &EventPosition{At: at, Kind: eventKinds[cursor[1]], ID: cursor[2]}
		}
	}
	if err := check.err(); err != nil {
		return Page[Event]{}, err
	}
	return paginate(page, func(limit int) ([]Event, error) {
		query.Limit = limit
		return m.storage.History(ctx, query)
	}, func(e Event) string {
		return encodeCursor('h', e.At.UnixMicro(), int64(slices.Index(eventKinds, e.Kind)), e.ID, customerID)
	})
}

// AllHistory ranges over all that History lists, as AllCustomers does.
func (m *Manager) AllHistory(ctx context.Context, actor Actor, customerID int64) iter.Seq2[Event, error] {
	return every(ctx, func(page PageRequest) (Page[Event], error) { return m.History(ctx, actor, customerID, page) })
}

// eventKinds in the order in which events of the same time are listed.
var eventKinds = []EventKind{StatusEvent, AssignmentEvent}
