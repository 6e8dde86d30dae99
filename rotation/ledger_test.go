package rotation_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/cimskit/cims/rotation"
)

// TestModel compares all that the ledger does with the model.
func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		state := anyState(t)
		model := modelOf(state)
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			switch m := rapid.IntRange(0, 20).Draw(t, "step"); {
			case m < len(state.Members) && rapid.Bool().Draw(t, "by hand"):
				rotation.Default.Charge(&state, state.Members[m].ID, now)
				model.charge(state.Members[m].ID)
			case m < len(state.Members):
				state.Members[m].Paused = !state.Members[m].Paused
				model.members[m].Paused = state.Members[m].Paused
			default:
				lead := anyLead(t)
				require.Equal(t, model.decide(lead), rotation.Default.Decide(&state, lead, now).Member)
			}
			require.Equal(t, model.state(), state)
		}
	})
}

// TestModelAtTheBounds does so with the most members, weights and credits that
// the package speaks of.
func TestModelAtTheBounds(t *testing.T) {
	t.Parallel()
	const most = rotation.Unit << 22
	for name, state := range map[string]rotation.State{
		"10,000 members": func() (state rotation.State) {
			for i := range int64(10_000) {
				m := rotation.Member{ID: i + 1, Weight: 100 - int(i%2), Present: 100 - int(i%2), Credit: most / 5000}
				if i%100 == 0 {
					m.Present = 0
				}
				if i >= 5000 {
					m.Credit = -m.Credit
				}
				state.Members = append(state.Members, m)
			}
			return state
		}(),
		"two are owed and ahead by all": {Members: []rotation.Member{
			{ID: 1, Weight: 100, Credit: most, Present: 100}, {ID: 2, Weight: 1, Credit: -most, Present: 1}, {ID: 3, Weight: 100, Present: 0},
		}},
		"clamps after clamps": {Members: []rotation.Member{
			{ID: 1, Weight: 1, Credit: 3 * rotation.Unit}, {ID: 2, Weight: 1, Credit: -3 * rotation.Unit}, {ID: 3, Weight: 1},
		}},
		"a clamp between two bounds": {Members: []rotation.Member{
			{ID: 1, Weight: 1, Credit: most - 1, Present: 1}, {ID: 2, Weight: 1, Credit: -most, Present: 1}, {ID: 3, Weight: 1, Present: 0},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			model := modelOf(state)
			for _, lead := range []rotation.Lead{open, {Excluded: []int64{2}}, {Excluded: []int64{1, 3}}} {
				require.Equal(t, model.decide(lead), rotation.Default.Decide(&state, lead, now).Member)
				for i, m := range model.state().Members {
					require.Equal(t, m, state.Members[i])
				}
			}
		})
	}
}

func TestEqualWeightsAreRoundRobin(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 50; n++ {
		state := atRest(slices.Repeat([]int{1 + n%3}, n)...)
		for i, id := range decide(&state, 5*n) {
			require.EqualValues(t, i%n+1, id, "lead %d of %d members", i, n)
		}
	}
}

func TestFixedTeamStaysWithinOneLead(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		weights := anyWeights(t)
		state, all := atRest(weights...), sum(weights)
		got := make([]int, len(weights))
		batch := rotation.Default.Batch(&state, now)
		for lead := 1; lead <= min(3*all, 1000); lead++ {
			got[batch.Decide(open).Member-1]++
			for i, m := range state.Members {
				if abs(m.Credit) > rotation.Unit || abs(got[i]*all-lead*weights[i]) > all {
					t.Fatalf("%v after lead %d: got %v, %+v", weights, lead, got, m)
				}
			}
		}
	})
}

func TestCreditsSumToARemainder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		state := anyState(t)
		for range 20 {
			decision := rotation.Default.Decide(&state, anyLead(t), now)
			credits, weights, members := int64(0), int64(0), int64(len(state.Members))
			for _, m := range state.Members {
				credits, weights = credits+m.Credit, weights+int64(m.Weight)
			}
			if decision.Member != 0 {
				// The candidates lose less than a unit each by rounding; the next lead levels that.
				require.Greater(t, credits, -members)
				require.Less(t, credits, weights)
			}
		}
	})
}

