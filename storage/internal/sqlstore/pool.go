package sqlstore

import (
	"sync"

	"github.com/cimskit/cims"
)

// SQL that both databases understand. What it reads as the users is written as
// Names.From does.
const (
	// TheCounter is the condition of the one row of sales_manager_counter that
	// counts: the rotation's lock and its turn. An older program may have
	// left several.
	TheCounter = "id = (SELECT min(id) FROM sales_manager_counter)"

	// Lock takes the rotation's lock, and leaves a trace of it.
	Lock = "UPDATE sales_manager_counter SET version = version + 1 WHERE " + TheCounter

	// Version is how often the lock was taken.
	Version = "SELECT version FROM sales_manager_counter WHERE " + TheCounter

	joinActiveUsers    = ` AS u ON u.role_name = r.name AND u.is_active`
	whereSalesManagers = ` WHERE r.name = '` + cims.RoleSalesManager + `' AND r.is_active`
)

// ReadRotation reads the state of the rotation and, if there are any, its members
// in the order of their ids.
func ReadRotation(users string) string {
	return `SELECT k.turn, k.ledger, k.last_assigned_index, s.* FROM (SELECT turn, ledger, last_assigned_index FROM sales_manager_counter WHERE ` + TheCounter + `) AS k
		LEFT JOIN (SELECT u.id, u.email, u.name, u.surname, COALESCE(m.weight, 1) AS weight, COALESCE(m.paused, FALSE) AS paused,
			COALESCE(m.assigned_leads_count, 0) AS leads, m.sales_manager_id IS NOT NULL AS has_row
			FROM user_role AS r JOIN ` + users + joinActiveUsers + " LEFT JOIN sales_manager_rotation AS m ON m.sales_manager_id = u.id" + whereSalesManagers + `) AS s ON TRUE ORDER BY s.id`
}

// insertMissingMembers makes the rows of members that have none.
func insertMissingMembers(users string) string {
	return `INSERT INTO sales_manager_rotation (sales_manager_id) SELECT u.id FROM user_role AS r JOIN ` + users + joinActiveUsers + whereSalesManagers + `
		AND NOT EXISTS (SELECT 1 FROM sales_manager_rotation AS m WHERE m.sales_manager_id = u.id) ON CONFLICT (sales_manager_id) DO NOTHING`
}

// MembersDigest reads a text that differs for different members of the rotation. The state
// is unchanged if the digest and the version are: a host may change its users without the
// lock, but weights and pauses change under it alone.
func MembersDigest(users string) string {
	return `SELECT COALESCE(string_agg(concat_ws(' ', u.id, u.email, u.name, u.surname), ',' ORDER BY u.id), '') FROM user_role AS r JOIN ` + users + joinActiveUsers + whereSalesManagers
}

// State is the rotation, with a version and a digest that change when it does.
type State struct {
	cims.Rotation
	Version int64
	Digest  string // of MembersDigest
}

// RotationCache keeps the state as a storage left it. It saves reading the state while no
// other process changes it.
type RotationCache struct {
	mu        sync.Mutex
	state     State
	known     bool
	contended bool // another process changes the state too: it will not hold
}

// Get returns the state, if it is likely to hold.
func (r *RotationCache) Get() (State, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state, r.known && !r.contended
}

// Observe takes note of the state as read under the lock. Another process has held the lock
// if the version rose by more than one.
func (r *RotationCache) Observe(state State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.contended = r.known && state.Version != r.state.Version+1
}

// Invalidate takes note that the state did not hold.
func (r *RotationCache) Invalidate() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.contended = true
}

// Advance takes note of a change of the state that was committed.
func (r *RotationCache) Advance(before State, after cims.Rotation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state, r.known = State{Rotation: after, Version: before.Version + 1, Digest: before.Digest}, true
}

// Gains returns how many leads each sales manager gets by a decision, with 0 for a
// member that has just joined: each of them has a row afterwards.
func Gains(before, after cims.Rotation, leads []*cims.Lead) map[int64]int64 {
	gained := map[int64]int64{}
	for i, m := range after.Members {
		if m.Present != 0 && before.Members[i].Present == 0 {
			gained[m.ID] = 0
		}
	}
	for _, lead := range leads {
		if owner := lead.Customer.SalesManager; owner != nil {
			gained[owner.ID]++
		}
	}
	return gained
}
