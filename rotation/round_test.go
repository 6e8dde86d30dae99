package rotation_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/cimskit/cims/rotation"
)

func TestRound(t *testing.T) {
	t.Parallel()
	require.Equal(t, []int64{1, 2, 1, 3}, rotation.Default.Round(atRest(2, 1, 1), now))
	require.Empty(t, rotation.Default.Round(rotation.State{}, now))

	// Among equals the member that has waited longest begins.
	state := atRest(1, 1, 1)
	decide(&state, 4)
	before := clone(state)
	require.Equal(t, []int64{2, 3, 1}, rotation.Default.Round(state, now))
	require.Equal(t, before, state)

	state.Members[2].Paused = true
	require.Equal(t, []int64{2, 1}, rotation.Default.Round(state, now))
}

// TestRoundGivesEverybodyItsWeight for all pairs of weights, and for teams.
func TestRoundGivesEverybodyItsWeight(t *testing.T) {
	t.Parallel()
	for a := 1; a <= 100; a++ {
		for b := 1; b <= 100; b++ {
			round := rotation.Default.Round(atRest(a, b), now)
			require.Len(t, round, a+b)
			require.Equal(t, a, count(round, 1), "%d and %d: %v", a, b, round)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		state := anyState(t)
		round, leads := rotation.Default.Round(state, now), 0
		for _, m := range state.Members {
			if !m.Paused {
				require.Equal(t, m.Weight, count(round, m.ID), "%+v in %v", m, round)
				leads += m.Weight
			}
		}
		require.Len(t, round, leads)
	})
}

// TestSkipRoundsKeepsPlaces compares a team that was dealt rounds in advance
// with one that wasn't: the same leads come next.
func TestSkipRoundsKeepsPlaces(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		state := anyState(t)
		n := rapid.Int64Range(1, 1000).Draw(t, "rounds")
		dealt := clone(state)
		rotation.Default.SkipRounds(&dealt, n, now)
		model := modelOf(state)
		leads := n * int64(len(rotation.Default.Round(state, now)))
		require.Equal(t, state.Turn+leads, dealt.Turn)
		for i, m := range state.Members {
			if !m.Paused {
				m.LastTurn += leads
				m.Leads += int(n) * m.Weight
			}
			require.Equal(t, m.LastTurn, dealt.Members[i].LastTurn)
			require.Equal(t, m.Leads, dealt.Members[i].Leads)
		}
		for range 30 {
			lead := anyLead(t)
			require.Equal(t, model.decide(lead), rotation.Default.Decide(&dealt, lead, now).Member)
		}
		for i, m := range model.state().Members {
			require.Equal(t, m.Credit, dealt.Members[i].Credit)
			require.Equal(t, m.Present, dealt.Members[i].Present)
		}
	})
}

// TestSkipRoundsIsDealing a round by decisions, from rest.
func TestSkipRoundsIsDealing(t *testing.T) {
	t.Parallel()
	for _, weights := range [][]int{{1}, {1, 1, 1}, {2, 1, 1}, {3, 1, 1, 1}, {10, 1, 1, 1, 1, 1}, {5, 5, 3, 2}} {
		decided, dealt := atRest(weights...), atRest(weights...)
		for range 3 {
			require.Equal(t, rotation.Default.Round(dealt, now), decide(&decided, sum(weights)))
			rotation.Default.SkipRounds(&dealt, 1, now)
			require.Equal(t, decided.Turn, dealt.Turn)
			for i, m := range dealt.Members {
				require.Zero(t, m.Credit)
				require.Equal(t, decided.Members[i].Leads, m.Leads)
				require.Equal(t, decided.Members[i].Present, m.Present)
			}
		}
		require.Equal(t, decide(&decided, 50), decide(&dealt, 50))
	}
}

func TestSkipRoundsOfNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		state := anyState(t)
		before := clone(state)
		rotation.Default.SkipRounds(&state, 0, now)
		require.Equal(t, before, state)
		for i := range state.Members {
			state.Members[i].Paused = true
		}
		before = clone(state)
		rotation.Default.SkipRounds(&state, 3, now)
		require.Equal(t, before, state, "nobody is present")
	})
}

func TestOnlyUniformPoliciesHaveRounds(t *testing.T) {
	t.Parallel()
	policy := rotation.Default
	policy.Presence = append(slices.Clone(policy.Presence), below(1, now))
	policy.Uniform = false
	require.Nil(t, policy.Round(atRest(1, 1), now))
}
