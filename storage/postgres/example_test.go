package postgres_test

import (
	"context"
	"fmt"

	"github.com/cimskit/cims/storage/postgres"
)

// Use a host's tables under other names than those of cims.
func ExampleCustomers() {
	open := func(ctx context.Context, url string) (*postgres.Storage, error) {
		store, err := postgres.Open(ctx, url,
			postgres.Customers(postgres.Table{Name: "leads", Columns: map[string]string{"id": "lead_id", "full_name": "title"}}),
			postgres.Users(postgres.Table{Name: "staff", Columns: map[string]string{"email": "mail"}}))
		return store, err
	}
	_, err := open(context.Background(), "no://database")
	fmt.Println(err != nil)
	// Output: true
}
