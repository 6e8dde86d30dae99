package storagetest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

var idempotencyTests = []test{
	{"Idempotency_SameAgain", sameAgain},
	{"Idempotency_OtherInput", otherInput},
	{"Idempotency_OtherActor", otherActor},
	{"Idempotency_Expires", keyExpires},
	{"Idempotency_FailureKeepsNothing", failureKeepsNothing},
	{"Idempotency_AllAtOnce", sameAllAtOnce},
	{"Idempotency_OldKeysAreForgotten", keysForgotten},
	{"Idempotency_OutlivesNewFields", keptBeforeNewFields},
}

func sameAgain(t *testing.T, d *database) {
	d.sellers(t, "Anvar", "Botir")
	in := cims.NewCustomer{FullName: "Aziza 😀", Notes: "a\n\"b\"", StatusName: "finished", IdempotencyKey: "!~key"}
	first, err := d.crm.AddCustomer(t.Context(), system, in)
	require.NoError(t, err)
	// Later changes are not in the first answer.
	_, err = d.crm.SetStatus(t.Context(), system, first.ID, "rejected", "")
	require.NoError(t, err)
	d.clock.add(23 * time.Hour)
	again := in
	again.FullName, again.StatusName = " Aziza 😀 ", "FINISHED" // the same after normalization
	for _, crm := range []*cims.Manager{d.crm, d.manager(t, d.open(t), nil)} {
		for range 2 {
			got, err := crm.AddCustomer(t.Context(), system, again)
			require.NoError(t, err)
			require.Equal(t, first, got)
		}
	}
	require.Len(t, d.customers(t, cims.CustomerFilter{}), 1)
	rotation, err := d.Rotation(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, rotation.Turn, "a repetition takes no turn")
	require.Len(t, d.history(t, first.ID), 3)
}

func otherInput(t *testing.T, d *database) {
	in := cims.NewCustomer{FullName: "Aziza", PhoneNumber: "1", Platform: "2", Username: "3", Notes: "4", StatusName: "finished", IdempotencyKey: "k"}
	_, err := d.crm.AddCustomer(t.Context(), system, in)
	require.NoError(t, err)
	for _, change := range []func(*cims.NewCustomer){
		func(c *cims.NewCustomer) { c.FullName = "Azizə" },
		func(c *cims.NewCustomer) { c.PhoneNumber = "" },
		func(c *cims.NewCustomer) { c.Platform = "3" },
		func(c *cims.NewCustomer) { c.Username = "2" },
		func(c *cims.NewCustomer) { c.Notes = "4 " },
		func(c *cims.NewCustomer) { c.StatusName = "rejected" },
		func(c *cims.NewCustomer) { c.StatusName = "" },
	} {
		other := in
		change(&other)
		_, err := d.crm.AddCustomer(t.Context(), system, other)
		require.ErrorIs(t, err, cims.ErrKeyReused, "%+v", other)
	}
	in.IdempotencyKey = "K"
	_, err = d.crm.AddCustomer(t.Context(), system, in)
	require.NoError(t, err, "another key")
	in.IdempotencyKey = ""
	_, err = d.crm.AddCustomer(t.Context(), system, in)
	require.NoError(t, err, "no key")
	require.Len(t, d.customers(t, cims.CustomerFilter{}), 3)
}

func otherActor(t *testing.T, d *database) {
	actors := []cims.Actor{
		d.actor(t, cims.RoleCEO, "One"), d.actor(t, cims.RoleCEO, "Two"), system, cims.System("another"), cims.System(""),
	}
	seen := map[int64]bool{}
	for range 2 {
		for _, actor := range actors {
			customer, err := d.crm.AddCustomer(t.Context(), actor, cims.NewCustomer{FullName: "Aziza", IdempotencyKey: "k"})
			require.NoError(t, err)
			seen[customer.ID] = true
		}
	}
	require.Len(t, seen, len(actors), "each has keys of its own")
}

func keyExpires(t *testing.T, d *database) {
	d.clock.stop()
	add := func(name string) (int64, error) {
		customer, err := d.crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: name, IdempotencyKey: "k"})
		return customer.ID, err
	}
	first, err := add("Aziza")
	require.NoError(t, err)
	d.clock.add(24 * time.Hour)
	again, err := add("Aziza")
	require.NoError(t, err)
	require.Equal(t, first, again, "within 24 hours")
	d.clock.add(time.Microsecond)
	second, err := add("Somebody else")
	require.NoError(t, err, "after 24 hours the key is free")
	require.NotEqual(t, first, second)
	d.clock.add(time.Hour)
	again, err = add("Somebody else")
	require.NoError(t, err)
	require.Equal(t, second, again, "its 24 hours are counted anew")
	_, err = add("Aziza")
	require.ErrorIs(t, err, cims.ErrKeyReused)
}

