package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/rotation"
)

// These are SQL for both databases. Where a function below takes users, it is the table of
// users as a statement reads it, in the form of Names.From.
const (
	// TheCounter selects the one row of sales_manager_counter in use. It holds the
	// rotation's lock and turn. An older program may have left several rows.
	TheCounter = "id = (SELECT min(id) FROM sales_manager_counter)"

	// Lock takes the rotation's lock and counts it in version.
	Lock = "UPDATE sales_manager_counter SET version = version + 1 WHERE " + TheCounter

	// Version reads how often the lock was taken.
	Version = "SELECT version FROM sales_manager_counter WHERE " + TheCounter

	joinActiveUsers    = ` AS u ON u.role_name = r.name AND u.is_active`
	whereSalesManagers = ` WHERE r.name = '` + cims.RoleSalesManager + `' AND r.is_active`
)

// ReadRotation returns a query for the state of the rotation and its members, in the order
// of their ids. Without members it has one row, with a NULL id.
func ReadRotation(users string) string {
	return `SELECT k.turn, k.ledger, k.last_assigned_index, s.* FROM (SELECT turn, ledger, last_assigned_index FROM sales_manager_counter WHERE ` + TheCounter + `) AS k
		LEFT JOIN (SELECT u.id, u.email, u.name, u.surname, COALESCE(m.weight, 1) AS weight, COALESCE(m.paused, FALSE) AS paused,
			COALESCE(m.assigned_leads_count, 0) AS leads, m.sales_manager_id IS NOT NULL AS has_row
			FROM user_role AS r JOIN ` + users + joinActiveUsers + " LEFT JOIN sales_manager_rotation AS m ON m.sales_manager_id = u.id" + whereSalesManagers + `) AS s ON TRUE ORDER BY s.id`
}

// insertMissingMembers returns a statement that inserts the rows of members without one.
func insertMissingMembers(users string) string {
	return `INSERT INTO sales_manager_rotation (sales_manager_id) SELECT u.id FROM user_role AS r JOIN ` + users + joinActiveUsers + whereSalesManagers + `
		AND NOT EXISTS (SELECT 1 FROM sales_manager_rotation AS m WHERE m.sales_manager_id = u.id) ON CONFLICT (sales_manager_id) DO NOTHING`
}

// MembersDigest returns a query for a text that identifies the members of the rotation. The
// state is unchanged if both the digest and the version are unchanged. A host may change
// its users without the lock, but weights and pauses change only under the lock.
func MembersDigest(users string) string {
	return `SELECT COALESCE(string_agg(concat_ws(' ', u.id, u.email, u.name, u.surname), ',' ORDER BY u.id), '') FROM user_role AS r JOIN ` + users + joinActiveUsers + whereSalesManagers
}

// errNoCounter reports that another program has deleted the row that the rotation needs.
// Without that row there is no lock.
var errNoCounter = &cims.Error{Kind: cims.ErrUnavailable, Err: errors.New("sales_manager_counter is empty: run Repair")}

// NeedsCounter returns the error of a query for the row of sales_manager_counter, or
// cims.ErrUnavailable if that row is missing.
func NeedsCounter(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return errNoCounter
	}
	return err
}

// ScanRotation reads the rows of ReadRotation. It returns cims.ErrUnavailable if there are
// none.
func ScanRotation(rows Rows) (cims.Rotation, error) {
	r, ledger := cims.Rotation{People: map[int64]cims.Person{}}, "[]"
	var lastIndex sql.Null[int64] // of the older program
	var known []bool
	counter := false
	for rows.Next() {
		counter = true
		var id sql.Null[int64] // NULL if there are no members
		var email, name, surname sql.Null[string]
		var weight, leads sql.Null[int]
		var paused, hasRow sql.Null[bool]
		if err := rows.Scan(&r.Turn, &ledger, &lastIndex, &id, &email, &name, &surname, &weight, &paused, &leads, &hasRow); err != nil {
			return cims.Rotation{}, err
		}
		if id.Valid {
			r.Members = append(r.Members, rotation.Member{ID: id.V, Weight: weight.V, Paused: paused.V, Leads: leads.V})
			r.People[id.V] = cims.Person{ID: id.V, Email: email.V, Name: name.V, Surname: surname.V}
			known = append(known, hasRow.V)
		}
	}
	if err := rows.Err(); err != nil {
		return cims.Rotation{}, err
	}
	if !counter {
		return cims.Rotation{}, errNoCounter
	}
	if r.Turn == 0 && lastIndex.V >= 0 {
		continueAfter(r.Members, lastIndex.V)
	}
	return r, parseLedger(r.Members, known, ledger)
}

