package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi/jwtauth"
	"github.com/cimskit/cims/internal/pgtest"
)

// hosted is the handler of the program, served in this process.
type hosted struct {
	url   string
	log   *lockedBuffer
	store cims.Storage
}

func host(t *testing.T, target string, origins ...string) hosted {
	t.Helper()
	db, err := parseDatabase(target)
	require.NoError(t, err)
	store, err := db.create(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() }) // the test may have done so
	require.NoError(t, store.Migrate(t.Context()))
	h := hosted{log: new(lockedBuffer), store: store}
	log := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	crm, err := cims.New(store, &cims.Config{Logger: log})
	require.NoError(t, err)
	t.Cleanup(func() { _ = crm.Close(context.WithoutCancel(t.Context())) }) // the same
	_, err = makeCEO(t.Context(), crm, "ceo@example.com")
	require.NoError(t, err)
	handler, err := newHandler(crm, []byte(secretForTests), origins, log)
	require.NoError(t, err)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	h.url = server.URL
	return h
}

// ask makes one request, with headers such as "Name: value", and follows nothing.
func (h hosted) ask(t *testing.T, method, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, h.url+path, strings.NewReader(body))
	require.NoError(t, err)
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Set(name, value)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response, string(text)
}

func ceoToken(t *testing.T) string {
	t.Helper()
	token, err := jwtauth.Token([]byte(secretForTests), "ceo@example.com", time.Hour)
	require.NoError(t, err)
	return token
}

// TestHeadersOnEveryAnswer: pages, files, documents, refusals, and what the program
// adds to the routes.
func TestHeadersOnEveryAnswer(t *testing.T) {
	onBoth(t, func(t *testing.T, db string) {
		const page = "https://crm.example"
		h := host(t, db, page)
		bearer := "Authorization: Bearer " + ceoToken(t)
		check := func(status int, method, path, body string, headers ...string) {
			t.Helper()
			response, text := h.ask(t, method, path, body, headers...)
			require.Equal(t, status, response.StatusCode, "%s %s: %s", method, path, text)
			for name, value := range map[string]string{
				"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
			} {
				require.Equal(t, []string{value}, response.Header.Values(name), "%s %s", method, path)
			}
			require.Len(t, response.Header.Values("X-Request-Id"), 1, "%s %s", method, path)
			policy := response.Header.Values("Content-Security-Policy")
			require.Len(t, policy, 1, "%s %s", method, path)
			require.True(t, strings.HasPrefix(policy[0], "default-src 'none'"), policy)
			require.NotContains(t, policy[0], "unsafe")
			if status >= 400 && path != "/readyz" {
				require.Equal(t, "application/problem+json", response.Header.Get("Content-Type"), "%s %s", method, path)
			}
		}
		for _, path := range []string{"/docs", "/docs/init.js", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/openapi.json", "/healthz", "/readyz"} {
			check(200, "GET", path, "")
			check(200, "HEAD", path, "")
			check(405, "POST", path, "")
			check(405, "TRACE", path, "")
			check(404, "GET", path+"/", "")
			check(404, "GET", "/"+path, "")
		}
		check(302, "GET", "/", "")
		check(404, "GET", "/nowhere", "")
		check(404, "GET", "/docs/%2e%2e/openapi.json", "")
		check(404, "GET", "/<script>alert(1)</script>", "")
		check(401, "GET", "/me", "")
		check(200, "GET", "/me", "", bearer)
		check(406, "GET", "/me", "", bearer, "Accept: text/html")
		check(422, "GET", "/me?x=1", "", bearer)
		check(400, "POST", "/crm/customers", "{", bearer, "Content-Type: application/json")
		check(413, "POST", "/crm/customers", strings.Repeat(" ", 1<<20+1), bearer, "Content-Type: application/json")
		check(415, "POST", "/crm/customers", "{", bearer, "Content-Type: text/plain")
		check(204, "OPTIONS", "/me", "", "Origin: "+page, "Access-Control-Request-Method: GET")
		check(200, "GET", "/me", "", bearer, "Origin: "+page)
		require.NoError(t, h.store.Close())
		check(503, "GET", "/readyz", "")
		_, text := h.ask(t, "GET", "/readyz", "")
		require.JSONEq(t, `{"status": "not ready"}`, text, "and not why")
	})
}

