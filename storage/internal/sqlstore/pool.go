package sqlstore

import (
	"slices"
	"sync"

	"github.com/cimskit/cims"
)

// SQL that both databases understand. What it reads as the users is written as
// Names.From does.
const (
	// TheCounter is the condition of the one row of sales_manager_counter that
	// counts: the rotation's lock and its floor. An older program may have
	// left several.
	TheCounter = "id = (SELECT min(id) FROM sales_manager_counter)"

	// Lock takes the rotation's lock, and leaves a trace of it.
	Lock = "UPDATE sales_manager_counter SET version = version + 1 WHERE " + TheCounter

	// Version is how often the lock was taken.
	Version = "SELECT version FROM sales_manager_counter WHERE " + TheCounter

	joinActiveUsers    = ` AS u ON u.role_name = r.name AND u.is_active`
	whereSalesManagers = ` WHERE r.name = '` + cims.RoleSalesManager + `' AND r.is_active`
)

// ReadRotation reads the floor, the turn and, if there are any, the members.
func ReadRotation(users string) string {
	return `SELECT k.floor, k.turn, s.* FROM (SELECT floor, turn FROM sales_manager_counter WHERE ` + TheCounter + `) AS k
		LEFT JOIN (SELECT u.id, u.email, u.name, u.surname, COALESCE(m.virtual_time, 0) AS virtual_time, COALESCE(m.last_turn, 0) AS last_turn,
			COALESCE(m.weight, 1) AS weight, COALESCE(m.paused, FALSE) AS paused, COALESCE(m.assigned_leads_count, 0) AS leads
			FROM user_role AS r JOIN ` + users + joinActiveUsers + " LEFT JOIN sales_manager_rotation AS m ON m.sales_manager_id = u.id" + whereSalesManagers + `) AS s ON TRUE`
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
func (r *RotationCache) Advance(before State, changed cims.Rotation, version int64) {
	after := before
	after.Version, after.Floor, after.Turn = version, changed.Floor, changed.Turn
	after.Members = slices.Clone(before.Members)
	for i, m := range after.Members {
		if j := slices.IndexFunc(changed.Members, func(c cims.Member) bool { return c.ID == m.ID }); j >= 0 {
			after.Members[i] = changed.Members[j]
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state, r.known = after, true
}
