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

// serve returns the handler of a route. It authenticates, then authorizes, then reads the
// request, so that a stranger learns nothing about the later steps.
func (s *server) serve(r *route, call func(huma.Context, cims.Actor) (any, error)) func(huma.Context) {
	return func(hc huma.Context) {
		ctx, cancel := context.WithTimeout(hc.Context(), cmp.Or(r.timeout, s.opts.Timeout))
		defer cancel()
		ctx, id := withRequestID(ctx, strings.Clone(hc.Header(requestIDHeader))) // fiber reuses its memory
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

// protect calls do and returns a panic as an error.
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

// aborts reports whether a panic asks net/http to cut the connection.
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
		if errors.Is(err, context.Canceled) { // the client has hung up
			level = slog.LevelDebug
		}
		log.Log(hc.Context(), level, "httpapi: unavailable")
	case http.StatusUnauthorized:
		hc.SetHeader("WWW-Authenticate", "Bearer")
		log.DebugContext(hc.Context(), "httpapi: not authenticated")
		if tell := s.opts.OnRefused; tell != nil {
			if _, fault := protect(func() (any, error) { tell(hc, err); return nil, nil }); fault != nil {
				log.ErrorContext(hc.Context(), "httpapi: OnRefused failed", "cause", fault)
			}
		}
	}
	body := p.document(huma.NewErrorWithContext(hc, p.status, p.detail, p.errors()...))
	if err := s.write(hc, body.GetStatus(), body); err != nil {
		log.ErrorContext(hc.Context(), "httpapi: the problem document can't be written", "cause", err)
		hc.SetStatus(http.StatusInternalServerError)
	}
}

// write sends an answer. If it returns an error, it has sent nothing.
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
	_, _ = text.WriteTo(hc.BodyWriter()) // an error means that the client has hung up
	return nil
}

// withRequestID returns ctx with a request id: the one that ctx has, the one that was sent
// if it is valid, or a new one.
func withRequestID(ctx context.Context, sent string) (context.Context, string) {
	if cims.RequestID(ctx) == "" {
		ctx = cims.WithRequestID(ctx, sent)
	}
	if cims.RequestID(ctx) == "" {
		ctx = cims.WithRequestID(ctx, uuid.Must(uuid.NewV7()).String())
	}
	return ctx, cims.RequestID(ctx)
}

// setHeaders sets the headers that every answer has.
func setHeaders(requestID string, set func(name, value string)) {
	set(requestIDHeader, requestID)
	set("X-Content-Type-Options", "nosniff")
	set("Cache-Control", "no-store")
	set("Referrer-Policy", "no-referrer")
	set("Content-Security-Policy", "default-src 'none'")
}

// header returns the values of a header as one list.
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

// acceptsJSON reports whether an Accept header allows JSON. The most specific range
// that covers JSON decides; an empty header accepts everything.
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

// preferences ranges over the items and qualities of a header such as
// "ru, en;q=0.5". It skips malformed items.
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

type humaContext huma.Context // renamed, since it has a method Context

// BodyReader returns the tracked body.
func (c bodyContext) BodyReader() io.Reader { return c.body }

// Unwrap returns the wrapped context, for the Unwrap functions of huma's adapters.
func (c bodyContext) Unwrap() huma.Context { return c.humaContext }

// trackedBody records whether a body was read to its end. With fiber an empty body
// has no reader, and a reader must not be used after its end.
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

// maxUnread limits how much of an unwanted body is read, so that its sender gets to
// read the answer.
const maxUnread = 4 << 20

// finish discards the rest of a body in bounded time, so that the connection stays
// usable. net/http does that itself before it answers; a refused sender gets a
// connection that closes instead, so that the answer does not wait for the body.
// fiber, when it streams bodies, would take the rest for the next request, and with
// it any request smuggled into the body.
func (b *trackedBody) finish(hc huma.Context, timeout time.Duration, letIn bool) {
	if b.ended || b.Reader == nil || b.Reader == http.NoBody {
		return
	}
	_, closes := b.Reader.(io.Closer)
	if closes && !letIn && hc.Version().ProtoMajor == 1 { // HTTP/2 ends this request alone
		hc.SetHeader("Connection", "close")
		return
	}
	done := readDeadline(hc, timeout)
	if closes {
		return // net/http resets the deadline
	}
	if n, err := io.CopyN(io.Discard, b, maxUnread); n == maxUnread || !errors.Is(err, io.EOF) {
		hc.SetHeader("Connection", "close")
	}
	done()
}

// readDeadline limits the time of a body's arrival and returns a function that lifts
// the limit. Where the adapter has no deadlines, the server's timeouts apply.
func readDeadline(hc huma.Context, timeout time.Duration) func() {
	_ = hc.SetReadDeadline(time.Now().Add(timeout))
	return func() { _ = hc.SetReadDeadline(time.Time{}) }
}
