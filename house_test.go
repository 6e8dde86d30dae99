package cims_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// dependencies lists what a program that imports these packages pulls in beyond
// the standard library and this module.
func dependencies(t *testing.T, packages ...string) []string {
	t.Helper()
	args := append([]string{"list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}"}, packages...)
	out, err := exec.CommandContext(t.Context(), "go", args...).Output() //nolint:gosec // our own packages
	require.NoError(t, err)
	return slices.DeleteFunc(strings.Fields(string(out)), func(path string) bool {
		return strings.HasPrefix(path, "github.com/cimskit/cims")
	})
}

// TestWhoImportsLittlePullsInLittle: a host gets the database and the router
// that it uses, and no others.
func TestWhoImportsLittlePullsInLittle(t *testing.T) {
	t.Parallel()
	const pgx, sqlite, bun, huma, jwt = "github.com/jackc/pgx", "modernc.org/sqlite", "github.com/uptrace/bun", "github.com/danielgtaylor/huma", "github.com/golang-jwt/jwt"
	const jwkset = "github.com/MicahParks"
	require.Empty(t, slices.DeleteFunc(dependencies(t, "."), func(path string) bool { return path == "github.com/google/uuid" }))
	for _, host := range []struct {
		imports []string
		with    []string // so that the test is known to see them
		without []string
	}{
		{[]string{".", "./storage/postgres", "./httpapi", "./httpapi/jwtauth", "./httpapi/docs"}, []string{pgx, bun, huma, jwt}, []string{sqlite, "modernc.org"}},
		{[]string{".", "./storage/sqlite", "./httpapi", "./httpapi/jwtauth", "./httpapi/docs"}, []string{sqlite, bun, huma, jwt}, []string{pgx, "github.com/jackc"}},
		{[]string{".", "./storage/postgres"}, []string{pgx, bun}, []string{sqlite, huma, jwt}},
		{[]string{".", "./storage/sqlite"}, []string{sqlite, bun}, []string{pgx, huma, jwt}},
		{[]string{".", "./httpapi"}, []string{huma}, []string{bun, pgx, sqlite, jwt}},
		{[]string{".", "./httpapi/jwtauth"}, []string{huma, jwt}, []string{bun, pgx, sqlite, jwkset, "golang.org/x/time"}},
		{[]string{".", "./httpapi/jwtauth/jwks"}, []string{huma, jwt, jwkset}, []string{bun, pgx, sqlite}},
		{[]string{".", "./examples/customstorage"}, nil, []string{bun, pgx, sqlite, huma, jwt}},
		{[]string{"./examples/embed"}, []string{sqlite}, []string{pgx, huma, jwt}},
	} {
		paths := dependencies(t, host.imports...)
		pullsIn := func(module string) bool {
			return slices.ContainsFunc(paths, func(path string) bool { return strings.HasPrefix(path, module) })
		}
		for _, module := range host.with {
			require.True(t, pullsIn(module), "%v: %s", host.imports, module)
		}
		for _, module := range append(host.without, "github.com/stretchr/testify") {
			require.False(t, pullsIn(module), "%v pull in %s", host.imports, module)
		}
	}
}

// TestReadmeShowsRealCode: what the README shows stands in a Go file of the
// repository, so that it compiles and is tested.
func TestReadmeShowsRealCode(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	code := sources(t)
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	require.GreaterOrEqual(t, len(blocks), 2)
	for _, block := range blocks {
		if !strings.Contains(code, squeeze(block[1])) {
			t.Errorf("in no Go file:\n%s", block[1])
		}
	}
}

// TestReadmeSaysWhatGoesTogether: the versions that have to fit each other are
// those of go.mod.
func TestReadmeSaysWhatGoesTogether(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	line := "go get"
	for _, module := range regexp.MustCompile(`(?m)^\t((?:github\.com/jackc/pgx|github\.com/uptrace/bun|modernc\.org/(?:libc|sqlite))\S*) (\S+)`).FindAllStringSubmatch(string(mod), -1) {
		line += " " + module[1] + "@" + module[2]
	}
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	require.Equal(t, line, regexp.MustCompile(`(?m)^go get .*bun.*$`).FindString(string(readme)))
}

// TestContributingNamesWhatExists: files, folders and tests.
func TestContributingNamesWhatExists(t *testing.T) {
	text, err := os.ReadFile("CONTRIBUTING.md")
	require.NoError(t, err)
	paths := regexp.MustCompile("`((?:[\\w.-]+/)+[\\w.-]*|[\\w.-]+\\.(?:go|md|yml))`|(\\./[a-z/]+)").FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(paths), 30)
	for _, path := range paths {
		_, err := os.Stat(path[1] + path[2]) //nolint:gosec // our own text
		require.NoError(t, err)
	}
	code := sources(t)
	tests := regexp.MustCompile(`\bTest\w+`).FindAllString(string(text), -1)
	require.NotEmpty(t, tests)
	for _, test := range tests {
		if !strings.Contains(code, "func "+test+"(") {
			t.Errorf("there is no %s", test)
		}
	}
}

// TestSecurityNamesItsTests: each line of the two tables of docs/security.md is
// there, in order, and names tests that exist where it says.
func TestSecurityNamesItsTests(t *testing.T) {
	text, err := os.ReadFile("docs/security.md")
	require.NoError(t, err)
	attacks, faults, found := strings.Cut(string(text), "\n## Faults\n")
	require.True(t, found)
	code := sources(t)
	var untested []string
	for _, table := range []struct {
		text string
		rows int
	}{{attacks, 29}, {faults, 11}} {
		rows := regexp.MustCompile(`(?m)^\| (\d+) \| (.*) \| (.*) \| (.*)\|$`).FindAllStringSubmatch(table.text, -1)
		require.Len(t, rows, table.rows)
		for i, row := range rows {
			require.Equal(t, strconv.Itoa(i+1), row[1])
			if !namesTests(t, code, row[1], row[4]) {
				untested = append(untested, row[2])
			}
		}
	}
	require.Empty(t, untested, "lines without a test")
}

// namesTests checks what a line of the table names: a file, then what is in it.
func namesTests(t *testing.T, code, row, cell string) bool {
	t.Helper()
	file, names := "", 0
	for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
		if strings.HasSuffix(name[1], ".go") {
			text, err := os.ReadFile(name[1])
			require.NoError(t, err)
			file = string(text)
			continue
		}
		test, part, parted := strings.Cut(name[1], "/")
		switch {
		case !parted && strings.HasPrefix(test, "check"): // a method that all tests of a kind go through
			require.Contains(t, file, ") "+test+"(", row)
		case !parted && test == "TestContract":
			require.Contains(t, code, "func TestContract(")
		case !parted:
			require.Contains(t, file, "func "+test+"(", row)
			names++
		default: // one of a suite: listed by its name, in its own file or beside it
			require.Contains(t, code, "func "+test+"(", row)
			require.Contains(t, code, `{"`+part+`", `, row)
			require.True(t, strings.Contains(file, "func test"+part+"(") || strings.Contains(file, `{"`+part+`", `), "%s: %s", row, name[1])
			names++
		}
	}
	return names > 0
}

// sources is all Go code of the repository, squeezed.
func sources(t *testing.T) string {
	t.Helper()
	var code strings.Builder
	require.NoError(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path) //nolint:gosec // our own files
		code.WriteString(squeeze(string(text)) + " ")
		return err
	}))
	return code.String()
}

// squeeze makes code comparable whatever its indentation.
func squeeze(code string) string { return strings.Join(strings.Fields(code), " ") }
