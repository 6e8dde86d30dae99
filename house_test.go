package cims_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

// dependencies returns the packages that these packages depend on, except those of
// the standard library and of this module.
func dependencies(t *testing.T, packages ...string) []string {
	t.Helper()
	args := append([]string{"list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}"}, packages...)
	out, err := exec.CommandContext(t.Context(), "go", args...).Output() //nolint:gosec // our own packages
	require.NoError(t, err)
	return slices.DeleteFunc(strings.Fields(string(out)), func(path string) bool {
		return strings.HasPrefix(path, "github.com/cimskit/cims")
	})
}

// TestWhoImportsLittlePullsInLittle checks that a host depends only on the database
// and the router that it uses.
func TestWhoImportsLittlePullsInLittle(t *testing.T) {
	t.Parallel()
	const pgx, sqlite, bun, huma, jwt = "github.com/jackc/pgx", "modernc.org/sqlite", "github.com/uptrace/bun", "github.com/danielgtaylor/huma", "github.com/golang-jwt/jwt"
	const jwkset = "github.com/MicahParks"
	require.Empty(t, slices.DeleteFunc(dependencies(t, "."), func(path string) bool { return path == "github.com/google/uuid" }))
	for _, host := range []struct {
		imports []string
		with    []string // proves that the test sees dependencies
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

// page returns the text of one of the repository's pages.
func page(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path) //nolint:gosec // our own text
	require.NoError(t, err)
	return string(text)
}

// pages lists README and all of docs/.
func pages(t *testing.T) []string {
	t.Helper()
	docs, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	require.NotEmpty(t, docs)
	return append([]string{"README.md"}, docs...)
}

// TestReadmeIsADoor checks that README is short and has the two commands for a start.
func TestReadmeIsADoor(t *testing.T) {
	text := page(t, "README.md")
	require.LessOrEqual(t, strings.Count(text, "\n"), 150, "lines")
	require.LessOrEqual(t, len(strings.Fields(text)), 900, "words")
	require.Contains(t, text, "go run ./examples/server")
	require.Contains(t, text, "./scripts/test")
	goVersion := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(page(t, "go.mod"))
	require.Contains(t, text, "Go "+goVersion[1]+" or newer")
}

// TestDocsShowRealCode checks that code on a page is also in a Go file, so that it
// compiles and is tested.
func TestDocsShowRealCode(t *testing.T) {
	code, shown := sources(t), 0
	for _, path := range pages(t) {
		for _, block := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(page(t, path), -1) {
			shown++
			if !strings.Contains(code, squeeze(block[1])) {
				t.Errorf("%s: in no Go file:\n%s", path, block[1])
			}
		}
	}
	require.Greater(t, shown, 10)
}

// TestDocsSayWhatGoesTogether checks that versions which must match are those of
// go.mod.
func TestDocsSayWhatGoesTogether(t *testing.T) {
	want := "go get"
	for _, module := range regexp.MustCompile(`(?m)^\t((?:github\.com/jackc/pgx|github\.com/uptrace/bun|modernc\.org/(?:libc|sqlite))\S*) (\S+)`).FindAllStringSubmatch(page(t, "go.mod"), -1) {
		want += " " + module[1] + "@" + module[2]
	}
	var lines []string
	for _, path := range pages(t) {
		lines = append(lines, regexp.MustCompile(`(?m)^go get .*bun.*$`).FindAllString(page(t, path), -1)...)
	}
	require.Equal(t, []string{want}, lines)
}

// TestDocsLinksLeadSomewhere checks that relative links name existing files and
// headings, and that README leads to every page.
func TestDocsLinksLeadSomewhere(t *testing.T) {
	links := map[string][]string{}
	for _, path := range append(pages(t), "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md") {
		for _, link := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(page(t, path), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			file, heading, _ := strings.Cut(link[1], "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s: %v", path, link[1], err)
			} else if heading != "" && !slices.Contains(headings(page(t, target)), heading) {
				t.Errorf("%s: %s has no heading #%s", path, target, heading)
			}
			links[path] = append(links[path], target)
		}
	}
	reached := []string{"README.md"}
	for i := 0; i < len(reached); i++ {
		for _, target := range links[reached[i]] {
			if !slices.Contains(reached, target) {
				reached = append(reached, target)
			}
		}
	}
	for _, path := range append(pages(t), "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "LICENSE") {
		require.Contains(t, reached, path)
	}
}

