package cims

import (
	"context"
	"iter"
	"slices"
	"time"
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

// EventKind tells the two histories of a customer apart.
type EventKind string

// The kinds of event.
const (
	StatusEvent     EventKind = "status"
	AssignmentEvent EventKind = "assignment"
)

// eventKinds in the order in which events of the same time are listed.
var eventKinds = []EventKind{StatusEvent, AssignmentEvent}

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
	return allPages(ctx, func(page PageRequest) (Page[Event], error) { return m.History(ctx, actor, customerID, page) })
}
