package httpapi_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims/internal/contract"
)

// requireClients makes a test fail, instead of being skipped, if a tool is missing.
// scripts/test sets it.
const requireClients = "CIMS_TEST_REQUIRE_CLIENTS"

// TestTypedClients plays a day of a sales department with clients that are generated from
// the server's document and compiled strictly. The generated code is never committed, so
// that it can't be out of date.
func TestTypedClients(t *testing.T) {
	t.Parallel()
	for _, client := range []struct {
		name  string
		fetch [][]string // may need the network
		build [][]string
		run   []string
	}{
		{
			name:  "go",
			fetch: [][]string{{"go", "mod", "download"}, {"go", "generate"}},
			build: [][]string{{"go", "vet", "./..."}},
			run:   []string{"go", "run", "."},
		},
		{
			name:  "typescript",
			fetch: [][]string{{"node", "--version"}, {"npm", "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund"}},
			build: [][]string{{"npm", "run", "generate"}, {"npm", "run", "build"}},
			run:   []string{"node", "build/main.js"},
		},
	} {
		t.Run(client.name, func(t *testing.T) {
			t.Parallel()
			s := contract.NewServer(t, netHTTP)
			dir := t.TempDir()
			require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "clients", client.name))))
			document, err := json.Marshal(s.API.OpenAPI())
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "openapi.json"), document, 0o600))

			command := func(args ...string) ([]byte, error) {
				cmd := exec.CommandContext(t.Context(), args[0], args[1:]...) //nolint:gosec // those above
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "TOKEN="+contract.Token(t, contract.CEOEmail), "CGO_ENABLED=0", "GOWORK=off")
				out, err := cmd.CombinedOutput()
				if err != nil {
					err = fmt.Errorf("%v: %w\n%s", args, err, out)
				}
				return out, err
			}
			for _, args := range client.fetch {
				_, err := command(args...)
				if err != nil && os.Getenv(requireClients) == "" {
					t.Skipf("NOT RUN: THE %s CLIENT CAN'T BE MADE HERE; ./scripts/test requires it: %v", client.name, err)
				}
				require.NoError(t, err)
			}
			for _, args := range client.build {
				_, err := command(args...)
				require.NoError(t, err)
			}
			summary, err := command(append(client.run, s.URL)...)
			require.NoError(t, err)
			require.Equal(t, "Aziza 2, Bekzod 3, Dilnoza 4, 1 of 9 contract_signed: 11.11 %, contacted, contract_signed, in use: 1\n", string(summary))
		})
	}
}

// TestLockFileNamesNoRegistry checks that the lock file works with any registry.
func TestLockFileNamesNoRegistry(t *testing.T) {
	lock, err := os.ReadFile("testdata/clients/typescript/package-lock.json")
	require.NoError(t, err)
	require.Contains(t, string(lock), `"integrity"`)
	require.NotContains(t, string(lock), `"resolved"`)
}
