package storagetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

// lockTests let two transactions meet, each through its Storage.
var lockTests = []test{
	{"Locks_RotationOneAtATime", rotationLock},
	{"Locks_RotationStateIsReadAfterTheLock", rotationReadAfterLock},
	{"Locks_UseStatusWaitsForDeletion", useStatusWaits},
	{"Locks_DeletionWaitsForUseStatus", deleteStatusWaits},
	{"Locks_UseRoleWaitsForDeletion", useRoleWaits},
	{"Locks_DeletionWaitsForUseRole", deleteRoleWaits},
	{"Locks_CustomersOneAtATime", customerLock},
	{"Locks_ClaimedKeyIsWaitedFor", claimWaits},
	{"Locks_ClaimedKeyIsFreeAfterRollback", claimRolledBack},
	{"Locks_CrossedLocksAreSolved", crossedLocks},
}

// meet runs second while first, which has done hold, has not yet ended: second
// has begun, and had time to come as far as it can, before first does the rest.
func meet(
	t *testing.T, d *database,
	hold, rest, second func(ctx context.Context, tx cims.Tx) error,
) (firstErr, secondErr error) {
	t.Helper()
	other := d.open(t)
	holding := make(chan struct{})
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() {
		<-holding
		done <- other.Update(ctx, second)
	}()
	announced := false
	firstErr = d.Update(ctx, func(ctx context.Context, tx cims.Tx) error {
		if err := hold(ctx, tx); err != nil {
			return err
		}
		if !announced {
			announced = true
			close(holding)
		}
		time.Sleep(100 * time.Millisecond)
		return rest(ctx, tx)
	})
	if !announced {
		close(holding)
	}
	return firstErr, <-done
}

