package jwks_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/golang-jwt/jwt/v5"

	"github.com/cimskit/cims/httpapi/jwtauth"
	"github.com/cimskit/cims/httpapi/jwtauth/jwks"
)

// serve takes the tokens of a login as long as ask goes on asking.
func serve(ctx context.Context, login string, ask func(*jwtauth.Authenticator)) error {
	keys, err := jwks.Open(ctx, jwks.Config{URL: login + "/.well-known/jwks.json"})
	if err != nil {
		return err
	}
	defer keys.Close()
	auth, err := jwtauth.New(jwtauth.Config{KeySource: keys, Issuer: login, Audience: "crm"})
	if err != nil {
		return err
	}
	ask(auth)
	return nil
}

// A login publishes its keys, and signs with one of them.
func Example() {
	login := newExampleLogin()
	defer login.Close()
	err := serve(context.Background(), login.URL, func(auth *jwtauth.Authenticator) {
		fmt.Println(whoIs(auth, login.token("7")))
		fmt.Println(whoIs(auth, login.token("7")+"x"))
	})
	fmt.Println(err)
	// Output:
	// user 7
	// nobody
	// <nil>
}

// The login changes its key. The new one is fetched when a token names it; here it
// may be at once.
func ExampleConfig_rotation() {
	login := newExampleLogin()
	defer login.Close()
	keys := must(jwks.Open(context.Background(), jwks.Config{URL: login.URL, Pause: time.Millisecond}))
	defer keys.Close()
	auth := must(jwtauth.New(jwtauth.Config{KeySource: keys, Issuer: login.URL, Audience: "crm"}))
	fmt.Println(whoIs(auth, login.token("7")))
	login.changeKey()
	for whoIs(auth, login.token("8")) == "nobody" {
		time.Sleep(time.Millisecond)
	}
	fmt.Println(whoIs(auth, login.token("8")))
	// Output:
	// user 7
	// user 8
}

// exampleLogin is a login that doesn't check who logs in.
type exampleLogin struct {
	*httptest.Server
	keys atomic.Int64
	key  atomic.Pointer[ed25519.PrivateKey]
}

func newExampleLogin() *exampleLogin {
	l := &exampleLogin{}
	l.changeKey()
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		public := l.key.Load().Public().(ed25519.PublicKey)
		fmt.Fprintf(w, `{"keys":[{"kid":"%d","use":"sig","kty":"OKP","crv":"Ed25519","x":%q}]}`, l.keys.Load(), base64.RawURLEncoding.EncodeToString(public))
	}))
	return l
}

func (l *exampleLogin) changeKey() {
	_, key, err := ed25519.GenerateKey(nil)
	l.key.Store(must(&key, err))
	l.keys.Add(1)
}

func (l *exampleLogin) token(sub string) string {
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"sub": sub, "iss": l.URL, "aud": "crm", "exp": time.Now().Add(time.Hour).Unix(),
	})
	token.Header["kid"] = fmt.Sprint(l.keys.Load())
	return must(token.SignedString(*l.key.Load()))
}

// whoIs asks an Authenticator, as httpapi does for each request.
func whoIs(auth *jwtauth.Authenticator, token string) string {
	request := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/", http.NoBody)
	request.Header.Set("Authorization", "Bearer "+token)
	identity, err := auth.Authenticate(humago.NewContext(&huma.Operation{}, request, httptest.NewRecorder()))
	if err != nil {
		return "nobody"
	}
	return fmt.Sprint("user ", identity.UserID)
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
