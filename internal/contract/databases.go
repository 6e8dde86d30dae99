package contract

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims/httpapi"
	"github.com/cimskit/cims/internal/pgtest"
	"github.com/cimskit/cims/storage/postgres"
	"github.com/cimskit/cims/storage/sqlite"
)

// Real databases in trouble; faults.go has storages that return errors.

func briefly(o *httpapi.Options) { o.Timeout = 300 * time.Millisecond }

// insideText matches texts that no answer may show.
var insideText = regexp.MustCompile(`(?i)select|insert|update |relation|table|column|sqlite|postgres|pgx|sql:|dial|127\.0\.0\.1|connect:|refused|conn closed|context|/tmp|\.db|\.go`)

// isInTrouble checks that a request gets the status, and that the server lives on.
func (s *Server) isInTrouble(t *testing.T, method, path string, body any, status int) {
	t.Helper()
	a := s.request(t, method, path, body).with("Accept-Language", "en").do(t).is(t, status)
	require.NotRegexp(t, insideText, a.text)
	if status == http.StatusServiceUnavailable {
		require.Equal(t, "1", a.header.Get("Retry-After"))
	}
	require.Contains(t, s.log.String(), a.header.Get("X-Request-Id"), "who looks after the server finds the cause")
	s.get(t, "/nowhere").is(t, 404)
}

func (s *Server) isWell(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		a, err := s.request(t, http.MethodGet, "/management/statuses", nil).try(t)
		return err == nil && a.status == http.StatusOK
	}, time.Minute, 10*time.Millisecond)
	require.Eventually(t, func() bool { // it may be the first to open a connection again
		a, err := s.request(t, http.MethodPost, "/crm/customers", `{"full_name": "Lead"}`).try(t)
		return err == nil && a.status == http.StatusCreated
	}, time.Minute, 10*time.Millisecond)
}

func testSQLiteInTrouble(t *testing.T, on Host) {
	path := filepath.Join(t.TempDir(), "cims.db")
	store, err := sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	s := on.newServerOn(t, migrated(t, store), briefly)
	other, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, other.Close()) })
	other.SetMaxOpenConns(1)
	execute := func(statement string) {
		_, err := other.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}

	execute("BEGIN IMMEDIATE") // another program that writes, and writes
	s.isInTrouble(t, http.MethodPost, "/crm/customers", `{"full_name": "Lead"}`, 503)
	execute("ROLLBACK")
	s.isWell(t)

	execute("ALTER TABLE customer_status RENAME TO gone")
	s.isInTrouble(t, http.MethodGet, "/management/statuses", nil, 500)
	execute("ALTER TABLE gone RENAME TO customer_status")
	s.isWell(t)
}

// breakable opens connections that can all be cut, and refused from then on.
type breakable struct {
	mu    sync.Mutex
	down  bool
	conns []net.Conn
}

func (b *breakable) dial(ctx context.Context, network, address string) (net.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		address = "127.0.0.1:1" // where nobody listens
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err == nil {
		b.conns = append(b.conns, conn)
	}
	return conn, err
}

func (b *breakable) set(down bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = down
	for _, conn := range b.conns {
		_ = conn.Close() // it may be closed already
	}
	b.conns = nil
}

func testPostgreSQLInTrouble(t *testing.T, on Host) {
	target := pgtest.URL(t)
	config, err := pgx.ParseConfig(target)
	require.NoError(t, err)
	var wire breakable
	config.DialFunc = wire.dial
	pool := stdlib.OpenDB(*config)
	const connections = 3
	pool.SetMaxOpenConns(connections)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	store, err := postgres.New(pool)
	require.NoError(t, err)
	s := on.newServerOn(t, migrated(t, store), briefly)

	t.Run("down", func(t *testing.T) {
		wire.set(true)
		s.isInTrouble(t, http.MethodGet, "/management/statuses", nil, 503)
		s.isInTrouble(t, http.MethodPost, "/crm/customers", `{"full_name": "Lead"}`, 503)
		wire.set(false)
		s.isWell(t)
	})
	t.Run("out of connections", func(t *testing.T) {
		var taken [connections]*sql.Conn
		for i := range taken {
			taken[i], err = pool.Conn(t.Context())
			require.NoError(t, err)
		}
		s.isInTrouble(t, http.MethodGet, "/management/statuses", nil, 503)
		s.isInTrouble(t, http.MethodPost, "/crm/customers", `{"full_name": "Lead"}`, 503)
		for _, conn := range taken {
			require.NoError(t, conn.Close())
		}
		s.isWell(t)
	})
	t.Run("slow", func(t *testing.T) {
		other, err := pgx.Connect(t.Context(), target)
		require.NoError(t, err)
		defer func() { require.NoError(t, other.Close(t.Context())) }()
		tx, err := other.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), "LOCK TABLE customer_status IN ACCESS EXCLUSIVE MODE")
		require.NoError(t, err)
		s.isInTrouble(t, http.MethodGet, "/management/statuses", nil, 503)
		require.NoError(t, tx.Rollback(t.Context()))
		s.isWell(t)
	})
	t.Run("without a table", func(t *testing.T) {
		pgtest.Execute(t, target, "ALTER TABLE customer_status RENAME TO gone")
		s.isInTrouble(t, http.MethodGet, "/management/statuses", nil, 500)
		pgtest.Execute(t, target, "ALTER TABLE gone RENAME TO customer_status")
		s.isWell(t)
	})
}

// testPostgreSQLWithFewRights: once another role has migrated, the program needs no
// rights but those on rows.
func testPostgreSQLWithFewRights(t *testing.T, on Host) {
	target := pgtest.URL(t)
	owner, err := postgres.Open(t.Context(), target)
	require.NoError(t, err)
	migrated(t, owner)
	program, err := url.Parse(target)
	require.NoError(t, err)
	query := program.Query()
	role := "program_of_" + query.Get("search_path")
	pgtest.Execute(t, target, strings.NewReplacer("{role}", role, "{schema}", query.Get("search_path")).Replace(`
		CREATE ROLE "{role}";
		GRANT USAGE ON SCHEMA "{schema}" TO "{role}";
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "{schema}" TO "{role}";
		GRANT USAGE ON ALL SEQUENCES IN SCHEMA "{schema}" TO "{role}"`))
	t.Cleanup(func() { pgtest.Execute(t, target, fmt.Sprintf("DROP OWNED BY %[1]q; DROP ROLE %[1]q", role)) })
	query.Set("role", role)
	program.RawQuery = query.Encode()

	store, err := postgres.Open(t.Context(), program.String())
	require.NoError(t, err)
	s := newScene(t, on.newServerOn(t, migrated(t, store))) // there is nothing to migrate
	require.NoError(t, s.CRM.Ready(t.Context()))
	s.lead(t)
	of := firstLead
	of.fresh = true
	for route, op := range s.routes {
		s.good(t, route, of).do(t).is(t, successOf(op))
	}
}
