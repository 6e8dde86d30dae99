// Package rotation decides which member gets the next lead.
//
// It is pure: it reads no clock and no database, and draws no random numbers.
// The same state, lead and time give the same decision on every machine. So a
// decision can be explained, simulated and replayed.
//
// # Gates
//
// A [Policy] is two lists of gates. A member that passes the presence gates is
// present; they don't look at the lead. A present member that passes the lead
// gates too is a candidate for that lead. With no candidate the lead waits, and
// the [State] stays as it is. The gates of [Default] are all there is to know
// about who may get a lead.
//
// # The ledger
//
// Each member has a credit: the number of leads that it is owed, or, below
// zero, that it is ahead by. A decision promises one lead and hands out one.
// First the credit of each candidate rises by its share of the lead: its weight
// divided by the weights of all candidates. Then one candidate gets the lead
// and pays one lead of credit. What all gain, one pays, so credits sum to zero.
// This is how A, of weight 2, shares four leads with B and C, of weight 1:
//
//	    owed, after the rise     gets it    owed, after the payment
//	       A      B      C                     A      B      C
//	1     0.50   0.25   0.25        A       -0.50   0.25   0.25
//	2     0.00   0.50   0.50        B        0.00  -0.50   0.50
//	3     0.50  -0.25   0.75        A       -0.50  -0.25   0.75
//	4     0.00   0.00   1.00        C        0.00   0.00   0.00
//
// The lead goes to the candidate that would be owed a whole lead first, at the
// rate at which its credit rises. But the candidate must be owed more than its
// part of what all candidates are owed together. Without that condition a member
// of weight 10 gets several leads in a row; with it, two at most beside five
// members of weight 1. Equal weights make plain round robin.
//
// A member is away while a gate keeps it from being present, and its credit
// stands still. When it returns, joins or changes weight, its credit is clamped
// to within a lead of each present member of its weight. So it is neither flooded
// with the leads that it missed nor left out for those that it got too early.
//
// In the literature a credit is a lag, and a member's fair share is within one
// of what it got: S. Baruah, N. Cohen, C. Plaxton, D. Varvel, "Proportionate
// progress: A notion of fairness in resource allocation", Algorithmica 15, 1996.
// To serve the earliest deadline of those that are owed something is the rule of
// I. Stoica and H. Abdel-Wahab, "Earliest Eligible Virtual Deadline First", 1995.
//
// # What it guarantees
//
// Every member of a team that starts from rest and doesn't change stays within
// one lead of its exact share, whatever the weights.
//
// Two members of equal weight that are candidates for the same leads throughout
// never differ by more than one lead. It doesn't matter who else joins, leaves,
// pauses or changes weight meanwhile. Only [Policy.Charge] may part them further.
//
// Credits have no bound if lead gates choose the candidates as an adversary
// would.
//
// # Numbers
//
// Credits are integers in parts of a lead, see [Unit], so a sum never drifts.
// Shares are rounded down. The remainder stays in the ledger: credits sum to
// zero but for less than the sum of all weights, in units. Products are compared
// in 128 bits. Nothing overflows with 10,000 members of weights up to 100, as
// long as the members that are owed leads are owed 4,000,000 (2^22) in all, and
// those that are ahead are ahead by no more.
package rotation
