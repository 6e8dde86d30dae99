package storagetest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

func contractConversion(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	a, b := sellers[0].ID, sellers[1].ID
	leads := d.insert(t,
		cims.Customer{CreatedAt: noon.Add(2 * time.Second)},                         // the newest
		cims.Customer{CreatedAt: noon},                                              // of the two oldest, the older
		cims.Customer{CreatedAt: noon},                                              //
		cims.Customer{CreatedAt: noon.Add(time.Second), StatusName: "finished"},     // created there
		cims.Customer{CreatedAt: noon.Add(time.Second), StatusName: "need_to_call"}, //
	)
	d.changeOwners(t,
		cims.OwnerChange{CustomerID: leads[0], CustomerCreatedAt: noon.Add(2 * time.Second), To: &a, Cause: cims.CauseAutomatic, At: noon.Add(2 * time.Second)},
		cims.OwnerChange{CustomerID: leads[1], CustomerCreatedAt: noon, To: &a, Cause: cims.CauseAutomatic, At: noon},
		cims.OwnerChange{CustomerID: leads[2], CustomerCreatedAt: noon, To: &b, Cause: cims.CauseAutomatic, At: noon},
	)
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		at := noon
		change := func(lead int, from, to string) cims.StatusChange {
			at = at.Add(time.Minute)
			return cims.StatusChange{CustomerID: leads[lead], From: from, To: to, Cause: cims.CauseManual, At: at}
		}
		for _, changes := range [][]cims.StatusChange{
			{change(3, "", "finished"), change(4, "", "need_to_call"), change(2, "contacted", "finished"), change(0, "contacted", "rejected")},
			// There, back, and there again counts once.
			{change(1, "contacted", "finished")},
			{change(1, "finished", "rejected")},
			{change(1, "rejected", "finished")},
			{change(1, "finished", "continuing")},
		} {
			if err := tx.ChangeStatuses(ctx, changes); err != nil {
				return err
			}
		}
		return nil
	})
	for _, c := range []struct {
		why          string
		last         int
		target       string
		owner        *int64
		total        int
		reached, now int
	}{
		{"all", 100, "finished", nil, 5, 3, 2},
		{"as many as there are", 5, "finished", nil, 5, 3, 2},
		{"all but the oldest", 4, "finished", nil, 4, 2, 2},
		{"the newest three", 3, "finished", nil, 3, 1, 1},
		{"the newest", 1, "finished", nil, 1, 0, 0},
		{"one who was there for a while", 100, "continuing", nil, 5, 1, 1},
		{"one who has left", 100, "rejected", nil, 5, 2, 1},
		{"nobody", 100, "project_started", nil, 5, 0, 0},
		{"of one manager", 100, "finished", &a, 2, 1, 0},
		{"of one manager, the newest", 1, "finished", &a, 1, 0, 0},
		{"of another", 100, "finished", &b, 1, 1, 1},
		{"of nobody", 100, "finished", new(b + 1000), 0, 0, 0},
	} {
		for mode, count := range map[cims.ConversionMode]int{cims.Reached: c.reached, cims.Current: c.now} {
			got, err := d.Conversion(t.Context(), cims.ConversionQuery{Last: c.last, Target: c.target, SalesManagerID: c.owner, Mode: mode})
			require.NoError(t, err, c.why)
			require.Equal(t, cims.Conversion{Total: c.total, Count: count}, got, "%s, %s", c.why, mode)
		}
	}
}
