// Package httpapi mounts a cims.Manager on a router, through huma (https://huma.rocks) and
// its adapter for that router.
//
//	mux := http.NewServeMux()
//	api := humago.New(mux, huma.DefaultConfig("CRM", "1.0.0"))
//	err := httpapi.Register(api, manager, httpapi.Options{Authenticator: auth})
//	…
//	server.Handler = httpapi.Problems(mux, nil)
//
// The host identifies the user of a request with an [Authenticator]. Package jwtauth has one
// for Bearer tokens. Each request reads the user's permissions from the database. The
// Manager enforces all rules, so that they also hold for calls in Go.
//
// The module examples/routers has a function to copy for each of net/http, chi, gin, echo
// and fiber, and explains how these differ.
//
// To mount the routes below a path, pass a group: huma.NewGroup(api, "/v1"). [Register]
// doesn't change huma's shared state. It creates refusals with huma.NewError, so that an
// error model set by the host applies.
//
// Refusals are problem documents (RFC 9457) in Uzbek, Russian or English, depending on
// Accept-Language. [Problems] wraps the whole router. It turns the router's 404 and 405, and
// panics, into such documents too. Package docs serves a page for reading and trying out the
// API.
//
// Login, TLS, rate limits and CORS are tasks of the host, in front of the router.
package httpapi

import (
	"context"
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
	// Authenticate returns the user of a request, for example from a header, a cookie
	// (huma.ReadCookie) or a value that a middleware has stored in ctx.Context(). It is
	// called once for each request and must be safe for concurrent use. The answer to an
	// error is 401, or 503 if the error wraps cims.ErrUnavailable.
	//
	// Browsers also send cookies with requests from other sites. A host that trusts
	// cookies should wrap the server in http.CrossOriginProtection.
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

// Options configures Register. The zero value of each field, except Authenticator, means its
// default.
type Options struct {
	// Authenticator identifies the user of a request. Required.
	Authenticator Authenticator

	// OnRefused, if set, is called for each request that gets 401, with the reason, for
	// example to count failures or to block their sender. cims.RequestID(ctx.Context())
	// names the request. The reason is for the host only. It must be safe for concurrent use.
	OnRefused func(ctx huma.Context, reason error)

	// Security describes the authentication in the OpenAPI document.
	// Default: bearerAuth, a JWT in the Authorization header.
	Security []map[string][]string

	// OperationIDPrefix is the prefix of operation ids, which sets them apart from the host's.
	// Default: "cims-".
	OperationIDPrefix string

	// DefaultLanguage is the language of an answer if Accept-Language is absent or names
	// none of "uz", "ru" and "en". It must be one of these, or Register returns an error.
	// Default: "uz".
	DefaultLanguage string

	// MaxBodyBytes limits the size of a request's body. Default: 1 MiB.
	MaxBodyBytes int64

	// Timeout limits the time of a request, with the answer 503, and the arrival of its
	// body, with the answer 408. For an import it limits each pause within the file.
	// Default: 10 seconds.
	Timeout time.Duration

	// ImportTimeout limits POST /crm/customers/import, from the first byte of the file to
	// the answer. The server's read and write timeouts must not be shorter. Default: 15
	// minutes.
	ImportTimeout time.Duration

	// Logger receives the causes of answers with status 500 and 503, and, at level debug,
	// of 401. Default: slog.Default().
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

// Register mounts every route on api. It returns an error if an argument is missing or
// invalid, or if an operation, schema or path of that name exists already. Do not serve the
// API after an error. Without an Authenticator, Register mounts nothing.
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
	// huma and routers panic if an operation, schema or path exists already.
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
	imports  chan struct{} // holds one value for each import in progress
}

// maxImports limits the number of concurrent imports, since each may have a large temporary
// file.
const maxImports = 4

// authenticate returns the actor of a request.
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

// stillMay reads the actor again after a body has come. Its sender may have taken any time,
// in which the user lost rights.
func (s *server) stillMay(ctx context.Context, actor cims.Actor, permissions []cims.Permission) (cims.Actor, error) {
	actor, err := s.manager.ActorByID(ctx, actor.User().ID)
	if err != nil {
		return cims.Actor{}, err
	}
	return actor, mayOpen(actor, permissions)
}

// mayOpen returns ErrForbidden unless the actor holds one of the permissions.
func mayOpen(actor cims.Actor, permissions []cims.Permission) error {
	if len(permissions) == 0 || slices.ContainsFunc(permissions, actor.Can) {
		return nil
	}
	return &cims.Error{Kind: cims.ErrForbidden, Reason: cims.ReasonPermission, Permission: permissions[0]}
}
