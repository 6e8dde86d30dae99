package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
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

const ceoEmail = "ceo@example.com"

// server is an API under test, over real HTTP, on a database of its own.
type server struct {
	*httptest.Server
	crm *cims.Manager
	api huma.API
	log *logBuffer
}

type option func(*httpapi.Options)

// each runs a test on each database.
func each(t *testing.T, test func(t *testing.T, s *server)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) { test(t, newServer(t)) })
	t.Run("PostgreSQL", func(t *testing.T) {
		store, err := postgres.Open(t.Context(), pgtest.URL(t))
		require.NoError(t, err)
		test(t, newServerOn(t, migrated(t, store)))
	})
}

// newServer starts a server on an SQLite file, for what has nothing to do with
// the database.
func newServer(t *testing.T, options ...option) *server {
	t.Helper()
	return newServerOn(t, newStorage(t), options...)
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
func newServerOn(t *testing.T, store cims.Storage, options ...option) *server {
	t.Helper()
	s := &server{log: &logBuffer{}}
	logger := slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	s.crm, err = cims.New(store, &cims.Config{Logger: logger, WaitingInterval: 10 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		require.NoError(t, s.crm.Close(ctx))
	})
	if _, err := s.crm.ActorByEmail(t.Context(), ceoEmail); err != nil { // the database may be another server's too
		_, err := s.crm.CreateUser(t.Context(), system, cims.NewUser{Email: ceoEmail, Name: "Umida", Surname: "Yusupova", RoleName: cims.RoleCEO})
		require.NoError(t, err)
	}

	auth, err := jwtauth.New(jwtauth.Config{Secret: secret})
	require.NoError(t, err)
	opts := httpapi.Options{Authenticator: auth, Logger: logger}
	for _, set := range options {
		set(&opts)
	}
	mux := http.NewServeMux()
	s.api = humago.New(mux, huma.DefaultConfig("CRM", "1.0.0"))
	require.NoError(t, httpapi.Register(s.api, s.crm, opts))
	s.Server = httptest.NewServer(httpapi.Problems(mux, logger))
	t.Cleanup(s.Close)
	return s
}

// logBuffer keeps what was logged.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBuffer) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(text)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func token(t *testing.T, sub string) string {
	t.Helper()
	text, err := jwtauth.Token(secret, sub, time.Hour)
	require.NoError(t, err)
	return text
}

// user makes a user whose email is role@example.com, or name@example.com.
func (s *server) user(t *testing.T, role, name string) cims.User {
	t.Helper()
	user, err := s.crm.CreateUser(t.Context(), system, cims.NewUser{
		Email: strings.ToLower(name) + "@example.com", Name: name, Surname: "Karimov", RoleName: role,
	})
	require.NoError(t, err)
	return user
}

// call is a request in the making.
type call struct {
	s      *server
	method string
	path   string
	body   io.Reader
	header http.Header
}

func (s *server) request(t *testing.T, method, path string, body any) *call {
	t.Helper()
	c := &call{s: s, method: method, path: path, header: http.Header{}}
	c.header.Set("Authorization", "Bearer "+token(t, ceoEmail))
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
	return c.with("Authorization", "Bearer "+token(t, sub))
}

func (c *call) with(name string, values ...string) *call {
	c.header[http.CanonicalHeaderKey(name)] = values
	return c
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	text   string
}

func (c *call) do(t *testing.T) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), c.method, c.s.URL+c.path, c.body)
	require.NoError(t, err)
	request.Header = c.header
	client := *c.s.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	a := answer{status: response.StatusCode, header: response.Header, text: string(text)}
	a.checkHeaders(t)
	return a
}

// checkHeaders checks what every answer has to have.
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

// at is where the problem document says that the errors are.
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

func (s *server) get(t *testing.T, path string) answer {
	t.Helper()
	return s.request(t, http.MethodGet, path, nil).do(t)
}

func (s *server) post(t *testing.T, path string, body any) answer {
	t.Helper()
	return s.request(t, http.MethodPost, path, body).do(t)
}

func (s *server) put(t *testing.T, path string, body any) answer {
	t.Helper()
	return s.request(t, http.MethodPut, path, body).do(t)
}

func (s *server) delete(t *testing.T, path string) answer {
	t.Helper()
	return s.request(t, http.MethodDelete, path, nil).do(t)
}
