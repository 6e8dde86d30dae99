// Package requests makes requests up from the OpenAPI document: good ones, ones with
// one thing wrong, and wild ones, by any user. Each answer is one that the document
// has, and never the server's fault.
//
// It is a separate module, so that users of the library don't get the validator.
package requests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi"
	"github.com/cimskit/cims/httpapi/jwtauth"
	"github.com/cimskit/cims/internal/contract"
	"github.com/cimskit/cims/internal/pgtest"
	"github.com/cimskit/cims/storage/postgres"
	"github.com/cimskit/cims/storage/sqlite"
)

// requestsSetting is how many requests are made on each database.
const requestsSetting = "CIMS_REQUESTS"

const (
	clients   = 4
	tidyEvery = 5_000 // requests
)

var secret = []byte("0123456789abcdef0123456789abcdef")

func TestGeneratedRequests(t *testing.T) {
	total := 4_000
	if setting := os.Getenv(requestsSetting); setting != "" {
		var err error
		total, err = strconv.Atoi(setting)
		require.NoError(t, err)
	}
	require.NoError(t, errors.Join(flag.Set("rapid.checks", strconv.Itoa(total/clients)), flag.Set("rapid.nofailfile", "true")))
	t.Run("SQLite", func(t *testing.T) {
		store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "crm.db"))
		require.NoError(t, err)
		run(t, store, total)
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		store, err := postgres.Open(t.Context(), pgtest.URL(t))
		require.NoError(t, err)
		run(t, store, total)
	})
}

// server is asked, and kept small.
type server struct {
	url        string
	crm        *cims.Manager
	client     *http.Client
	tokens     map[string]string
	operations map[string]*huma.Operation
	schemas    huma.Registry
	validator  validator.Validator
	log        *contract.LogBuffer

	asked     atomic.Int64
	tidying   sync.RWMutex
	mu        sync.Mutex
	seen      map[string]int // operation and status
	heap      []uint64       // after each tenth
	routines  []int
	validated int
}

func run(t *testing.T, store cims.Storage, total int) {
	s := newServer(t, store)
	tenth := int64(max(total/10, 1))
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			rapid.Check(t, func(r *rapid.T) {
				s.ask(r)
				n := s.asked.Add(1)
				if n%tidyEvery == 0 {
					s.tidy(t)
				}
				if n%tenth == 0 {
					s.measure()
				}
			})
		})
	}
	group.Wait()
	if t.Failed() {
		return
	}
	require.GreaterOrEqual(t, s.asked.Load(), int64(total/clients*clients))
	routes, statuses := map[string]bool{}, map[string]int{}
	for key, n := range s.seen {
		route, status, _ := strings.Cut(key, " → ")
		routes[route] = true
		statuses[status] += n
	}
	require.Len(t, routes, len(s.operations), "each route was asked")
	for _, status := range []string{"200", "201", "204", "400", "401", "403", "404", "409", "415", "422"} {
		require.Positive(t, statuses[status], "no answer was %s", status)
	}
	t.Logf("%d requests, %d answers by the validator too; by status: %v; heap at each tenth in MB: %v; goroutines: %v",
		s.asked.Load(), s.validated, statuses, s.heap, s.routines)
	// Flat: the second half needs no more than the first.
	require.LessOrEqual(t, slices.Max(s.heap[len(s.heap)/2:]), slices.Max(s.heap[:len(s.heap)/2+1])+10)
	require.LessOrEqual(t, slices.Max(s.routines[len(s.routines)/2:]), slices.Max(s.routines[:len(s.routines)/2+1])+20)
}

