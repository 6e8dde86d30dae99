// Package storagetest proves a [cims.Storage]: that each of its methods keeps the
// promises of the interface, that every rule of [cims.Manager] holds over it, and
// that the library's guarantees hold under concurrency. The library's storages are
// tested by it, and so can be any other:
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
// For a Storage in memory, Open returns the same one each time:
//
//	storagetest.Run(t, func(*testing.T) storagetest.Open {
//		store := memory.New()
//		return func(*testing.T) cims.Storage { return store }
//	})
//
// Run it with the race detector on. The order of random operations is made
// from a seed, which is logged; set STORAGETEST_SEED to repeat one.
package storagetest

import (
	"slices"
	"testing"

	"github.com/cimskit/cims"
)

// Factory makes a fresh, empty database, without tables, that no other test uses.
// It returns a function that opens a Storage on it. It is called once for each test
// and cleans up by t.Cleanup.
type Factory func(t *testing.T) Open

// Open opens a Storage on the database of one test. It may be called several
// times: several Storages on one database stand for several processes. The suite
// migrates the first, and closes each; so a Storage that is returned more than
// once must be usable after Close.
type Open func(t *testing.T) cims.Storage

// Run runs the whole suite, in parallel subtests.
func Run(t *testing.T, factory Factory) {
	t.Helper()
	for _, test := range slices.Concat(
		guaranteeTests, // which take the longest
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

	t.Run("Contract_MigrateManyAtOnce", func(t *testing.T) {
		t.Parallel()
		migrateAtOnce(t, factory(t))
	})
}

// test is one subtest, on a new, migrated database.
type test struct {
	name string
	run  func(t *testing.T, d *database)
}
