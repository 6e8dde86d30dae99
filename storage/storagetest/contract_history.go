package storagetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

func contractChangeStatuses(t *testing.T, d *database) {
	seller := d.sellers(t, "Anvar")[0]
	inserted := d.insert(t, cims.Customer{}, cims.Customer{}, cims.Customer{StatusName: "rejected"}, cims.Customer{})
	at := noon.Add(time.Minute)
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		return tx.ChangeStatuses(ctx, []cims.StatusChange{ // to different ones, at different times
			{CustomerID: inserted[1], From: "contacted", To: "finished", Cause: cims.CauseManual, Reason: "why", Owner: &seller.ID, At: at},
			{CustomerID: inserted[0], From: "contacted", To: "rejected", Cause: cims.CauseManual, At: at.Add(time.Second)},
		})
	})
	first := d.customer(t, inserted[0])
	require.Equal(t, "rejected", first.StatusName)
	require.Equal(t, at.Add(time.Second), first.UpdatedAt)
	require.Equal(t, noon, first.CreatedAt)
	second := d.customer(t, inserted[1])
	require.Equal(t, "finished", second.StatusName)
	require.Equal(t, at, second.UpdatedAt)
	require.Equal(t, noon, d.customer(t, inserted[3]).UpdatedAt)
	require.Equal(t, noon, d.customer(t, inserted[2]).UpdatedAt)
	require.Len(t, d.history(t, inserted[2]), 1)

	events := d.history(t, inserted[0])
	require.Len(t, events, 2)
	require.NotEqual(t, events[0].ID, events[1].ID)
	require.Equal(t, cims.Event{
		ID: events[0].ID, At: noon, Kind: cims.StatusEvent, ToStatus: "contacted", Cause: cims.CauseCreated,
	}, events[0])
	require.Equal(t, cims.Event{
		ID: events[1].ID, At: at.Add(time.Second), Kind: cims.StatusEvent,
		FromStatus: "contacted", ToStatus: "rejected", Cause: cims.CauseManual,
	}, events[1])
	events = d.history(t, inserted[1])
	require.Len(t, events, 2)
	require.Equal(t, cims.Event{
		ID: events[1].ID, At: at, Kind: cims.StatusEvent, FromStatus: "contacted", ToStatus: "finished",
		Cause: cims.CauseManual, Reason: "why", Owner: &seller.ID,
	}, events[1])
}

func contractHistory(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	inserted := d.insert(t, cims.Customer{}, cims.Customer{})
	lead := inserted[0] // the other one's creation is of the same moment
	at := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Microsecond) }
	// Written neither by time nor by kind: an assignment before the status of
	// the same moment, and a later moment before an earlier one of another clock's.
	owner := func(n int, from, to *int64) {
		d.changeOwners(t, cims.OwnerChange{
			CustomerID: lead, CustomerCreatedAt: noon, From: from, To: to, Cause: cims.CauseManual, At: at(n),
		})
	}
	status := func(n int, from, to string) {
		d.update(t, func(ctx context.Context, tx cims.Tx) error {
			return tx.ChangeStatuses(ctx, []cims.StatusChange{{CustomerID: lead, From: from, To: to, Cause: cims.CauseManual, At: at(n)}})
		})
	}
	owner(2, nil, &sellers[0].ID)
	status(2, "contacted", "contacted")
	owner(5, &sellers[0].ID, &sellers[1].ID)
	status(1, "contacted", "finished")
	status(5, "finished", "rejected")
	status(5, "rejected", "continuing")
	owner(5, &sellers[1].ID, &sellers[0].ID)
	short := func(e cims.Event) string {
		if e.Kind == cims.StatusEvent {
			return fmt.Sprintf("%d %s>%s", e.At.Sub(noon)/time.Microsecond, e.FromStatus, e.ToStatus)
		}
		return fmt.Sprintf("%d %d>%d", e.At.Sub(noon)/time.Microsecond, value(e.FromManager), value(e.ToManager))
	}
	a, b := sellers[0].ID, sellers[1].ID
	expected := []string{
		"0 >contacted", "2 contacted>contacted", "2 contacted>finished", fmt.Sprintf("2 0>%d", a),
		"5 finished>rejected", "5 rejected>continuing", fmt.Sprintf("5 %d>%d", a, b), fmt.Sprintf("5 %d>%d", b, a),
	}
	for limit := 1; limit <= len(expected)+1; limit++ {
		var got []string
		query := cims.HistoryQuery{CustomerID: lead, Limit: limit}
		for {
			part, err := d.History(t.Context(), query)
			require.NoError(t, err)
			require.LessOrEqual(t, len(part), limit)
			for _, event := range part {
				got = append(got, short(event))
			}
			if len(part) < limit {
				break
			}
			last := part[limit-1]
			query.After = &cims.EventPosition{At: last.At, Kind: last.Kind, ID: last.ID}
		}
		require.Equal(t, expected, got, "pages of %d", limit)
	}
	none, err := d.History(t.Context(), cims.HistoryQuery{CustomerID: lead + 1000, Limit: 5})
	require.NoError(t, err)
	require.Empty(t, none)
}
