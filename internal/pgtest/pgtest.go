// Package pgtest gives tests a PostgreSQL of their own.
package pgtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	server   = "CIMS_TEST_POSTGRES_URL"
	required = "CIMS_TEST_REQUIRE_POSTGRES"
)

// URL returns the URL of an empty schema on the server that the environment
// names, dropped when the test ends. Without a server it skips the test, or
// fails it where the environment requires one.
func URL(t testing.TB) string {
	t.Helper()
	base := Need(t)
	schema := "t_" + uuid.NewString()[:13]
	Execute(t, base, fmt.Sprintf("CREATE SCHEMA %q", schema))
	t.Cleanup(func() { Execute(t, base, fmt.Sprintf("DROP SCHEMA %q CASCADE", schema)) })
	return within(t, base, schema)
}

// Need returns the server's URL, for tests that only want to know whether there
// is one. See URL.
func Need(t testing.TB) string {
	t.Helper()
	base := os.Getenv(server)
	if base == "" {
		if os.Getenv(required) != "" {
			t.Fatalf("%s is not set, and %s is", server, required)
		}
		t.Skipf("NOT RUN ON POSTGRESQL: %s is not set; ./scripts/test sets it", server)
	}
	return base
}

// within adds the schema as the only one that is looked at, so that nothing can
// come from another.
func within(t testing.TB, base, schema string) string {
	parsed, err := url.Parse(base)
	if err != nil {
		t.Fatalf("%s: %v", server, err)
	}
	query := parsed.Query()
	query.Set("search_path", schema)
	parsed.RawQuery = query.Encode()
	return parsed.String()
}

// Execute runs statements, such as a dump, in the schema of a URL.
func Execute(t testing.TB, target, statements string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is left to be lost
	if _, err := conn.Exec(ctx, statements); err != nil {
		t.Fatal(err)
	}
}
