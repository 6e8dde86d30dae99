// Command outbox delivers each change to another program at least once. A hook inserts an
// event into a table of the host, in the transaction of the change. A relay delivers the
// events in order and deletes each after its delivery. The receiver recognizes repeated
// events by their ids.
package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/sqlite"
)

// event is an event as delivered.
type event struct {
	ID      string
	At      time.Time
	Action  cims.Action
	Entity  cims.Entity
	Subject int64
	After   any
}

// enqueue is the hook. It inserts an event for the change.
func enqueue(ctx context.Context, tx cims.Executor, change cims.Change) error {
	body, err := json.Marshal(event{change.ID.String(), change.At, change.Action, change.Entity, change.EntityID, change.After})
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "INSERT INTO outbox (id, body) VALUES (?, ?)", change.ID.String(), string(body))
	return err
}

// relay delivers events until ctx ends. An event that can't be delivered stays the first.
func relay(ctx context.Context, db *sql.DB, url string) {
	for ctx.Err() == nil {
		delivered, err := deliver(ctx, db, url)
		if err != nil && ctx.Err() == nil {
			log.Print("not delivered yet: ", err)
		}
		if !delivered {
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

// deliver delivers the oldest event, if there is one, and then deletes it. A program that
// dies in between delivers the event again.
func deliver(ctx context.Context, db *sql.DB, url string) (bool, error) {
	var place int64
	var body []byte
	err := db.QueryRowContext(ctx, "SELECT place, body FROM outbox ORDER BY place LIMIT 1").Scan(&place, &body)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return false, err
	}
	if err := answer.Body.Close(); err != nil {
		return false, err
	}
	if answer.StatusCode != http.StatusNoContent {
		return false, fmt.Errorf("%s answers %s", url, answer.Status)
	}
	_, err = db.ExecContext(ctx, "DELETE FROM outbox WHERE place = ?", place)
	return err == nil, err
}

func main() {
	file := flag.String("db", "crm.db", "the database file")
	url := flag.String("to", "http://127.0.0.1:9000/events", "where events go")
	leads := flag.Int("leads", 10, "how many leads to add")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *file, *url, *leads); err != nil {
		log.Fatal(err) //nolint:gocritic // stop has nothing to do any more
	}
}

func run(ctx context.Context, file, url string, leads int) (err error) {
	db, err := sql.Open("sqlite", "file:"+file+"?_txlock=immediate&_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	// The ids are in the order of the commits, since SQLite has one writer.
	if _, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS outbox (place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, body TEXT NOT NULL)"); err != nil {
		return err
	}
	store, err := sqlite.New(db)
	if err != nil {
		return err
	}
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	crm, err := cims.New(store, &cims.Config{Hooks: []cims.Hook{enqueue}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, crm.Close(context.WithoutCancel(ctx))) }()
	us := cims.System("outbox")
	_, err = crm.CreateUser(ctx, us, cims.NewUser{Email: "aziza@example.com", Name: "Aziza", Surname: "Karimova", RoleName: cims.RoleSalesManager})
	if err != nil && !errors.Is(err, cims.ErrExists) { // Aziza exists from the second run on
		return err
	}
	relaying, finish := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		relay(relaying, db, url)
	}()
	defer func() { finish(); <-done }()
	for i := range leads {
		lead, err := crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: fmt.Sprintf("Lead %d", i+1)})
		if err != nil {
			return err
		}
		fmt.Println(lead.ID)
	}
	<-ctx.Done()
	return nil
}