// failureKeepsNothing: a refusal is no answer that is kept.
func failureKeepsNothing(t *testing.T, d *database) {
	in := cims.NewCustomer{FullName: "Aziza", StatusName: "later", IdempotencyKey: "k"}
	_, err := d.crm.AddCustomer(t.Context(), system, in)
	requireInvalid(t, err, "status_name:unknown")
	d.status(t, "later")
	_, err = d.crm.AddCustomer(t.Context(), system, in)
	require.NoError(t, err)
	require.Len(t, d.customers(t, cims.CustomerFilter{}), 1)
}

func sameAllAtOnce(t *testing.T, d *database) {
	d.sellers(t, "Anvar", "Botir")
	const callers, rounds = 8, 10
	managers := []*cims.Manager{d.crm, d.manager(t, d.open(t), nil)}
	for round := range rounds {
		var answers [callers]cims.Customer
		requireAll(t, together(callers, func(i int) error {
			var err error
			answers[i], err = managers[i%2].AddCustomer(t.Context(), system, cims.NewCustomer{
				FullName: "Aziza", IdempotencyKey: fmt.Sprintf("round-%d", round),
			})
			return err
		}))
		for i := range answers {
			require.Equal(t, answers[0], answers[i])
		}
		require.Equal(t, answers[0], d.customer(t, answers[0].ID))
	}
	require.Len(t, d.customers(t, cims.CustomerFilter{}), rounds)
	rotation, err := d.Rotation(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, rounds, rotation.Turn)
}

func keysForgotten(t *testing.T, d *database) {
	old := cims.Key{Scope: "s", Key: "old", Fingerprint: "f", Result: []byte("r"), At: d.clock.now().Add(-25 * time.Hour)}
	young := cims.Key{Scope: "s", Key: "young", Fingerprint: "f", Result: []byte("r"), At: d.clock.now().Add(-23 * time.Hour)}
	for _, key := range []cims.Key{old, young} {
		require.Nil(t, d.claim(t, key, key.At))
	}
	// A look that leaves all as it is: the transaction fails.
	kept := func(key cims.Key) bool {
		var kept *cims.Key
		_ = d.Update(t.Context(), func(ctx context.Context, tx cims.Tx) error {
			var err error
			if kept, err = tx.ClaimKey(ctx, key, key.At); err != nil {
				return err
			}
			return context.Canceled
		})
		return kept != nil
	}
	d.manager(t, d.Storage, &cims.Config{WaitingInterval: 10 * time.Millisecond})
	eventually(t, "old keys are forgotten", func() bool { return !kept(old) })
	require.True(t, kept(young))
}

// keptBeforeNewFields: the fingerprint and the answer are as a program of another
// version has kept them. Its entities have fields that are unknown here.
func keptBeforeNewFields(t *testing.T, d *database) {
	sent := sha256.Sum256([]byte(`{"full_name":"Aziza","phone_number":"+998901234567"}`))
	key := cims.Key{
		Scope: "system:storagetest customers", Key: "k", Fingerprint: hex.EncodeToString(sent[:]), At: d.clock.now(),
		Result: []byte(`{
			"customer": {
				"id": 17, "full_name": "Aziza", "phone_number": "+998901234567", "platform": null, "username": null, "notes": null,
				"region": "Xorazm", "status_name": "contacted", "created_at": "2025-12-15T10:30:00Z", "updated_at": "2025-12-15T10:30:00Z",
				"sales_manager": {"id": 3, "email": "anvar@example.com", "name": "Anvar", "surname": "Karimov", "team": "west"}
			},
			"assignment": {
				"id": 5, "customer_id": 17, "sales_manager_id": 3, "assigned_at": "2025-12-15T10:30:00Z", "assigned_by": null,
				"is_active": true, "reason": "turn"
			}
		}`),
	}
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		if _, err := tx.ClaimKey(ctx, key, key.At); err != nil {
			return err
		}
		return tx.SaveKey(ctx, key)
	})

	in := cims.NewCustomer{FullName: " Aziza ", PhoneNumber: "+998901234567", IdempotencyKey: "k"}
	got, err := d.crm.AddCustomer(t.Context(), system, in)
	require.NoError(t, err)
	at := time.Date(2025, 12, 15, 10, 30, 0, 0, time.UTC)
	require.Equal(t, cims.Customer{
		ID: 17, FullName: "Aziza", PhoneNumber: "+998901234567", StatusName: cims.StatusContacted, CreatedAt: at, UpdatedAt: at,
		SalesManager: &cims.Person{ID: 3, Email: "anvar@example.com", Name: "Anvar", Surname: "Karimov"},
		Assignment:   &cims.Assignment{ID: 5, CustomerID: 17, SalesManagerID: 3, AssignedAt: at, Active: true},
	}, got)
	require.Empty(t, d.customers(t, cims.CustomerFilter{}))

	in.Platform = "instagram"
	_, err = d.crm.AddCustomer(t.Context(), system, in)
	require.ErrorIs(t, err, cims.ErrKeyReused)
}
