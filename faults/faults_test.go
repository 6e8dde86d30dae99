//go:build unix

// Package faults tests the library under real faults. It kills processes and servers, cuts
// and stalls connections, and fills disks. A checker then reads the tables with plain SQL,
// independently of the library.
//
// go test ./... runs a short version, and ./scripts/test -long the full one.
package faults

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/internal/pgtest"
	"github.com/cimskit/cims/storage/postgres"
	"github.com/cimskit/cims/storage/sqlite"
)

// Settings from the environment.
const (
	fullSetting   = "CIMS_FAULTS"        // "full" runs the full version
	reportSetting = "CIMS_FAULTS_REPORT" // file for the results
)

var full = os.Getenv(fullSetting) == "full"

// patience is how long a test waits for an event. Nothing takes that long unless it
// never happens.
const patience = time.Minute

var system = cims.System("faults")

func TestMain(m *testing.M) {
	if os.Getenv(workerSetting) != "" {
		os.Exit(work())
	}
	os.Exit(m.Run())
}

// times returns the number of repetitions, which is larger in the full version.
func times(short, whole int) int {
	if full {
		return whole
	}
	return short
}

// report logs the result of a test.
func report(t *testing.T, format string, args ...any) {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	t.Log(line)
	if path := os.Getenv(reportSetting); path != "" {
		file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // the path is the caller's choice
		require.NoError(t, err)
		_, err = fmt.Fprintf(file, "%s: %s\n", t.Name(), line)
		require.NoError(t, errors.Join(err, file.Close()))
	}
}

// database is a CRM with a team, and the URL that opens it.
type database struct {
	url  string
	team []int64 // its sales managers
}

const sqliteScheme = "sqlite:"

// openStorage opens the storage that a URL names.
func openStorage(ctx context.Context, url string) (cims.Storage, error) {
	if path, ok := strings.CutPrefix(url, sqliteScheme); ok {
		return sqlite.Open(ctx, path)
	}
	return postgres.Open(ctx, url)
}

// newDatabase migrates a database and hires a team.
func newDatabase(t *testing.T, url string, managers int) *database {
	t.Helper()
	d := &database{url: url}
	store, err := openStorage(t.Context(), url)
	require.NoError(t, err)
	require.NoError(t, store.Migrate(t.Context()))
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	for i := range managers {
		d.team = append(d.team, hire(t, crm, fmt.Sprintf("Manager %d", i)))
	}
	require.NoError(t, crm.Close(t.Context()))
	require.NoError(t, store.Close())
	return d
}

func hire(t *testing.T, crm *cims.Manager, name string) int64 {
	t.Helper()
	user, err := crm.CreateUser(t.Context(), system, cims.NewUser{
		Email: strings.ReplaceAll(name, " ", "-") + "@example.com", Name: name, Surname: "Karimov", RoleName: cims.RoleSalesManager,
	})
	require.NoError(t, err)
	return user.ID
}

func sqliteURL(t *testing.T) string {
	t.Helper()
	return sqliteScheme + filepath.Join(t.TempDir(), "crm.db")
}

// onBoth runs a test on SQLite and on PostgreSQL.
func onBoth(t *testing.T, test func(t *testing.T, url string)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		test(t, sqliteURL(t))
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		test(t, pgtest.URL(t))
	})
}

// open returns a Manager over a new Storage, for as long as the test.
func (d *database) open(t *testing.T, parameters ...string) *cims.Manager {
	t.Helper()
	target := d.url
	for _, p := range parameters {
		target += "&" + p
	}
	store, err := openStorage(t.Context(), target)
	require.NoError(t, err)
	return manage(t, store)
}

func manage(t *testing.T, store cims.Storage) *cims.Manager {
	t.Helper()
	return manageAt(t, store, time.Now)
}

// manageAt returns a Manager with another clock.
func manageAt(t *testing.T, store cims.Storage, clock func() time.Time) *cims.Manager {
	t.Helper()
	crm, err := cims.New(store, &cims.Config{Clock: clock, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, crm.Close(ctx))
		require.NoError(t, store.Close())
	})
	return crm
}

// sql opens the database without the library.
func (d *database) sql(t *testing.T) *sql.DB {
	t.Helper()
	driver, source := "pgx", d.url
	if path, ok := strings.CutPrefix(d.url, sqliteScheme); ok {
		driver, source = "sqlite", "file:"+path+"?"+url.Values{"_pragma": {"busy_timeout(20000)"}}.Encode()
	}
	db, err := sql.Open(driver, source)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// execute runs a statement without the library.
func execute(t *testing.T, db *sql.DB, query string) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), query)
	require.NoError(t, err, query)
}

// check lets the checker judge the database.
func (d *database) check(t *testing.T, answers *answers) result {
	t.Helper()
	found, err := check(t.Context(), d.sql(t), answers, d.team)
	require.NoError(t, err)
	require.Empty(t, found.complaints)
	if strings.HasPrefix(d.url, sqliteScheme) {
		requireSound(t, d.sql(t))
	}
	return found
}

func requireSound(t *testing.T, db *sql.DB) {
	t.Helper()
	var verdict string
	require.NoError(t, db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&verdict))
	require.Equal(t, "ok", verdict)
}

// answers collects the answers that callers got. Names of leads are unique in a test.
type answers struct {
	mu         sync.Mutex
	stored     map[int64]answer
	refused    map[string]string // name → error, of what is certainly not stored
	unknown    map[string]string // name → error, of what may be
	unexpected []string
}

type answer struct {
	name  string
	owner int64
}

func newAnswers() *answers {
	return &answers{stored: map[int64]answer{}, refused: map[string]string{}, unknown: map[string]string{}}
}

// note records an answer of AddCustomer.
func (o *answers) note(name string, customer cims.Customer, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err == nil:
		delete(o.refused, name) // earlier tries with the same key
		delete(o.unknown, name)
		o.stored[customer.ID] = answer{name: name, owner: ownerOf(customer)}
	case errors.Is(err, cims.ErrUnavailable):
		o.refused[name] = err.Error()
	case errors.Is(err, cims.ErrOutcomeUnknown):
		o.unknown[name] = err.Error()
	default:
		o.unexpected = append(o.unexpected, fmt.Sprintf("%s: %v", name, err))
	}
}

func ownerOf(customer cims.Customer) int64 {
	if customer.SalesManager == nil {
		return 0
	}
	return customer.SalesManager.ID
}

// count returns the number of leads acknowledged so far.
func (o *answers) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.stored)
}

// faults returns the number of calls that failed so far, by kind.
func (o *answers) faults() (refused, unknown int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.refused), len(o.unknown)
}

// snapshot returns a copy, which doesn't change.
func (o *answers) snapshot() *answers {
	o.mu.Lock()
	defer o.mu.Unlock()
	return &answers{stored: maps.Clone(o.stored), refused: maps.Clone(o.refused), unknown: maps.Clone(o.unknown), unexpected: append([]string(nil), o.unexpected...)}
}

// requireMore waits until more leads have been acknowledged.
func (o *answers) requireMore(t *testing.T, more int) {
	t.Helper()
	want := o.count() + more
	require.Eventually(t, func() bool { return o.count() >= want }, patience, time.Millisecond, "no more leads are taken in")
}
