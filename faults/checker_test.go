//go:build unix

package faults

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

// The checker recomputes the guarantees from the tables and from the answers that callers
// got. It uses no code of the library. It relies on two facts of the design. New leads take
// their turns in the order of their ids. Leads that waited or were redistributed take theirs
// in the order of their history rows, placed between the others by time.

// result holds the findings of the checker.
type result struct {
	complaints []string
	leads      int
	spread     int // largest difference ever between two members that were eligible throughout
}

// books is the relevant content of the database.
type books struct {
	customers  map[int64]*lead
	turns      []turn // of new leads, by id
	later      []turn // of others, by history row
	counts     map[int64]int
	turnsTaken int
	complaints []string
}

// lead is one customer with all its rows.
type lead struct {
	name, status   string
	present        []int64 // active assignments
	unassigned     int
	created        int
	firstOwner     sql.Null[int64]
	statusNow      sql.Null[string]
	statusHistory  int
	owner          sql.Null[int64] // by the history
	recordedOwners int
}

type turn struct {
	at      time.Time
	manager int64
}

func (b *books) complain(format string, args ...any) {
	b.complaints = append(b.complaints, fmt.Sprintf(format, args...))
}

// check reads a database and checks the guarantees. Members of the team that were eligible
// throughout may never have differed by more than one lead.
func check(ctx context.Context, db *sql.DB, answers *answers, throughout []int64) (result, error) {
	b := &books{customers: map[int64]*lead{}, counts: map[int64]int{}}
	if err := b.load(ctx, db); err != nil {
		return result{}, err
	}
	b.checkLeads()
	b.checkCounts()
	b.checkAnswers(answers)
	found := result{leads: len(b.customers), spread: b.checkSpread(throughout)}
	found.complaints = b.complaints
	return found, nil
}

// each reads a table row by row; scan gets the pointers filled.
func each(ctx context.Context, db *sql.DB, query string, row func(), to ...any) (err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // Err below reports its error
	for rows.Next() {
		if err := rows.Scan(to...); err != nil {
			return fmt.Errorf("%s: %w", query, err)
		}
		row()
	}
	return rows.Err()
}

func (b *books) load(ctx context.Context, db *sql.DB) error {
	var id int64
	var name, status, cause string
	var from, to, owner sql.Null[int64]
	var fromStatus sql.Null[string]
	var at time.Time
	var n int
	of := func(what string) *lead {
		if b.customers[id] == nil {
			b.complain("customer %d does not exist, but it has %s", id, what)
			return &lead{}
		}
		return b.customers[id]
	}
	steps := []struct {
		query string
		row   func()
		to    []any
	}{
		{"SELECT id, full_name, status_name FROM customer", func() {
			b.customers[id] = &lead{name: name, status: status}
		}, []any{&id, &name, &status}},
		{"SELECT customer_id, sales_manager_id FROM sales_manager_assignment WHERE is_active", func() {
			l := of("an assignment")
			l.present = append(l.present, to.V)
		}, []any{&id, &to}},
		{"SELECT customer_id FROM cims_unassigned", func() { of("a place among the unassigned").unassigned++ }, []any{&id}},
		{"SELECT customer_id, from_status, to_status, cause, owner_id, changed_at FROM customer_status_history ORDER BY customer_id, id", func() {
			l := of("a history")
			if cause == "created" {
				l.created++
				l.firstOwner, l.owner = owner, owner
				if owner.Valid {
					b.turns = append(b.turns, turn{at, owner.V})
				}
				if l.statusHistory > 0 {
					b.complain("customer %d: something happened before it was created", id)
				}
			}
			if fromStatus != l.statusNow {
				b.complain("customer %d: a change of status is missing before %q → %q", id, fromStatus.V, status)
			}
			l.statusNow = sql.Null[string]{V: status, Valid: true}
			l.statusHistory++
		}, []any{&id, &fromStatus, &status, &cause, &owner, &at}},
		{"SELECT customer_id, from_manager_id, to_manager_id, cause, changed_at FROM assignment_history ORDER BY id", func() {
			l := of("a change of owner")
			if from != l.owner {
				b.complain("customer %d: a change of owner is missing before %d → %d", id, from.V, to.V)
			}
			l.owner = to
			l.recordedOwners++
			if to.Valid && (cause == "automatic" || cause == "redistributed") {
				b.later = append(b.later, turn{at, to.V})
			}
		}, []any{&id, &from, &to, &cause, &at}},
		{"SELECT sales_manager_id, assigned_leads_count FROM sales_manager_rotation", func() { b.counts[id] = n }, []any{&id, &n}},
		{"SELECT turn FROM sales_manager_counter WHERE id = (SELECT min(id) FROM sales_manager_counter)", func() { b.turnsTaken = n }, []any{&n}},
		{"SELECT key FROM cims_idempotency WHERE result = ''", func() {
			b.complain("idempotency key %q is claimed, and no answer is kept", name)
		}, []any{&name}},
	}
	for _, step := range steps {
		if err := each(ctx, db, step.query, step.row, step.to...); err != nil {
			return err
		}
	}
	return nil
}

