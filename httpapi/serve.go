package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/cimskit/cims"
	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
)

const (
	jsonType        = "application/json"
	requestIDHeader = "X-Request-ID"
	idempotencyKey  = "Idempotency-Key"
	retryAfter      = "1" // second
)

// serve makes a handler of a route: who asks, may they, what do they want, in
// this order, so that who has no business here learns nothing of the rest.
func (s *server) serve(r *route, call func(huma.Context, cims.Actor) (any, error)) func(huma.Context) {
	return func(hc huma.Context) {
		ctx, cancel := context.WithTimeout(hc.Context(), cmp.Or(r.timeout, s.opts.Timeout))
		defer cancel()
		ctx, id := withRequestID(ctx, strings.Clone(hc.Header(requestIDHeader))) // fiber uses its memory again
		hc = huma.WithContext(hc, context.WithValue(ctx, languageKey{}, languageOf(header(hc, "Accept-Language"), s.language)))
		setHeaders(id, hc.SetHeader)
		body := &trackedBody{Reader: hc.BodyReader()}
		hc = bodyContext{hc, body}

		letIn := false
		answer, err := protect(func() (any, error) {
			actor, err := s.authenticate(hc)
			if err != nil {
				return nil, err
			}
			if err := mayOpen(actor, r.permissions); err != nil {
				return nil, err
			}
			if !acceptsJSON(header(hc, "Accept")) {
				return nil, httpError{status: http.StatusNotAcceptable}
			}
			letIn = true
			return call(hc, actor)
		})
		body.finish(hc, s.opts.Timeout, letIn)
		if err != nil {
			s.refuse(hc, r, err)
			return
		}
		if err := s.write(hc, r.status, answer); err != nil {
			s.refuse(hc, r, err)
		}
	}
}

// protect turns a panic into an error.
func protect(do func() (any, error)) (answer any, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			if aborts(fault) {
				panic(fault)
			}
			err = panicked{fault: fault, stack: debug.Stack()}
		}
	}()
	return do()
}

// aborts tells whether a panic is the way to have net/http cut the connection.
func aborts(fault any) bool {
	err, ok := fault.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}

// panicked is a panic as an error.
type panicked struct {
	fault any
	stack []byte
}

func (p panicked) Error() string { return fmt.Sprintf("panic: %v\n%s", p.fault, p.stack) }

// refuse answers with a problem document.
func (s *server) refuse(hc huma.Context, r *route, err error) {
	p := r.problem(languageIn(hc.Context()), err)
	log := s.opts.Logger.With(
		"request_id", cims.RequestID(hc.Context()), "method", r.method, "route", r.path, "status", p.status, "error", err,
	)
	switch p.status {
	case http.StatusInternalServerError:
		log.ErrorContext(hc.Context(), "httpapi: unexpected error")
	case http.StatusServiceUnavailable:
		hc.SetHeader("Retry-After", retryAfter)
		level := slog.LevelWarn
		if errors.Is(err, context.Canceled) { // the client has gone: nobody's fault
			level = slog.LevelDebug
		}
		log.Log(hc.Context(), level, "httpapi: unavailable")
	case http.StatusUnauthorized:
		hc.SetHeader("WWW-Authenticate", "Bearer")
		log.DebugContext(hc.Context(), "httpapi: not authenticated")
	}
	body := p.document(huma.NewErrorWithContext(hc, p.status, p.detail, p.errors()...))
	if err := s.write(hc, body.GetStatus(), body); err != nil {
		log.ErrorContext(hc.Context(), "httpapi: the problem document can't be written", "cause", err)
		hc.SetStatus(http.StatusInternalServerError)
	}
}

// write sends an answer, or nothing at all when it can't be put into words.
func (s *server) write(hc huma.Context, status int, body any) error {
	if status == http.StatusNoContent {
		hc.SetStatus(status)
		return nil
	}
	declared := contentType(body)
	body, err := s.api.Transform(hc, strconv.Itoa(status), body)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := s.api.Marshal(&text, jsonType, body); err != nil {
		return err
	}
	hc.SetHeader("Content-Type", declared)
	hc.SetStatus(status)
	_, _ = text.WriteTo(hc.BodyWriter()) // who has hung up needs no answer
	return nil
}

// withRequestID takes over the client's id of the request if it is harmless.
func withRequestID(ctx context.Context, sent string) (context.Context, string) {
	if cims.RequestID(ctx) == "" {
		ctx = cims.WithRequestID(ctx, sent)
	}
	if cims.RequestID(ctx) == "" {
		ctx = cims.WithRequestID(ctx, uuid.Must(uuid.NewV7()).String())
	}
	return ctx, cims.RequestID(ctx)
}

