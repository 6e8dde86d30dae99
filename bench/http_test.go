package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims/httpapi/jwtauth"
	"github.com/cimskit/cims/internal/pgtest"
)

const httpSecret = "a secret for benchmarks, of no use to anybody"

// httpRequest is a request that a client sends again and again.
type httpRequest struct {
	name, method, path string
	body               func(i int) string // nil for no body
	status             int
}

// httpRequests returns requests to the routes that clients call most, for the
// example server's database of made-up leads. New leads come last: until a minute
// after them PostgreSQL's statistics would be those of an empty table.
func httpRequests() []httpRequest {
	same := func(body string) func(int) string { return func(int) string { return body } }
	get := func(name, path string) httpRequest {
		return httpRequest{name, http.MethodGet, path, nil, http.StatusOK}
	}
	return []httpRequest{
		get("GET-statuses", "/management/statuses"),
		get("GET-roles", "/management/roles"),
		get("GET-sales-managers", "/crm/sales-managers"),
		get("GET-customer-sales-manager", "/crm/customer/1/sales-manager"),
		get("GET-conversion-rate", "/crm/conversion-rate"),
		get("GET-customers", "/crm/customers?limit=10"),
		get("GET-customer", "/crm/customers/1"),
		get("GET-history", "/crm/customers/1/history"),
		get("GET-users", "/management/users?limit=10"),
		get("GET-me", "/me"),
		{"PUT-customer-status", http.MethodPut, "/crm/customers/1/status", func(i int) string {
			return fmt.Sprintf(`{"status_name":%q}`, []string{"contacted", "need_to_call"}[i%2])
		}, http.StatusOK},
		{"POST-assign-sales-manager", http.MethodPost, "/crm/assign-sales-manager", same(`{"customer_id":1,"sales_manager_id":2}`), http.StatusOK},
		{"POST-customers", http.MethodPost, "/crm/customers", func(i int) string {
			return fmt.Sprintf(`{"full_name":%q,"phone_number":%q}`, leadName(i), leadPhone(i))
		}, http.StatusCreated},
		get("GET-healthz", "/healthz"), // the floor: no database, no token
	}
}

// BenchmarkHTTP measures the example server, a separate process, over loopback. Client,
// server and database share the machine.
func BenchmarkHTTP(b *testing.B) {
	binary := buildServer(b)
	for _, database := range []struct {
		name string
		url  func(b *testing.B) string
	}{
		{"PostgreSQL", func(b *testing.B) string { return pgtest.URL(b) + "&pool_max_conns=16" }},
		{"SQLite", func(b *testing.B) string { return "sqlite:" + filepath.Join(b.TempDir(), "crm.db") }},
	} {
		b.Run(database.name, func(b *testing.B) {
			address := startServer(b, binary, database.url(b))
			token, err := jwtauth.Token([]byte(httpSecret), "ceo@example.com", time.Hour)
			require.NoError(b, err)
			for _, request := range httpRequests() {
				for _, connections := range []int{1, 16} {
					b.Run(fmt.Sprintf("%s/connections=%d", request.name, connections), func(b *testing.B) {
						for b.Loop() {
							measureHTTP(b, address, token, request, connections)
						}
					})
				}
			}
		})
	}
}

func buildServer(b *testing.B) string {
	b.Helper()
	binary := filepath.Join(b.TempDir(), "server")
	output, err := exec.CommandContext(b.Context(), "go", "build", "-o", binary, "../examples/server").CombinedOutput() //nolint:gosec // our own
	require.NoError(b, err, string(output))
	return binary
}

var serverAddress = regexp.MustCompile(`http://(\S+), its API`)

func startServer(b *testing.B, binary, database string) string {
	b.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(b.Context()), binary, "-demo", "-addr", "127.0.0.1:0", "-db", database) //nolint:gosec // our own; stopped below
	cmd.Env = append(os.Environ(), "CIMS_JWT_SECRET="+httpSecret)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		require.NoError(b, cmd.Process.Signal(os.Interrupt))
		require.NoError(b, cmd.Wait(), stderr.String())
	})
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if found := serverAddress.FindStringSubmatch(lines.Text()); found != nil {
			go func() { _, _ = io.Copy(io.Discard, stdout) }()
			return found[1]
		}
	}
	require.Fail(b, "the server did not start")
	return ""
}

// measureHTTP reports requests per second, as the median of several runs with their spread,
// and the duration of requests.
func measureHTTP(b *testing.B, address, token string, request httpRequest, connections int) {
	b.Helper()
	const runs = 3
	clients := make([]*client, connections)
	for i := range clients {
		clients[i] = dial(b, address)
	}
	load := func(span time.Duration) (float64, []time.Duration) {
		var group sync.WaitGroup
		took, failed := make([][]time.Duration, connections), make([]error, connections)
		begin := time.Now()
		for i, c := range clients {
			group.Go(func() { took[i], failed[i] = c.repeat(token, request, begin.Add(span)) })
		}
		group.Wait()
		seconds := time.Since(begin).Seconds()
		require.NoError(b, errors.Join(failed...))
		all := slices.Concat(took...)
		return float64(len(all)) / seconds, all
	}
	load(span)
	var rates []float64
	var all []time.Duration
	for range runs {
		rate, took := load(2 * span)
		rates, all = append(rates, rate), append(all, took...)
	}
	slices.Sort(all)
	b.ReportMetric(median(rates), "requests/s")
	b.ReportMetric(slices.Max(rates)-slices.Min(rates), "requests/s-spread")
	b.ReportMetric(micros(all[len(all)/2]), "p50-µs")
	b.ReportMetric(micros(all[len(all)*99/100]), "p99-µs")
	b.ReportMetric(0, "ns/op") // has no meaning here
}

// client is one kept-alive connection. It uses as little CPU as possible, since the server
// runs on the same machine.
type client struct {
	conn   net.Conn
	reader *bufio.Reader
	sent   int
}

func dial(b *testing.B, address string) *client {
	b.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(b.Context(), "tcp", address)
	require.NoError(b, err)
	b.Cleanup(func() { _ = conn.Close() })
	return &client{conn: conn, reader: bufio.NewReader(conn)}
}

// repeat sends the request until the time is over, and returns the duration of each.
func (c *client) repeat(token string, request httpRequest, until time.Time) ([]time.Duration, error) {
	head := request.method + " " + request.path + " HTTP/1.1\r\nHost: cims\r\nAuthorization: Bearer " + token + "\r\n"
	var took []time.Duration
	for begin := time.Now(); begin.Before(until); {
		message := head + "\r\n"
		if request.body != nil {
			body := request.body(c.sent)
			message = fmt.Sprintf("%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", head, len(body), body)
		}
		c.sent++
		if _, err := io.WriteString(c.conn, message); err != nil {
			return nil, err
		}
		answer, err := http.ReadResponse(c.reader, nil)
		if err != nil {
			return nil, err
		}
		body, err := readAll(answer)
		if err != nil {
			return nil, err
		}
		if answer.StatusCode != request.status {
			return nil, fmt.Errorf("%s %s: %s: %s", request.method, request.path, answer.Status, body)
		}
		end := time.Now()
		took, begin = append(took, end.Sub(begin)), end
	}
	return took, nil
}

func readAll(answer *http.Response) (string, error) {
	var text strings.Builder
	_, err := io.Copy(&text, answer.Body)
	return text.String(), errors.Join(err, answer.Body.Close())
}
