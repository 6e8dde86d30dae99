// Package storagetest tests a [cims.Storage]. It checks that each method keeps the promises
// of the interface, that every rule of [cims.Manager] holds over the Storage, and that the
// library's guarantees hold under concurrency. It tests the storages of the library, and can
// test any other:
//
//	func TestStorage(t *testing.T) {
//		storagetest.Run(t, func(t *testing.T) storagetest.Open {
//			path := filepath.Join(t.TempDir(), "crm.db")
//			return func(t *testing.T) cims.Storage {
//				store, err := mystorage.Open(t.Context(), path)
//				require.NoError(t, err)
//				return store
//			}
//		})
//	}
//
// [RunMigrate] takes the same function. For a Storage in memory, Open returns the same one
// on each call:
//
//	storagetest.Run(t, func(*testing.T) storagetest.Open {
//		store := memory.New()
//		return func(*testing.T) cims.Storage { return store }
//	})
//
// Run it with the race detector. The order of random operations depends on a seed, which is
// logged. Set STORAGETEST_SEED to repeat a run.
package storagetest

import (
	"slices"
	"testing"

	"github.com/cimskit/cims"
)

// Factory creates a database that no other test uses, without tables or migrated already. It
// returns a function that opens a Storage on it. Factory is called once for each test. It
// cleans up with t.Cleanup.
type Factory func(t *testing.T) Open

// Open opens a Storage on the database of one test. It may be called several times, since
// several Storages on one database stand for several processes. The suite migrates the
// first Storage and closes each. A Storage that Open returns more than once must therefore
// be usable after Close.
type Open func(t *testing.T) cims.Storage

// Run runs the suite, in parallel subtests. What only an empty database shows is left to
// [RunMigrate].
func Run(t *testing.T, factory Factory) {
	t.Helper()
	for _, test := range slices.Concat(
		guaranteeTests, // these take the longest
		statusTests, roleTests, userTests, permissionTests,
		customerTests, historyTests, idempotencyTests, conversionTests,
		rotationTests, waitingTests, importTests, hookTests, auditTests, iteratorTests,
	) {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, newDatabase(t, factory, false))
		})
	}
	for _, test := range slices.Concat(contractTests, textTests, lockTests) {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, newDatabase(t, factory, true))
		})
	}
}

// RunMigrate tests Migrate on databases of factory, which have to be empty.
func RunMigrate(t *testing.T, factory Factory) {
	t.Helper()
	t.Run("ManyAtOnce", func(t *testing.T) {
		t.Parallel()
		migrateAtOnce(t, factory(t))
	})
}

// test is one subtest, on a new, migrated database.
type test struct {
	name string
	run  func(t *testing.T, d *database)
}