// TestMillionsOfLeadsDontDrift compares what everybody got with the exact share.
func TestMillionsOfLeadsDontDrift(t *testing.T) {
	t.Parallel()
	leads := 10_000_000
	if testing.Short() {
		leads = 100_000
	}
	weights := []int{7, 5, 3, 2, 2} // 19 doesn't divide a lead evenly
	state, all := atRest(weights...), sum(weights)
	batch := rotation.Default.Batch(&state, now)
	for range leads {
		batch.Decide(open)
	}
	require.EqualValues(t, leads, state.Turn)
	for i, m := range state.Members {
		require.LessOrEqual(t, abs(m.Leads*all-leads*weights[i]), all, "%+v", m)
		require.LessOrEqual(t, abs(m.Credit), int64(rotation.Unit))
	}
}

// TestCharge lets the second take leads by hand: it is passed over for as many.
func TestCharge(t *testing.T) {
	t.Parallel()
	state := atRest(1, 1, 1)
	rotation.Default.Charge(&state, 2, now)
	require.Equal(t, rotation.Member{ID: 2, Weight: 1, Leads: 1, Credit: -rotation.Unit * 2 / 3, LastTurn: 1, Present: 1}, state.Members[1])
	require.EqualValues(t, rotation.Unit/3, state.Members[0].Credit)
	require.Equal(t, []int64{1, 3, 2, 1, 3}, decide(&state, 5))

	state = atRest(1, 1, 1)
	state.Members[1].Paused = true
	rotation.Default.Charge(&state, 2, now)
	require.Equal(t, rotation.Member{ID: 2, Weight: 1, Paused: true, Leads: 1, Credit: -rotation.Unit, LastTurn: 1}, state.Members[1])
	require.EqualValues(t, rotation.Unit/2, state.Members[0].Credit)

	before := clone(state)
	rotation.Default.Charge(&state, 4, now)
	require.Equal(t, before, state, "4 is no member")
}

// company is a team that changes, and counts who got how many leads. It tracks
// each pair of equal weight for as long as both are present.
type company struct {
	state rotation.State
	got   map[int64]int
	pairs map[[2]int64]*stretch
	next  int64 // id of who joins next
}

// stretch is a time in which two members were present with one weight: the
// least and the most by which the first was ahead of the second.
type stretch struct{ weight, low, high int }

func newCompany(weights ...int) *company {
	c := &company{got: map[int64]int{}, pairs: map[[2]int64]*stretch{}}
	for _, weight := range weights {
		c.join(weight)
	}
	return c
}

func (c *company) join(weight int) {
	c.next++
	c.state.Members = append(c.state.Members, rotation.Member{ID: c.next, Weight: weight})
}

func (c *company) leave(place int) {
	c.state.Members = slices.Delete(c.state.Members, place, place+1)
}

// begin takes note of who is present for the next lead.
func (c *company) begin() {
	together := map[[2]int64]bool{}
	for i, a := range c.state.Members {
		for _, b := range c.state.Members[i+1:] {
			if a.Paused || b.Paused || a.Weight != b.Weight {
				continue
			}
			pair := [2]int64{a.ID, b.ID}
			together[pair] = true
			if s := c.pairs[pair]; s == nil || s.weight != a.Weight {
				ahead := c.got[a.ID] - c.got[b.ID]
				c.pairs[pair] = &stretch{a.Weight, ahead, ahead}
			}
		}
	}
	for pair := range c.pairs {
		if !together[pair] {
			delete(c.pairs, pair)
		}
	}
}

// count takes note of who got a lead, and returns the most that two members
// differed by in what they got in any time together.
func (c *company) count(id int64) (apart int) {
	c.got[id]++
	for pair, s := range c.pairs {
		ahead := c.got[pair[0]] - c.got[pair[1]]
		s.low, s.high = min(s.low, ahead), max(s.high, ahead)
		apart = max(apart, s.high-s.low)
	}
	return apart
}

// check fails if a lead takes two of equal weight further apart than one.
func (c *company) check(t *rapid.T, ids ...int64) {
	for _, id := range ids {
		if apart := c.count(id); apart > 1 {
			t.Fatalf("two of equal weight differ by %d: %+v", apart, c.state)
		}
	}
}

// place draws one of the members.
func (c *company) place(t *rapid.T) int {
	return int(evenly(0, int64(len(c.state.Members)-1)).Draw(t, "who"))
}