// continueAfter orders members without leads as the older program would take them: by id,
// beginning after the member at lastIndex.
func continueAfter(members []rotation.Member, lastIndex int64) {
	n := int64(len(members))
	for i := range members {
		last := (lastIndex - int64(i)) % n // number of turns since its last one
		members[i].LastTurn = -1 - (last+n)%n
	}
}

// Rotation implements cims.Reader.
func (q *queries) Rotation(ctx context.Context) (rotation cims.Rotation, err error) {
	conn, done, err := q.connection(ctx)
	if err != nil {
		return rotation, err
	}
	defer done()
	rows, err := q.Prepared(ctx, conn, ReadRotation(q.user))
	if err != nil {
		return rotation, q.explain(err)
	}
	defer func() { err = q.explain(errors.Join(err, rows.Close())) }()
	return ScanRotation(rows)
}

// LockRotation implements cims.Tx. The lock is a separate statement, so that the read that
// follows sees the commit of the previous holder.
func (q tx) LockRotation(ctx context.Context) (cims.Rotation, error) {
	if _, err := q.exec(ctx, Lock); err != nil {
		return cims.Rotation{}, err
	}
	return q.Rotation(ctx)
}

// SaveRotation implements cims.Tx.
func (q tx) SaveRotation(ctx context.Context, state cims.Rotation) error {
	// A credit is valid only while the member has a row. A later user with the same id
	// doesn't inherit it.
	if _, err := q.exec(ctx, insertMissingMembers(q.user)); err != nil {
		return err
	}
	_, err := q.exec(ctx, "UPDATE sales_manager_counter SET turn = ?, ledger = ? WHERE "+TheCounter, state.Turn, FormatLedger(state.Members))
	return err
}

// SaveMember implements cims.Tx.
func (q tx) SaveMember(ctx context.Context, m rotation.Member) error {
	row := table{name: memberTable, columns: []string{memberID, "weight", "paused"}}
	row.add(m.ID, m.Weight, m.Paused)
	query, args := q.insert(row, onMember+"weight = excluded.weight, paused = excluded.paused")
	_, err := q.exec(ctx, query, args...)
	return err
}

const (
	memberTable = "sales_manager_rotation"
	memberID    = "sales_manager_id"
	onMember    = "ON CONFLICT (" + memberID + ") DO UPDATE SET "
)

// CountLeads implements cims.Tx. It locks rows in the order of the ids.
func (q tx) CountLeads(ctx context.Context, gained map[int64]int) error {
	counts := table{name: memberTable, columns: []string{memberID, "assigned_leads_count"}}
	for _, id := range slices.Sorted(maps.Keys(gained)) {
		counts.add(id, gained[id])
	}
	if len(counts.rows) == 0 {
		return nil
	}
	query, args := q.insert(counts, onMember+"assigned_leads_count = sales_manager_rotation.assigned_leads_count + excluded.assigned_leads_count")
	_, err := q.exec(ctx, query, args...)
	return err
}

// ChangeOwners implements cims.Tx.
func (q tx) ChangeOwners(ctx context.Context, changes []cims.OwnerChange) ([]cims.Assignment, error) {
	if len(changes) == 0 {
		return nil, nil
	}
	gained := map[int64]int{}
	for _, c := range changes {
		if c.From != nil {
			gained[*c.From]--
		}
		if c.To != nil {
			gained[*c.To]++
		}
	}
	if err := q.CountLeads(ctx, gained); err != nil {
		return nil, err
	}
	assignments, err := q.saveOwners(ctx, changes)
	if err != nil {
		return nil, err
	}
	return assignments, q.saveTraces(ctx, changes)
}