// headings returns the anchors of a page's headings, as GitHub makes them.
func headings(text string) []string {
	var anchors []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		anchor := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		anchors = append(anchors, strings.ReplaceAll(anchor, " ", "-"))
	}
	return anchors
}

// TestPermissionsPage compares the table of docs/permissions.md with the routes and
// the system roles. The flag -update rewrites the table.
func TestPermissionsPage(t *testing.T) {
	const path, begin, end = "docs/permissions.md", "| Permission | Opens | From the start held by |\n|---|---|---|\n", "\n## "
	before, rest, found := strings.Cut(page(t, path), begin)
	require.True(t, found, "the table's head")
	table, after, found := strings.Cut(rest, end)
	require.True(t, found, "a heading after the table")
	want := permissionsTable(t)
	if *update && table != want {
		require.NoError(t, os.WriteFile(path, []byte(before+begin+want+end+after), 0o644)) //nolint:gosec // a page, for everybody
		table = want
	}
	require.Equal(t, want, table, "renew it with go test -run TestPermissionsPage . -update")
}

var update = flag.Bool("update", false, "renew the table of docs/permissions.md")

// permissionsTable returns a row for each permission: the routes, from the OpenAPI
// document, and the system roles that have it.
func permissionsTable(t *testing.T) string {
	t.Helper()
	var document struct {
		Paths map[string]map[string]struct {
			Permissions []cims.Permission `json:"x-cims-permission"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(page(t, "api/openapi.json")), &document))
	opens := map[cims.Permission][]string{}
	for _, path := range slices.Sorted(maps.Keys(document.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(document.Paths[path])) {
			for _, permission := range document.Paths[path][method].Permissions {
				opens[permission] = append(opens[permission], "`"+strings.ToUpper(method)+" "+path+"`")
			}
		}
	}
	var table strings.Builder
	for _, permission := range cims.AllPermissions() {
		var holders []string
		for _, role := range cims.SystemRoles() {
			if slices.Contains(role.Permissions, permission) {
				holders = append(holders, role.Name)
			}
		}
		require.NotEmpty(t, opens[permission], permission)
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", permission, strings.Join(opens[permission], ", "), strings.Join(holders, ", "))
	}
	return table.String()
}

// TestPagesNameWhatExists checks the paths and tests that CONTRIBUTING and the page on
// the architecture name.
func TestPagesNameWhatExists(t *testing.T) {
	text := page(t, "CONTRIBUTING.md") + page(t, "docs/architecture.md")
	paths := regexp.MustCompile("`((?:[\\w.-]+/)+[\\w.-]*|[\\w.-]+\\.(?:go|md|yml))`|(\\./[a-z/]+)").FindAllStringSubmatch(text, -1)
	require.Greater(t, len(paths), 60)
	for _, path := range paths {
		_, err := os.Stat(path[1] + path[2])
		require.NoError(t, err)
	}
	code := sources(t)
	tests := regexp.MustCompile(`\bTest\w+`).FindAllString(text, -1)
	require.NotEmpty(t, tests)
	for _, test := range tests {
		if !strings.Contains(code, "func "+test+"(") {
			t.Errorf("there is no %s", test)
		}
	}
}

// TestSecurityNamesItsTests checks that the two tables of docs/security.md are
// complete and ordered, and that each line names existing tests.
func TestSecurityNamesItsTests(t *testing.T) {
	attacks, faults, found := strings.Cut(page(t, "docs/security.md"), "\n## Faults\n")
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

// namesTests checks the files and tests that a line of a table names.
func namesTests(t *testing.T, code, row, cell string) bool {
	t.Helper()
	file, names := "", 0
	for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
		if strings.HasSuffix(name[1], ".go") {
			file = page(t, name[1])
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

// sources returns all Go code of the repository, squeezed.
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

// squeeze replaces white space, so that code compares equal despite indentation.
func squeeze(code string) string { return strings.Join(strings.Fields(code), " ") }
