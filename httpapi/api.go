// Package httpapi mounts a cims.Manager on a router, through huma
// (https://huma.rocks) and whichever of its adapters the router needs.
//
//	mux := http.NewServeMux()
//	api := humago.New(mux, huma.DefaultConfig("CRM", "1.0.0"))
//	err := httpapi.Register(api, manager, httpapi.Options{Authenticator: auth})
//	…
//	server.Handler = httpapi.Problems(mux, nil)
//
// Who asks is the host's to say, by an [Authenticator]: package jwtauth has
// one for Bearer tokens. What the user may do is read from the database for
// each request. There are no rules here: they are the Manager's, and hold for
// whoever calls it in Go.
//
// examples/routers has a function to copy for each of net/http, chi, gin, echo and
// fiber, and says what each of them does in its own way.
//
// To mount the routes below a path, hand over a group: huma.NewGroup(api,
// "/v1"). [Register] changes nothing of huma's that is shared, and refusals
// are made with huma.NewError, so that a host's own error model applies.
//
// Refusals are problem documents (RFC 9457) in the language of
// Accept-Language: Uzbek, Russian or English. [Problems], around the whole
// router, makes its own 404 and 405, and panics, into such documents too.
// Package docs serves a page on which the API can be read and tried out.
//
// Login, TLS, rate limits and CORS are the host's, in front of the router.
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

// Authenticator says who makes a request.
type Authenticator interface {
	// Authenticate finds out whose request it is: from a header, a cookie
	// (huma.ReadCookie) or what a middleware left in ctx.Context(). It is
	// called once for each request and may be called concurrently. An error is
	// answered with 401, whatever it says, but one that wraps
	// cims.ErrUnavailable with 503. Browsers send cookies unasked: whoever
	// trusts them wraps the server in http.CrossOriginProtection.
	Authenticate(ctx huma.Context) (Identity, error)
}

// AuthenticatorFunc is a function that is an Authenticator.
type AuthenticatorFunc func(ctx huma.Context) (Identity, error)

// Authenticate calls f.
func (f AuthenticatorFunc) Authenticate(ctx huma.Context) (Identity, error) { return f(ctx) }

// Identity names a user by the id or, where that is 0, by the email.
type Identity struct {
	UserID int64
	Email  string
}

// Options has what can be different from one host to the next. The zero value
// of each field but Authenticator stands for its default.
type Options struct {
	// Authenticator says who makes a request. Required.
	Authenticator Authenticator

	// Security is what the OpenAPI document says of how to authenticate.
	// Default: bearerAuth, a JWT in the Authorization header.
	Security []map[string][]string

	// OperationIDPrefix keeps the operation ids apart from the host's.
	// Default: "cims-".
	OperationIDPrefix string

	// DefaultLanguage is the language of an answer when Accept-Language is
	// absent or names none of "uz", "ru" and "en". Register refuses any other
	// value. Default: "uz".
	DefaultLanguage string

	// MaxBodyBytes is how large a request's body may be. Default: 1 MiB.
	MaxBodyBytes int64

	// Timeout is how long a request may take before it is answered with 503, and
	// its body with 408; of an import, how long nothing of the file may come.
	// Default: 10 seconds.
	Timeout time.Duration

	// ImportTimeout is how long POST /crm/customers/import may take, from the
	// first byte of the file to the answer. Default: 15 minutes. A server's own
	// read and write timeouts have to allow for it.
	ImportTimeout time.Duration

	// Logger gets the causes of answers with status 500 and 503. Default:
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

// Register mounts every route on api. It returns an error where something is
// missing or a name is taken; the API is not to be served then. Without an
// Authenticator it mounts nothing: there is no API that lets everybody in.
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

// isNil also finds what a host is left with that overlooked an error: a nil
// function or pointer, which would panic at the first request only.
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

// server is what all routes share.
type server struct {
	api      huma.API
	manager  *cims.Manager
	opts     Options
	language language      // of answers to requests that name none
	imports  chan struct{} // those under way
}

// maxImports is how many imports may be under way at once: each has a temporary
// file that may be large.
const maxImports = 4

// authenticate finds the actor behind a request.
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
		return s.manager.ActorByEmail(ctx.Context(), strings.Clone(identity.Email)) // fiber uses a header's memory again
	}
}

// mayOpen checks that the actor holds one of the permissions that open a route.
func mayOpen(actor cims.Actor, permissions []cims.Permission) error {
	if len(permissions) == 0 || slices.ContainsFunc(permissions, actor.Can) {
		return nil
	}
	return &cims.Error{Kind: cims.ErrForbidden, Reason: cims.ReasonPermission, Permission: permissions[0]}
}
