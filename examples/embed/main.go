// Command embed embeds a CRM. It stores a sales manager and a lead in an SQLite file.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/sqlite"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	store, err := sqlite.Open(ctx, "crm.db")
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	crm, err := cims.New(store, nil)
	if err != nil {
		return err
	}
	defer func() { _ = crm.Close(ctx) }()
	us := cims.System("embed")
	_, err = crm.CreateUser(ctx, us, cims.NewUser{Email: "aziza@example.com", Name: "Aziza", Surname: "Karimova", RoleName: cims.RoleSalesManager})
	if err != nil && !errors.Is(err, cims.ErrExists) { // Aziza exists from the second run on
		return err
	}
	lead, err := crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: "Bekzod Toshev"})
	if err != nil {
		return err
	}
	fmt.Println(lead.FullName, "goes to", lead.SalesManager.Name)
	return nil
}
