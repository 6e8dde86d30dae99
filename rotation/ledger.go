package rotation

import (
	"math/bits"
	"slices"
	"time"
)

// closeness is how far apart a clamp leaves the credits of two members of one
// weight. It is less than a lead, since shares are rounded.
const closeness = Unit - Unit/1024

// ledger keeps the credits of a state, for members that are present at one
// moment.
type ledger struct {
	*State
	present []*Member

	settled bool  // the state tells who is present, and the sums below hold
	credits int64 // the sum of all members' credits
	weights int64 // the sum of all members' weights
}

// give gives a lead to one of the candidates, some of the present members, and
// returns which.
func (l *ledger) give(candidates []*Member) *Member {
	l.settle()
	owed, weights := sums(candidates)
	l.credit(candidates, weights)
	m := next(candidates, owed, weights)
	l.pay(m)
	return m
}

// settle clamps the credits of present members that were absent or of another
// weight, and notes who is present. Then it levels: the credits of all members,
// present or not, fall or rise by their weight, until they sum to zero or to
// less than the sum of weights.
func (l *ledger) settle() {
	if !l.settled {
		clamp(l.present)
		for i := range l.Members {
			l.Members[i].Present = 0
		}
		for _, m := range l.present {
			m.Present = m.Weight
		}
		l.credits, l.weights = 0, 0
		for i := range l.Members {
			l.credits += l.Members[i].Credit
			l.weights += int64(l.Members[i].Weight)
		}
		l.settled = true
	}
	if excess := floor(l.credits, l.weights); excess != 0 {
		for i := range l.Members {
			l.Members[i].Credit -= excess * int64(l.Members[i].Weight)
		}
		l.credits -= excess * l.weights
	}
}

// clamp moves the credits of members that were absent or of another weight as
// little as possible, so that each is close to those of its weight that were
// present or have been clamped before. Where both bounds can't be met it takes
// their middle.
func clamp(present []*Member) {
	if !slices.ContainsFunc(present, changed) {
		return
	}
	type bounds struct{ low, high int64 }
	within := map[int]bounds{} // by weight
	narrow := func(m *Member) {
		b := bounds{m.Credit - closeness, m.Credit + closeness}
		if known, ok := within[m.Weight]; ok {
			b = bounds{max(b.low, known.low), min(b.high, known.high)}
		}
		within[m.Weight] = b
	}
	for _, m := range present {
		if !changed(m) {
			narrow(m)
		}
	}
	for _, m := range present {
		if !changed(m) {
			continue
		}
		if b, ok := within[m.Weight]; ok && b.low <= b.high {
			m.Credit = min(max(m.Credit, b.low), b.high)
		} else if ok {
			m.Credit = floor(b.low+b.high, 2)
		}
		narrow(m)
	}
}

// changed reports whether a present member was absent at the latest decision,
// or had another weight.
func changed(m *Member) bool { return m.Present != m.Weight }

// sums returns the sums of the members' credits and weights.
func sums(members []*Member) (credits, weights int64) {
	for _, m := range members {
		credits += m.Credit
		weights += int64(m.Weight)
	}
	return credits, weights
}

// credit raises each candidate's credit by its share of one lead.
func (l *ledger) credit(candidates []*Member, weights int64) {
	weight, share := 0, int64(0)
	for _, m := range candidates {
		if m.Weight != weight {
			weight, share = m.Weight, Unit*int64(m.Weight)/weights
		}
		m.Credit += share
		l.credits += share
	}
}

// next returns the candidate whose turn it is: of those owed more than their
// part of what all were owed, the first that would be owed a whole lead.
func next(candidates []*Member, owed, weights int64) *Member {
	var first *Member
	for _, m := range candidates {
		if less(owed, int64(m.Weight), m.Credit, weights) && (first == nil || before(m, first)) {
			first = m
		}
	}
	return first
}

// before reports whether a member would be owed a whole lead before another
// that has a lower ID. If at the same time, the higher weight comes first, then
// the member that got its latest lead earlier.
func before(m, other *Member) bool {
	left, otherLeft := Unit-m.Credit, Unit-other.Credit
	if m.Weight == other.Weight {
		return left < otherLeft || left == otherLeft && m.LastTurn < other.LastTurn
	}
	if less(left, int64(other.Weight), otherLeft, int64(m.Weight)) {
		return true
	}
	return m.Weight > other.Weight && !less(otherLeft, int64(m.Weight), left, int64(other.Weight))
}

// pay takes one lead of credit from the member that gets one.
func (l *ledger) pay(m *Member) {
	l.Turn++
	m.LastTurn = l.Turn
	m.Leads++
	m.Credit -= Unit
	l.credits -= Unit
}

// leave makes a present member absent from the next lead on.
func (l *ledger) leave(m *Member) {
	l.present = slices.DeleteFunc(l.present, func(p *Member) bool { return p == m })
	l.settled = false
}

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
	l.credit(l.present, weights)
	l.pay(&state.Members[i])
}

// floor returns the quotient of a and a positive b, rounded down.
func floor(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// less reports whether a×b is less than c×d, for b and d that aren't negative.
func less(a, b, c, d int64) bool {
	high1, low1 := product(a, b)
	high2, low2 := product(c, d)
	return high1 < high2 || high1 == high2 && low1 < low2
}

// product returns a×b in 128 bits, for a b that isn't negative.
func product(a, b int64) (high int64, low uint64) {
	h, low := bits.Mul64(uint64(a), uint64(b))
	return int64(h) - a>>63&b, low // of a below zero, Mul64 took 2^64 too many
}
