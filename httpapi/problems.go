package httpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"path"
	"runtime/debug"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Problems wraps a router and turns its plain or empty 404 and 405 answers into problem
// documents in the client's language. It does the same for a 429 that a limiter writes with
// http.Error, and for panics. It sets the headers that every answer should have, which next
// may change.
//
// Problems answers 404 to a path that a router would clean, such as one with "..". A nil
// logger means slog.Default(). For a router that isn't an http.Handler, use [Problem].
func Problems(next http.Handler, logger *slog.Logger) http.Handler {
	return Options{Logger: logger}.Problems(next)
}

// Problems is like the function Problems, with the Logger and DefaultLanguage of o.
func (o Options) Problems(next http.Handler) http.Handler {
	o = o.withDefaults()
	logger, lang := o.Logger, languages[o.DefaultLanguage]
	if lang == nil { // Register returns the error
		lang = languages[defaultLanguage]
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, id := withRequestID(r.Context(), r.Header.Get(requestIDHeader))
		r = r.WithContext(ctx)
		setHeaders(id, w.Header().Set)
		pw := &problemWriter{ResponseWriter: w, request: r, language: lang}
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
		pw.decide(nil)
	})
}

// Problem returns the body of a refusal, for a router that isn't an http.Handler. It sets
// the headers that every answer should have. The request's X-Request-ID and Accept-Language
// may be empty.
func Problem(status int, requestID, acceptLanguage string, set func(name, value string)) []byte {
	_, id := withRequestID(context.Background(), requestID)
	setHeaders(id, set)
	set("Content-Type", "application/problem+json")
	return problemText(status, languageOf(acceptLanguage, languages[defaultLanguage]))
}

func problemText(status int, lang language) []byte {
	p := (&route{}).problem(lang, httpError{status: status})
	text, err := json.Marshal(p.document(huma.NewError(p.status, cmp.Or(p.detail, http.StatusText(status)))))
	if err != nil {
		return nil
	}
	return text
}

func cleanPath(p string) bool {
	clean := path.Clean(p)
	return (clean == p || clean+"/" == p) && p != "*" // refused by net/http's router with an empty body
}

// problemWriter replaces a plain-text 404, 405 and 429.
type problemWriter struct {
	http.ResponseWriter
	request  *http.Request
	language language // of answers to requests that name none
	status   int      // of a refusal whose content type is not known yet
	wrote    bool
	replaced bool
}

// Unwrap returns the wrapped writer, for http.ResponseController.
func (w *problemWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// FlushError sends the answer so far, for http.ResponseController.
func (w *problemWriter) FlushError() error {
	w.decide(nil)
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *problemWriter) WriteHeader(status int) {
	ours := status == http.StatusNotFound || status == http.StatusMethodNotAllowed || status == http.StatusTooManyRequests
	if w.wrote || w.status != 0 || !ours {
		w.wrote = w.wrote || status >= http.StatusOK
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.status = status
	if w.Header().Get("Content-Type") != "" {
		w.decide(nil)
	}
}

// decide sends the status that was held back, or a problem in place of plain text.
// It detects the content type of a text that declares none.
func (w *problemWriter) decide(text []byte) {
	status := w.status
	if status == 0 {
		return
	}
	w.status = 0
	if strings.HasPrefix(cmp.Or(w.Header().Get("Content-Type"), http.DetectContentType(text)), "text/plain") {
		w.replaced = true
		w.problem(status)
		return
	}
	w.wrote = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *problemWriter) Write(text []byte) (int, error) {
	if w.status != 0 && len(text) == 0 {
		return 0, nil
	}
	w.decide(text)
	if w.replaced {
		return len(text), nil
	}
	w.wrote = true
	return w.ResponseWriter.Write(text)
}

func (w *problemWriter) problem(status int) {
	w.status, w.wrote = 0, true
	text := problemText(status, languageOf(strings.Join(w.request.Header.Values("Accept-Language"), ","), w.language))
	w.Header().Del("Content-Length")
	w.Header().Set("Content-Type", "application/problem+json")
	if w.request.Body != http.NoBody && w.request.ProtoMajor == 1 {
		w.Header().Set("Connection", "close") // or net/http would wait for the body first
	}
	w.ResponseWriter.WriteHeader(status)
	_, _ = w.ResponseWriter.Write(text)
}
