package storagetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

func contractStatuses(t *testing.T, d *database) {
	at := noon.Add(123_456 * time.Microsecond)
	status := cims.Status{
		Name: "offer_sent", DisplayName: "Offer sent", Description: "Two\nlines", Color: "#A1b2C3",
		Order: 1_000_000, Active: true, CreatedAt: at, UpdatedAt: at,
	}
	plain := cims.Status{Name: "plain", DisplayName: "Plain", CreatedAt: at, UpdatedAt: at}
	var refused error
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		var err error
		if status.ID, err = tx.InsertStatus(ctx, status); err != nil {
			return err
		}
		_, refused = tx.InsertStatus(ctx, cims.Status{Name: "offer_sent", DisplayName: "Again", CreatedAt: at, UpdatedAt: at})
		// A refusal leaves the transaction usable.
		plain.ID, err = tx.InsertStatus(ctx, plain)
		return err
	})
	require.ErrorIs(t, refused, cims.ErrExists)
	require.NotZero(t, status.ID)
	require.NotEqual(t, status.ID, plain.ID)
	require.Equal(t, status, d.statusNamed(t, "offer_sent"))
	require.Equal(t, plain, d.statusNamed(t, "plain"), "false, 0 and empty texts stay what they are")

	var locked, used cims.Status
	var noID, noName error
	changed := status
	changed.DisplayName, changed.Description, changed.Color = "Sent", "", ""
	changed.Order, changed.Active, changed.UpdatedAt = 0, false, at.Add(time.Microsecond)
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		_, noID = tx.LockStatus(ctx, plain.ID+1000)
		_, noName = tx.UseStatus(ctx, "nowhere")
		var err error
		if used, err = tx.UseStatus(ctx, "offer_sent"); err != nil {
			return err
		}
		if locked, err = tx.LockStatus(ctx, status.ID); err != nil {
			return err
		}
		return tx.UpdateStatus(ctx, changed)
	})
	require.ErrorIs(t, noID, cims.ErrNotFound)
	require.ErrorIs(t, noName, cims.ErrNotFound)
	require.Equal(t, status, used)
	require.Equal(t, status, locked)
	require.Equal(t, changed, d.statusNamed(t, "offer_sent"))
	require.Equal(t, plain, d.statusNamed(t, "plain"), "another is left alone")

	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		if _, err := tx.LockStatus(ctx, status.ID); err != nil {
			return err
		}
		return tx.DeleteStatus(ctx, status.ID)
	})
	statuses, err := d.Statuses(t.Context())
	require.NoError(t, err)
	require.Len(t, statuses, 7)
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		id, err := tx.InsertStatus(ctx, status)
		if err == nil && id == 0 {
			return errors.New("no id")
		}
		return err // the name is free again
	})
}

func contractStatusInUse(t *testing.T, d *database) {
	used, free := d.status(t, "used"), d.status(t, "free")
	lead := d.insert(t, cims.Customer{StatusName: "used"})[0]
	var refused error
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		for _, status := range []cims.Status{used, free} {
			if _, err := tx.LockStatus(ctx, status.ID); err != nil {
				return err
			}
		}
		refused = tx.DeleteStatus(ctx, used.ID)
		return tx.DeleteStatus(ctx, free.ID) // the transaction is still usable
	})
	require.ErrorIs(t, refused, cims.ErrInUse)
	require.Equal(t, used, d.statusNamed(t, "used"))
	require.Equal(t, "used", d.customer(t, lead).StatusName)
	statuses, err := d.Statuses(t.Context())
	require.NoError(t, err)
	require.Len(t, statuses, 7)

	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		return tx.ChangeStatuses(ctx, []cims.StatusChange{
			{CustomerID: lead, From: "used", To: "finished", Cause: cims.CauseManual, At: noon.Add(time.Second)},
		})
	})
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		if _, err := tx.LockStatus(ctx, used.ID); err != nil {
			return err
		}
		return tx.DeleteStatus(ctx, used.ID) // history doesn't hold it
	})
}
