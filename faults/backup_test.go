//go:build unix

package faults

import (
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/internal/pgtest"
)

// TestFaultBackup backs up a database while leads come in, as docs/operations.md says,
// restores the copy, and goes on with it.
func TestFaultBackup(t *testing.T) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		backup(t, sqliteURL(t), func(from string) (to string) {
			to = sqliteURL(t)
			original := database{url: from}
			execute(t, original.sql(t), "VACUUM INTO '"+strings.TrimPrefix(to, sqliteScheme)+"'")
			return to
		})
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		dump, restore := need(t, "pg_dump"), need(t, "pg_restore")
		empty := pgtest.NewTemplate(t, func(string) {})
		backup(t, empty.URL(t), func(from string) (to string) {
			to = empty.URL(t)
			file := t.TempDir() + "/crm.dump"
			run(t, dump, "-Fc", "-f", file, forLibpq(t, from))
			run(t, restore, "--no-owner", "--exit-on-error", "-d", forLibpq(t, to), file)
			return to
		})
	})
}

func backup(t *testing.T, url string, copied func(from string) (to string)) {
	t.Helper()
	d := newDatabase(t, url, 3)
	answers, stop := newAnswers(), make(chan struct{})
	group := stream(t, answers, 8, stop, d.open(t))
	answers.requireMore(t, times(100, 2_000))
	before := answers.snapshot()
	restored := &database{url: copied(d.url), team: d.team}
	answers.requireMore(t, 1)
	close(stop)
	group.Wait()

	found := restored.check(t, before)
	require.GreaterOrEqual(t, found.leads, before.count(), "nothing acknowledged before is missing")
	require.Less(t, found.leads, answers.count(), "leads came in until the end")
	crm := restored.open(t)
	for n := range 2 * len(d.team) {
		lead, err := crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: fmt.Sprintf("restored/%d", n)})
		require.NoError(t, err)
		require.NotNil(t, lead.SalesManager)
	}
	after := restored.check(t, before)
	report(t, "a backup beside 8 callers: %d leads acknowledged before it, %d in it, spread %d", before.count(), found.leads, after.spread)
}

func run(t *testing.T, program string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput() //nolint:gosec // a program of PostgreSQL
	require.NoError(t, err, string(out))
}

// forLibpq returns the URL without search_path, which libpq does not know.
func forLibpq(t *testing.T, target string) string {
	t.Helper()
	parsed, err := url.Parse(target)
	require.NoError(t, err)
	query := parsed.Query()
	query.Del("search_path")
	parsed.RawQuery = query.Encode()
	return parsed.String()
}
