package cims_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/sqlite"
)

// hosted returns a Manager over the database of a host. It runs the statement before
// ahead of the migration.
func hosted(config *cims.Config, before string) (db *sql.DB, crm *cims.Manager, end func()) {
	ctx := context.Background()
	folder := must(os.MkdirTemp("", "cims"))
	db = must(sql.Open("sqlite", "file:"+filepath.Join(folder, "host.db")+"?_txlock=immediate&_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)"))
	must(db.ExecContext(ctx, before))
	store := must(sqlite.New(db))
	must(store, store.Migrate(ctx))
	crm = must(cims.New(store, config))
	return db, crm, func() { must(crm, errors.Join(crm.Close(ctx), store.Close(), db.Close(), os.RemoveAll(folder))) }
}

// The host stores an order and a lead in one transaction, and rolls both back.
func ExampleManager_WithTx() {
	ctx, us := context.Background(), cims.System("shop")
	db, crm, end := hosted(nil, "CREATE TABLE orders (title TEXT NOT NULL, customer_id INTEGER)")
	defer end()

	tx := must(db.BeginTx(ctx, nil))
	must(tx.ExecContext(ctx, "INSERT INTO orders (title) VALUES ('a website')"))
	joined := crm.WithTx(tx)
	_, err := joined.Customer(ctx, us, 42)
	fmt.Println("refused, and the transaction goes on:", errors.Is(err, cims.ErrNotFound))
	lead := must(joined.AddCustomer(ctx, us, cims.NewCustomer{FullName: "Aziza Karimova"}))
	must(tx, tx.Rollback())

	_, err = crm.Customer(ctx, us, lead.ID)
	fmt.Println("gone with the order:", errors.Is(err, cims.ErrNotFound))
	// Output:
	// refused, and the transaction goes on: true
	// gone with the order: true
}

// A hook writes a note about each change, in the transaction of the change.
func ExampleHook() {
	ctx := context.Background()
	note := func(ctx context.Context, tx cims.Executor, change cims.Change) error {
		text := fmt.Sprintf("%s: %s %s", change.Actor.SystemName(), change.Entity, change.Action)
		_, err := tx.Exec(ctx, "INSERT INTO notes (id, text) VALUES (?, ?)", change.ID.String(), text)
		return err
	}
	db, crm, end := hosted(&cims.Config{Hooks: []cims.Hook{note}}, "CREATE TABLE notes (id TEXT PRIMARY KEY, text TEXT NOT NULL)")
	defer end()

	lead := must(crm.AddCustomer(ctx, cims.System("web form"), cims.NewCustomer{FullName: "Aziza Karimova"}))
	must(crm.SetStatus(ctx, cims.System("call center"), lead.ID, "need_to_call", "asked for a call"))
	var notes string
	must(db, db.QueryRowContext(ctx, "SELECT group_concat(text, char(10)) FROM (SELECT text FROM notes ORDER BY id)").Scan(&notes))
	fmt.Println(notes)
	// Output:
	// web form: customer created
	// call center: customer status
}

// A Manager waits for a while before it assigns a lead that another program stored.
// AutoAssign assigns it at once.
func ExampleManager_AutoAssign() {
	ctx, us := context.Background(), cims.System("example")
	db, crm, end := hosted(nil, "")
	defer end()
	must(crm.CreateUser(ctx, us, cims.NewUser{Email: "anvar@example.com", Name: "Anvar", Surname: "Karimov", RoleName: cims.RoleSalesManager}))

	id := must(must(db.ExecContext(ctx, "INSERT INTO customer (full_name, created_at) VALUES ('Aziza Karimova', datetime())")).LastInsertId())
	must(crm.AutoAssign(ctx, us, id))
	fmt.Println(must(crm.Customer(ctx, us, id)).SalesManager.Name)
	// Output: Anvar
}

// AssignBacklog assigns the customers that had no sales manager before cims was
// installed.
func ExampleManager_AssignBacklog() {
	ctx, us := context.Background(), cims.System("example")
	_, crm, end := hosted(nil, `CREATE TABLE customer (id INTEGER PRIMARY KEY, full_name TEXT NOT NULL, created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);
		INSERT INTO customer (full_name) VALUES ('Aziza Karimova'), ('Bekzod Toshev'), ('Dilnoza Rahimova')`)
	defer end()
	for _, name := range []string{"Anvar", "Botir"} {
		must(crm.CreateUser(ctx, us, cims.NewUser{Email: name + "@example.com", Name: name, Surname: "Karimov", RoleName: cims.RoleSalesManager}))
	}
	fmt.Println(must(crm.AssignBacklog(ctx, us)).Assigned, "assigned")
	for _, manager := range must(crm.SalesManagers(ctx, us)) {
		fmt.Println(manager.Name, "has", manager.AssignedLeads)
	}
	// Output:
	// 3 assigned
	// Anvar has 2
	// Botir has 1
}