// TestEqualWeightsNeverDifferByMoreThanOne is the rotation's promise to each
// sales manager: nobody of my weight, here for as long as I am, got two more.
func TestEqualWeightsNeverDifferByMoreThanOne(t *testing.T) {
	t.Parallel()
	weight := rapid.SampledFrom([]int{1, 1, 1, 1, 2, 2, 3, 5, 10, 100})
	actions := []func(*rapid.T, *company){
		func(t *rapid.T, c *company) { // one lead
			if id := rotation.Default.Decide(&c.state, open, now).Member; id != 0 {
				c.begin()
				c.check(t, id)
			}
		},
		func(t *rapid.T, c *company) { // a batch
			if rotation.Default.AnyPresent(c.state, now) {
				c.begin()
				c.check(t, decide(&c.state, int(evenly(1, 20).Draw(t, "leads")))...)
			}
		},
		func(t *rapid.T, c *company) { // whole rounds
			round := rotation.Default.Round(c.state, now)
			if len(round) == 0 {
				return
			}
			rotation.Default.SkipRounds(&c.state, evenly(1, 5).Draw(t, "rounds"), now)
			c.begin()
			for pair := range c.pairs { // all that rounds change for a pair: nothing
				require.Equal(t, count(round, pair[0]), count(round, pair[1]))
			}
		},
		func(t *rapid.T, c *company) {
			if len(c.state.Members) < 8 {
				c.join(weight.Draw(t, "weight"))
			}
		},
		func(t *rapid.T, c *company) {
			if len(c.state.Members) > 1 {
				c.leave(c.place(t))
			}
		},
		func(t *rapid.T, c *company) { c.state.Members[c.place(t)].Weight = weight.Draw(t, "weight") },
		func(t *rapid.T, c *company) {
			m := &c.state.Members[c.place(t)]
			m.Paused = !m.Paused
		},
	}
	often := rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3, 4, 5, 6, 6, 6, 6})
	rapid.Check(t, func(t *rapid.T) {
		c := newCompany(rapid.SliceOfN(weight, 2, 8).Draw(t, "weights")...)
		for range 200 {
			actions[often.Draw(t, "action")](t, c)
		}
	})
}

// TestTwinsNeverDifferByMoreThanOne has leads that exclude some, but always both
// twins or neither, and other members that come and go.
func TestTwinsNeverDifferByMoreThanOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		weights := anyWeights(t)
		state := atRest(append([]int{weights[0]}, weights...)...) // 1 and 2 are twins
		ahead, low, high := 0, 0, 0
		for range 100 {
			lead := anyLead(t)
			if slices.Contains(lead.Excluded, 1) != slices.Contains(lead.Excluded, 2) {
				lead.Excluded = append(lead.Excluded, 1, 2)
			}
			if other := rapid.IntRange(2, 40).Draw(t, "other"); other < len(state.Members) {
				state.Members[other].Paused = !state.Members[other].Paused
			}
			switch rotation.Default.Decide(&state, lead, now).Member {
			case 1:
				ahead++
			case 2:
				ahead--
			}
			low, high = min(low, ahead), max(high, ahead)
			require.LessOrEqual(t, high-low, 1)
		}
	})
}

