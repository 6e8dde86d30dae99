package cims

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/cimskit/cims/rotation"
)

// SalesManager is an active user with the role sales_manager, and its place in
// the rotation.
type SalesManager struct {
	Person
	AssignedLeads int  `json:"assigned_leads_count"` // customers whose present sales manager this is
	Weight        int  `json:"weight"`               // of weight 2 gets two turns for the others' one
	Paused        bool `json:"paused"`               // keeps the leads, gets no new ones
}

// SalesManagerUpdate is the input of SetSalesManager. A nil field stays as it is.
type SalesManagerUpdate struct {
	Weight *int // 1 to 100
	Paused *bool
}

// SalesManagers lists the active sales managers by name (code points), then id.
// It needs leads:read or leads:read:own; either sees all. Its cost does not
// grow with the number of leads.
func (m *Manager) SalesManagers(ctx context.Context, actor Actor) ([]SalesManager, error) {
	if _, err := actor.leadScope(LeadsRead, LeadsReadOwn); err != nil {
		return nil, err
	}
	pool, err := m.storage.Rotation(ctx)
	if err != nil {
		return nil, err
	}
	managers := make([]SalesManager, len(pool.Members))
	for i, member := range pool.Members {
		managers[i] = pool.salesManager(member)
	}
	slices.SortFunc(managers, func(a, b SalesManager) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return managers, nil
}

func (r Rotation) salesManager(m rotation.Member) SalesManager {
	return SalesManager{Person: r.People[m.ID], AssignedLeads: m.Leads, Weight: m.Weight, Paused: m.Paused}
}

// NextSalesManagers tells who would get the next n leads (at most 1000), if
// nothing changes until then; nobody when none is eligible. It needs
// leads:read. It returns ErrInvalid for another n.
func (m *Manager) NextSalesManagers(ctx context.Context, actor Actor, n int) ([]Person, error) {
	if err := actor.need(LeadsRead); err != nil {
		return nil, err
	}
	var check checks
	check.between("n", n, 1, 1000)
	if err := check.err(); err != nil {
		return nil, err
	}
	pool, err := m.storage.Rotation(ctx)
	if err != nil {
		return nil, err
	}
	var people []Person
	for turns := policy.Batch(&pool.State, m.now()); len(people) < n; {
		next := turns.Decide(rotation.Lead{})
		if next.Member == 0 {
			break
		}
		people = append(people, pool.People[next.Member])
	}
	return people, nil
}

// SetSalesManager changes an active sales manager's weight, or pauses it. It
// needs leads:assign. Once a pause has returned, the manager gets no lead from
// the rotation. It returns ErrNotFound or ErrInvalid.
func (m *Manager) SetSalesManager(ctx context.Context, actor Actor, id int64, update SalesManagerUpdate) (SalesManager, error) {
	if err := actor.need(LeadsAssign); err != nil {
		return SalesManager{}, err
	}
	var check checks
	if update == (SalesManagerUpdate{}) {
		check.add("body", RuleNoField)
	}
	check.between("weight", valueOr(update.Weight, 1), 1, maxWeight)
	if err := check.err(); err != nil {
		return SalesManager{}, err
	}
	var manager SalesManager
	err := m.update(ctx, func(ctx context.Context, tx Tx) error {
		pool, err := tx.LockRotation(ctx)
		if err != nil {
			return err
		}
		member := pool.member(id)
		if member == nil {
			return notFound(EntitySalesManager, id)
		}
		before := pool.salesManager(*member)
		member.Weight = valueOr(update.Weight, member.Weight)
		member.Paused = valueOr(update.Paused, member.Paused)
		manager = pool.salesManager(*member)
		if manager == before {
			return nil
		}
		if err := tx.SaveMember(ctx, *member); err != nil {
			return err
		}
		return m.record(ctx, tx, actor, Change{Action: ActionUpdated, Entity: EntitySalesManager, EntityID: id, Before: before, After: manager})
	})
	if err != nil {
		return SalesManager{}, err
	}
	m.lookForWaiting()
	return manager, nil
}