// checkLeads checks that each lead has one sales manager or waits, and that its
// history leads from its creation to its present state.
func (b *books) checkLeads() {
	names := map[string]int64{}
	for _, id := range slices.Sorted(maps.Keys(b.customers)) {
		l := b.customers[id]
		if len(l.present)+l.unassigned != 1 {
			b.complain("customer %d has %d assignments and %d places among the unassigned", id, len(l.present), l.unassigned)
		}
		if l.created != 1 {
			b.complain("customer %d was created %d times", id, l.created)
		}
		if l.statusNow.V != l.status {
			b.complain("customer %d is in status %q, its history ends in %q", id, l.status, l.statusNow.V)
		}
		var present sql.Null[int64]
		if len(l.present) > 0 {
			present = sql.Null[int64]{V: l.present[0], Valid: true}
		}
		if l.owner != present {
			b.complain("customer %d belongs to %d, its history ends in %d", id, present.V, l.owner.V)
		}
		if other, ok := names[l.name]; ok {
			b.complain("customers %d and %d are both %q: stored twice", other, id, l.name)
		}
		names[l.name] = id
	}
}

// checkCounts checks that the managers' counts match the assignments, and that each turn has
// a lead and each lead a turn.
func (b *books) checkCounts() {
	owned := map[int64]int{}
	for _, l := range b.customers {
		for _, manager := range l.present {
			owned[manager]++
		}
	}
	for _, manager := range slices.Sorted(maps.Keys(owned)) {
		if _, ok := b.counts[manager]; !ok {
			b.complain("manager %d has %d leads and no count", manager, owned[manager])
		}
	}
	for _, manager := range slices.Sorted(maps.Keys(b.counts)) {
		if b.counts[manager] != owned[manager] {
			b.complain("manager %d has %d leads, the count says %d", manager, owned[manager], b.counts[manager])
		}
	}
	if turns := len(b.turns) + len(b.later); turns != b.turnsTaken {
		b.complain("%d leads were handed out, %d turns were taken", turns, b.turnsTaken)
	}
}

