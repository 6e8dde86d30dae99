package customstorage_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/examples/customstorage"
	"github.com/cimskit/cims/storage/storagetest"
)

// TestStorage runs the whole suite.
func TestStorage(t *testing.T) {
	t.Parallel()
	create := func(*testing.T) storagetest.Open {
		store := customstorage.New()
		return func(*testing.T) cims.Storage { return store }
	}
	storagetest.Run(t, create)
	storagetest.RunMigrate(t, create)
}

// A Manager uses it like any other Storage.
func Example() {
	ctx, us := context.Background(), cims.System("example")
	store := customstorage.New()
	must(store, store.Migrate(ctx))
	crm := must(cims.New(store, nil))
	for _, name := range []string{"Anvar", "Botir"} {
		must(crm.CreateUser(ctx, us, cims.NewUser{Email: name + "@example.com", Name: name, Surname: "Karimov", RoleName: cims.RoleSalesManager}))
	}
	for _, name := range []string{"Aziza", "Bekzod", "Dilnoza"} {
		lead := must(crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: name}))
		fmt.Println(lead.FullName, "goes to", lead.SalesManager.Name)
	}
	must(crm, crm.Close(ctx))
	// Output:
	// Aziza goes to Anvar
	// Bekzod goes to Botir
	// Dilnoza goes to Anvar
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
