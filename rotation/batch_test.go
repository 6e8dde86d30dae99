package rotation_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/cimskit/cims/rotation"
)

// below returns a gate that lets those pass that own fewer leads.
func below(limit int, until time.Time) rotation.Gate {
	return func(m *rotation.Member, _ time.Time) (rotation.Reason, time.Time) {
		if m.Leads >= limit {
			return "limit", until
		}
		return "", time.Time{}
	}
}

// from returns a gate that opens for one member at a time.
func from(id int64, opens time.Time) rotation.Gate {
	return func(m *rotation.Member, now time.Time) (rotation.Reason, time.Time) {
		if m.ID == id && now.Before(opens) {
			return "hours", opens
		}
		return "", time.Time{}
	}
}

// TestBatchDecidesAsOneByOne has presence change within the batch, too.
func TestBatchDecidesAsOneByOne(t *testing.T) {
	t.Parallel()
	policies := map[string]rotation.Policy{
		"default":  rotation.Default,
		"no gates": {},
		"limits":   {Presence: []rotation.Gate{rotation.NotPaused, below(4, now.Add(time.Hour))}, Lead: []rotation.LeadGate{rotation.NotExcluded}},
	}
	for name, policy := range policies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				state := anyState(t)
				single := clone(state)
				batch := policy.Batch(&state, now)
				require.Equal(t, single, state, "a batch without leads changes nothing")
				var decisions, singles []rotation.Decision
				for range rapid.IntRange(1, 40).Draw(t, "leads") {
					lead := anyLead(t)
					decisions = append(decisions, batch.Decide(lead))
					singles = append(singles, policy.Decide(&single, lead, now))
					require.Equal(t, single, state)
				}
				require.Equal(t, singles, decisions, "also what an earlier decision says stays as it was")
			})
		})
	}
}

// TestDecisionsStayAsTheyWere while the batch goes on and members reach limits.
func TestDecisionsStayAsTheyWere(t *testing.T) {
	t.Parallel()
	state := atRest(1, 1, 1, 1)
	for i := range state.Members {
		state.Members[i].LastTurn = int64(4 - i) // the last one begins
	}
	batch := rotation.Policy{Presence: []rotation.Gate{below(1, now)}, Lead: []rotation.LeadGate{rotation.NotExcluded}}.Batch(&state, now)
	var decisions []rotation.Decision
	for range 5 {
		decisions = append(decisions, batch.Decide(rotation.Lead{Excluded: []int64{1}}))
	}
	for i, d := range decisions {
		var skipped []int64
		for _, s := range d.Skipped {
			skipped = append(skipped, s.Member)
		}
		require.Equal(t, [][]int64{{1}, {4, 1}, {3, 4, 1}, {2, 3, 4, 1}, {2, 3, 4, 1}}[i], skipped)
	}
}

func TestNobody(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		state := anyState(t)
		var lead rotation.Lead
		for i := range state.Members {
			if rapid.Bool().Draw(t, "paused") {
				state.Members[i].Paused = true
			} else {
				lead.Excluded = append(lead.Excluded, state.Members[i].ID)
			}
		}
		before := clone(state)
		decision := rotation.Default.Decide(&state, lead, now)
		require.Zero(t, decision.Member)
		require.Equal(t, rotation.Nobody, decision.Reason)
		require.Len(t, decision.Skipped, len(state.Members))
		require.Equal(t, before, state, "not even who counts as present")
	})
}

