package contract

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi"
)

// Mistakes that a router or its adapter could make.

func testHeadIsGetWithoutABody(t *testing.T, on Host) {
	s := on.newServer(t)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodHead, s.URL+"/me", http.NoBody)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+Token(t, CEOEmail))
	response, err := s.client.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, map[bool]int{true: 200, false: 405}[on.AnswersHead], response.StatusCode)
}

func testWhoHangsUpIsNotWorkedFor(t *testing.T, on Host) {
	const timeout = 2 * time.Second
	began, ended := make(chan struct{}, 1), make(chan error, 1)
	s := on.newFaulty(t, func(ctx context.Context) error {
		began <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}, func(o *httpapi.Options) { o.Timeout = timeout })
	conn := s.dial(t)
	_, err := fmt.Fprintf(conn, "GET %s/management/statuses HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", s.host.Prefix, Token(t, CEOEmail))
	require.NoError(t, err)
	<-began
	require.NoError(t, conn.Close())
	want := context.Canceled
	if on.MissesHangUps {
		want = context.DeadlineExceeded
	}
	require.ErrorIs(t, <-ended, want)
}

// testManyAtOnceAreKeptApart: nothing that a router uses again for its next request
// is still in use, be it to know the client, to store or to log.
func testManyAtOnceAreKeptApart(t *testing.T, on Host) {
	s := on.newServer(t)
	const users, each = 8, 25
	for i := range users {
		s.user(t, cims.RoleCEO, fmt.Sprintf("user%d", i))
	}
	var asking sync.WaitGroup
	for i := range users {
		asking.Go(func() {
			email := fmt.Sprintf("user%d@example.com", i)
			for n := range each {
				id := fmt.Sprintf("%d-%d-%s", i, n, strings.Repeat("x", 3*i))
				me := s.request(t, http.MethodGet, "/me", nil).as(t, email).with("X-Request-ID", id).do(t)
				name := "Lead " + id
				created := s.request(t, http.MethodPost, "/crm/customers", map[string]string{"full_name": name, "notes": name}).as(t, email).
					with("X-Request-ID", id).with("Idempotency-Key", id).do(t)
				// t.FailNow is not for goroutines; each difference shows below.
				if me.status != 200 || me.object(t)["email"] != email || me.header.Get("X-Request-ID") != id ||
					created.status != 201 || created.object(t)["full_name"] != name || created.header.Get("X-Request-ID") != id {
					t.Errorf("%s was answered %s and %s", id, me.text, created.text)
				}
			}
		})
	}
	asking.Wait()
	names := map[any]bool{}
	for cursor := ""; ; {
		page := s.get(t, "/crm/customers?limit=200"+cursor).is(t, 200)
		for _, lead := range page.objects(t) {
			require.Equal(t, lead["full_name"], lead["notes"])
			names[lead["full_name"]] = true
		}
		next, more := page.object(t)["next"].(string)
		if !more {
			break
		}
		cursor = "&cursor=" + next
	}
	require.Len(t, names, users*each)
}

// testConnectionServesOnAfterEachAnswer: none leaves a deadline or a piece of its
// body behind.
func testConnectionServesOnAfterEachAnswer(t *testing.T, on Host) {
	const timeout = 500 * time.Millisecond
	s := on.newServer(t, func(o *httpapi.Options) { o.Timeout, o.ImportTimeout = timeout, timeout })
	conn := s.dial(t)
	answers := bufio.NewReader(conn)
	const smuggled = "\r\n\r\nDELETE /management/statuses/1 HTTP/1.1\r\nHost: x\r\n\r\n" // in a body: no request
	for _, c := range []struct {
		method, path, contentType, body string
		status                          int
	}{
		{"POST", "/crm/customers", "application/json", `{"full_name": "A"}`, 201},
		{"POST", "/crm/customers", "application/json", `{"full_name": 1}`, 422},
		{"POST", "/crm/customers", "application/json", ``, 400},
		{"POST", "/crm/customers", "text/plain", strings.Repeat("not read at all", 5_000) + smuggled, 415},
		{"POST", "/crm/customers/import", httpapi.CSV, "full_name\nA\n", 201},
		{"POST", "/crm/customers/import", httpapi.CSV, "name\n" + strings.Repeat("A\n", 50_000) + smuggled, 422},
		{"GET", "/me", "", "", 200},
	} {
		_, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
			c.method, s.host.Prefix+c.path, Token(t, CEOEmail), c.contentType, len(c.body), c.body)
		require.NoError(t, err)
		response, err := http.ReadResponse(answers, nil)
		require.NoError(t, err, c.path)
		var text strings.Builder
		_, err = bufio.NewReader(response.Body).WriteTo(&text)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, c.status, response.StatusCode, text.String())
		time.Sleep(timeout + 100*time.Millisecond) // a deadline that stayed would pass
	}
}
