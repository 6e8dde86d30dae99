package bench

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/internal/pgtest"
	"github.com/cimskit/cims/storage/postgres"
)

// editTime is how long each edit of a role stays open: a host's transaction may take
// its time after it.
const editTime = 20 * time.Millisecond

// BenchmarkRoleEdits measures new leads while a role is edited all the
// time, against the same without edits. On SQLite every write waits for every other.
func BenchmarkRoleEdits(b *testing.B) {
	const callers = 16
	b.Run(fmt.Sprintf("PostgreSQL/beside-role-edits/callers=%d", callers), func(b *testing.B) {
		url := pgtest.URL(b)
		crm, _ := postgresAt(b, url, 5)
		pool, err := pgxpool.New(b.Context(), url)
		require.NoError(b, err)
		b.Cleanup(pool.Close)
		role, err := crm.CreateRole(b.Context(), trusted, cims.NewRole{Name: "guest", DisplayName: "Guest"})
		require.NoError(b, err)
		edit := func(ctx context.Context, n int) error {
			tx, err := pool.Begin(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // after a commit it does nothing
			name := fmt.Sprintf("Guest %d", n)
			if _, err := postgres.WithTx(crm, tx).UpdateRole(ctx, trusted, role.ID, cims.RoleUpdate{DisplayName: &name}); err != nil {
				return err
			}
			time.Sleep(editTime)
			return tx.Commit(ctx)
		}
		add := func(ctx context.Context, i int) error {
			_, err := crm.AddCustomer(ctx, trusted, cims.NewCustomer{FullName: leadName(i), PhoneNumber: leadPhone(i)})
			return err
		}
		edits := 0
		for b.Loop() {
			compareRates(b,
				func(span time.Duration) float64 { return run(b, callers, add, span) },
				func(span time.Duration) float64 {
					var editor sync.WaitGroup
					editor.Go(func() {
						for begin := time.Now(); time.Since(begin) < span; edits++ {
							if err := edit(b.Context(), edits); err != nil {
								b.Error(err)
								return
							}
						}
					})
					rate := run(b, callers, add, span)
					editor.Wait()
					return rate
				})
		}
		b.ReportMetric(float64(edits), "edits")
		requireFair(b, crm)
	})
}
