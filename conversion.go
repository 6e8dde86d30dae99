package cims

import "context"

// ConversionQuery says what to measure. The zero value asks how many of the
// last 100 leads reached project_started.
type ConversionQuery struct {
	// Last is the size of the cohort: how many of the newest leads, by time of
	// creation, then id, are looked at. 1 to 100,000; 0 means 100.
	Last int
	// Target is the name of a status; empty means project_started.
	Target string
	// SalesManagerID, if set, looks only at leads whose present manager this is.
	SalesManagerID *int64
	// Mode: Reached, the default, or Current.
	Mode ConversionMode
}

// ConversionMode says which leads count as converted.
type ConversionMode string

// The modes.
const (
	// Reached counts leads that ever reached the target, even if they have
	// moved on since: the default.
	Reached ConversionMode = "reached"
	// Current counts leads that are in the target now.
	Current ConversionMode = "current"
)

const (
	defaultCohort = 100
	maxCohort     = 100_000
)

// Conversion is the answer: of Total leads looked at, Count converted.
type Conversion struct {
	Total int
	Count int
}

// Rate is the conversion rate in percent, rounded half away from zero to two
// decimals; 0 when there were no leads.
func (c Conversion) Rate() float64 {
	if c.Total == 0 {
		return 0
	}
	// In whole numbers, so that a half is a half: 100·count/total in hundredths.
	hundredths := (int64(c.Count)*10_000*2 + int64(c.Total)) / (int64(c.Total) * 2)
	return float64(hundredths) / 100
}

// ConversionRate measures how many of the newest leads converted. It needs
// analytics:read. It returns ErrInvalid, naming last, target or mode, or
// ErrNotFound for an unknown sales manager. Its cost grows with Last, not with
// the number of leads.
func (m *Manager) ConversionRate(ctx context.Context, actor Actor, query ConversionQuery) (Conversion, error) {
	if err := actor.need(AnalyticsRead); err != nil {
		return Conversion{}, err
	}
	if query.Last == 0 {
		query.Last = defaultCohort
	}
	if query.Target == "" {
		query.Target = StatusProjectStarted
	}
	if query.Mode == "" {
		query.Mode = Reached
	}
	var check checks
	check.between("last", query.Last, 1, maxCohort)
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
	if query.Target != StatusProjectStarted { // which always exists
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