// checkAnswers checks that acknowledged leads are stored as they were answered,
// and that refused ones are not stored.
func (b *books) checkAnswers(answers *answers) {
	for _, id := range slices.Sorted(maps.Keys(answers.stored)) {
		answer := answers.stored[id]
		switch l := b.customers[id]; {
		case l == nil:
			b.complain("customer %d (%s) was acknowledged and is lost", id, answer.name)
		case l.name != answer.name:
			b.complain("customer %d is %q and was acknowledged as %q", id, l.name, answer.name)
		case l.firstOwner.V != answer.owner:
			b.complain("customer %d was given to %d, the answer said %d", id, l.firstOwner.V, answer.owner)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(b.customers)) {
		if reason, ok := answers.refused[b.customers[id].name]; ok {
			b.complain("customer %d (%s) was refused and is stored: %s", id, b.customers[id].name, reason)
		}
	}
	for _, text := range answers.unexpected {
		b.complain("unexpected: %s", text)
	}
}

// checkSpread computes the spread turn by turn.
func (b *books) checkSpread(throughout []int64) (spread int) {
	if len(throughout) == 0 {
		return 0
	}
	count := map[int64]int{}
	for _, manager := range throughout {
		count[manager] = 0
	}
	for i, turn := range b.inOrder() {
		if _, ok := count[turn.manager]; !ok {
			continue
		}
		count[turn.manager]++
		counts := slices.Collect(maps.Values(count))
		difference := slices.Max(counts) - slices.Min(counts)
		if difference > spread {
			spread = difference
			if spread > 1 {
				b.complain("spread %d after turn %d: %v", spread, i+1, count)
			}
		}
	}
	return spread
}

// inOrder merges the turns of new leads and the later ones by time.
func (b *books) inOrder() []turn {
	var all []turn
	later := b.later
	for _, t := range b.turns {
		for len(later) > 0 && later[0].at.Before(t.at) {
			all, later = append(all, later[0]), later[1:]
		}
		all = append(all, t)
	}
	return append(all, later...)
}

// TestCheckerComplains tests the checker. It accepts a good database, and finds each of many
// corruptions.
func TestCheckerComplains(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, sqliteURL(t), 3)
	crm := d.open(t)
	answers := newAnswers()
	var ids []int64
	add := func() cims.Customer {
		name := fmt.Sprintf("Lead %d", len(ids))
		customer, err := crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: name, IdempotencyKey: fmt.Sprint(len(ids))})
		answers.note(name, customer, err)
		require.NoError(t, err)
		ids = append(ids, customer.ID)
		return customer
	}
	for range 30 {
		add()
	}
	// Each kind of history: of statuses, of owners, of one that waited.
	for _, status := range []string{"project_started", "contacted", "project_started"} {
		_, err := crm.SetStatus(t.Context(), system, ids[0], status, "")
		require.NoError(t, err)
	}
	for _, manager := range []int64{d.team[1], d.team[2], d.team[1]} {
		_, err := crm.Assign(t.Context(), system, ids[0], manager)
		require.NoError(t, err)
	}
	pause := func(paused bool) {
		for _, manager := range d.team {
			_, err := crm.SetSalesManager(t.Context(), system, manager, cims.SalesManagerUpdate{Paused: &paused})
			require.NoError(t, err)
		}
	}
	pause(true)
	waited := add()
	require.Nil(t, waited.SalesManager)
	found, err := check(t.Context(), d.sql(t), answers, nil)
	require.NoError(t, err)
	require.Empty(t, found.complaints, "while one waits")
	pause(false)
	require.Eventually(t, func() bool {
		_, _, err := crm.Assignment(t.Context(), system, waited.ID)
		return err == nil
	}, patience, time.Millisecond)
	answers.refused["Never"] = "the database was down"
	found, err = check(t.Context(), d.sql(t), answers, d.team)
	require.NoError(t, err)
	require.Empty(t, found.complaints)
	require.Equal(t, len(ids), found.leads)
	require.Equal(t, 1, found.spread)

	// The library marks its changes. A change without the mark counts as another
	// program's and is recorded as such.
	const ours = "cims_version = cims_version + 1, "
	// toFirst changes a lead's owner in every table that holds it.
	toFirst := func(customer int64) string {
		of := fmt.Sprintf(" WHERE customer_id = %d;", customer)
		return fmt.Sprintf("UPDATE customer_status_history SET owner_id = %d", d.team[0]) + of +
			fmt.Sprintf("UPDATE sales_manager_assignment SET "+ours+"sales_manager_id = %d", d.team[0]) + of
	}
	recount := `UPDATE sales_manager_rotation SET assigned_leads_count =
		(SELECT count(*) FROM sales_manager_assignment AS a WHERE a.sales_manager_id = sales_manager_rotation.sales_manager_id);`
	others := slices.DeleteFunc(slices.Clone(ids[6:12]), func(id int64) bool { return answers.stored[id].owner == d.team[0] })
	one := ids[5]
	spoils := []struct{ name, sql, complaint string }{
		{"an assignment is gone", fmt.Sprintf("DROP TRIGGER cims_assignment_deleted; DELETE FROM sales_manager_assignment WHERE customer_id = %d", one), "has 0 assignments"},
		{"an assignment is inactive", fmt.Sprintf("UPDATE sales_manager_assignment SET "+ours+"is_active = FALSE WHERE customer_id = %d", one), "has 0 assignments"},
		{"assigned and waiting", fmt.Sprintf("INSERT INTO cims_unassigned (customer_id, customer_created_at, waiting) SELECT id, created_at, TRUE FROM customer WHERE id = %d", one), "1 assignments and 1 places"},
		{"a count is too high", fmt.Sprintf("UPDATE sales_manager_rotation SET assigned_leads_count = assigned_leads_count + 1 WHERE sales_manager_id = %d", d.team[2]), "the count says"},
		{"a manager has no count", fmt.Sprintf("DELETE FROM sales_manager_rotation WHERE sales_manager_id = %d", d.team[2]), "and no count"},
		{"the first history row is gone", fmt.Sprintf("DELETE FROM customer_status_history WHERE customer_id = %d", one), "was created 0 times"},
		{"created twice", fmt.Sprintf(`INSERT INTO customer_status_history (customer_id, to_status, cause, changed_at)
			SELECT customer_id, to_status, cause, changed_at FROM customer_status_history WHERE customer_id = %d`, one), "was created 2 times"},
		{"a change of status is gone", fmt.Sprintf("DELETE FROM customer_status_history WHERE customer_id = %d AND to_status = 'contacted' AND cause = 'manual'", ids[0]), "a change of status is missing"},
		{"the last change of status is gone", fmt.Sprintf("DELETE FROM customer_status_history WHERE id = (SELECT max(id) FROM customer_status_history WHERE customer_id = %d)", ids[0]), "its history ends in"},
		{"a change of owner is gone", fmt.Sprintf("DELETE FROM assignment_history WHERE customer_id = %d AND to_manager_id = %d", ids[0], d.team[2]), "a change of owner is missing"},
		{"the last change of owner is gone", fmt.Sprintf("DELETE FROM assignment_history WHERE id = (SELECT max(id) FROM assignment_history WHERE customer_id = %d)", ids[0]), "its history ends in"},
		{"the status changed without a trace", fmt.Sprintf("UPDATE customer SET "+ours+"status_name = 'project_started' WHERE id = %d", one), "its history ends in"},
		{"the owner changed without a trace", fmt.Sprintf("UPDATE sales_manager_assignment SET "+ours+"sales_manager_id = %d WHERE customer_id = %d", d.team[2], ids[0]), "its history ends in"},
		{"two extra leads for one manager, consistently", toFirst(others[0]) + toFirst(others[1]) + recount, "spread"},
		{"two extra leads for one manager", toFirst(others[0]) + toFirst(others[1]) + recount, "the answer said"},
		{"a turn is lost", "UPDATE sales_manager_counter SET turn = turn - 1", "turns were taken"},
		{"a lead is lost without a trace", fmt.Sprintf(`DELETE FROM customer WHERE id = %d; DELETE FROM customer_status_history WHERE customer_id = %d;
			UPDATE sales_manager_counter SET turn = turn - 1`, one, one), "was acknowledged and is lost"},
		{"a lead is half there", fmt.Sprintf("DELETE FROM customer WHERE id = %d", one), "does not exist, but it has a history"},
		{"a refused lead is there", fmt.Sprintf("UPDATE customer SET full_name = 'Never' WHERE id = %d", one), "was refused and is stored"},
		{"a lead is another", fmt.Sprintf("UPDATE customer SET full_name = 'Other' WHERE id = %d", one), "was acknowledged as"},
		{"a lead is there twice", fmt.Sprintf("UPDATE customer SET full_name = (SELECT full_name FROM customer WHERE id = %d) WHERE id = %d", ids[1], one), "stored twice"},
		{"a key without an answer", "UPDATE cims_idempotency SET result = '' WHERE key = '3'", "no answer is kept"},
	}
	good := d.sql(t)
	for i, spoil := range spoils {
		t.Run(spoil.name, func(t *testing.T) {
			t.Parallel()
			spoiled := &database{url: sqliteURL(t), team: d.team}
			execute(t, good, "VACUUM INTO '"+spoiled.url[len(sqliteScheme):]+"'")
			db := spoiled.sql(t)
			execute(t, db, "PRAGMA foreign_keys = ON")
			execute(t, db, spoil.sql)
			found, err := check(t.Context(), db, answers, d.team)
			require.NoError(t, err)
			at := slices.IndexFunc(found.complaints, func(c string) bool { return strings.Contains(c, spoil.complaint) })
			require.GreaterOrEqual(t, at, 0, "case %d: want %q among %q", i, spoil.complaint, found.complaints)
		})
	}
}
