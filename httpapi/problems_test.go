package httpapi_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi"
	"github.com/cimskit/cims/internal/contract"
)

// serveProblems makes one request. The response is nil if the connection was cut.
func serveProblems(t *testing.T, handler http.HandlerFunc) (*http.Response, string, *contract.LogBuffer) {
	t.Helper()
	log := &contract.LogBuffer{}
	server := httptest.NewServer(httpapi.Problems(handler, slog.New(slog.NewTextHandler(log, nil))))
	t.Cleanup(server.Close)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/x", http.NoBody)
	require.NoError(t, err)
	response, err := server.Client().Do(request)
	if err != nil {
		return nil, "", log
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, "", log
	}
	return response, string(text), log
}

func TestProblemsReplacesPlainRefusalsOnly(t *testing.T) {
	for name, c := range map[string]struct {
		handler     http.HandlerFunc
		status      int
		contentType string
	}{
		"plain 404": {http.NotFound, 404, "application/problem+json"},
		"plain 405": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusMethodNotAllowed) }, 405, "application/problem+json"},
		"plain 429": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusTooManyRequests) }, 429, "application/problem+json"},
		"page for 404": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusNotFound)
		}, 404, "text/html"},
		"405 without a word": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusMethodNotAllowed) }, 405, "application/problem+json"},
		"404 of no declared type, which is text": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "not found")
			_, _ = io.WriteString(w, " here")
		}, 404, "application/problem+json"},
		"404 of no declared type, which is a page": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "<!DOCTYPE html><p>not found")
		}, 404, "text/html; charset=utf-8"},
		"404 that is flushed first": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			_ = http.NewResponseController(w).Flush()
		}, 404, "application/problem+json"},
		"plain 200": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "text")
		}, 200, "text/plain; charset=utf-8"},
		"plain 400": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadRequest) }, 400, "text/plain; charset=utf-8"},
	} {
		t.Run(name, func(t *testing.T) {
			response, text, _ := serveProblems(t, c.handler)
			require.Equal(t, c.status, response.StatusCode)
			require.Equal(t, c.contentType, response.Header.Get("Content-Type"))
			require.Equal(t, "nosniff", response.Header.Get("X-Content-Type-Options"))
			if c.contentType == "application/problem+json" {
				require.True(t, json.Valid([]byte(text)), "one document and nothing after it")
			}
		})
	}
}

func TestProblemsAnswersAPanic(t *testing.T) {
	response, text, log := serveProblems(t, func(http.ResponseWriter, *http.Request) { panic("inside") })
	require.Equal(t, 500, response.StatusCode)
	require.Contains(t, text, "Kutilmagan xatolik yuz berdi")
	require.Contains(t, log.String(), "inside")
	require.Contains(t, log.String(), response.Header.Get("X-Request-Id"))
}

func TestProblemsCutsTheConnectionWhereAnAnswerHadBegun(t *testing.T) {
	response, _, _ := serveProblems(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "begun")
		_ = http.NewResponseController(w).Flush() // reaches the real writer
		panic(http.ErrAbortHandler)
	})
	require.Nil(t, response)
}

func TestRequestIDReachesTheHandlers(t *testing.T) {
	response, text, _ := serveProblems(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, cims.RequestID(r.Context()))
	})
	require.NotEmpty(t, text)
	require.Equal(t, response.Header.Get("X-Request-Id"), text)
	require.Empty(t, cims.RequestID(t.Context()))
}
