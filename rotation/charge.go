package rotation

import (
	"slices"
	"time"
)

// Charge makes a member pay for a lead that it got by hand, as if it had been
// its turn: the credit of everybody present rises by its share, and the member,
// present or not, pays one lead. An id that is no member's changes nothing.
func (p Policy) Charge(state *State, id int64, now time.Time) {
	i := slices.IndexFunc(state.Members, func(m Member) bool { return m.ID == id })
	if i < 0 {
		return
	}
	l := &p.Batch(state, now).ledger
	l.settle()
	_, weights := sums(l.present)
	l.accrue(l.present, weights)
	l.pay(&state.Members[i])
}