// setHeaders sets what every answer carries.
func setHeaders(requestID string, set func(name, value string)) {
	set(requestIDHeader, requestID)
	set("X-Content-Type-Options", "nosniff")
	set("Cache-Control", "no-store")
	set("Referrer-Policy", "no-referrer")
	set("Content-Security-Policy", "default-src 'none'")
}

// header is all that a request says under a name, as one list.
func header(hc huma.Context, name string) string {
	return strings.Join(headers(hc, name), ",")
}

func headers(hc huma.Context, name string) []string {
	var values []string
	hc.EachHeader(func(n, value string) {
		if strings.EqualFold(n, name) {
			values = append(values, value)
		}
	})
	return values
}

// acceptsJSON reads an Accept header: the most specific range that covers JSON
// decides, and who says nothing accepts everything.
func acceptsJSON(accept string) bool {
	if strings.TrimSpace(accept) == "" {
		return true
	}
	best, accepted := 0, false
	for name, quality := range preferences(accept) {
		specific := map[string]int{"*/*": 1, "application/*": 2, jsonType: 3}[name]
		if specific > best {
			best, accepted = specific, quality > 0
		} else if specific == best && specific > 0 {
			accepted = accepted || quality > 0
		}
	}
	return accepted
}

// preferences reads a header such as "ru, en;q=0.5" and leaves out what is
// malformed.
func preferences(list string) func(yield func(string, float64) bool) {
	return func(yield func(string, float64) bool) {
		for item := range strings.SplitSeq(list, ",") {
			name, parameters, _ := strings.Cut(item, ";")
			quality, ok := quality(parameters)
			if ok && !yield(strings.ToLower(strings.TrimSpace(name)), quality) {
				return
			}
		}
	}
}

func quality(parameters string) (float64, bool) {
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(parameter, "=")
		if strings.EqualFold(strings.TrimSpace(name), "q") {
			q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return q, err == nil && q >= 0 && q <= 1
		}
	}
	return 1, true
}

// bodyContext is a request whose body is tracked.
type bodyContext struct {
	humaContext
	body *trackedBody
}

type humaContext huma.Context // by another name than that of its method Context

// BodyReader is the tracked body.
func (c bodyContext) BodyReader() io.Reader { return c.body }

// Unwrap serves the adapters' own Unwrap.
func (c bodyContext) Unwrap() huma.Context { return c.humaContext }

// trackedBody knows whether all of a body was read. fiber's has no reader at all
// where it is empty, and none that may be asked again after its end.
type trackedBody struct {
	io.Reader
	ended bool
}

func (b *trackedBody) Read(p []byte) (int, error) {
	if b.ended || b.Reader == nil {
		return 0, io.EOF
	}
	n, err := b.Reader.Read(p)
	b.ended = errors.Is(err, io.EOF)
	return n, err
}

// maxUnread is how much of a body is read for nothing, so that its sender comes
// to read the answer.
const maxUnread = 4 << 20

// finish takes away what is left of a body, in bounded time, so that the connection
// can serve on. net/http, which closes its bodies, does so by itself before it
// answers: who was not let in would be answered when the body has come, and so gets
// a connection that closes instead. fiber, where it streams them, would take the
// rest for the next request, whatever somebody has smuggled into it.
func (b *trackedBody) finish(hc huma.Context, timeout time.Duration, letIn bool) {
	if b.ended || b.Reader == nil || b.Reader == http.NoBody {
		return
	}
	_, closes := b.Reader.(io.Closer)
	if closes && !letIn && hc.Version().ProtoMajor == 1 { // HTTP/2 ends the one request
		hc.SetHeader("Connection", "close")
		return
	}
	done := readDeadline(hc, timeout)
	if closes {
		return // net/http takes the deadline back
	}
	if n, err := io.CopyN(io.Discard, b, maxUnread); n == maxUnread || !errors.Is(err, io.EOF) {
		hc.SetHeader("Connection", "close")
	}
	done()
}

// readDeadline bounds how long a body may take to arrive; where the adapter
// can't, the server's own timeouts have to.
func readDeadline(hc huma.Context, timeout time.Duration) func() {
	_ = hc.SetReadDeadline(time.Now().Add(timeout))
	return func() { _ = hc.SetReadDeadline(time.Time{}) }
}
