package sqlstore

import (
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

	active = ` AS u ON u.role_name = r.name AND u.is_active`
	theirs = ` WHERE r.name = '` + cims.RoleSalesManager + `' AND r.is_active`
)

// ReadRotation reads the state of the rotation and, if there are any, its members
// in the order of their ids.
func ReadRotation(users string) string {
	return `SELECT k.turn, k.ledger, k.last_assigned_index, s.* FROM (SELECT turn, ledger, last_assigned_index FROM sales_manager_counter WHERE ` + TheCounter + `) AS k
		LEFT JOIN (SELECT u.id, u.email, u.name, u.surname, COALESCE(m.weight, 1) AS weight, COALESCE(m.paused, FALSE) AS paused,
			COALESCE(m.assigned_leads_count, 0) AS leads, m.sales_manager_id IS NOT NULL AS has_row
			FROM user_role AS r JOIN ` + users + active + " LEFT JOIN sales_manager_rotation AS m ON m.sales_manager_id = u.id" + theirs + `) AS s ON TRUE ORDER BY s.id`
}

// insertMissingMembers makes the rows of members that have none.
func insertMissingMembers(users string) string {
	return `INSERT INTO sales_manager_rotation (sales_manager_id) SELECT u.id FROM user_role AS r JOIN ` + users + active + theirs + `
		AND NOT EXISTS (SELECT 1 FROM sales_manager_rotation AS m WHERE m.sales_manager_id = u.id) ON CONFLICT (sales_manager_id) DO NOTHING`
}

// Pool tells the rotation's members apart from any others, in a text. With
// the version it says whether the state is what it was: a host may change
// its users without the lock, but weights and pauses change under it alone.
func Pool(users string) string {
	return `SELECT COALESCE(string_agg(concat_ws(' ', u.id, u.email, u.name, u.surname), ',' ORDER BY u.id), '') FROM user_role AS r JOIN ` + users + active + theirs
}

// State is the rotation with what tells whether it still is so.
type State struct {
	cims.Rotation
	Version int64
	Pool    string
}

// Remembered is the state as a storage left it, to be tried again: it saves
// reading it while nobody else has moved it.
type Remembered struct {
	mu        sync.Mutex
	state     State
	known     bool
	contended bool // somebody else is at work too: it will not hold
}

// Guess returns what is remembered, if it is likely to hold.
func (r *Remembered) Guess() (State, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state, r.known && !r.contended
}

// Read takes note of what was read under the lock: whether somebody else has
// held it since.
func (r *Remembered) Read(state State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.contended = r.known && state.Version != r.state.Version+1
}

// Lost takes note that what was remembered did not hold.
func (r *Remembered) Lost() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.contended = true
}

// Left takes note of what a state was changed to, and committed.
func (r *Remembered) Left(before State, after cims.Rotation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state, r.known = State{Rotation: after, Version: before.Version + 1, Pool: before.Pool}, true
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
