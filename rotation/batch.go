package rotation

import (
	"cmp"
	"slices"
	"time"
)

// Decide gives one lead to the member whose turn it is, and changes the state
// accordingly. Without a candidate the state stays as it is.
func (p Policy) Decide(state *State, lead Lead, now time.Time) Decision {
	return p.Batch(state, now).Decide(lead)
}

// Batch hands out any number of leads at one moment. Its decisions are those of
// Policy.Decide, one lead at a time. It asks the presence gates once for each
// member, and again for the member that has just got a lead.
//
// While a batch is in use, nothing else may change its state.
type Batch struct {
	policy     Policy
	now        time.Time
	ledger     ledger
	absent     []Skip    // never appended to in place: decisions share it
	candidates []*Member // for the latest lead; kept for its memory
}

// Batch returns a batch that hands out leads of the state. It changes the state
// only by leads that it gives to somebody.
func (p Policy) Batch(state *State, now time.Time) *Batch {
	b := &Batch{policy: p, now: now, ledger: ledger{State: state}}
	b.ledger.present = make([]*Member, 0, len(state.Members))
	for i := range state.Members {
		m := &state.Members[i]
		if closed, until := p.presence(m, now); closed != "" {
			b.absent = append(b.absent, Skip{m.ID, closed, until})
		} else {
			b.ledger.present = append(b.ledger.present, m)
		}
	}
	b.absent = slices.Clip(b.absent)
	return b
}

// Decide gives one lead to the member whose turn it is, and changes the state
// accordingly. Without a candidate the state stays as it is.
func (b *Batch) Decide(lead Lead) Decision {
	skipped := b.admit(lead)
	if len(b.candidates) == 0 {
		return Decision{Reason: Nobody, Skipped: skipped, Retry: earliest(skipped)}
	}
	m := b.ledger.give(b.candidates)
	b.askAgain(m)
	return Decision{Member: m.ID, Reason: Turn, Skipped: skipped}
}

// admit finds the candidates for a lead. It returns the other members.
func (b *Batch) admit(lead Lead) (skipped []Skip) {
	skipped, b.candidates = b.absent, b.candidates[:0]
	for _, m := range b.ledger.present {
		if closed := b.policy.candidacy(m, lead); closed != "" {
			skipped = append(skipped, Skip{Member: m.ID, Reason: closed})
		} else {
			b.candidates = append(b.candidates, m)
		}
	}
	return skipped
}

// askAgain lets a member go that the presence gates no longer let pass.
func (b *Batch) askAgain(m *Member) {
	closed, until := b.policy.presence(m, b.now)
	if closed == "" {
		return
	}
	b.ledger.leave(m)
	place, _ := slices.BinarySearchFunc(b.absent, m.ID, func(s Skip, id int64) int { return cmp.Compare(s.Member, id) })
	b.absent = slices.Clip(slices.Insert(slices.Clone(b.absent), place, Skip{m.ID, closed, until}))
}

// earliest returns the first time at which a gate may open.
func earliest(skipped []Skip) time.Time {
	var first time.Time
	for _, s := range skipped {
		if first.IsZero() || !s.Until.IsZero() && s.Until.Before(first) {
			first = s.Until
		}
	}
	return first
}
