package jwks_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi"
	"github.com/cimskit/cims/httpapi/jwtauth"
	"github.com/cimskit/cims/httpapi/jwtauth/jwks"
)

// login is a server that publishes its keys.
type login struct {
	*httptest.Server
	asked atomic.Int64

	mu     sync.Mutex
	answer http.HandlerFunc
	keys   map[string]crypto.Signer
}

func newLogin(t *testing.T) *login {
	t.Helper()
	l := &login{keys: map[string]crypto.Signer{}}
	l.answer = l.publish
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.asked.Add(1)
		l.mu.Lock()
		answer := l.answer
		l.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(l.Close)
	return l
}

// answers replaces what the login answers; nil for its keys.
func (l *login) answers(answer http.HandlerFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if answer == nil {
		answer = l.publish
	}
	l.answer = answer
}

func (l *login) publish(w http.ResponseWriter, _ *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	set := []map[string]any{}
	for _, id := range slices.Sorted(maps.Keys(l.keys)) {
		set = append(set, fields(l.keys[id].Public(), id))
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"keys": set})
}

// fields are a key as a JWK.
func fields(key any, id string) map[string]any {
	jwk, err := jwkset.NewJWKFromKey(key, jwkset.JWKOptions{
		Marshal: jwkset.JWKMarshalOptions{Private: true}, Metadata: jwkset.JWKMetadataOptions{KID: id},
	})
	if err != nil {
		panic(err)
	}
	text, err := json.Marshal(jwk.Marshal())
	if err != nil {
		panic(err)
	}
	read := map[string]any{}
	if err := json.Unmarshal(text, &read); err != nil {
		panic(err)
	}
	return read
}

// adds makes the login sign by one more key.
func (l *login) adds(t *testing.T, id string, key crypto.Signer) crypto.Signer {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys[id] = key
	return key
}

func (l *login) removes(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.keys, id)
}

func edKey(t *testing.T) crypto.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return key
}

func token(t *testing.T, method jwt.SigningMethod, id string, key any) string {
	t.Helper()
	made := jwt.NewWithClaims(method, jwt.MapClaims{"sub": "7", "exp": time.Now().Add(time.Hour).Unix()})
	if id != "" {
		made.Header["kid"] = id
	}
	text, err := made.SignedString(key)
	require.NoError(t, err)
	return text
}

// newAuth takes the login's tokens. It reads the keys again as soon as it may.
func newAuth(t *testing.T, config jwks.Config) *jwtauth.Authenticator {
	t.Helper()
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	keys, err := jwks.New(t.Context(), config)
	require.NoError(t, err)
	auth, err := jwtauth.New(jwtauth.Config{Keys: keys})
	require.NoError(t, err)
	return auth
}

func authenticate(auth *jwtauth.Authenticator, token string) error {
	request := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/", http.NoBody)
	request.Header.Set("Authorization", "Bearer "+token)
	identity, err := auth.Authenticate(humago.NewContext(&huma.Operation{}, request, httptest.NewRecorder()))
	if err == nil && identity != (httpapi.Identity{UserID: 7}) {
		return fmt.Errorf("it is of %v", identity)
	}
	return err
}

