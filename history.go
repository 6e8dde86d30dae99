package cims

import (
	"context"
	"iter"
	"slices"
	"time"
)

// Event is a change in the history of a customer.
type Event struct {
	ID   int64     // unique among the events of its kind
	At   time.Time // never before that of the event before, even if a clock is set back
	Kind EventKind

	FromStatus, ToStatus   string // for a StatusEvent; FromStatus is empty for the first
	FromManager, ToManager *int64 // for an AssignmentEvent; nil for no sales manager

	By     *int64 // id of the acting user; nil for the rotation and for System
	Cause  Cause
	Reason string // of a change of status; the text of a NoteEvent
	Owner  *int64 // the owner at that time
}

// EventKind is the kind of an Event.
type EventKind string

// Kinds of events.
const (
	StatusEvent     EventKind = "status"
	AssignmentEvent EventKind = "assignment"
	NoteEvent       EventKind = "note" // SetStatus kept a reason without a change
)

// asNote makes a status event that changes nothing a note. A Storage keeps notes as
// such events.
func (e Event) asNote() Event {
	if e.Kind == StatusEvent && e.FromStatus == e.ToStatus {
		e.Kind, e.FromStatus, e.ToStatus = NoteEvent, "", ""
	}
	return e
}

// eventKinds has the kinds that a Storage keeps, in the order of events of the same time.
var eventKinds = []EventKind{StatusEvent, AssignmentEvent}

// Cause is the cause of a change of a customer.
type Cause string

// Causes of changes.
const (
	CauseCreated       Cause = "created"       // the customer was added
	CauseManual        Cause = "manual"        // a user or trusted code did it
	CauseAutomatic     Cause = "automatic"     // the rotation assigned the customer
	CauseRedistributed Cause = "redistributed" // the rotation assigned the customer, since the owner left
	CauseOwn           Cause = "own"           // a sales manager added the customer and keeps it
	CauseMoved         Cause = "moved"         // the status was deleted
	CauseMigrated      Cause = "migrated"      // the entry describes the time before cims was installed
	CauseExternal      Cause = "external"      // another program did it
)

// History returns a page of a customer's history, oldest events first. It needs
// leads:read or, for the actor's own leads, leads:read:own. It returns ErrNotFound
// for an unknown customer, and ErrInvalid for a malformed page request.
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
	part, err := paginate(page, func(limit int) ([]Event, error) {
		query.Limit = limit
		return m.storage.History(ctx, query)
	}, func(e Event) string {
		return encodeCursor('h', e.At.UnixMicro(), int64(slices.Index(eventKinds, e.Kind)), e.ID, customerID)
	})
	for i, event := range part.Items {
		part.Items[i] = event.asNote()
	}
	return part, err
}

// AllHistory returns an iterator over all events that History lists. It works as
// AllCustomers does.
func (m *Manager) AllHistory(ctx context.Context, actor Actor, customerID int64) iter.Seq2[Event, error] {
	return allPages(ctx, func(page PageRequest) (Page[Event], error) { return m.History(ctx, actor, customerID, page) })
}
