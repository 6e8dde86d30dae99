package cims

import "context"

// ConversionQuery selects the leads and the status that ConversionRate looks at.
// The zero value asks how many of the last 100 leads ever reached the target.
type ConversionQuery struct {
	// Last is the number of leads to look at, 1 to 100,000. They are the newest
	// by time of creation, then id. 0 means 100.
	Last int
	// Target is the name of a status; empty means Config.ConversionTarget.
	Target string
	// SalesManagerID, if set, limits the query to the leads that this user owns.
	SalesManagerID *int64
	// Mode is Reached or Current; empty means Reached.
	Mode ConversionMode
	// ExcludeOwn leaves out leads that their owner added.
	ExcludeOwn bool
}

// ConversionMode selects the leads that count as converted.
type ConversionMode string

// Modes of a ConversionQuery.
const (
	// Reached counts the leads that were ever in the target status, even if
	// they have moved on since.
	Reached ConversionMode = "reached"
	// Current counts the leads that are in the target status now.
	Current ConversionMode = "current"
)

const (
	defaultCohort = 100
	maxCohort     = 100_000
	publicCohort  = 20
)

// Conversion is the result of ConversionRate.
type Conversion struct {
	Total int // leads looked at
	Count int // leads converted
}

// Rate returns the conversion rate in percent, rounded half away from zero to two
// decimals. It returns 0 if there are no leads.
func (c Conversion) Rate() float64 {
	if c.Total == 0 {
		return 0
	}
	// Integers, since binary fractions would round some halves down.
	hundredths := (int64(c.Count)*10_000*2 + int64(c.Total)) / (int64(c.Total) * 2)
	return float64(hundredths) / 100
}

// ConversionRate counts how many of the newest leads converted. Its cost grows with
// Last, not with the number of all leads. It needs analytics:read.
//
// Without leads:read the answers must not tell anything about one lead of a
// colleague. Such an actor may ask about itself, and otherwise about all leads, with a
// Last in multiples of 20.
//
// ConversionRate returns ErrInvalid for an invalid query, ErrForbidden for the figures
// of a colleague, and ErrNotFound for an unknown sales manager.
func (m *Manager) ConversionRate(ctx context.Context, actor Actor, query ConversionQuery) (Conversion, error) {
	if err := actor.need(AnalyticsRead); err != nil {
		return Conversion{}, err
	}
	public := query.SalesManagerID == nil && !actor.Can(LeadsRead)
	if id := query.SalesManagerID; id != nil && (actor.id() == nil || *actor.id() != *id) {
		if err := actor.need(LeadsRead); err != nil {
			return Conversion{}, err
		}
	}
	if query.Last == 0 {
		query.Last = defaultCohort
	}
	if query.Target == "" {
		query.Target = m.config.ConversionTarget
	}
	if query.Mode == "" {
		query.Mode = Reached
	}
	var check checks
	check.between("last", query.Last, 1, maxCohort)
	if public && query.Last%publicCohort != 0 {
		check = append(check, FieldError{Field: "last", Rule: RuleMultiple, Min: publicCohort, Max: maxCohort})
	}
	if public && query.ExcludeOwn {
		check.add("own", RuleChoice)
	}
	if query.Mode != Reached && query.Mode != Current {
		check.add("mode", RuleChoice)
	}
	query.Target = check.name("target", query.Target)
	if err := check.err(); err != nil {
		return Conversion{}, err
	}
	return m.conversion(ctx, query)
}

func (m *Manager) conversion(ctx context.Context, query ConversionQuery) (Conversion, error) {
	if query.SalesManagerID != nil {
		if _, err := m.storage.Account(ctx, *query.SalesManagerID); err != nil {
			return Conversion{}, err
		}
	}
	if query.Target != StatusProjectStarted { // a system status always exists
		known, err := m.knownStatus(ctx, query.Target)
		if err != nil {
			return Conversion{}, err
		}
		if !known {
			return Conversion{}, invalid(FieldError{Field: "target", Rule: RuleUnknown})
		}
	}
	return m.storage.Conversion(ctx, query)
}
