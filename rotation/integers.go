package rotation

import "math/bits"

// floor returns the quotient of a and a positive b, rounded down.
func floor(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// less reports whether a×b is less than c×d, for b and d that aren't negative.
func less(a, b, c, d int64) bool {
	high1, low1 := product(a, b)
	high2, low2 := product(c, d)
	return high1 < high2 || high1 == high2 && low1 < low2
}

// product returns a×b in 128 bits, for a b that isn't negative.
//
//nolint:gosec // the conversions keep all bits
func product(a, b int64) (high int64, low uint64) {
	h, low := bits.Mul64(uint64(a), uint64(b))
	if a < 0 { // Mul64 took it for 2^64 more
		h -= uint64(b)
	}
	return int64(h), low
}