func TestEveryKindOfKey(t *testing.T) {
	login := newLogin(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	login.adds(t, "rsa", rsaKey)
	login.adds(t, "ec", ecKey)
	ed := login.adds(t, "ed", edKey(t))
	auth := newAuth(t, jwks.Config{URL: login.URL})
	require.NoError(t, authenticate(auth, token(t, jwt.SigningMethodRS256, "rsa", rsaKey)))
	require.NoError(t, authenticate(auth, token(t, jwt.SigningMethodES256, "ec", ecKey)))
	require.NoError(t, authenticate(auth, token(t, jwt.SigningMethodEdDSA, "ed", ed)))
	require.Error(t, authenticate(auth, token(t, jwt.SigningMethodRS512, "rsa", rsaKey)))
	require.Error(t, authenticate(auth, token(t, jwt.SigningMethodPS256, "rsa", rsaKey)))
	require.Error(t, authenticate(auth, token(t, jwt.SigningMethodEdDSA, "rsa", ed)), "by another key")
	require.Error(t, authenticate(auth, token(t, jwt.SigningMethodEdDSA, "", ed)), "by no key")
}

func TestKeysRotateWithoutARestart(t *testing.T) {
	login := newLogin(t)
	old := login.adds(t, "old", edKey(t))
	auth := newAuth(t, jwks.Config{URL: login.URL, Refresh: 50 * time.Millisecond, Unknown: time.Hour})
	require.NoError(t, authenticate(auth, token(t, jwt.SigningMethodEdDSA, "old", old)))

	fresh := login.adds(t, "new", edKey(t))
	require.NoError(t, authenticate(auth, token(t, jwt.SigningMethodEdDSA, "new", fresh)), "an unknown key is looked for at once")
	require.NoError(t, authenticate(auth, token(t, jwt.SigningMethodEdDSA, "old", old)))
	login.removes("old")
	require.Eventually(t, func() bool { return authenticate(auth, token(t, jwt.SigningMethodEdDSA, "old", old)) != nil },
		10*time.Second, 10*time.Millisecond, "what the login has taken away is good no more")
	require.NoError(t, authenticate(auth, token(t, jwt.SigningMethodEdDSA, "new", fresh)))
}

func TestAFloodOfUnknownKeysFetchesNothing(t *testing.T) {
	login := newLogin(t)
	key := login.adds(t, "known", edKey(t))
	auth := newAuth(t, jwks.Config{URL: login.URL, Refresh: time.Hour, Unknown: time.Hour})
	var flood sync.WaitGroup
	for i := range 10 {
		flood.Go(func() {
			for j := range 1_000 {
				if err := authenticate(auth, token(t, jwt.SigningMethodEdDSA, fmt.Sprintf("made-up.%d.%d", i, j), key)); err == nil {
					t.Error("let in")
				}
			}
		})
	}
	flood.Wait()
	require.EqualValues(t, 2, login.asked.Load(), "at the start, and for the first of ten thousand")
	require.NoError(t, authenticate(auth, token(t, jwt.SigningMethodEdDSA, "known", key)))
}

// TestTroubleOfTheLogin: nobody gets in before there are keys, which is nobody's
// fault but the login's; once there are, they stay.
func TestTroubleOfTheLogin(t *testing.T) {
	ended := make(chan struct{})
	defer close(ended)
	elsewhere := newLogin(t)
	key := elsewhere.adds(t, "k", edKey(t))
	for name, answer := range map[string]http.HandlerFunc{
		"fails":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"no JSON":    func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"no set":     func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `[]`) },
		"cut off":    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"redirected": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) },
		"huge": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"x":"`+strings.Repeat("x", 2<<20)+`","keys":[]}`)
		},
		"silent": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-ended:
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			login := newLogin(t)
			login.adds(t, "k", key)
			login.answers(answer)
			auth := newAuth(t, jwks.Config{URL: login.URL, Refresh: 20 * time.Millisecond, Unknown: 20 * time.Millisecond})
			require.ErrorIs(t, authenticate(auth, token(t, jwt.SigningMethodEdDSA, "k", key)), cims.ErrUnavailable)
			login.answers(nil)
			require.Eventually(t, func() bool { return authenticate(auth, token(t, jwt.SigningMethodEdDSA, "k", key)) == nil },
				20*time.Second, 10*time.Millisecond)
			login.answers(answer)
			asked := login.asked.Load()
			require.Eventually(t, func() bool { return login.asked.Load() > asked+1 }, 20*time.Second, 10*time.Millisecond)
			require.NoError(t, authenticate(auth, token(t, jwt.SigningMethodEdDSA, "k", key)))
		})
	}
}

// TestWhatIsNoPublicKeyForSignatures: a set may have keys that are for something
// else, or that nobody should have published.
func TestWhatIsNoPublicKeyForSignatures(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	weak, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // to be refused
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	secret := []byte("0123456789abcdef0123456789abcdef")
	with := func(key map[string]any, name string, value any) map[string]any {
		key[name] = value
		return key
	}
	public := func() map[string]any { return fields(rsaKey.Public(), "k") }
	for name, c := range map[string]struct {
		jwk    map[string]any
		method jwt.SigningMethod
		key    any
		good   bool
	}{
		"plain":               {public(), jwt.SigningMethodRS256, rsaKey, true},
		"for signatures":      {with(public(), "use", "sig"), jwt.SigningMethodRS256, rsaKey, true},
		"to verify by":        {with(public(), "key_ops", []string{"verify"}), jwt.SigningMethodRS256, rsaKey, true},
		"for RS256":           {with(public(), "alg", "RS256"), jwt.SigningMethodRS256, rsaKey, true},
		"for encryption":      {with(public(), "use", "enc"), jwt.SigningMethodRS256, rsaKey, false},
		"to encrypt by":       {with(public(), "key_ops", []string{"encrypt"}), jwt.SigningMethodRS256, rsaKey, false},
		"for PS256":           {with(public(), "alg", "PS256"), jwt.SigningMethodRS256, rsaKey, false},
		"for RSA-OAEP":        {with(public(), "alg", "RSA-OAEP"), jwt.SigningMethodRS256, rsaKey, false},
		"a private one":       {fields(rsaKey, "k"), jwt.SigningMethodRS256, rsaKey, false},
		"a short one":         {fields(weak.Public(), "k"), jwt.SigningMethodRS256, weak, false},
		"of another curve":    {fields(p384.Public(), "k"), jwt.SigningMethodES384, p384, false},
		"a secret":            {fields(secret, "k"), jwt.SigningMethodHS256, secret, false},
		"a secret as RS256":   {with(fields(secret, "k"), "alg", "RS256"), jwt.SigningMethodHS256, secret, false},
		"with a URL to fetch": {with(public(), "x5u", "https://evil.example/cert"), jwt.SigningMethodRS256, rsaKey, true}, // nobody fetches it
	} {
		t.Run(name, func(t *testing.T) {
			login := newLogin(t)
			login.answers(func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{c.jwk}})
			})
			err := authenticate(newAuth(t, jwks.Config{URL: login.URL}), token(t, c.method, "k", c.key))
			require.Equal(t, c.good, err == nil, err)
		})
	}
}

func TestURLIsTheLoginsOwn(t *testing.T) {
	for _, url := range []string{"", "keys", "/keys", "http://login.example.com/keys", "ftp://127.0.0.1/keys", "file:///etc/passwd", "https://", "http://127.0.0.1.example.com", "http://[::2]/"} {
		_, err := jwks.New(t.Context(), jwks.Config{URL: url})
		require.ErrorContains(t, err, "Config.URL", url)
	}
}

func TestReadingEndsWithTheContext(t *testing.T) {
	login := newLogin(t)
	login.adds(t, "k", edKey(t))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := jwks.New(ctx, jwks.Config{URL: login.URL, Refresh: 5 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return login.asked.Load() > 3 }, 10*time.Second, time.Millisecond)
	cancel()
	require.Eventually(t, func() bool {
		before := login.asked.Load()
		time.Sleep(50 * time.Millisecond)
		return login.asked.Load() == before
	}, 10*time.Second, time.Millisecond)
}
