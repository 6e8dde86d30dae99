package rotation_test

import (
	"math/big"
	"slices"

	"github.com/cimskit/cims/rotation"
)

// model is the ledger once more, written for likeness to its description: one
// lead at a time, in numbers without bounds, with nothing kept or combined.
type model struct {
	turn    int64
	members []*modelMember // in the order of their IDs
}

type modelMember struct {
	rotation.Member // all but Credit holds
	credit          *big.Int
}

func modelOf(state rotation.State) *model {
	m := &model{turn: state.Turn}
	for _, member := range state.Members {
		m.members = append(m.members, &modelMember{member, big.NewInt(member.Credit)})
	}
	return m
}

func (m *model) state() rotation.State {
	state := rotation.State{Turn: m.turn}
	for _, member := range m.members {
		if !member.credit.IsInt64() {
			panic("a credit is out of bounds")
		}
		member.Credit = member.credit.Int64()
		state.Members = append(state.Members, member.Member)
	}
	return state
}

// decide returns who gets a lead, 0 for nobody.
func (m *model) decide(lead rotation.Lead) int64 {
	var present, candidates []*modelMember
	for _, member := range m.members {
		if member.Paused {
			continue
		}
		present = append(present, member)
		if !slices.Contains(lead.Excluded, member.ID) {
			candidates = append(candidates, member)
		}
	}
	if len(candidates) == 0 {
		return 0
	}
	m.clamp(present)
	m.level()
	owed, weights := total(candidates)
	rise(candidates)
	var first *modelMember
	for _, c := range candidates {
		if times(c.credit, weights).Cmp(times(owed, big.NewInt(int64(c.Weight)))) <= 0 {
			continue
		}
		if first == nil || sooner(c, first) {
			first = c
		}
	}
	m.pay(first, present)
	return first.ID
}

// charge lets a member pay for a lead that it got by hand.
func (m *model) charge(id int64) {
	var present []*modelMember
	for _, member := range m.members {
		if !member.Paused {
			present = append(present, member)
		}
	}
	m.clamp(present)
	m.level()
	rise(present)
	for _, member := range m.members {
		if member.ID == id {
			m.pay(member, present)
		}
	}
}

func (m *model) clamp(present []*modelMember) {
	var settled, coming []*modelMember
	for _, member := range present {
		if member.Present == member.Weight {
			settled = append(settled, member)
		} else {
			coming = append(coming, member)
		}
	}
	lead := big.NewInt(rotation.Unit)
	distance := new(big.Int).Sub(lead, new(big.Int).Div(lead, big.NewInt(1024)))
	for _, member := range coming {
		var low, high *big.Int
		for _, other := range settled {
			if other.Weight != member.Weight {
				continue
			}
			if l := new(big.Int).Sub(other.credit, distance); low == nil || l.Cmp(low) > 0 {
				low = l
			}
			if h := new(big.Int).Add(other.credit, distance); high == nil || h.Cmp(high) < 0 {
				high = h
			}
		}
		switch {
		case low == nil:
		case low.Cmp(high) > 0:
			member.credit = new(big.Int).Div(new(big.Int).Add(low, high), big.NewInt(2))
		case member.credit.Cmp(low) < 0:
			member.credit = low
		case member.credit.Cmp(high) > 0:
			member.credit = high
		}
		settled = append(settled, member)
	}
}

func (m *model) level() {
	credits, weights := total(m.members)
	share := new(big.Int).Div(credits, weights) // rounds down
	for _, member := range m.members {
		member.credit = new(big.Int).Sub(member.credit, times(share, big.NewInt(int64(member.Weight))))
	}
}

func rise(candidates []*modelMember) {
	_, weights := total(candidates)
	for _, c := range candidates {
		share := times(big.NewInt(rotation.Unit), big.NewInt(int64(c.Weight)))
		c.credit = new(big.Int).Add(c.credit, share.Div(share, weights))
	}
}

func (m *model) pay(payer *modelMember, present []*modelMember) {
	m.turn++
	payer.credit = new(big.Int).Sub(payer.credit, big.NewInt(rotation.Unit))
	payer.LastTurn = m.turn
	payer.Leads++
	for _, member := range m.members {
		member.Present = 0
	}
	for _, member := range present {
		member.Present = member.Weight
	}
}

// sooner reports whether a goes before b.
func sooner(a, b *modelMember) bool {
	left := func(m *modelMember) *big.Rat {
		return new(big.Rat).SetFrac(new(big.Int).Sub(big.NewInt(rotation.Unit), m.credit), big.NewInt(int64(m.Weight)))
	}
	if order := left(a).Cmp(left(b)); order != 0 {
		return order < 0
	}
	if a.Weight != b.Weight {
		return a.Weight > b.Weight
	}
	if a.LastTurn != b.LastTurn {
		return a.LastTurn < b.LastTurn
	}
	return a.ID < b.ID
}

func total(members []*modelMember) (credits, weights *big.Int) {
	credits, weights = new(big.Int), new(big.Int)
	for _, m := range members {
		credits.Add(credits, m.credit)
		weights.Add(weights, big.NewInt(int64(m.Weight)))
	}
	return credits, weights
}

func times(a, b *big.Int) *big.Int { return new(big.Int).Mul(a, b) }
