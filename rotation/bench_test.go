package rotation_test

import (
	"fmt"
	"testing"

	"github.com/cimskit/cims/rotation"
)

// BenchmarkBatch gives 256 leads to teams of mixed weights. It reports the cost
// of one lead.
func BenchmarkBatch(b *testing.B) {
	const leads = 256
	for _, members := range []int{5, 50} {
		b.Run(fmt.Sprintf("%d_members", members), func(b *testing.B) {
			weights := make([]int, members)
			for i := range weights {
				weights[i] = i%3 + 1
			}
			state := atRest(weights...)
			b.ReportAllocs()
			for b.Loop() {
				batch := rotation.Default.Batch(&state, now)
				for range leads {
					batch.Decide(open)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/leads, "ns/lead")
		})
	}
}

func BenchmarkDecide(b *testing.B) {
	state := atRest(3, 2, 1, 1, 1)
	b.ReportAllocs()
	for b.Loop() {
		rotation.Default.Decide(&state, open, now)
	}
}
