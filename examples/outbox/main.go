// Command outbox tells another program of each change, at least once, whatever
// happens in between. A hook puts an event into a table of the host's own, in the
// transaction that makes the change; a relay delivers the events in their order and
// forgets each when it has arrived. Who receives them knows an event by its id.
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

// event is what is delivered.
type event struct {
	ID      string
	At      time.Time
	Action  cims.Action
	Entity  cims.Entity
	Subject int64
	After   any
}

// enqueue is the hook.
func enqueue(ctx context.Context, tx cims.Executor, change cims.Change) error {
	body, err := json.Marshal(event{change.ID.String(), change.At, change.Action, change.Entity, change.EntityID, change.After})
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "INSERT INTO outbox (id, body) VALUES (?, ?)", change.ID.String(), string(body))
	return err
}

// relay delivers until ctx ends. What could not be delivered stays first.
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

// deliver delivers the oldest event, if there is one. It is deleted after it has
// arrived: a program that dies in between delivers it again.
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
	// The sequence of the places is that of the commits, since SQLite has one writer.
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
