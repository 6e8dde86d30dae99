package rotation

import "time"

// Round returns the members that get the leads of one whole round, in order:
// each present member as often as its weight says, interleaved as from rest. A
// round leaves all credits as they are, since every member gets its exact share.
// So an import may deal rounds before it holds the state's lock, as long as the
// same members are present with the same weights when SkipRounds takes note.
//
// Round returns nil if nobody is present, or if the policy isn't uniform.
func (p Policy) Round(state State, now time.Time) []int64 {
	if !p.Uniform {
		return nil
	}
	rest := State{Turn: state.Turn, Members: p.Present(state, now)}
	leads := 0
	for i := range rest.Members {
		m := &rest.Members[i]
		m.Credit, m.Present = 0, m.Weight
		leads += m.Weight
	}
	batch := p.Batch(&rest, now)
	round := make([]int64, leads)
	for i := range round {
		round[i] = batch.Decide(Lead{}).Member
	}
	return round
}

// SkipRounds changes the state as n rounds do. LastTurn of each present member
// rises by as much as Turn does, so that nobody's place changes.
func (p Policy) SkipRounds(state *State, n int64, now time.Time) {
	l := &p.Batch(state, now).ledger
	if n == 0 || len(l.present) == 0 {
		return
	}
	l.settle()
	_, weights := sums(l.present)
	l.Turn += n * weights
	for _, m := range l.present {
		m.LastTurn += n * weights
		m.Leads += int(n) * m.Weight
	}
}
