//go:build unix

package faults

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi"
	"github.com/cimskit/cims/internal/contract"
	"github.com/cimskit/cims/internal/pgtest"
)

// TestFaultAnswers calls the routes while the database is down, too slow, or out of
// connections. Each answer comes in time, invites a retry and reveals nothing internal.
// Afterwards the server recovers by itself.
func TestFaultAnswers(t *testing.T) {
	t.Parallel()
	target := pgtest.URL(t)
	newDatabase(t, target, 3)
	proxy, through := newProxy(t, target)
	d := &database{url: through + "&pool_max_conns=2&connect_timeout=2"}
	crm := d.open(t)
	boss, err := crm.CreateUser(t.Context(), system, cims.NewUser{Email: "ceo@example.com", Name: "U", Surname: "Y", RoleName: cims.RoleCEO})
	require.NoError(t, err)
	mux, log := http.NewServeMux(), &contract.LogBuffer{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	auth := httpapi.AuthenticatorFunc(func(huma.Context) (httpapi.Identity, error) { return httpapi.Identity{UserID: boss.ID}, nil })
	require.NoError(t, httpapi.Register(humago.New(mux, huma.DefaultConfig("CRM", "1")), crm, httpapi.Options{Authenticator: auth, Timeout: time.Second, Logger: logger}))
	server := httptest.NewServer(httpapi.Problems(mux, logger))
	t.Cleanup(server.Close)
	ask := func(method, path, body string) int {
		request, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/json")
		response, err := server.Client().Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		if response.StatusCode < 400 {
			return response.StatusCode
		}
		require.Equal(t, "application/problem+json", response.Header.Get("Content-Type"))
		require.Equal(t, "1", response.Header.Get("Retry-After"))
		require.NotEmpty(t, response.Header.Get("X-Request-Id"))
		require.Contains(t, log.String(), response.Header.Get("X-Request-Id"))
		var problem map[string]any
		require.NoError(t, json.Unmarshal(text, &problem))
		require.ElementsMatch(t, []string{"title", "status", "detail"}, keysOf(problem))
		for _, inside := range []string{"SELECT", "INSERT", "sql", "127.0.0.1", "postgres", "pgx", "conn", "dial", "EOF", "/"} {
			require.NotContains(t, string(text), inside)
		}
		return response.StatusCode
	}
	requests := []struct{ method, path, body string }{
		{"GET", "/me", ""},
		{"GET", "/management/statuses", ""},
		{"GET", "/crm/customers", ""},
		{"GET", "/crm/conversion-rate", ""},
		{"GET", "/management/audit", ""},
		{"POST", "/crm/customers", `{"full_name": "Lead"}`},
		{"PUT", "/management/statuses/1", `{"order": 3}`},
	}
	all := func(good bool) bool { // reports whether each is answered so
		for _, r := range requests {
			if status := ask(r.method, r.path, r.body); good != (status < 300) || !good && status != http.StatusServiceUnavailable {
				return false
			}
		}
		return true
	}
	heals := func() { // each connection that was lost is noticed once
		t.Helper()
		require.Eventually(t, func() bool { return all(true) }, patience, 10*time.Millisecond)
	}
	require.True(t, all(true))

	// Connections fall silent at a request's statement.
	for range 3 {
		proxy.at(func(statement string) bool { return strings.Contains(statement, "customer_status") }, stall)
		require.Equal(t, http.StatusServiceUnavailable, ask("GET", "/management/statuses", ""))
	}
	proxy.cut()
	heals()

	// Both connections wait for a lock that somebody holds.
	holder, err := (&database{url: target}).sql(t).BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = holder.ExecContext(t.Context(), "UPDATE sales_manager_counter SET id = id")
	require.NoError(t, err)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if status := ask("POST", "/crm/customers", `{"full_name": "Lead"}`); status != http.StatusServiceUnavailable {
				t.Errorf("answered %d", status)
			}
		})
	}
	group.Wait()
	require.NoError(t, holder.Rollback())
	heals()

	proxy.close()
	require.True(t, all(false))
	report(t, "7 requests each: 503 without a word of the inside while the database is gone, silent, or has no connection left")
}

func keysOf(object map[string]any) (names []string) {
	for name := range object {
		names = append(names, name)
	}
	return names
}
