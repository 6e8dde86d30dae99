package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi"
	"github.com/cimskit/cims/httpapi/jwtauth"
	"github.com/cimskit/cims/internal/pgtest"
	"github.com/cimskit/cims/storage/postgres"
	"github.com/cimskit/cims/storage/sqlite"
)

var (
	secret = []byte("0123456789abcdef0123456789abcdef")
	system = cims.System("test")
)

// CEOEmail is the email of the CEO that every server has.
const CEOEmail = "ceo@example.com"

// Server is an API under test, over real HTTP, on a new database.
type Server struct {
	URL string // below which the routes are
	CRM *cims.Manager
	API huma.API

	host   Host
	client *http.Client
	log    *LogBuffer
}

type option func(*httpapi.Options)

// each runs a test on each database.
func (h Host) each(t *testing.T, test func(t *testing.T, s *Server)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) { test(t, h.newServer(t)) })
	if h.RouterOnly {
		return
	}
	t.Run("PostgreSQL", func(t *testing.T) {
		pgtest.Need(t)
		store, err := postgres.Open(t.Context(), h.databases().URL(t))
		require.NoError(t, err)
		test(t, h.newServerOn(t, migrated(t, store)))
	})
}

// NewServer starts a server on an SQLite file.
func NewServer(t *testing.T, on Host) *Server {
	t.Helper()
	return on.newServer(t)
}

// newServer starts a server for tests that don't depend on the database.
func (h Host) newServer(t *testing.T, options ...option) *Server {
	t.Helper()
	return h.newServerOn(t, newStorage(t), options...)
}

func newStorage(t *testing.T) cims.Storage {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "cims.db"))
	require.NoError(t, err)
	return migrated(t, store)
}

func migrated(t *testing.T, store cims.Storage) cims.Storage {
	t.Helper()
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	require.NoError(t, store.Migrate(t.Context()))
	return store
}

// newServerOn starts a server on a database, and gives that a CEO.
func (h Host) newServerOn(t *testing.T, store cims.Storage, options ...option) *Server {
	t.Helper()
	s := &Server{host: h, log: &LogBuffer{}}
	logger := slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	s.CRM, err = cims.New(store, &cims.Config{Logger: logger, WaitingInterval: 10 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		require.NoError(t, s.CRM.Close(ctx))
	})
	if _, err := s.CRM.ActorByEmail(t.Context(), CEOEmail); err != nil { // the database may be another server's too
		_, err := s.CRM.CreateUser(t.Context(), system, cims.NewUser{Email: CEOEmail, Name: "Umida", Surname: "Yusupova", RoleName: cims.RoleCEO})
		require.NoError(t, err)
	}

	auth, err := jwtauth.New(jwtauth.Config{Secret: secret})
	require.NoError(t, err)
	opts := httpapi.Options{Authenticator: auth, Logger: logger}
	for _, set := range options {
		set(&opts)
	}
	register := func(api huma.API) error {
		s.API = api
		return httpapi.Register(api, s.CRM, opts)
	}
	s.URL = h.Serve(t, register, logger) + h.Prefix
	transport := &http.Transport{}
	s.client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(transport.CloseIdleConnections)
	return s
}

// dial opens a connection to the server, for bytes that no HTTP client would send.
func (s *Server) dial(t *testing.T) net.Conn {
	t.Helper()
	address, err := url.Parse(s.URL)
	require.NoError(t, err)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address.Host)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	return conn
}

// LogBuffer keeps the log of a server.
type LogBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write adds to it.
func (l *LogBuffer) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(text)
}

// String is all of it.
func (l *LogBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Token is a Bearer token that every server takes.
func Token(t *testing.T, sub string) string {
	t.Helper()
	text, err := jwtauth.Token(secret, sub, time.Hour)
	require.NoError(t, err)
	return text
}

// user creates a user with the email name@example.com.
func (s *Server) user(t *testing.T, role, name string) cims.User {
	t.Helper()
	user, err := s.CRM.CreateUser(t.Context(), system, cims.NewUser{
		Email: strings.ToLower(name) + "@example.com", Name: name, Surname: "Karimov", RoleName: role,
	})
	require.NoError(t, err)
	return user
}

// call is a request in the making.
type call struct {
	s      *Server
	method string
	path   string
	body   io.Reader
	header http.Header
}

func (s *Server) request(t *testing.T, method, path string, body any) *call {
	t.Helper()
	c := &call{s: s, method: method, path: path, header: http.Header{}}
	c.header.Set("Authorization", "Bearer "+Token(t, CEOEmail))
	switch body := body.(type) {
	case nil:
		return c
	case string:
		c.body = strings.NewReader(body)
	case io.Reader:
		c.body = body
	default:
		text, err := json.Marshal(body)
		require.NoError(t, err)
		c.body = bytes.NewReader(text)
	}
	c.header.Set("Content-Type", "application/json")
	return c
}

func (c *call) as(t *testing.T, sub string) *call {
	t.Helper()
	return c.with("Authorization", "Bearer "+Token(t, sub))
}

func (c *call) with(name string, values ...string) *call {
	c.header[http.CanonicalHeaderKey(name)] = values
	return c
}

// answer is the answer to a call.
type answer struct {
	status int
	header http.Header
	text   string
}

func (c *call) do(t *testing.T) answer {
	t.Helper()
	a, err := c.try(t)
	require.NoError(t, err)
	a.checkHeaders(t)
	return a
}

// try is for goroutines too.
func (c *call) try(t *testing.T) (answer, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), c.method, c.s.URL+c.path, c.body)
	if err != nil {
		return answer{}, err
	}
	request.Header = c.header
	response, err := c.s.client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{status: response.StatusCode, header: response.Header, text: string(text)}, err
}