func rotationLock(t *testing.T, d *database) {
	const callers, rounds = 8, 25
	stores := []cims.Storage{d.Storage, d.open(t)}
	requireAll(t, together(callers, func(i int) error {
		for range rounds {
			err := stores[i%len(stores)].Update(t.Context(), func(ctx context.Context, tx cims.Tx) error {
				rotation, err := tx.LockRotation(ctx)
				if err != nil {
					return err
				}
				rotation.Turn++
				return tx.SaveRotation(ctx, rotation)
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	rotation, err := d.Rotation(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, callers*rounds, rotation.Turn, "none is lost")
}

func rotationReadAfterLock(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	var seen cims.Rotation
	first, second := meet(
		t, d,
		func(ctx context.Context, tx cims.Tx) error { _, err := tx.LockRotation(ctx); return err },
		func(ctx context.Context, tx cims.Tx) error {
			left := sellers[0]
			left.Active = false
			if err := tx.UpdateUser(ctx, left); err != nil {
				return err
			}
			state, err := tx.Rotation(ctx)
			if err != nil {
				return err
			}
			state.Turn = 9
			return tx.SaveRotation(ctx, state)
		},
		func(ctx context.Context, tx cims.Tx) error {
			// Something before, so that a snapshot could be too old.
			if _, err := tx.Statuses(ctx); err != nil {
				return err
			}
			var err error
			seen, err = tx.LockRotation(ctx)
			return err
		},
	)
	require.NoError(t, first)
	require.NoError(t, second)
	require.EqualValues(t, 9, seen.Turn)
	require.Len(t, seen.Members, 1, "who has left before the lock was taken is not in it")
	require.Equal(t, sellers[1].ID, seen.Members[0].ID)
}

func useStatusWaits(t *testing.T, d *database) {
	status := d.status(t, "leaving")
	first, second := meet(
		t, d,
		func(ctx context.Context, tx cims.Tx) error { _, err := tx.LockStatus(ctx, status.ID); return err },
		func(ctx context.Context, tx cims.Tx) error { return tx.DeleteStatus(ctx, status.ID) },
		func(ctx context.Context, tx cims.Tx) error { _, err := tx.UseStatus(ctx, "leaving"); return err },
	)
	require.NoError(t, first)
	require.ErrorIs(t, second, cims.ErrNotFound)
}

func deleteStatusWaits(t *testing.T, d *database) {
	status := d.status(t, "staying")
	first, second := meet(
		t, d,
		func(ctx context.Context, tx cims.Tx) error { _, err := tx.UseStatus(ctx, "staying"); return err },
		func(ctx context.Context, tx cims.Tx) error {
			_, err := insertCustomers(ctx, tx, cims.Customer{StatusName: "staying"})
			return err
		},
		func(ctx context.Context, tx cims.Tx) error {
			if _, err := tx.LockStatus(ctx, status.ID); err != nil {
				return err
			}
			if n, err := tx.CountCustomers(ctx, "staying", 5); err != nil || n != 1 {
				return fmt.Errorf("%d customers counted: %w", n, err)
			}
			return tx.DeleteStatus(ctx, status.ID)
		},
	)
	require.NoError(t, first)
	require.ErrorIs(t, second, cims.ErrInUse)
	d.statusNamed(t, "staying")
}

func useRoleWaits(t *testing.T, d *database) {
	role, err := d.crm.CreateRole(t.Context(), system, cims.NewRole{Name: "leaving", DisplayName: "Leaving"})
	require.NoError(t, err)
	first, second := meet(
		t, d,
		func(ctx context.Context, tx cims.Tx) error { _, err := tx.LockRole(ctx, role.ID); return err },
		func(ctx context.Context, tx cims.Tx) error { return tx.DeleteRole(ctx, role.ID) },
		func(ctx context.Context, tx cims.Tx) error { _, err := tx.UseRole(ctx, "leaving"); return err },
	)
	require.NoError(t, first)
	require.ErrorIs(t, second, cims.ErrNotFound)
}

func deleteRoleWaits(t *testing.T, d *database) {
	role, err := d.crm.CreateRole(t.Context(), system, cims.NewRole{Name: "staying", DisplayName: "Staying"})
	require.NoError(t, err)
	first, second := meet(
		t, d,
		func(ctx context.Context, tx cims.Tx) error { _, err := tx.UseRole(ctx, "staying"); return err },
		func(ctx context.Context, tx cims.Tx) error {
			_, err := tx.InsertUser(ctx, cims.User{Email: "a@example.com", Name: "A", Surname: "A", RoleName: "staying"})
			return err
		},
		func(ctx context.Context, tx cims.Tx) error {
			if _, err := tx.LockRole(ctx, role.ID); err != nil {
				return err
			}
			return tx.DeleteRole(ctx, role.ID)
		},
	)
	require.NoError(t, first)
	require.ErrorIs(t, second, cims.ErrInUse)
	d.roleNamed(t, "staying")
}

// customerLock: each change goes on from where the one before has left the
// customer, so that the history is one chain.
func customerLock(t *testing.T, d *database) {
	const callers, rounds = 6, 15
	lead := d.lead(t, "Aziza")
	stores := []cims.Storage{d.Storage, d.open(t)}
	steps := map[string]string{"contacted": "continuing", "continuing": "finished", "finished": "contacted"}
	requireAll(t, together(callers, func(i int) error {
		for range rounds {
			err := stores[i%len(stores)].Update(t.Context(), func(ctx context.Context, tx cims.Tx) error {
				locked, err := tx.LockCustomers(ctx, []int64{lead.ID})
				if err != nil {
					return err
				}
				c := locked[0]
				return tx.ChangeStatuses(ctx, []cims.StatusChange{{
					CustomerID: c.ID, From: c.StatusName, To: steps[c.StatusName],
					Cause: cims.CauseManual, At: c.UpdatedAt.Add(time.Microsecond),
				}})
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	events := d.history(t, lead.ID)
	require.Len(t, events, 1+callers*rounds)
	for i, event := range events[1:] {
		require.Equal(t, events[i].ToStatus, event.FromStatus)
		require.Equal(t, lead.CreatedAt.Add(time.Duration(i+1)*time.Microsecond), event.At)
	}
	require.Equal(t, events[len(events)-1].ToStatus, d.customer(t, lead.ID).StatusName)
}

func claimWaits(t *testing.T, d *database) {
	key := cims.Key{Scope: "s", Key: "k", Fingerprint: "f", Result: []byte("first"), At: recently}
	var kept *cims.Key
	first, second := meet(
		t, d,
		func(ctx context.Context, tx cims.Tx) error {
			kept, err := tx.ClaimKey(ctx, key, recently)
			if kept != nil {
				return errors.New("kept before it was claimed")
			}
			return err
		},
		func(ctx context.Context, tx cims.Tx) error { return tx.SaveKey(ctx, key) },
		func(ctx context.Context, tx cims.Tx) error {
			var err error
			kept, err = tx.ClaimKey(ctx, cims.Key{Scope: "s", Key: "k", Fingerprint: "g", At: recently}, recently)
			return err
		},
	)
	require.NoError(t, first)
	require.NoError(t, second)
	require.Equal(t, &key, kept)
}

func claimRolledBack(t *testing.T, d *database) {
	failure := errors.New("no")
	claim := func(ctx context.Context, tx cims.Tx) error {
		kept, err := tx.ClaimKey(ctx, cims.Key{Scope: "s", Key: "k", Fingerprint: "f", At: recently}, recently)
		if kept != nil {
			return errors.New("kept although nobody has kept it")
		}
		return err
	}
	first, second := meet(t, d, claim, func(context.Context, cims.Tx) error { return failure }, claim)
	require.ErrorIs(t, first, failure)
	require.NoError(t, second)
}

// crossedLocks: two transactions take two locks in opposite order. The database
// ends one of them; Update repeats it, and both succeed.
func crossedLocks(t *testing.T, d *database) {
	one, two := d.status(t, "one"), d.status(t, "two")
	change := func(text string, statuses ...cims.Status) func(ctx context.Context, tx cims.Tx) error {
		return func(ctx context.Context, tx cims.Tx) error {
			for _, status := range statuses {
				locked, err := tx.LockStatus(ctx, status.ID)
				if err != nil {
					return err
				}
				locked.Description += cims.Text(text)
				if err := tx.UpdateStatus(ctx, locked); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for range 2 {
		first, second := meet(t, d, change("a", one), change("a", two), change("b", two, one))
		require.NoError(t, first)
		require.NoError(t, second)
	}
	for _, name := range []string{"one", "two"} {
		text := string(d.statusNamed(t, name).Description)
		require.Equal(t, 2, strings.Count(text, "a"), "each change is in %q, once", text)
		require.Equal(t, 2, strings.Count(text, "b"), "each change is in %q, once", text)
	}
}
