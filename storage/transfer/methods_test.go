package transfer_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/postgres"
	"github.com/cimskit/cims/storage/sqlite"
)

// TestStoragesKeepWritesToTransactions checks that a host can't write past a
// Manager's rules: only a transaction has the methods of cims.Tx that write.
func TestStoragesKeepWritesToTransactions(t *testing.T) {
	t.Parallel()
	const most = 27
	promised := methods[cims.Storage]()
	more := []string{
		"Intake", // guarded: it stores what it decides under the rotation's lock
		"Join", "MigrateWithProgress", "Plan", "Repair", "Rollback", "SQL", "Steps", "Verify",
	}
	for storage, exported := range map[reflect.Type][]string{
		reflect.TypeFor[*postgres.Storage](): methods[*postgres.Storage](),
		reflect.TypeFor[*sqlite.Storage]():   methods[*sqlite.Storage](),
	} {
		t.Run(storage.String(), func(t *testing.T) {
			t.Parallel()
			for _, name := range methods[cims.Tx]() {
				writes := !slices.Contains(methods[cims.Reader](), name)
				if writes && name != "Intake" && slices.Contains(exported, name) {
					t.Errorf("%s writes outside of a transaction", name)
				}
			}
			for _, name := range exported {
				if !slices.Contains(promised, name) && !slices.Contains(more, name) {
					t.Errorf("%s is exported, but not promised", name)
				}
			}
			require.LessOrEqual(t, len(exported), most)
			require.Implements(t, (*cims.Intaker)(nil), reflect.Zero(storage).Interface())
			for _, field := range reflect.VisibleFields(storage.Elem()) {
				require.False(t, field.IsExported(), "the field %s leads past the methods", field.Name)
			}
		})
	}
}

// methods returns the names of a type's exported methods, sorted.
func methods[T any]() []string {
	of := reflect.TypeFor[T]()
	names := make([]string, of.NumMethod())
	for i := range names {
		names[i] = of.Method(i).Name
	}
	return names
}
