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
	return lookingAt(t, base, schema, "")
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

// lookingAt makes the schema the only one that is looked at, so that nothing can come
// from another. The database is that of the base if none is named.
func lookingAt(t testing.TB, base, schema, database string) string {
	t.Helper()
	parsed, err := url.Parse(base)
	if err != nil {
		t.Fatalf("%s: %v", server, err)
	}
	if database != "" {
		parsed.Path = "/" + database
	}
	query := parsed.Query()
	query.Set("search_path", schema)
	parsed.RawQuery = query.Encode()
	return parsed.String()
}

// Template is a database that tests get copies of. PostgreSQL copies a database in a
// fraction of the time that it takes to migrate one.
type Template struct{ base, name string }

// NewTemplate returns a template that prepare sets up, given its URL. It is dropped when
// the test ends. Like [URL], it needs a server.
func NewTemplate(t testing.TB, prepare func(url string)) *Template {
	t.Helper()
	base := Need(t)
	m := &Template{base, create(t, base, "template1")}
	prepare(m.url(t, m.name))
	return m
}

// URL returns the URL of a copy, dropped when the test ends.
func (m *Template) URL(t testing.TB) string {
	t.Helper()
	return m.url(t, create(t, m.base, m.name))
}

func (m *Template) url(t testing.TB, name string) string {
	t.Helper()
	return lookingAt(t, m.base, "public", name)
}

func create(t testing.TB, base, template string) (name string) {
	t.Helper()
	name = "t_" + uuid.NewString()[:13]
	Execute(t, base, fmt.Sprintf("CREATE DATABASE %q TEMPLATE %q", name, template))
	t.Cleanup(func() { Execute(t, base, fmt.Sprintf("DROP DATABASE %q", name)) })
	return name
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
