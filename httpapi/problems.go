package httpapi

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"path"
	"runtime/debug"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Problems makes problem documents, in the client's language, of what a router
// answers by itself in plain text (404 and 405), of what a limiter in front of it
// does (429, by http.Error) and of panics, and sets the headers that every answer
// should have; next may set others. A path that a
// router would clean up, such as one with "..", does not exist. A nil logger
// stands for slog.Default().
func Problems(next http.Handler, logger *slog.Logger) http.Handler {
	if logger == nil {
		logger = slog.Default()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, id := withRequestID(r.Context(), r.Header.Get(requestIDHeader))
		r = r.WithContext(ctx)
		setHeaders(id, w.Header().Set)
		pw := &problemWriter{ResponseWriter: w, request: r}
		defer func() {
			fault := recover()
			if fault == nil {
				return
			}
			if aborts(fault) || pw.wrote {
				panic(fault) // net/http cuts the connection
			}
			err := panicked{fault: fault, stack: debug.Stack()}
			logger.ErrorContext(ctx, "httpapi: unexpected error", "request_id", id, "method", r.Method, "error", err)
			pw.problem(http.StatusInternalServerError)
		}()
		if !cleanPath(r.URL.Path) {
			pw.problem(http.StatusNotFound)
			return
		}
		next.ServeHTTP(pw, r)
	})
}

func cleanPath(p string) bool {
	clean := path.Clean(p)
	return clean == p || clean+"/" == p
}

// problemWriter replaces a plain-text 404, 405 and 429.
type problemWriter struct {
	http.ResponseWriter
	request  *http.Request
	wrote    bool
	replaced bool
}

// Unwrap serves http.ResponseController.
func (w *problemWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *problemWriter) WriteHeader(status int) {
	plain := strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain")
	ours := status == http.StatusNotFound || status == http.StatusMethodNotAllowed || status == http.StatusTooManyRequests
	if plain && ours && !w.wrote {
		w.replaced = true
		w.problem(status)
		return
	}
	w.wrote = w.wrote || status >= http.StatusOK
	w.ResponseWriter.WriteHeader(status)
}

func (w *problemWriter) Write(text []byte) (int, error) {
	if w.replaced {
		return len(text), nil
	}
	w.wrote = true
	return w.ResponseWriter.Write(text)
}

func (w *problemWriter) problem(status int) {
	w.wrote = true
	accept := strings.Join(w.request.Header.Values("Accept-Language"), ",")
	p := (&route{}).problem(languageOf(accept), httpError{status: status})
	text, err := json.Marshal(p.document(huma.NewError(p.status, p.detail)))
	if err != nil {
		text = nil
	}
	w.Header().Del("Content-Length")
	w.Header().Set("Content-Type", "application/problem+json")
	w.ResponseWriter.WriteHeader(status)
	_, _ = w.ResponseWriter.Write(text)
}
