package rotation

import "slices"

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

// give gives a lead to one of the candidates, which are present members, and
// returns that one.
func (l *ledger) give(candidates []*Member) *Member {
	l.settle()
	owed, weights := sums(candidates)
	l.accrue(candidates, weights)
	m := next(candidates, owed, weights)
	l.pay(m)
	return m
}

// settle clamps credits and marks the present members, if it hasn't yet, and
// levels. It does so as late as possible: a lead that waits changes nothing.
func (l *ledger) settle() {
	if !l.settled {
		clamp(l.present)
		l.mark()
		l.settled = true
	}
	l.level()
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

// mark notes in the state who is present, and sums up.
func (l *ledger) mark() {
	l.credits, l.weights = 0, 0
	for i := range l.Members {
		m := &l.Members[i]
		m.Present = 0
		l.credits += m.Credit
		l.weights += int64(m.Weight)
	}
	for _, m := range l.present {
		m.Present = m.Weight
	}
}

// level moves the credits of all members, present or not, in proportion to
// their weights, so that they sum to less than one unit for each of weight.
func (l *ledger) level() {
	excess := floor(l.credits, l.weights)
	if excess == 0 {
		return
	}
	for i := range l.Members {
		m := &l.Members[i]
		m.Credit -= excess * int64(m.Weight)
	}
	l.credits -= excess * l.weights
}

// sums returns the sums of the members' credits and weights.
func sums(members []*Member) (credits, weights int64) {
	for _, m := range members {
		credits += m.Credit
		weights += int64(m.Weight)
	}
	return credits, weights
}

// accrue raises each candidate's credit by its share of one lead.
func (l *ledger) accrue(candidates []*Member, weights int64) {
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
