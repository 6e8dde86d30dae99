package httpapi_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi"
	"github.com/cimskit/cims/storage/sqlite"
)

// TestLeadFileHasNoName checks that a process that is killed leaves no leads behind.
func TestLeadFileHasNoName(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("open files keep their names")
	}
	directory := t.TempDir()
	t.Setenv("TMPDIR", directory)
	file, err := httpapi.ReadLeads(strings.NewReader(`{"full_name": "Aziza"}`), httpapi.NDJSON)
	require.NoError(t, err)
	left, err := os.ReadDir(directory)
	require.NoError(t, err)
	require.Empty(t, left)

	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "crm.db"))
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	require.NoError(t, store.Migrate(t.Context()))
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	n, err := file.AddTo(t.Context(), crm, cims.System("test"), nil)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.NoError(t, file.Close())
	require.NoError(t, crm.Close(t.Context()))
}
