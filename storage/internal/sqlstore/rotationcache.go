package sqlstore

import (
	"sync"

	"github.com/cimskit/cims"
)

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