// TestSimulations runs teams by chance and looks at what matters to a manager:
// how far its credit gets from zero, how many leads in a row one member gets
// while three or more are present, and how far equals get apart.
func TestSimulations(t *testing.T) {
	t.Parallel()
	ones := func(n int) []int { return slices.Repeat([]int{1}, n) }
	tests := []struct {
		weights []int
		churn   float64 // chance, at each lead, that somebody joins or leaves
		pause   float64 // that somebody pauses or returns
		weigh   float64 // that somebody gets another weight
		credit  float64 // at most, in leads
		run     int     // at most
	}{
		{weights: ones(5), credit: 0.8, run: 1},
		{weights: ones(17), credit: 0.95, run: 1},
		{weights: []int{3, 1, 1}, credit: 0.8, run: 2},
		{weights: []int{2, 1, 1, 1, 1}, credit: 1, run: 1},
		{weights: append([]int{10}, ones(5)...), credit: 0.94, run: 2},
		{weights: append([]int{10}, ones(20)...), credit: 0.98, run: 1},
		{weights: []int{100, 1, 1}, credit: 1, run: 51},
		{weights: []int{7, 5, 3, 2, 1}, credit: 0.95, run: 1},
		{weights: ones(5), churn: .05, credit: 1.5, run: 2},
		{weights: ones(7), pause: .5, credit: 2, run: 2},
		{weights: ones(6), churn: .05, pause: .1, credit: 2, run: 2},
		{weights: ones(17), churn: .05, pause: .2, credit: 2, run: 2},
		{weights: append([]int{10}, ones(5)...), pause: .1, credit: 5, run: 20},
		{weights: []int{3, 2, 1, 1, 1}, weigh: .05, credit: 2, run: 5},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%v churn=%v pause=%v weigh=%v", test.weights, test.churn, test.pause, test.weigh), func(t *testing.T) {
			t.Parallel()
			var farthest int64
			longest, apart := 0, 0
			for seed := range uint64(4) {
				chance := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a simulation that repeats
				c := newCompany(test.weights...)
				run, latest := 0, int64(0)
				for range 2000 {
					if chance.Float64() < test.churn {
						if chance.IntN(2) == 0 && len(c.state.Members) > 2 {
							c.leave(chance.IntN(len(c.state.Members)))
						} else {
							c.join(1)
						}
					}
					somebody := &c.state.Members[chance.IntN(len(c.state.Members))]
					if chance.Float64() < test.pause {
						somebody.Paused = !somebody.Paused
					}
					if chance.Float64() < test.weigh {
						somebody.Weight = 1 + chance.IntN(5)
					}
					id := rotation.Default.Decide(&c.state, open, now).Member
					if id == 0 {
						continue
					}
					c.begin()
					apart = max(apart, c.count(id))
					present := rotation.Default.Present(c.state, now)
					if run++; id != latest || len(present) < 3 {
						run = 1
					}
					latest, longest = id, max(longest, run)
					for _, m := range present {
						farthest = max(farthest, abs(m.Credit))
					}
				}
			}
			t.Logf("credit %.2f, run %d, apart %d", float64(farthest)/rotation.Unit, longest, apart)
			require.LessOrEqual(t, float64(farthest)/rotation.Unit, test.credit)
			require.LessOrEqual(t, longest, test.run)
			require.LessOrEqual(t, apart, 1)
		})
	}
}

// TestTraces follows teams that another implementation of the ledger, in
// Python, went through by chance.
func TestTraces(t *testing.T) {
	t.Parallel()
	file, err := os.Open("testdata/traces.txt")
	require.NoError(t, err)
	defer file.Close() //nolint:errcheck // it was only read
	var state rotation.State
	lines := bufio.NewScanner(file)
	picks := 0
	for n := 1; lines.Scan(); n++ {
		var id int64
		var weight int
		var credit int64
		step, rest, _ := strings.Cut(lines.Text(), " ")
		member := func() *rotation.Member {
			i := slices.IndexFunc(state.Members, func(m rotation.Member) bool { return m.ID == id })
			require.GreaterOrEqual(t, i, 0, "line %d", n)
			return &state.Members[i]
		}
		scan := func(into ...any) {
			_, err := fmt.Sscan(rest, into...)
			require.NoError(t, err, "line %d", n)
		}
		switch step {
		case "#":
		case "team":
			state = rotation.State{}
		case "join":
			scan(&id, &weight)
			state.Members = append(state.Members, rotation.Member{ID: id, Weight: weight})
		case "leave":
			scan(&id)
			state.Members = slices.DeleteFunc(state.Members, func(m rotation.Member) bool { return m.ID == id })
		case "pause":
			scan(&id)
			member().Paused = !member().Paused
		case "weigh":
			scan(&id, &weight)
			member().Weight = weight
		case "lead": // who got it, its credit after it, who was excluded
			lead := rotation.Lead{}
			scan(&id, &credit)
			for _, field := range strings.Fields(rest)[2:] {
				var excluded int64
				_, err := fmt.Sscan(field, &excluded)
				require.NoError(t, err)
				lead.Excluded = append(lead.Excluded, excluded)
			}
			require.Equal(t, id, rotation.Default.Decide(&state, lead, now).Member, "line %d", n)
			if id != 0 {
				require.Equal(t, credit, member().Credit, "line %d", n)
			}
			picks++
		default:
			require.Fail(t, "unknown step", "line %d: %s", n, step)
		}
	}
	require.NoError(t, lines.Err())
	require.Greater(t, picks, 500)
}