// TestOriginsAreLetInByName checks that only pages of the configured origins may call the
// API.
func TestOriginsAreLetInByName(t *testing.T) {
	const page, evil = "https://crm.example", "https://evil.example"
	allowed := func(h hosted, origin string) (simple, preflight string) {
		response, _ := h.ask(t, "GET", "/me", "", "Origin: "+origin)
		require.Empty(t, response.Header.Get("Access-Control-Allow-Credentials"))
		before, _ := h.ask(t, "OPTIONS", "/crm/customers", "", "Origin: "+origin, "Access-Control-Request-Method: POST")
		require.Empty(t, before.Header.Get("Access-Control-Allow-Credentials"))
		return response.Header.Get("Access-Control-Allow-Origin"), before.Header.Get("Access-Control-Allow-Origin")
	}
	closed, open := host(t, sqliteFile(t)), host(t, sqliteFile(t), page)
	for _, c := range []struct {
		h            hosted
		origin, want string
	}{
		{closed, page, ""},
		{closed, evil, ""},
		{open, page, page},
		{open, evil, ""},
		{open, "null", ""},
		{open, "http://crm.example", ""},
		{open, page + ".evil.example", ""},
		{open, page + ":8443", ""},
		{open, "https://notcrm.example", ""},
	} {
		simple, preflight := allowed(c.h, c.origin)
		require.Equal(t, [2]string{c.want, c.want}, [2]string{simple, preflight}, c.origin)
	}
	for _, origins := range [][]string{{page, evil}, {evil, page}, {page, page}} {
		for _, method := range []string{http.MethodGet, http.MethodOptions} {
			request, err := http.NewRequestWithContext(t.Context(), method, open.url+"/me", http.NoBody)
			require.NoError(t, err)
			request.Header["Origin"] = origins
			request.Header.Set("Access-Control-Request-Method", "GET")
			response, err := http.DefaultTransport.RoundTrip(request)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Empty(t, response.Header.Values("Access-Control-Allow-Origin"), "%s %s", method, origins)
		}
	}
}

// TestLogForgesNoLineAndTellsNoSecret checks the log with -v.
func TestLogForgesNoLineAndTellsNoSecret(t *testing.T) {
	onBoth(t, func(t *testing.T, db string) {
		h := host(t, db)
		token := ceoToken(t)
		forged := url.PathEscape("x\ntime=2026-01-01T00:00:00Z level=INFO msg=forged\r\nlevel=ERROR \x1b[31m\u2028\x00")
		for _, path := range []string{"/" + forged, "/crm/customers/" + forged, "/crm/customers?token=" + token + "&x=" + forged} {
			h.ask(t, "GET", path, "", "Authorization: Bearer "+token, "User-Agent: a\tb", "X-Request-ID: find-me")
			h.ask(t, "GET", path, "", "Authorization: Bearer "+token+"x", "X-Request-ID: "+forged)
		}
		_, text := h.ask(t, "GET", "/nowhere?token="+token, "", "Authorization: Bearer "+token)
		require.NotContains(t, text, token)
		require.NoError(t, h.store.Close())
		h.ask(t, "GET", "/me", "", "Authorization: Bearer "+token) // a 500, whose cause is logged
		log := h.log.String()
		require.Contains(t, log, "request_id=find-me")
		require.Contains(t, log, "level=ERROR")
		for line := range strings.Lines(log) {
			require.True(t, strings.HasPrefix(line, "time="), line)
			require.False(t, strings.HasPrefix(line, "time=2026-01-01"), line)
		}
		for _, hidden := range []string{token, token[len(token)-43:], "Bearer", secretForTests, "\x1b", "\x00", "\r"} {
			require.NotContains(t, log, hidden)
		}
	})
}

// TestAsteriskIsNoAddress: net/http would answer it by itself, without headers or
// without a word.
func TestAsteriskIsNoAddress(t *testing.T) {
	p := launch(t, sqliteFile(t))
	for _, method := range []string{http.MethodOptions, http.MethodGet} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.base, "http://"))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = io.WriteString(conn, method+" * HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, 404, response.StatusCode, method)
		require.Equal(t, "application/problem+json", response.Header.Get("Content-Type"))
		require.Equal(t, "nosniff", response.Header.Get("X-Content-Type-Options"))
	}
}

// TestSlowConnectionsAreClosed: 300 of them keep nobody else waiting, and none
// stays.
func TestSlowConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		closesSlowConnections(t, sqliteFile(t))
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		closesSlowConnections(t, pgtest.URL(t))
	})
}

func closesSlowConnections(t *testing.T, db string) {
	t.Helper()
	const slow = 300
	p := launch(t, db)
	ceo := p.as("ceo@example.com")
	address := strings.TrimPrefix(p.base, "http://")
	conns := make([]net.Conn, slow)
	for i := range conns {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		begun := "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: " // a header that never ends
		if i%2 == 1 {                                           // or a body
			begun = "POST /crm/customers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + ceo.token +
				"\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
		}
		_, err = io.WriteString(conn, begun)
		require.NoError(t, err)
		conns[i] = conn
	}
	ceo.post("/crm/customers", map[string]any{"full_name": "Quick"})
	require.Len(t, ceo.leads(), 1)

	var closing sync.WaitGroup
	var mu sync.Mutex
	answered := map[int]int{}
	for i, conn := range conns {
		closing.Go(func() {
			over := make(chan struct{})
			defer close(over)
			go func() { // a byte now and then makes it no better
				for {
					select {
					case <-over:
						return
					case <-time.After(time.Second):
						_, _ = io.WriteString(conn, "x") // it may be closed by now
					}
				}
			}()
			if err := conn.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
				t.Error(err)
				return
			}
			text, err := io.ReadAll(conn)
			if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
				t.Errorf("connection %d is still open", i)
				return
			}
			status := 0
			if response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(text)), nil); err == nil {
				status = response.StatusCode
				_ = response.Body.Close() // all of it is here
			}
			mu.Lock()
			answered[status]++
			mu.Unlock()
		})
	}
	closing.Wait()
	require.Equal(t, slow/2, answered[http.StatusRequestTimeout], fmt.Sprint(answered))
	require.Len(t, ceo.leads(), 1)
}
