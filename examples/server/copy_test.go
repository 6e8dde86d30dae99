package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims/internal/pgtest"
	"github.com/cimskit/cims/storage/transfer"
)

// TestMigrateCopy moves a CRM into another database and goes on there.
func TestMigrateCopy(t *testing.T) {
	for name, to := range map[string]func(t *testing.T) string{
		"to SQLite": sqliteFile, "to PostgreSQL": func(t *testing.T) string { return pgtest.URL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, from string) {
				to, folder := to(t), t.TempDir()
				before := launch(t, from, "-demo")
				leads := before.as("ceo@example.com").leads()
				before.stop()
				stdout, stderr, err := command(t, folder, nil, "migrate", "copy", "-from", from, "-to", to)
				require.NoError(t, err, stderr)
				require.Regexp(t, `^\d+ rows of 12 tables copied to .* and found equal, in .*s\n$`, stdout)
				require.Empty(t, stderr, "no bar where there is no terminal")

				ceo := launch(t, to).as("ceo@example.com")
				require.Equal(t, leads, ceo.leads())
				require.InDelta(t, demoLeads+1, ceo.post("/crm/customers", map[string]any{"full_name": "Next"})["id"], 0)
				_, stderr, err = command(t, folder, nil, "migrate", "copy", "-from", from, "-to", to)
				require.Error(t, err)
				require.Contains(t, stderr, "the target of a copy has to be a new database")
			})
		})
	}
}

// TestUnfinishedCopyIsNotServed: a server neither starts on half a copy nor
// changes it, and the same command finishes it.
func TestUnfinishedCopyIsNotServed(t *testing.T) {
	onBoth(t, func(t *testing.T, to string) {
		from := sqliteFile(t)
		launch(t, from, "-demo").stop()
		for _, db := range []string{from, to} {
			parsed, err := parseDatabase(db)
			require.NoError(t, err)
			store, err := parsed.create(t.Context())
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, store.Close()) })
			require.NoError(t, store.Migrate(t.Context()))
			if db == to {
				source, err := databaseOf("-from", from)
				require.NoError(t, err)
				other, err := source.use(t.Context())
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, other.Close()) })
				require.Panics(t, func() {
					_ = transfer.Copy(t.Context(), other, store, func(p transfer.Progress) {
						if p.Table == "customer" && p.Done > 0 {
							panic("as good as killed")
						}
					})
				})
			}
		}
		secret := []string{"CIMS_JWT_SECRET=" + secretForTests}
		_, stderr, err := command(t, t.TempDir(), secret, "-db", to, "-addr", "127.0.0.1:0")
		require.Error(t, err)
		require.Contains(t, stderr, "unfinished copy")
		_, stderr, err = command(t, t.TempDir(), nil, "migrate", "copy", "-from", from, "-to", to)
		require.NoError(t, err, stderr)
		require.Len(t, launch(t, to).as("ceo@example.com").leads(), demoLeads)
	})
}

// TestCopyLeavesAWrongTargetAsItIs: what is refused is not migrated either.
func TestCopyLeavesAWrongTargetAsItIs(t *testing.T) {
	t.Parallel()
	from, _ := deployed(0).load(t)
	migrated(t, from, "up")
	wrong, _ := deployed(0).load(t)
	conn := connect(t, wrong)
	before := takePicture(t, conn)
	_, stderr, err := command(t, t.TempDir(), nil, "migrate", "copy", "-from", from, "-to", wrong)
	require.Error(t, err)
	require.Contains(t, stderr, "the target of a copy has to be a new database")
	before.requireSame(t, takePicture(t, conn), "before a copy that was refused, and after")

	file := sqliteFile(t)
	_, stderr, err = command(t, t.TempDir(), nil, "migrate", "copy", "-from", from, "-to", file)
	require.Error(t, err)
	require.Contains(t, stderr, `column "password" of table "user" holds data`)
	require.Contains(t, stderr, `column "conversation_language" of table "customer" holds data`)
	require.NoFileExists(t, strings.TrimPrefix(file, "sqlite:"))

	for _, table := range []string{"customer", "user"} {
		for _, column := range texts(t, connect(t, from), `SELECT column_name::text FROM information_schema.columns
			WHERE table_schema = current_schema() AND table_name = $1 AND is_nullable = 'YES' AND column_name NOT IN ('status_name', 'role_name', 'is_active', 'role', 'username', 'notes')`, table) {
			pgtest.Execute(t, from, fmt.Sprintf("ALTER TABLE %q DROP COLUMN %q", table, column))
		}
	}
	pgtest.Execute(t, from, `ALTER TABLE "user" DROP COLUMN password`)
	stdout, stderr, err := command(t, t.TempDir(), nil, "migrate", "copy", "-from", from, "-to", file)
	require.NoError(t, err, stderr)
	require.Contains(t, stdout, `Left behind: the column "status" of the table "customer": what counts is the name that is beside it`)
	require.Contains(t, stdout, `Left behind: the table "message": it is not of cims`)
}

func TestMigrateRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"without a command":        {nil, "there are plan, up, sql, verify, repair, rollback and copy"},
		"with an unknown command":  {[]string{"up!"}, `unknown command "up!"`},
		"without a source":         {[]string{"copy", "-to", "sqlite:b.db"}, "-from: want sqlite:PATH or postgres://"},
		"without a target":         {[]string{"copy", "-from", "sqlite:a.db"}, "-to: want sqlite:PATH or postgres://"},
		"with an argument":         {[]string{"copy", "a", "b"}, `unexpected argument "a"`},
		"without the source there": {[]string{"copy", "-from", "sqlite:a.db", "-to", "sqlite:b.db"}, "-from: "},
		"without any target":       {[]string{"copy", "-from", "sqlite:a.db"}, "and it is not given"},
		"with a target's folder":   {[]string{"copy", "-from", "sqlite:a.db", "-to", "sqlite:none/b.db"}, "-to: there is no directory none"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			stdout, stderr, err := command(t, folder, nil, append([]string{"migrate"}, test.args...)...)
			require.Error(t, err)
			require.Empty(t, stdout)
			require.Contains(t, stderr, test.says)
			left, err := os.ReadDir(folder)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
	for _, args := range [][]string{{"migrate", "-h"}, {"migrate", "copy", "-h"}} {
		stdout, _, err := command(t, t.TempDir(), nil, args...)
		require.NoError(t, err)
		require.Contains(t, stdout, "server migrate copy -from URL -to URL")
	}
	db := filepath.Join(t.TempDir(), "empty.db")
	require.NoError(t, os.WriteFile(db, nil, 0o600))
	_, stderr, err := command(t, t.TempDir(), nil, "migrate", "copy", "-from", "sqlite:"+db, "-to", sqliteFile(t))
	require.Error(t, err)
	require.Contains(t, stderr, "-from: the database is not ready")
}

func TestCopyProgressHasABarForEachTable(t *testing.T) {
	var screen bytes.Buffer
	progress := copyProgress{bar: progressBar{to: &screen}, rows: map[string]int64{}, drawn: true}
	for _, p := range []transfer.Progress{
		{Table: "customer", Done: 500, Total: 1000},
		{Table: "customer", Done: 1000, Total: 1000},
		{Table: "customer", Verifying: true, Done: 1000, Total: 1000},
	} {
		progress.show(p)
		progress.bar.begin = time.Now().Add(-time.Second)
	}
	require.Contains(t, screen.String(), "  50 %  500 of 1000 customer rows copied, 0/s ")
	require.Contains(t, screen.String(), " 100 %  1000 of 1000 customer rows copied, 500/s ", "what was there before is no merit")
	require.Contains(t, screen.String(), " 100 %  1000 of 1000 customer rows compared, ")
	require.Equal(t, 1, strings.Count(screen.String(), "\033[K"))
	require.Equal(t, map[string]int64{"customer": 1000}, progress.rows, fmt.Sprint(progress))
}

// TestRollbackOfAllThereIs: where nothing would be left, only -force goes on.
func TestRollbackOfAllThereIs(t *testing.T) {
	onBoth(t, func(t *testing.T, db string) {
		if path, ok := strings.CutPrefix(db, "sqlite:"); ok {
			require.NoError(t, os.WriteFile(path, nil, 0o600))
		}
		require.Equal(t, "Nothing of cims is here to be taken away.\n", migrated(t, db, "rollback"))
		migrated(t, db, "up")
		require.Contains(t, refused(t, db, "rollback"), "this would be lost: add -force to go on")
		require.Contains(t, migrated(t, db, "rollback", "-force"), "Done: ")
		require.Equal(t, "Nothing of cims is here to be taken away.\n", migrated(t, db, "rollback"))
	})
}
