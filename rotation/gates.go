package rotation

import (
	"slices"
	"time"
)

// Gate says whether a member is present. The reason "" lets it pass. Any other
// keeps it away, until the returned time at the earliest; a zero time means that
// only a change of the member can let it pass.
//
// A gate must not change the member, nor look at its Credit, LastTurn and
// Present, which are the ledger's.
type Gate func(m *Member, now time.Time) (closed Reason, until time.Time)

// LeadGate says whether a present member is a candidate for a lead. The reason
// "" lets it pass. Any other keeps it away until the lead or the member changes.
type LeadGate func(m *Member, lead Lead) (closed Reason)

// Policy says who may get a lead.
type Policy struct {
	Presence []Gate     // a member that passes all of them is present
	Lead     []LeadGate // a present member that passes all of them is a candidate

	// Uniform allows whole rounds, see Round. It promises two things. Time and
	// leads that are given change no answer of Presence. And Lead lets everybody
	// pass for a lead without exclusions. So a policy with a gate for working
	// hours or limits is not uniform.
	Uniform bool
}

// Default is the policy of cims: every member gets leads that isn't paused and
// isn't excluded from the lead.
var Default = Policy{
	Presence: []Gate{NotPaused},
	Lead:     []LeadGate{NotExcluded},
	Uniform:  true,
}

// Reasons of the gates of Default.
const (
	Paused   Reason = "paused"   // the member gets no leads for now
	Excluded Reason = "excluded" // the lead may not go to this member
)

// NotPaused is the presence gate that keeps paused members away.
func NotPaused(m *Member, _ time.Time) (Reason, time.Time) {
	if m.Paused {
		return Paused, time.Time{}
	}
	return "", time.Time{}
}

// NotExcluded is the lead gate that keeps away those whom the lead excludes.
func NotExcluded(m *Member, lead Lead) Reason {
	if slices.Contains(lead.Excluded, m.ID) {
		return Excluded
	}
	return ""
}

// Present returns the members that are present.
func (p Policy) Present(state State, now time.Time) []Member {
	var present []Member
	for i := range state.Members {
		if closed, _ := p.presence(&state.Members[i], now); closed == "" {
			present = append(present, state.Members[i])
		}
	}
	return present
}

// AnyPresent reports whether a member is present.
func (p Policy) AnyPresent(state State, now time.Time) bool {
	for i := range state.Members {
		if closed, _ := p.presence(&state.Members[i], now); closed == "" {
			return true
		}
	}
	return false
}

// presence asks the presence gates until one is closed.
func (p *Policy) presence(m *Member, now time.Time) (closed Reason, until time.Time) {
	for _, gate := range p.Presence {
		if closed, until = gate(m, now); closed != "" {
			return closed, until
		}
	}
	return "", time.Time{}
}

// candidacy asks the lead gates until one is closed.
func (p *Policy) candidacy(m *Member, lead Lead) (closed Reason) {
	for _, gate := range p.Lead {
		if closed = gate(m, lead); closed != "" {
			return closed
		}
	}
	return ""
}