func newServer(t *testing.T, store cims.Storage) *server {
	t.Helper()
	ctx, system := t.Context(), cims.System("requests")
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	require.NoError(t, store.Migrate(ctx))
	s := &server{tokens: map[string]string{}, seen: map[string]int{}, log: &contract.LogBuffer{}}
	logger := slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelError}))
	var err error
	s.crm, err = cims.New(store, &cims.Config{Logger: logger})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.crm.Close(context.Background())) })
	hire := func(role, email string) cims.User {
		user, err := s.crm.CreateUser(ctx, system, cims.NewUser{Email: email, Name: role, Surname: "X", RoleName: role})
		require.NoError(t, err)
		return user
	}
	for i := range 40 { // the ids that come up: changing these users takes no actor away
		hire([]string{"member", "customer", cims.RoleSalesManager}[i%3], fmt.Sprintf("user%d@example.com", i))
	}
	for _, role := range cims.SystemRoles() {
		user := hire(role.Name, role.Name+"@example.com")
		s.tokens[role.Name], err = jwtauth.Token(secret, fmt.Sprint(user.ID), 24*time.Hour)
		require.NoError(t, err)
	}
	for i := range 10 {
		_, err := s.crm.AddCustomer(ctx, system, cims.NewCustomer{FullName: fmt.Sprint("Lead ", i)})
		require.NoError(t, err)
	}
	auth, err := jwtauth.New(jwtauth.Config{Secret: secret})
	require.NoError(t, err)
	mux := http.NewServeMux()
	api := humago.New(mux, huma.DefaultConfig("CRM", "1.0.0"))
	require.NoError(t, httpapi.Register(api, s.crm, httpapi.Options{Authenticator: auth, Logger: logger}))
	http := httptest.NewServer(httpapi.Problems(mux, logger))
	t.Cleanup(http.Close)
	s.url, s.client = http.URL, http.Client()
	s.operations, s.schemas = contract.Operations(api.OpenAPI()), api.OpenAPI().Components.Schemas
	text, err := json.Marshal(api.OpenAPI())
	require.NoError(t, err)
	document, err := libopenapi.NewDocument(text)
	require.NoError(t, err)
	made, errs := validator.NewValidator(document)
	require.Empty(t, errs)
	s.validator = made
	return s
}

// tidy deletes entries that would fill up the lists without pages.
func (s *server) tidy(t *testing.T) {
	s.tidying.Lock()
	defer s.tidying.Unlock()
	ctx, system := context.Background(), cims.System("tidy")
	statuses, err := s.crm.Statuses(ctx, system, cims.StatusFilter{})
	roles, err2 := s.crm.Roles(ctx, system, cims.RoleFilter{})
	managers, err3 := s.crm.SalesManagers(ctx, system)
	err = errors.Join(err, err2, err3)
	for _, status := range statuses {
		if !status.System {
			err = errors.Join(err, s.crm.DeleteStatus(ctx, system, status.ID, cims.Deletion{MoveTo: cims.StatusContacted}))
		}
	}
	for _, role := range roles {
		if !role.System {
			err = errors.Join(err, s.crm.DeleteRole(ctx, system, role.ID, cims.Deletion{MoveTo: "customer"}))
		}
	}
	for _, manager := range managers[:max(0, len(managers)-5)] {
		_, gone := s.crm.UpdateUser(ctx, system, manager.ID, cims.UserUpdate{Active: new(false)})
		err = errors.Join(err, gone)
	}
	if err != nil {
		t.Errorf("tidy: %v", err)
	}
}

func (s *server) measure() {
	s.tidying.Lock() // nothing is under way
	defer s.tidying.Unlock()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	s.heap, s.routines = append(s.heap, stats.HeapAlloc>>20), append(s.routines, runtime.NumGoroutine())
}

// request is one that was made up.
type request struct {
	route  string
	method string
	path   string
	header http.Header
	body   []byte
	actor  string
	good   bool // nothing is wrong with it, as far as the document says
}

// meaning are the places where a good request may still name something that is not
// there, or is not fit for it.
var meaning = []string{
	"body.status_name", "body.role_name", "query.status", "query.role", "query.move_to", "query.target", "query.leads",
	"query.cursor", "query.sales_manager_id", "header.Idempotency-Key", "body.name", "body",
}