// saveOwners stores the new owners of customers, and the customers that wait for one.
func (q tx) saveOwners(ctx context.Context, changes []cims.OwnerChange) ([]cims.Assignment, error) {
	owned := table{name: "sales_manager_assignment", columns: []string{
		"customer_id", "sales_manager_id", "assigned_at", "assigned_by", "is_active", "customer_created_at", "cims_version",
	}}
	waiting := table{name: "cims_unassigned", columns: []string{"customer_id", "customer_created_at", "waiting"}}
	var lost, found []int64
	for _, c := range changes {
		switch {
		case c.To == nil:
			waiting.add(c.CustomerID, c.CustomerCreatedAt, true)
			if c.From != nil {
				lost = append(lost, c.CustomerID)
			}
			continue
		case c.From == nil:
			found = append(found, c.CustomerID)
		}
		owned.add(c.CustomerID, *c.To, c.At, assignedBy(c), true, c.CustomerCreatedAt, 1)
	}
	if len(lost) > 0 {
		if _, err := q.exec(ctx, "UPDATE sales_manager_assignment SET is_active = FALSE, cims_version = cims_version + 1 WHERE customer_id IN (?)", bun.List(lost)); err != nil {
			return nil, err
		}
	}
	if len(found) > 0 {
		if _, err := q.exec(ctx, "DELETE FROM cims_unassigned WHERE customer_id IN (?)", bun.List(found)); err != nil {
			return nil, err
		}
	}
	if len(waiting.rows) > 0 {
		query, args := q.insert(waiting, "ON CONFLICT (customer_id) DO UPDATE SET waiting = excluded.waiting")
		if _, err := q.exec(ctx, query, args...); err != nil {
			return nil, err
		}
	}
	ids := map[int64]int64{}
	if len(owned.rows) > 0 {
		query, args := q.insert(owned, `ON CONFLICT (customer_id) DO UPDATE SET sales_manager_id = excluded.sales_manager_id,
			assigned_at = excluded.assigned_at, assigned_by = excluded.assigned_by, is_active = excluded.is_active,
			customer_created_at = excluded.customer_created_at, cims_version = sales_manager_assignment.cims_version + 1 RETURNING id, customer_id`)
		stored, err := rows[struct{ ID, CustomerID int64 }](ctx, q.queries, query, args...)
		if err != nil {
			return nil, err
		}
		for _, s := range stored {
			ids[s.CustomerID] = s.ID
		}
	}
	assignments := make([]cims.Assignment, len(changes))
	for i, c := range changes {
		if c.To != nil {
			assignments[i] = cims.Assignment{
				ID: ids[c.CustomerID], CustomerID: c.CustomerID, SalesManagerID: *c.To, AssignedAt: c.At, AssignedBy: assignedBy(c), Active: true,
			}
		}
	}
	return assignments, nil
}

// assignedBy returns nil where the rotation decided, even if a user asked it to.
func assignedBy(c cims.OwnerChange) *int64 {
	if c.Cause != cims.CauseManual && c.Cause != cims.CauseOwn {
		return nil
	}
	return c.By
}

// saveTraces stores the history of the changes and the update time of the customers.
func (q tx) saveTraces(ctx context.Context, changes []cims.OwnerChange) error {
	history := table{name: "assignment_history", columns: []string{
		"customer_id", "from_manager_id", "to_manager_id", "cause", "changed_by", "changed_at",
	}}
	updated := map[time.Time][]int64{}
	for _, c := range changes {
		if equal(c.From, c.To) {
			continue
		}
		history.add(c.CustomerID, c.From, c.To, c.Cause, c.By, c.At)
		updated[c.At] = append(updated[c.At], c.CustomerID)
	}
	for at, ids := range updated {
		if _, err := q.exec(ctx, q.dialect.Names.SQL("UPDATE {customer} SET {customer.updated_at} = ? WHERE {customer.id} IN (?)"), at, bun.List(ids)); err != nil {
			return err
		}
	}
	return q.execInsert(ctx, history)
}

func equal(a, b *int64) bool {
	return (a == nil) == (b == nil) && (a == nil || *a == *b)
}
