// Package authtest is shared by the tests of tokens: keys of each kind that sign any
// claims, a login that publishes keys over HTTP, and an API to try the tokens on.
package authtest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi"
	"github.com/cimskit/cims/internal/pgtest"
	"github.com/cimskit/cims/storage/postgres"
	"github.com/cimskit/cims/storage/sqlite"
)

// Email is the address of the only user of the API.
const Email = "ceo@example.com"

// Secret is the key of HS256.
var Secret = []byte("0123456789abcdef0123456789abcdef")

// Signer signs tokens.
type Signer struct {
	Method jwt.SigningMethod
	Key    any              // it signs with
	Public crypto.PublicKey // nil for HS256
}

// New returns a signer with a new key; for HS256 with Secret.
func New(method jwt.SigningMethod) Signer {
	switch method {
	case jwt.SigningMethodRS256:
		key := must(rsa.GenerateKey(rand.Reader, 2048))
		return Signer{method, key, &key.PublicKey}
	case jwt.SigningMethodES256:
		key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		return Signer{method, key, &key.PublicKey}
	case jwt.SigningMethodEdDSA:
		public, key, err := ed25519.GenerateKey(rand.Reader)
		return Signer{method, key, must(public, err)}
	default:
		return Signer{jwt.SigningMethodHS256, Secret, nil}
	}
}

// Asymmetric has a signer of each kind but HS256.
func Asymmetric() []Signer {
	return []Signer{New(jwt.SigningMethodRS256), New(jwt.SigningMethodES256), New(jwt.SigningMethodEdDSA)}
}

// Alg is the name of its algorithm.
func (s Signer) Alg() string { return s.Method.Alg() }

// Header is a good one, with a kid if there is one to have, and more.
func (s Signer) Header(kid, more string) string {
	if kid != "" {
		more = fmt.Sprintf(`,"kid":%q`, kid) + more
	}
	return fmt.Sprintf(`{"alg":%q,"typ":"JWT"%s}`, s.Alg(), more)
}

// Sign signs a header and claims, well-formed or not.
func (s Signer) Sign(header, claims string) string {
	signed := Encode(header) + "." + Encode(claims)
	return signed + "." + base64.RawURLEncoding.EncodeToString(must(s.Method.Sign(signed, s.Key)))
}

// Token is a good one.
func (s Signer) Token(kid string) string { return s.Sign(s.Header(kid, ""), Claims("")) }

// Claims are good for an hour, and more.
func Claims(more string) string {
	return fmt.Sprintf(`{"sub":%q,"exp":%d%s}`, Email, time.Now().Add(time.Hour).Unix(), more)
}

// Encode is base64url, as the parts of a token are.
func Encode(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// JWK is a public key as a login publishes it.
func JWK(kid string, public crypto.PublicKey) map[string]any {
	encode := base64.RawURLEncoding.EncodeToString
	switch key := public.(type) {
	case *rsa.PublicKey:
		return map[string]any{"kid": kid, "kty": "RSA", "n": encode(key.N.Bytes()), "e": encode(big.NewInt(int64(key.E)).Bytes())}
	case *ecdsa.PublicKey:
		point := must(key.Bytes())[1:]
		return map[string]any{"kid": kid, "kty": "EC", "crv": key.Params().Name, "x": encode(point[:len(point)/2]), "y": encode(point[len(point)/2:])}
	case ed25519.PublicKey:
		return map[string]any{"kid": kid, "kty": "OKP", "crv": "Ed25519", "x": encode(key)}
	default:
		panic(fmt.Sprintf("%T is no public key", public))
	}
}

// Login publishes keys.
type Login struct {
	*httptest.Server
	answer  atomic.Pointer[http.HandlerFunc]
	fetches atomic.Int64
}

// NewLogin starts a login that has published nothing yet.
func NewLogin(t *testing.T) *Login {
	t.Helper()
	l := &Login{}
	l.Server = httptest.NewServer(l)
	t.Cleanup(l.Close)
	l.Publish()
	return l
}

// ServeHTTP answers a fetch.
func (l *Login) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.fetches.Add(1)
	(*l.answer.Load())(w, r)
}

// Fetches is how often the keys were fetched.
func (l *Login) Fetches() int { return int(l.fetches.Load()) }

// Answer replaces the handler that answers.
func (l *Login) Answer(handler http.HandlerFunc) { l.answer.Store(&handler) }

// Say has the login answer with a text.
func (l *Login) Say(text string) {
	l.Answer(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
}

// Publish publishes these keys and no others.
func (l *Login) Publish(keys ...map[string]any) {
	l.Say(string(must(json.Marshal(map[string]any{"keys": append([]map[string]any{}, keys...)}))))
}

// API is the routes over HTTP, with one user.
type API struct {
	server *httptest.Server
	client *http.Client
}

// Serve starts an API, on an SQLite file.
func Serve(t *testing.T, auth httpapi.Authenticator) *API {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "cims.db"))
	require.NoError(t, err)
	return serve(t, auth, store)
}

// OnEach tests an API on each database.
func OnEach(t *testing.T, auth httpapi.Authenticator, test func(t *testing.T, api *API)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) { test(t, Serve(t, auth)) })
	t.Run("PostgreSQL", func(t *testing.T) {
		store, err := postgres.Open(t.Context(), pgtest.URL(t))
		require.NoError(t, err)
		test(t, serve(t, auth, store))
	})
}

func serve(t *testing.T, auth httpapi.Authenticator, store cims.Storage) *API {
	t.Helper()
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	require.NoError(t, store.Migrate(t.Context()))
	crm, err := cims.New(store, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, crm.Close(context.Background())) })
	_, err = crm.CreateUser(t.Context(), cims.System("test"), cims.NewUser{Email: Email, Name: "Umida", Surname: "Yusupova", RoleName: cims.RoleCEO})
	require.NoError(t, err)
	mux := http.NewServeMux()
	require.NoError(t, httpapi.Register(humago.New(mux, huma.DefaultConfig("CRM", "1.0.0")), crm, httpapi.Options{Authenticator: auth}))
	server := httptest.NewServer(httpapi.Problems(mux, nil))
	t.Cleanup(server.Close)
	return &API{server, server.Client()}
}

// Answer is the API's answer to a request.
type Answer struct {
	Status    int
	Challenge []string // WWW-Authenticate
	Retry     string   // Retry-After
	Body      string
}

// Refused returns the answer that every bad token gets.
func (a *API) Refused(t *testing.T) Answer {
	t.Helper()
	refused := a.Ask(t, "")
	require.Equal(t, http.StatusUnauthorized, refused.Status)
	require.Equal(t, []string{"Bearer"}, refused.Challenge)
	return refused
}

// Ask reads /me with a token, or without one where it is empty.
func (a *API) Ask(t *testing.T, token string) Answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.server.URL+"/me", http.NoBody)
	require.NoError(t, err)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := a.client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return Answer{response.StatusCode, response.Header.Values("WWW-Authenticate"), response.Header.Get("Retry-After"), string(body)}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
