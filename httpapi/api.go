// Package httpapi mounts a cims.Manager on a router, through huma
// (https://huma.rocks) and whichever of its adapters the router needs.
//
//	mux := http.NewServeMux()
//	api := humago.New(mux, huma.DefaultConfig("CRM", "1.0.0"))
//	err := httpapi.Register(api, manager, httpapi.Options{Authenticator: auth})
//	…
//	server.Handler = httpapi.Problems(mux, nil)
//
// The host identifies the user of a request by an [Authenticator]; package jwtauth
// has one for Bearer tokens. Each request reads the user's permissions from the
// database. The rules are the Manager's, so that they hold for calls in Go too.
//
// examples/routers has a function to copy for each of net/http, chi, gin, echo and
// fiber, and explains how they differ.
//
// To mount the routes below a path, pass a group: huma.NewGroup(api, "/v1").
// [Register] leaves huma's shared state alone. It makes refusals with
// huma.NewError, so that an error model set by the host applies.
//
// Refusals are problem documents (RFC 9457) in the language of
// Accept-Language: Uzbek, Russian or English. [Problems], wrapped around the whole
// router, turns the router's 404 and 405 and panics into such documents too.
// Package docs serves a page for reading and trying out the API.
//
// Login, TLS, rate limits and CORS belong to the host, in front of the router.
package httpapi

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cimskit/cims"
)

// Authenticator identifies the user who makes a request.
type Authenticator interface {
	// Authenticate returns the user of a request, found in a header, a cookie
	// (huma.ReadCookie) or a value that a middleware left in ctx.Context(). It is
	// called once for each request and must be safe for concurrent use. An error
	// is answered with 401, or with 503 if it wraps cims.ErrUnavailable. Browsers
	// send cookies unasked: a host that trusts them should wrap the server in
	// http.CrossOriginProtection.
	Authenticate(ctx huma.Context) (Identity, error)
}

// AuthenticatorFunc is a function used as an Authenticator.
type AuthenticatorFunc func(ctx huma.Context) (Identity, error)

// Authenticate calls f.
func (f AuthenticatorFunc) Authenticate(ctx huma.Context) (Identity, error) { return f(ctx) }

// Identity names a user by its id or, where that is 0, by its email.
type Identity struct {
	UserID int64
	Email  string
}

// Options configures Register. The zero value of each field but Authenticator
// stands for its default.
type Options struct {
	// Authenticator identifies the user of a request. Required.
	Authenticator Authenticator

	// Security tells readers of the OpenAPI document how to authenticate.
	// Default: bearerAuth, a JWT in the Authorization header.
	Security []map[string][]string

	// OperationIDPrefix keeps operation ids apart from those of the host.
	// Default: "cims-".
	OperationIDPrefix string

	// DefaultLanguage is the language of an answer when Accept-Language is
	// absent or names none of "uz", "ru" and "en". Register refuses any other
	// value. Default: "uz".
	DefaultLanguage string

	// MaxBodyBytes limits the size of a request's body. Default: 1 MiB.
	MaxBodyBytes int64

	// Timeout limits a request, which is then answered with 503, and the arrival
	// of its body, which is then answered with 408. In an import it limits a
	// silence within the file. Default: 10 seconds.
	Timeout time.Duration

	// ImportTimeout limits POST /crm/customers/import, from the first byte of the
	// file to the answer. The server's read and write timeouts have to allow for
	// it. Default: 15 minutes.
	ImportTimeout time.Duration

	// Logger receives the causes of answers with status 500 and 503. Default:
	// slog.Default().
	Logger *slog.Logger
}

const bearerAuth = "bearerAuth"

func (o Options) withDefaults() Options {
	if o.Security == nil {
		o.Security = []map[string][]string{{bearerAuth: {}}}
	}
	if o.OperationIDPrefix == "" {
		o.OperationIDPrefix = "cims-"
	}
	if o.DefaultLanguage == "" {
		o.DefaultLanguage = defaultLanguage
	}
	if o.MaxBodyBytes <= 0 {
		o.MaxBodyBytes = 1 << 20
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.ImportTimeout <= 0 {
		o.ImportTimeout = 15 * time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// Register mounts every route on api. It returns an error where an argument is
// missing or a name is taken: do not serve the API then. Without an Authenticator
// it mounts nothing.
func Register(api huma.API, manager *cims.Manager, opts Options) (err error) {
	switch {
	case api == nil:
		return errors.New("httpapi: Register needs an API")
	case manager == nil:
		return errors.New("httpapi: Register needs a Manager")
	case isNil(opts.Authenticator):
		return errors.New("httpapi: Register needs an Authenticator")
	}
	opts = opts.withDefaults()
	lang, ok := languages[opts.DefaultLanguage]
	if !ok {
		return fmt.Errorf("httpapi: DefaultLanguage is %q, but must be uz, ru or en", opts.DefaultLanguage)
	}
	if err := api.Marshal(io.Discard, jsonType, nil); err != nil {
		return fmt.Errorf("httpapi: the API's Formats must have %s: %w", jsonType, err)
	}
	// huma and routers panic where an operation, schema or path exists already.
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("httpapi: %v", fault)
		}
	}()
	s := &server{api: api, manager: manager, opts: opts, language: lang, imports: make(chan struct{}, maxImports)}
	s.documentCommons()
	s.statuses()
	s.roles()
	s.users()
	s.customers()
	s.assignments()
	s.conversion()
	s.audit()
	s.me()
	return nil
}

// isNil reports whether an Authenticator is nil or holds a nil function or pointer.
// Such a value, left by an overlooked error, would panic at the first request only.
func isNil(authenticator Authenticator) bool {
	switch v := reflect.ValueOf(authenticator); v.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Func, reflect.Pointer:
		return v.IsNil()
	default:
		return false
	}
}

// server holds the state that all routes share.
type server struct {
	api      huma.API
	manager  *cims.Manager
	opts     Options
	language language      // of answers to requests that name none
	imports  chan struct{} // holds one value for each import under way
}

// maxImports limits how many imports are under way at once: each has a temporary
// file that may be large.
const maxImports = 4

// authenticate returns the actor who makes a request.
func (s *server) authenticate(ctx huma.Context) (cims.Actor, error) {
	identity, err := s.opts.Authenticator.Authenticate(ctx)
	switch {
	case unavailable(err):
		return cims.Actor{}, err
	case err != nil:
		return cims.Actor{}, fmt.Errorf("%w: %w", cims.ErrUnauthenticated, err)
	case identity.UserID != 0:
		return s.manager.ActorByID(ctx.Context(), identity.UserID)
	case identity.Email == "" || !plainText(identity.Email):
		return cims.Actor{}, cims.ErrUnauthenticated
	default:
		return s.manager.ActorByEmail(ctx.Context(), strings.Clone(identity.Email)) // fiber reuses the memory of headers
	}
}

// mayOpen returns ErrForbidden unless the actor holds one of the permissions.
func mayOpen(actor cims.Actor, permissions []cims.Permission) error {
	if len(permissions) == 0 || slices.ContainsFunc(permissions, actor.Can) {
		return nil
	}
	return &cims.Error{Kind: cims.ErrForbidden, Reason: cims.ReasonPermission, Permission: permissions[0]}
}
