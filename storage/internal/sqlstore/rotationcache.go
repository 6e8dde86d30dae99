package sqlstore

import (
	"sync"

	"github.com/cimskit/cims"
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

// State is the rotation with a version and a digest. One of them changes when it changes.
type State struct {
	cims.Rotation
	Version int64
	Digest  string // of MembersDigest
}

// RotationCache keeps the state as this Storage last wrote it. Reading the state again is
// unnecessary while no other process changes it.
type RotationCache struct {
	mu        sync.Mutex
	state     State
	known     bool
	contended bool // another process changes the state too, so the cache is useless
}

// Get returns the state and reports whether it is likely to be current.
func (r *RotationCache) Get() (State, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state, r.known && !r.contended
}

// Observe records the state as read under the lock. If the version has risen by more than
// one, another process has held the lock.
func (r *RotationCache) Observe(state State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.contended = r.known && state.Version != r.state.Version+1
}

// Invalidate records that the state was not current.
func (r *RotationCache) Invalidate() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.contended = true
}

// Advance records a committed change of the state.
func (r *RotationCache) Advance(before State, after cims.Rotation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state, r.known = State{Rotation: after, Version: before.Version + 1, Digest: before.Digest}, true
}

// Gains returns how many leads each sales manager gets by a decision. It includes new
// members with 0, since each of these needs a row too.
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
