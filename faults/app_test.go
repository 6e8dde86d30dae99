//go:build unix

package faults

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestFaultAppKilled repeatedly kills -9 a process that adds leads, alone and beside another
// process that continues.
func TestFaultAppKilled(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, url string) {
		d := newDatabase(t, url, 5)
		answers := newAnswers()
		kills := times(6, 100)
		var survivor *worker
		for n := range kills {
			if n == kills/2 {
				survivor = d.start(t, answers, "survivor", 0)
				survivor.requireSome(t, 1)
			}
			victim := d.start(t, answers, fmt.Sprintf("victim %d", n), 0)
			victim.requireSome(t, 1+rand.IntN(200)) //nolint:gosec // no secret
			// A moment more, so that it dies anywhere, not just after an answer.
			time.Sleep(rand.N(5 * time.Millisecond)) //nolint:gosec // no secret
			victim.kill(t)
		}
		survivor.requireSome(t, survivor.answers.count()+10) // it has not noticed
		survivor.finish(t, true)

		// A process that starts afterwards works normally.
		last := d.start(t, answers, "last", 20)
		last.finish(t, false)
		require.Len(t, last.answers.stored, 20*workerCallers)

		found := d.check(t, answers)
		refused, unknown := answers.faults()
		require.Zero(t, refused+unknown, "nobody but the killed noticed: %v %v", answers.refused, answers.unknown)
		require.NotEmpty(t, answers.stored)
		report(t, "%d kills, %d leads acknowledged, 0 lost, %d stored without an answer, spread %d",
			kills, len(answers.stored), found.leads-len(answers.stored), found.spread)
	})
}
