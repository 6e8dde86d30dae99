package storagetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

func (d *database) claim(t *testing.T, key cims.Key, expired time.Time) *cims.Key {
	t.Helper()
	var kept *cims.Key
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		var err error
		if kept, err = tx.ClaimKey(ctx, key, expired); err != nil || kept != nil {
			return err
		}
		return tx.SaveKey(ctx, key)
	})
	return kept
}

func contractKeys(t *testing.T, d *database) {
	at := recently.Add(7 * time.Microsecond)
	key := cims.Key{Scope: "user:1 customers", Key: "k-1", Fingerprint: "f", Result: []byte(`{"a":"Ў \\ ' \u0000"}`), At: at}
	require.Nil(t, d.claim(t, key, at.Add(-time.Hour)))

	again := key
	again.Fingerprint, again.Result, again.At = "other", nil, at.Add(time.Minute)
	require.Equal(t, &key, d.claim(t, again, at.Add(-time.Hour)))
	require.Equal(t, &key, d.claim(t, again, at), "as old as that, but not older")

	for _, other := range []cims.Key{
		{Scope: "user:2 customers", Key: "k-1", Fingerprint: "x", Result: []byte("2"), At: at},
		{Scope: "user:1 customers", Key: "K-1", Fingerprint: "x", Result: []byte("3"), At: at},
		{Scope: "user:1 customers ", Key: "k-1", Fingerprint: "x", Result: []byte("4"), At: at},
	} {
		require.Nil(t, d.claim(t, other, at.Add(-time.Hour)), "%q %q is another key", other.Scope, other.Key)
		require.Equal(t, &other, d.claim(t, other, at.Add(-time.Hour)))
	}

	again.Result = []byte("again")
	require.Nil(t, d.claim(t, again, at.Add(time.Microsecond)), "older than that: new")
	require.Equal(t, &again, d.claim(t, key, at))

	// A claim that is rolled back was none.
	failure := errors.New("no")
	fresh := cims.Key{Scope: "s", Key: "fresh", Fingerprint: "f", Result: []byte("r"), At: at}
	require.ErrorIs(t, d.Update(t.Context(), func(ctx context.Context, tx cims.Tx) error {
		if _, err := tx.ClaimKey(ctx, fresh, at); err != nil {
			return err
		}
		if err := tx.SaveKey(ctx, fresh); err != nil {
			return err
		}
		return failure
	}), failure)
	require.Nil(t, d.claim(t, fresh, at))
}

func contractForgetKeys(t *testing.T, d *database) {
	for i := range 10 {
		key := cims.Key{Scope: "s", Key: fmt.Sprint(i), Fingerprint: "f", Result: []byte("r"), At: recently.Add(time.Duration(i) * time.Second)}
		require.Nil(t, d.claim(t, key, recently.Add(-time.Hour)))
	}
	forget := func(limit int) int {
		var forgotten int
		d.update(t, func(ctx context.Context, tx cims.Tx) error {
			var err error
			forgotten, err = tx.ForgetKeys(ctx, recently.Add(7*time.Second), limit)
			return err
		})
		return forgotten
	}
	require.Equal(t, 4, forget(4))
	require.Equal(t, 3, forget(4))
	require.Zero(t, forget(4))
	for i := range 10 {
		kept := d.claim(t, cims.Key{Scope: "s", Key: fmt.Sprint(i), Fingerprint: "new", At: recently}, recently.Add(-time.Hour))
		require.Equal(t, i >= 7, kept != nil, "key %d", i)
	}
}