func TestReasons(t *testing.T) {
	t.Parallel()
	nine, ten := now.Add(time.Hour), now.Add(2*time.Hour)
	policy := rotation.Policy{
		Presence: []rotation.Gate{rotation.NotPaused, from(2, ten), from(3, nine), below(1, now.Add(3*time.Hour))},
		Lead:     []rotation.LeadGate{rotation.NotExcluded},
	}
	state := atRest(1, 1, 1, 1, 1)
	state.Members[0].Paused = true
	batch := policy.Batch(&state, now)

	paused := rotation.Skip{Member: 1, Reason: rotation.Paused}
	hours2, hours3 := rotation.Skip{Member: 2, Reason: "hours", Until: ten}, rotation.Skip{Member: 3, Reason: "hours", Until: nine}
	excluded := rotation.Skip{Member: 4, Reason: rotation.Excluded}
	require.Equal(t, rotation.Decision{
		Member: 5, Reason: rotation.Turn, Skipped: []rotation.Skip{paused, hours2, hours3, excluded},
	}, batch.Decide(rotation.Lead{Excluded: []int64{4, 2}}))

	full := rotation.Skip{Member: 5, Reason: "limit", Until: now.Add(3 * time.Hour)}
	require.Equal(t, rotation.Decision{
		Reason: rotation.Nobody, Skipped: []rotation.Skip{paused, hours2, hours3, full, excluded}, Retry: nine,
	}, batch.Decide(rotation.Lead{Excluded: []int64{4}}))

	// A batch stays at its moment; the next one finds 3 at work.
	require.EqualValues(t, 4, batch.Decide(open).Member)
	require.EqualValues(t, 3, policy.Decide(&state, open, nine).Member)

	none := rotation.Default.Decide(&rotation.State{Members: []rotation.Member{{ID: 1, Weight: 1, Paused: true}}}, open, now)
	require.Equal(t, rotation.Decision{Reason: rotation.Nobody, Skipped: []rotation.Skip{{Member: 1, Reason: rotation.Paused}}}, none, "no time opens a pause")
	require.Equal(t, rotation.Decision{Reason: rotation.Nobody}, rotation.Default.Decide(&rotation.State{}, open, now))
}

// TestRetryIsRight asks at that time, and just before it.
func TestRetryIsRight(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		state := anyState(t)
		var policy rotation.Policy
		policy.Presence = append(policy.Presence, rotation.NotPaused)
		for _, m := range state.Members {
			policy.Presence = append(policy.Presence, from(m.ID, now.Add(time.Duration(rapid.IntRange(1, 5).Draw(t, "hours"))*time.Hour)))
		}
		retry := policy.Decide(&state, open, now).Retry
		if retry.IsZero() {
			require.False(t, policy.AnyPresent(state, now.Add(10*time.Hour)))
			return
		}
		require.Zero(t, policy.Decide(&state, open, retry.Add(-1)).Member)
		require.NotZero(t, policy.Decide(&state, open, retry).Member)
	})
}

func TestPresent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		state := anyState(t)
		var present []rotation.Member
		for _, m := range state.Members {
			if !m.Paused {
				present = append(present, m)
			}
		}
		require.Equal(t, present, rotation.Default.Present(state, now))
		require.Equal(t, len(present) > 0, rotation.Default.AnyPresent(state, now))
	})
}

// TestDefaultIsUniform holds the promise of the policy's field: whoever gives
// Default a gate for hours or limits must make it not uniform.
func TestDefaultIsUniform(t *testing.T) {
	t.Parallel()
	require.True(t, rotation.Default.Uniform)
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.Make[rotation.Member]().Draw(t, "member")
		later := m
		later.Leads, later.Credit, later.LastTurn, later.Present = rapid.Int().Draw(t, "leads"), 0, 0, 0
		at := time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "time"), 0)
		for _, gate := range rotation.Default.Presence {
			before, _ := gate(&m, now)
			after, _ := gate(&later, at)
			require.Equal(t, before, after)
		}
		for _, gate := range rotation.Default.Lead {
			require.Empty(t, gate(&m, open))
		}
	})
}

// TestDecisionsAllocateNothing in a batch, as long as no lead gate is closed.
func TestDecisionsAllocateNothing(t *testing.T) {
	state := atRest(3, 2, 1, 1, 1)
	state.Members[4].Paused = true
	batch := rotation.Default.Batch(&state, now)
	batch.Decide(open)
	require.Zero(t, testing.AllocsPerRun(1000, func() { batch.Decide(open) }))
}
