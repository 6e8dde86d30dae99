// Package api_test keeps the OpenAPI document and the exported Go API as golden files, so
// that reviews show their changes. To update them:
//
//	go test ./api -update
//
// ./scripts/test reports whether a change is breaking: see CONTRIBUTING.md.
package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi"
	"github.com/cimskit/cims/storage/sqlite"
)

var update = flag.Bool("update", false, "write the golden files")

func TestOpenAPI(t *testing.T) {
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "cims.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	require.NoError(t, store.Migrate(t.Context()))
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, crm.Close(context.Background())) })

	api := humago.New(http.NewServeMux(), huma.DefaultConfig("cims", "1.0.0"))
	nobody := httpapi.AuthenticatorFunc(func(huma.Context) (httpapi.Identity, error) { return httpapi.Identity{}, nil })
	require.NoError(t, httpapi.Register(api, crm, httpapi.Options{Authenticator: nobody}))
	compact, err := json.Marshal(api.OpenAPI())
	require.NoError(t, err)
	var document bytes.Buffer
	require.NoError(t, json.Indent(&document, compact, "", " "))
	golden(t, "openapi.json", document.String()+"\n")
}

func TestGo(t *testing.T) {
	list := exec.CommandContext(t.Context(), "go", "list", "-f", `{{if and .GoFiles (ne .Name "main")}}{{.ImportPath}}	{{.Dir}}	{{join .GoFiles "	"}}{{end}}`, "./...")
	list.Dir = ".."
	out, err := list.Output()
	require.NoError(t, err)
	var exported strings.Builder
	for line := range strings.Lines(string(out)) {
		parts := strings.Split(strings.TrimSpace(line), "\t")
		path, dir, files := parts[0], parts[1], parts[2:]
		if strings.Contains(path+"/", "/internal/") {
			continue
		}
		fmt.Fprintf(&exported, "package %s\n\n%s\n", path, declarations(t, path, dir, files))
	}
	golden(t, "go.txt", exported.String())
}

// declarations returns the output of go doc -all without its comments.
func declarations(t *testing.T, path, dir string, names []string) string {
	t.Helper()
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		file, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		files = append(files, file)
	}
	pkg, err := doc.NewFromFiles(fset, files, path)
	require.NoError(t, err)
	var nodes []ast.Node
	values := func(groups ...[]*doc.Value) {
		for _, group := range groups {
			for _, value := range group {
				nodes = append(nodes, value.Decl)
			}
		}
	}
	functions := func(groups ...[]*doc.Func) {
		for _, group := range groups {
			for _, function := range group {
				nodes = append(nodes, function.Decl)
			}
		}
	}
	values(pkg.Consts, pkg.Vars)
	functions(pkg.Funcs)
	for _, typ := range pkg.Types {
		nodes = append(nodes, typ.Decl)
		values(typ.Consts, typ.Vars)
		functions(typ.Funcs, typ.Methods)
	}
	var text strings.Builder
	for _, node := range nodes {
		require.NoError(t, (&printer.Config{Mode: printer.UseSpaces | printer.TabIndent, Tabwidth: 8}).Fprint(&text, fset, node))
		text.WriteString("\n")
	}
	return text.String()
}

// golden compares a text with a file, or writes it to the file with -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
		return
	}
	want, err := os.ReadFile(file) //nolint:gosec // those beside this one
	require.NoError(t, err)
	if string(want) != got {
		t.Errorf("api/%s is out of date: renew it with go test ./api -update, see CONTRIBUTING.md. What differs:\n%s",
			file, strings.Join(difference(strings.Split(string(want), "\n"), strings.Split(got, "\n")), "\n"))
	}
}

// difference shows the first difference of two texts.
func difference(want, got []string) []string {
	same := 0
	for same < min(len(want), len(got)) && want[same] == got[same] {
		same++
	}
	const shown = 5
	var lines []string
	for _, line := range want[same:min(len(want), same+shown)] {
		lines = append(lines, "-"+line)
	}
	for _, line := range got[same:min(len(got), same+shown)] {
		lines = append(lines, "+"+line)
	}
	return lines
}
