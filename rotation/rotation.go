package rotation

import "time"

// Unit is one lead in the integers of credits. Its 2^20 × 720720 parts are
// enough to divide it by any sum of weights up to 16 without a remainder, and by
// any other with a remainder of no account.
const Unit = 720720 << 20

// State is what decisions depend on, and what they change.
type State struct {
	Turn    int64    // leads that the rotation ever gave to somebody
	Members []Member // in the order of their IDs
}

// Member is a sales manager's place in the rotation. A new one has an ID, a
// Weight and zeros.
type Member struct {
	ID       int64
	Weight   int   // 1 or more: of weight 2 it is owed twice the leads of weight 1
	Paused   bool  // gets no leads
	Leads    int   // that it owns; a lead that it gets is added
	Credit   int64 // in units of 1/Unit lead: above zero owed, below zero ahead
	LastTurn int64 // State.Turn of the latest lead it got; 0 before the first
	Present  int   // the weight it was present with when the latest lead was given; 0: it was absent
}

// Lead is what lead gates may look at.
type Lead struct {
	Excluded []int64 // members that may not get it
}

// Reason says why a lead went where it did, or why a gate is closed.
type Reason string

// Reasons of a Decision.
const (
	Turn   Reason = "turn"   // it was the member's turn
	Nobody Reason = "nobody" // there is no candidate: the lead waits
)

// Decision says who gets a lead.
type Decision struct {
	Member int64  // 0 with the reason Nobody
	Reason Reason // Turn or Nobody
	// Skipped lists the members that a gate kept from the lead: first the
	// absent ones, then those that are no candidates, each in the order of
	// their IDs. Decisions may share it: it must not be changed.
	Skipped []Skip
	// Retry is the earliest time at which a lead that waits may find a
	// candidate, if nothing but the time changes. It is zero if none is known,
	// and if somebody got the lead.
	Retry time.Time
}

// Skip says which gate kept a member from a lead.
type Skip struct {
	Member int64
	Reason Reason    // of the first gate that was closed
	Until  time.Time // when that gate may open; zero if only a change can open it
}
