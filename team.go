package cims

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/cimskit/cims/rotation"
)

// SalesManager is an active user with the role sales_manager, and its place in the
// rotation.
type SalesManager struct {
	Person
	AssignedLeads int  `json:"assigned_leads_count"` // number of customers that it owns
	Weight        int  `json:"weight"`               // weight 2 gets twice as many leads as weight 1
	Paused        bool `json:"paused"`               // gets no leads from the rotation, keeps those it owns
}

// SalesManagerUpdate is the input of SetSalesManager. A nil field is left unchanged.
type SalesManagerUpdate struct {
	Weight *int // 1 to 100
	Paused *bool
}

// SalesManagers returns all active sales managers, ordered by name (code points),
// then id. Its cost doesn't grow with the number of leads. It needs leads:read or
// leads:read:own.
func (m *Manager) SalesManagers(ctx context.Context, actor Actor) ([]SalesManager, error) {
	if _, err := actor.leadScope(LeadsRead, LeadsReadOwn); err != nil {
		return nil, err
	}
	state, err := m.storage.Rotation(ctx)
	if err != nil {
		return nil, err
	}
	managers := make([]SalesManager, len(state.Members))
	for i, member := range state.Members {
		managers[i] = state.salesManager(member)
	}
	slices.SortFunc(managers, func(a, b SalesManager) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return managers, nil
}

func (r Rotation) salesManager(m rotation.Member) SalesManager {
	return SalesManager{Person: r.People[m.ID], AssignedLeads: m.Leads, Weight: m.Weight, Paused: m.Paused}
}

// NextSalesManagers returns the sales managers that would get the next n leads, 1 to
// 1000, if nothing else changes. It takes no turns. The result is empty if nobody is
// eligible. NextSalesManagers needs leads:read. It returns ErrInvalid for any other n.
func (m *Manager) NextSalesManagers(ctx context.Context, actor Actor, n int) ([]Person, error) {
	if err := actor.need(LeadsRead); err != nil {
		return nil, err
	}
	var check checks
	check.between("n", n, 1, 1000)
	if err := check.err(); err != nil {
		return nil, err
	}
	state, err := m.storage.Rotation(ctx)
	if err != nil {
		return nil, err
	}
	var people []Person
	for turns := policy.Batch(&state.State, m.now()); len(people) < n; {
		next := turns.Decide(rotation.Lead{})
		if next.Member == 0 {
			break
		}
		people = append(people, state.People[next.Member])
	}
	return people, nil
}

// SetSalesManager changes the weight of an active sales manager, or pauses or
// resumes it. After SetSalesManager returns, a paused one gets no leads from the
// rotation. It needs leads:assign. It returns ErrNotFound for an unknown sales
// manager, and ErrInvalid for invalid input.
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
		state, err := tx.LockRotation(ctx)
		if err != nil {
			return err
		}
		member := state.member(id)
		if member == nil {
			return notFound(EntitySalesManager, id)
		}
		before := state.salesManager(*member)
		member.Weight = valueOr(update.Weight, member.Weight)
		member.Paused = valueOr(update.Paused, member.Paused)
		manager = state.salesManager(*member)
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
