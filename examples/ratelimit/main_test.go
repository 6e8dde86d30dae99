package main

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/examples/customstorage"
	"github.com/cimskit/cims/httpapi/jwtauth"
)

var system = cims.System("test")

// serve starts the program's handler on a port, with a limit, and returns a function that
// makes a request.
func serve(t *testing.T, limit *limiter) (crm *cims.Manager, ask func(method, path, body, language string) *http.Response) {
	t.Helper()
	store := customstorage.New()
	require.NoError(t, store.Migrate(t.Context()))
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, crm.Close(context.Background())) })
	_, err = crm.CreateUser(t.Context(), system, cims.NewUser{Email: "ceo@example.com", Name: "G", Surname: "U", RoleName: cims.RoleCEO})
	require.NoError(t, err)
	secret := []byte("0123456789abcdef0123456789abcdef")
	limited, err := handler(crm, secret, limit)
	require.NoError(t, err)
	server := httptest.NewServer(limited)
	t.Cleanup(server.Close)
	token, err := jwtauth.Token(secret, "ceo@example.com", time.Hour)
	require.NoError(t, err)
	return crm, func(method, path, body, language string) *http.Response {
		request, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Accept-Language", language)
		response, err := server.Client().Do(request)
		require.NoError(t, err)
		t.Cleanup(func() { _ = response.Body.Close() })
		return response
	}
}

func document(t *testing.T, response *http.Response) map[string]any {
	t.Helper()
	require.Equal(t, "application/problem+json", response.Header.Get("Content-Type"))
	var problem map[string]any
	require.NoError(t, json.NewDecoder(response.Body).Decode(&problem))
	return problem
}

// TestTooManyRequests checks that the limiter refuses a request with a problem document, and
// that the request has no effect.
func TestTooManyRequests(t *testing.T) {
	crm, ask := serve(t, newLimiter(rate.Every(time.Hour), 3))
	require.Equal(t, http.StatusCreated, ask(http.MethodPost, "/crm/customers", `{"full_name": "Aziza"}`, "en").StatusCode)
	require.Equal(t, http.StatusOK, ask(http.MethodGet, "/me", "", "en").StatusCode)
	missing := document(t, ask(http.MethodGet, "/crm/customers/987654", "", "en"))

	refused := ask(http.MethodPost, "/crm/customers", `{"full_name": "Bekzod"}`, "en")
	require.Equal(t, http.StatusTooManyRequests, refused.StatusCode)
	require.Equal(t, "3600", refused.Header.Get("Retry-After"))
	require.NotEmpty(t, refused.Header.Get("X-Request-Id"))
	problem := document(t, refused)
	require.Equal(t, slices.Sorted(maps.Keys(missing)), slices.Sorted(maps.Keys(problem)), "as any refusal of the API")
	require.Equal(t, map[string]any{
		"title": "Too Many Requests", "status": 429.0, "detail": "There were too many requests, please try again shortly",
	}, problem)
	require.Contains(t, document(t, ask(http.MethodGet, "/me", "", "ru"))["detail"], "Слишком много запросов")

	stored, err := crm.Customers(t.Context(), system, cims.CustomerFilter{}, cims.PageRequest{})
	require.NoError(t, err)
	require.Len(t, stored.Items, 1)
}

// TestAfterAWait checks that a client is served after the time of Retry-After, and that
// refused requests don't extend that time.
func TestAfterAWait(t *testing.T) {
	_, ask := serve(t, newLimiter(2, 1))
	require.Equal(t, http.StatusOK, ask(http.MethodGet, "/me", "", "en").StatusCode)
	for range 5 {
		refused := ask(http.MethodGet, "/me", "", "en")
		require.Equal(t, http.StatusTooManyRequests, refused.StatusCode)
		require.Equal(t, "1", refused.Header.Get("Retry-After"))
	}
	time.Sleep(time.Second)
	require.Equal(t, http.StatusOK, ask(http.MethodGet, "/me", "", "en").StatusCode)
}

// TestClientsAreToldApart checks that each address, or network of a subscriber, has its own
// limit.
func TestClientsAreToldApart(t *testing.T) {
	limited := newLimiter(rate.Every(time.Hour), 1).wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, c := range []struct {
		from   string
		status int
	}{
		{"192.0.2.1:1000", http.StatusOK},
		{"192.0.2.1:1001", http.StatusTooManyRequests},
		{"[::ffff:192.0.2.1]:1002", http.StatusTooManyRequests},
		{"192.0.2.2:1000", http.StatusOK},
		{"[2001:db8:0:1::1]:1000", http.StatusOK},
		{"[2001:db8:0:1::2]:1000", http.StatusTooManyRequests},
		{"[2001:db8:0:2::1]:1000", http.StatusOK},
		{"[fe80::1%eth0]:1000", http.StatusOK},
		{"[fe80::1%eth1]:1000", http.StatusTooManyRequests},
	} {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/me", http.NoBody)
		request.RemoteAddr = c.from
		answer := httptest.NewRecorder()
		limited.ServeHTTP(answer, request)
		require.Equal(t, c.status, answer.Code, c.from)
	}
}

// TestMemoryIsBounded checks that the limiter forgets idle clients, and no client with a
// used burst, even under a distributed attack.
func TestMemoryIsBounded(t *testing.T) {
	limit := newLimiter(rate.Every(time.Hour), 1)
	address := netip.MustParseAddr("10.0.0.0")
	next := func() netip.Prefix {
		address = address.Next()
		return netip.PrefixFrom(address, 32)
	}
	first := next()
	require.True(t, limit.of(first).Allow())
	for range maxClients + 100 {
		limit.of(next()) // makes no request
	}
	require.LessOrEqual(t, len(limit.clients), maxClients)
	require.False(t, limit.of(first).Allow(), "who has asked is not forgotten")

	limit = newLimiter(rate.Every(time.Hour), 1)
	allowed := 0
	for range maxClients + 100 {
		if limit.of(next()).Allow() {
			allowed++
		}
	}
	require.Equal(t, maxClients+1, allowed, "the last share one")
	require.Len(t, limit.clients, maxClients+1)
}
