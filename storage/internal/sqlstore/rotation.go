package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"time"

	"github.com/uptrace/bun"

	"github.com/cimskit/cims"
)

// ScanRotation reads what ReadRotation returns.
func ScanRotation(rows Rows) (cims.Rotation, error) {
	var rotation cims.Rotation
	for rows.Next() {
		var m cims.Member
		var id sql.Null[int64] // of no member: there is none
		var email, name, surname sql.Null[string]
		var virtualTime, lastTurn sql.Null[int64]
		var weight, leads sql.Null[int]
		var paused sql.Null[bool]
		err := rows.Scan(&rotation.Floor, &rotation.Turn, &id, &email, &name, &surname, &virtualTime, &lastTurn, &weight, &paused, &leads)
		if err != nil {
			return cims.Rotation{}, err
		}
		if id.Valid {
			m.Person = cims.Person{ID: id.V, Email: email.V, Name: name.V, Surname: surname.V}
			m.VirtualTime, m.LastTurn, m.Weight, m.Paused, m.Leads = virtualTime.V, lastTurn.V, weight.V, paused.V, leads.V
			rotation.Members = append(rotation.Members, m)
		}
	}
	return rotation, rows.Err()
}

// Rotation implements cims.Reader.
func (q *queries) Rotation(ctx context.Context) (rotation cims.Rotation, err error) {
	conn, err := q.connection(ctx)
	if err != nil {
		return rotation, err
	}
	rows, err := q.Prepared(ctx, conn, ReadRotation(q.user))
	if err != nil {
		return rotation, q.explain(err)
	}
	defer func() { err = q.explain(errors.Join(err, rows.Close())) }()
	rotation, err = ScanRotation(rows)
	return rotation, errors.Join(err, rows.Err())
}

// LockRotation implements cims.Tx. The lock is a statement of its own, so that
// what is read after it is read after whoever held it before has committed.
func (q tx) LockRotation(ctx context.Context) (cims.Rotation, error) {
	if _, err := q.exec(ctx, Lock); err != nil {
		return cims.Rotation{}, err
	}
	return q.Rotation(ctx)
}

// SaveRotation implements cims.Tx.
func (q tx) SaveRotation(ctx context.Context, state cims.Rotation, gained map[int64]int, changes []cims.OwnerChange) ([]cims.Assignment, error) {
	won := maps.Clone(gained)
	if won == nil {
		won = map[int64]int{}
	}
	for _, c := range changes {
		if c.From != nil {
			won[*c.From]--
		}
		if c.To != nil {
			won[*c.To]++
		}
	}
	if err := q.saveMembers(ctx, state, won); err != nil {
		return nil, err
	}
	assignments, err := q.saveOwners(ctx, changes)
	if err != nil {
		return nil, err
	}
	return assignments, q.saveTraces(ctx, changes)
}

// saveMembers stores the rotation's state and how many leads each manager has
// won or lost.
func (q tx) saveMembers(ctx context.Context, state cims.Rotation, won map[int64]int) error {
	if _, err := q.exec(ctx, "UPDATE sales_manager_counter SET floor = ?, turn = ? WHERE "+TheCounter, state.Floor, state.Turn); err != nil {
		return err
	}
	const columns, set = "sales_manager_id", " ON CONFLICT (sales_manager_id) DO UPDATE SET "
	const addLeads = "assigned_leads_count = sales_manager_rotation.assigned_leads_count + excluded.assigned_leads_count"
	turns := table{name: "sales_manager_rotation", columns: []string{columns, "virtual_time", "last_turn", "weight", "paused", "assigned_leads_count"}}
	for _, m := range state.Members {
		turns.add(m.ID, m.VirtualTime, m.LastTurn, m.Weight, m.Paused, won[m.ID])
		delete(won, m.ID)
	}
	if len(turns.rows) > 0 {
		query, args := q.insert(turns, set+"virtual_time = excluded.virtual_time, last_turn = excluded.last_turn, weight = excluded.weight, paused = excluded.paused, "+addLeads)
		if _, err := q.exec(ctx, query, args...); err != nil {
			return err
		}
	}
	counts := table{name: "sales_manager_rotation", columns: []string{columns, "assigned_leads_count"}}
	for id, leads := range won {
		counts.add(id, leads)
	}
	if len(counts.rows) == 0 {
		return nil
	}
	query, args := q.insert(counts, set+addLeads)
	_, err := q.exec(ctx, query, args...)
	return err
}

// saveOwners stores who has each customer now, and who waits.
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

// assignedBy is nobody where the rotation decided, whoever told it to.
func assignedBy(c cims.OwnerChange) *int64 {
	if c.Cause != cims.CauseManual {
		return nil
	}
	return c.By
}

// saveTraces stores the history of the changes and the time of the customers'
// update.
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
