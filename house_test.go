package cims_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// dependencies lists what a package pulls in beyond the standard library and
// this module.
func dependencies(t *testing.T, pkg string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", pkg).Output() //nolint:gosec // our own packages
	require.NoError(t, err)
	return slices.DeleteFunc(strings.Fields(string(out)), func(path string) bool {
		return strings.HasPrefix(path, "github.com/cimskit/cims")
	})
}

func TestWhoImportsLittlePullsInLittle(t *testing.T) {
	require.Empty(t, slices.DeleteFunc(dependencies(t, "."), func(path string) bool { return path == "github.com/google/uuid" }))
	for pkg, foreign := range map[string]string{
		"./storage/postgres": "modernc.org/sqlite",
		"./storage/sqlite":   "github.com/jackc/pgx",
		"./httpapi":          "github.com/uptrace/bun",
	} {
		paths := dependencies(t, pkg)
		require.NotEmpty(t, paths)
		require.False(t, slices.ContainsFunc(paths, func(path string) bool { return strings.HasPrefix(path, foreign) }), "%s pulls in %s", pkg, foreign)
	}
}

// TestReadmeShowsRealCode: what the README shows stands in a Go file of the
// repository, so that it compiles and is tested.
func TestReadmeShowsRealCode(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	var sources strings.Builder
	require.NoError(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path) //nolint:gosec // our own files
		sources.WriteString(squeeze(string(text)) + " ")
		return err
	}))
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	require.GreaterOrEqual(t, len(blocks), 2)
	for _, block := range blocks {
		if !strings.Contains(sources.String(), squeeze(block[1])) {
			t.Errorf("in no Go file:\n%s", block[1])
		}
	}
}

// squeeze makes code comparable whatever its indentation.
func squeeze(code string) string { return strings.Join(strings.Fields(code), " ") }
