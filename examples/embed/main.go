// Command embed is a whole program with a CRM in it.
package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/sqlite"
)

func main() {
	ctx, us := context.Background(), cims.System("embed")
	store := must(sqlite.Open(ctx, "crm.db"))
	must(store, store.Migrate(ctx))
	crm := must(cims.New(store, nil))
	must(crm.CreateUser(ctx, us, cims.NewUser{Email: "aziza@example.com", Name: "Aziza", Surname: "Karimova", RoleName: "sales_manager"}))
	lead := must(crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: "Bekzod Toshev"}))
	fmt.Println(lead.FullName, "goes to", lead.SalesManager.Name)
	must(crm, errors.Join(crm.Close(ctx), store.Close()))
}

func must[T any](value T, err error) T {
	if err != nil && !errors.Is(err, cims.ErrExists) { // Aziza exists from the second run on
		panic(err)
	}
	return value
}