func (s *server) ask(r *rapid.T) {
	made := s.request(r)
	s.tidying.RLock()
	defer s.tidying.RUnlock() // also when it fails
	sent, err := http.NewRequestWithContext(context.Background(), made.method, s.url+made.path, bytes.NewReader(made.body))
	if err != nil {
		return // Go's own client won't send it
	}
	sent.Header = made.header
	response, err := s.client.Do(sent)
	if err != nil {
		if strings.Contains(err.Error(), "invalid header field") || strings.Contains(err.Error(), "net/http: invalid") {
			return
		}
		r.Fatalf("%s: %v", made.shown(), err)
	}
	text, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil {
		r.Fatalf("%s: %v", made.shown(), err)
	}
	if fault := s.judge(made, sent, response, text); fault != "" {
		r.Fatalf("%s\nwas answered %d %s\n%s\n%s", made.shown(), response.StatusCode, text, fault, s.log)
	}
}

func (m request) shown() string {
	return fmt.Sprintf("%s %s as %s %v %q", m.method, m.path, m.actor, m.header, m.body)
}

// judge returns a description of the fault of an answer, or "".
func (s *server) judge(made request, sent *http.Request, response *http.Response, text []byte) string {
	if response.StatusCode >= 500 {
		return "the server's own fault"
	}
	op := s.operations[made.route]
	if made.method != op.Method || !strings.HasPrefix(made.path, "/") {
		return ""
	}
	documented := op.Responses[strconv.Itoa(response.StatusCode)]
	if documented == nil {
		// The router refuses these itself; they belong to no operation.
		if response.StatusCode == http.StatusNotFound || response.StatusCode == http.StatusMethodNotAllowed || response.StatusCode == http.StatusRequestHeaderFieldsTooLarge {
			return ""
		}
		return "the document has no such answer"
	}
	s.mu.Lock()
	key := fmt.Sprintf("%s → %d", made.route, response.StatusCode)
	s.seen[key]++
	count := s.seen[key]
	s.mu.Unlock()
	if made.good && made.actor == cims.RoleCEO {
		switch response.StatusCode {
		case http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotAcceptable, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType:
			return "there is nothing wrong with it"
		case http.StatusUnprocessableEntity:
			var problem struct {
				Errors []struct{ Location string }
			}
			if err := json.Unmarshal(text, &problem); err != nil || len(problem.Errors) == 0 {
				return "it does not say what is wrong"
			}
			for _, e := range problem.Errors {
				if !slices.Contains(meaning, e.Location) {
					return "nothing is wrong with " + e.Location
				}
			}
		}
	}
	if response.StatusCode == http.StatusNoContent {
		return map[bool]string{false: "it has a body"}[len(text) == 0]
	}
	content := documented.Content[response.Header.Get("Content-Type")]
	if content == nil {
		return "the document has no such type of content"
	}
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return err.Error()
	}
	result := &huma.ValidateResult{}
	huma.Validate(s.schemas, content.Schema, huma.NewPathBuffer(nil, 0), huma.ModeReadFromServer, value, result)
	if len(result.Errors) > 0 {
		return fmt.Sprint(result.Errors)
	}
	// The other validator takes a millisecond: it sees the first ones of each kind,
	// and then one in a hundred.
	if count > 10 && count%100 > 0 {
		return ""
	}
	response.Body = io.NopCloser(bytes.NewReader(text))
	valid, faults := s.validator.ValidateHttpResponse(sent, response)
	s.mu.Lock()
	s.validated++
	s.mu.Unlock()
	said := ""
	for _, fault := range faults {
		if !valid && fault.ValidationType != "path" { // of the request: which operation it was is known here
			said += fault.Error() + "; "
		}
	}
	return said
}

// sorted returns a map's keys in order, so that draws can be repeated.
func sorted[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