// isCutOff sends more than a server reads: it may also hang up before its answer
// was read.
func (c *call) isCutOff(t *testing.T, status int) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), c.method, c.s.URL+c.path, c.body)
	require.NoError(t, err)
	request.Header = c.header
	response, err := c.s.client.Do(request)
	if err == nil {
		require.Equal(t, status, response.StatusCode)
		require.NoError(t, response.Body.Close())
	}
}

// checkHeaders checks the headers and the form that every answer has.
func (a answer) checkHeaders(t *testing.T) {
	t.Helper()
	for name, value := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
		"Referrer-Policy": "no-referrer", "Content-Security-Policy": "default-src 'none'",
	} {
		require.Equal(t, []string{value}, a.header.Values(name), "%d %s", a.status, a.text)
	}
	require.Len(t, a.header.Values("X-Request-Id"), 1)
	require.NotEmpty(t, a.header.Get("X-Request-Id"))
	require.NotContains(t, a.text, `"$schema":`)
	switch {
	case a.status == http.StatusNoContent:
		require.Empty(t, a.text)
	case a.status >= 400:
		require.Equal(t, "application/problem+json", a.header.Get("Content-Type"))
		require.Less(t, len(a.text), 2048)
		p := a.problem(t)
		require.Equal(t, a.status, p.Status)
		require.Equal(t, http.StatusText(a.status), p.Title)
		require.NotEmpty(t, p.Detail)
		require.NotContains(t, a.text, `"value"`)
		require.NotContains(t, p.Detail, "%!")
		for _, e := range p.Errors {
			require.NotEmpty(t, e.Location)
			require.NotEmpty(t, e.Message)
			require.NotContains(t, e.Message, "%!")
		}
	default:
		require.Equal(t, "application/json", a.header.Get("Content-Type"))
	}
}

func (a answer) is(t *testing.T, status int) answer {
	t.Helper()
	require.Equal(t, status, a.status, a.text)
	return a
}

type problem struct {
	Title          string `json:"title"`
	Status         int    `json:"status"`
	Detail         string `json:"detail"`
	Count          int    `json:"count"`
	CountIsMinimum bool   `json:"count_is_minimum"`
	Errors         []struct {
		Location string `json:"location"`
		Message  string `json:"message"`
	} `json:"errors"`
}

func (a answer) problem(t *testing.T) problem {
	t.Helper()
	var p problem
	a.read(t, &p)
	return p
}

// at returns the locations of the errors in a problem document.
func (a answer) at(t *testing.T) []string {
	t.Helper()
	var locations []string
	for _, e := range a.problem(t).Errors {
		locations = append(locations, e.Location)
	}
	return locations
}

func (a answer) read(t *testing.T, to any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(a.text), to), a.text)
}

// object reads an answer as one object.
func (a answer) object(t *testing.T) map[string]any {
	t.Helper()
	var o map[string]any
	a.read(t, &o)
	return o
}

// objects reads an answer as a list of objects, or a page's items.
func (a answer) objects(t *testing.T) []map[string]any {
	t.Helper()
	var list []map[string]any
	if strings.HasPrefix(a.text, "[") {
		a.read(t, &list)
		return list
	}
	var page struct{ Items []map[string]any }
	a.read(t, &page)
	require.NotNil(t, page.Items, "a list is never null")
	return page.Items
}

func (s *Server) get(t *testing.T, path string) answer {
	t.Helper()
	return s.request(t, http.MethodGet, path, nil).do(t)
}

func (s *Server) post(t *testing.T, path string, body any) answer {
	t.Helper()
	return s.request(t, http.MethodPost, path, body).do(t)
}

func (s *Server) put(t *testing.T, path string, body any) answer {
	t.Helper()
	return s.request(t, http.MethodPut, path, body).do(t)
}

func (s *Server) delete(t *testing.T, path string) answer {
	t.Helper()
	return s.request(t, http.MethodDelete, path, nil).do(t)
}
