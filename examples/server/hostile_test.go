package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestEveryAnswerHasItsHeaders: also those that are no API's.
func TestEveryAnswerHasItsHeaders(t *testing.T) {
	p := launch(t, sqliteFile(t))
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for request, status := range map[string]int{
		"GET /": 302, "GET /docs": 200, "GET /docs/swagger-ui.css": 200, "GET /docs/init.js": 200, "GET /openapi.json": 200,
		"GET /healthz": 200, "GET /readyz": 200, "HEAD /docs": 200, "GET /nowhere": 404, "GET /docs/../go.mod": 404, "GET /docs/%2e%2e/go.mod": 404,
		"POST /docs": 405, "TRACE /healthz": 405, "DELETE /": 405, "GET /me": 401, "GET /metrics": 404, "GET /debug/pprof/": 404, "GET /.git/config": 404,
	} {
		method, path, _ := strings.Cut(request, " ")
		sent, err := http.NewRequestWithContext(t.Context(), method, p.base+path, http.NoBody)
		require.NoError(t, err)
		sent.Header.Set("X-Request-ID", "a\tb") // which is harmful
		response, err := client.Do(sent)
		require.NoError(t, err)
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, status, response.StatusCode, request)
		for name, value := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
		} {
			require.Equal(t, []string{value}, response.Header.Values(name), request)
		}
		policy := response.Header.Values("Content-Security-Policy")
		require.Len(t, policy, 1, request)
		require.True(t, strings.HasPrefix(policy[0], "default-src 'none'"), request)
		require.NotContains(t, policy[0], "unsafe", request)
		require.Len(t, response.Header.Values("X-Request-Id"), 1, request)
		require.NotContains(t, response.Header.Get("X-Request-Id"), "\t")
		if status >= 400 {
			require.Equal(t, "application/problem+json", response.Header.Get("Content-Type"), request)
			require.Less(t, len(text), 2048)
		}
	}
}

// TestSlowConnectionsAreClosed: three hundred that never finish a request are closed
// in time, and nobody else waits for them meanwhile.
func TestSlowConnectionsAreClosed(t *testing.T) {
	p := launch(t, sqliteFile(t))
	ceo := p.as("ceo@example.com")
	address := strings.TrimPrefix(p.base, "http://")
	const slow = 300
	begin := time.Now()
	var open sync.WaitGroup
	for i := range slow {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = io.WriteString(conn, []string{"", "GET /docs HTTP/1.1\r\n", "POST /crm/customers HTTP/1.1\r\nHost: x\r\nX-Slow: "}[i%3])
		require.NoError(t, err)
		open.Go(func() {
			// The rest comes one byte at a time, as a slow loris's does.
			for err == nil && time.Since(begin) < 2*headerTime+30*time.Second {
				time.Sleep(500 * time.Millisecond)
				_, err = io.WriteString(conn, "a")
			}
			if err == nil {
				t.Error("a connection that says nothing in time is still open")
			}
		})
	}
	ceo.hire("Aziza")
	for i := range 20 {
		ceo.post("/crm/customers", map[string]any{"full_name": fmt.Sprint("Lead ", i)})
	}
	require.Less(t, time.Since(begin), headerTime+20*time.Second)
	open.Wait()
	require.Len(t, ceo.leads(), 20)
}

// TestWhoComesAfterTheSignalIsRefused: and who came before is answered, however
// long that takes, and though others hold their connections open.
func TestWhoComesAfterTheSignalIsRefused(t *testing.T) {
	p := launch(t, sqliteFile(t))
	ceo := p.as("ceo@example.com")
	ceo.hire("Aziza")
	address := strings.TrimPrefix(p.base, "http://")
	for range 50 { // idle ones
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
	}
	rows, feed := io.Pipe()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.base+"/crm/customers/import", rows)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+ceo.token)
	request.Header.Set("Content-Type", "text/csv")
	status := make(chan int)
	go func() {
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			status <- 0
			return
		}
		_ = response.Body.Close()
		status <- response.StatusCode
	}()
	_, err = io.WriteString(feed, "full_name\nAziza\n")
	require.NoError(t, err)
	stopped := make(chan struct{})
	go func() { p.stop(); close(stopped) }()
	require.Eventually(t, func() bool {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	}, time.Minute, 10*time.Millisecond, "nobody else is let in")
	_, err = io.WriteString(feed, "Bekzod\n")
	require.NoError(t, errors.Join(err, feed.Close()))
	require.Equal(t, http.StatusCreated, <-status)
	<-stopped
	require.Len(t, launch(t, p.db).as("ceo@example.com").leads(), 2)
}
