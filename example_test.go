package cims_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/sqlite"
)

// This is a whole program. It opens a database, adds two sales managers and stores
// three leads.
func Example() {
	ctx, us := context.Background(), cims.System("example")
	folder := must(os.MkdirTemp("", "cims"))
	store := must(sqlite.Open(ctx, filepath.Join(folder, "crm.db")))
	must(store, store.Migrate(ctx)) // at each start
	crm := must(cims.New(store, nil))

	for _, name := range []string{"Anvar", "Botir"} {
		must(crm.CreateUser(ctx, us, cims.NewUser{
			Email: name + "@example.com", Name: name, Surname: "Karimov", RoleName: cims.RoleSalesManager,
		}))
	}
	for _, name := range []string{"Aziza", "Bekzod", "Dilnoza"} {
		lead := must(crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: name}))
		fmt.Println(lead.FullName, "goes to", lead.SalesManager.Name)
	}

	must(crm, errors.Join(crm.Close(ctx), store.Close(), os.RemoveAll(folder)))
	// Output:
	// Aziza goes to Anvar
	// Bekzod goes to Botir
	// Dilnoza goes to Anvar
}

// must keeps the examples short. A program handles errors instead.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
