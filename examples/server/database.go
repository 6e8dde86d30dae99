package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/cimskit/cims/storage/postgres"
	"github.com/cimskit/cims/storage/sqlite"
	"github.com/cimskit/cims/storage/transfer"
)

var (
	_ mover = (*sqlite.Storage)(nil)
	_ mover = (*postgres.Storage)(nil)
)

const defaultDatabase = "sqlite:cims.db"

// database is the database that -db or another flag names.
type database struct {
	url  string
	path string // of the SQLite file; empty for PostgreSQL
	flag string
}

func parseDatabase(text string) (database, error) { return databaseOf("-db", text) }

func databaseOf(flag, text string) (database, error) {
	if strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://") {
		return database{url: text, flag: flag}, nil
	}
	path, ok := strings.CutPrefix(text, "sqlite:")
	switch {
	case text == "":
		return database{}, errors.New(flag + ": want sqlite:PATH or postgres://…, and it is not given")
	case !ok || path == "": // the error leaves out the text, which may hold a password
		return database{}, errors.New(flag + ": want sqlite:PATH or postgres://…")
	case strings.HasPrefix(path, "//"), strings.HasPrefix(path, "file:"):
		return database{}, fmt.Errorf("%s: %s: want a plain path after sqlite:, as in sqlite:cims.db or sqlite:/var/lib/cims.db", flag, text)
	case strings.Contains(path, ":memory:"):
		return database{}, fmt.Errorf("%s: %s: want a file: nothing would stay in memory", flag, text)
	}
	folder := filepath.Dir(path)
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		return database{}, fmt.Errorf("%s: there is no directory %s", flag, folder)
	}
	return database{text, path, flag}, nil
}

// shown returns the URL without its password, for logs.
func (d database) shown() string {
	if d.path != "" {
		return d.url
	}
	parsed, err := url.Parse(d.url)
	if err != nil || strings.Contains(strings.ToLower(parsed.RawQuery), "password") {
		return "postgres://…"
	}
	return parsed.Redacted()
}

// create opens the database, and creates an SQLite file if it doesn't exist. Only its owner
// may read the file, since it holds customers. SQLite applies the same mode to the files
// beside it.
func (d database) create(ctx context.Context) (transfer.Storage, error) {
	if d.path != "" {
		file, err := os.OpenFile(d.path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.flag, err)
		}
		if err := file.Close(); err != nil {
			return nil, err
		}
	}
	return d.open(ctx)
}

// existing opens a database that must exist.
func (d database) existing(ctx context.Context) (transfer.Storage, error) {
	if d.path != "" {
		if _, err := os.Stat(d.path); err != nil {
			return nil, fmt.Errorf("%s: %w", d.flag, err)
		}
	}
	return d.open(ctx)
}

// use opens a database that a server has prepared, and changes nothing.
func (d database) use(ctx context.Context) (transfer.Storage, error) {
	if d.path != "" {
		if _, err := os.Stat(d.path); err != nil {
			return nil, fmt.Errorf("%s: %w: start the server once", d.flag, err)
		}
	}
	store, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	if err := store.Ready(ctx); err != nil {
		return nil, fmt.Errorf("%s: the database is not ready, as server migrate up would make it: %w", d.flag, errors.Join(err, store.Close()))
	}
	return store, nil
}

func (d database) open(ctx context.Context) (store transfer.Storage, err error) {
	if d.path != "" {
		store, err = sqlite.Open(ctx, d.path)
	} else {
		store, err = postgres.Open(ctx, d.url)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.flag, err)
	}
	return store, nil
}
