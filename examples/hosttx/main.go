// Command hosttx stores a host's order and the lead that placed it in one transaction.
// Either both are stored, the lead with its sales manager, or neither is.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/sqlite"
)

func main() {
	ctx, us := context.Background(), cims.System("shop")
	db := must(sql.Open("sqlite", "file:shop.db?_txlock=immediate&_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)"))
	store := must(sqlite.New(db))
	must(store, store.Migrate(ctx))
	crm := must(cims.New(store, nil))
	must(db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS orders (title TEXT NOT NULL, customer_id INTEGER NOT NULL REFERENCES customer (id), cents INTEGER CHECK (cents > 0))"))
	must(crm.CreateUser(ctx, us, cims.NewUser{Email: "aziza@example.com", Name: "Aziza", Surname: "Karimova", RoleName: cims.RoleSalesManager}))

	lead, err := order(ctx, db, crm, "Bekzod Toshev", "a website", 90_000)
	fmt.Println(lead.FullName, "goes to", lead.SalesManager.Name, err)
	_, err = order(ctx, db, crm, "Dilnoza Rahimova", "nothing at all", 0)
	fmt.Println("refused:", err != nil)
	leads := must(crm.Customers(ctx, us, cims.CustomerFilter{Prefix: "Dilnoza"}, cims.PageRequest{}))
	fmt.Println("leads without an order:", len(leads.Items))
	must(crm, errors.Join(crm.Close(ctx), store.Close(), db.Close()))
}

func order(ctx context.Context, db *sql.DB, crm *cims.Manager, name, title string, cents int) (lead cims.Customer, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return lead, err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if lead, err = crm.WithTx(tx).AddCustomer(ctx, cims.System("shop"), cims.NewCustomer{FullName: name}); err != nil {
		return lead, err
	}
	if _, err = tx.ExecContext(ctx, "INSERT INTO orders (title, customer_id, cents) VALUES (?, ?, ?)", title, lead.ID, cents); err != nil {
		return lead, err
	}
	return lead, tx.Commit()
}

func must[T any](value T, err error) T {
	if err != nil && !errors.Is(err, cims.ErrExists) { // Aziza exists from the second run on
		panic(err)
	}
	return value
}
