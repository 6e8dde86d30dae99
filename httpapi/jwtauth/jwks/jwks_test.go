package jwks_test

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi/jwtauth"
	"github.com/cimskit/cims/httpapi/jwtauth/jwks"
	"github.com/cimskit/cims/internal/authtest"
)

const patience = 20 * time.Second // for what takes milliseconds on a machine that isn't busy

// open opens a login's keys, and an API that takes its tokens.
func open(t *testing.T, config jwks.Config) (*jwks.Keys, *authtest.API) {
	t.Helper()
	keys, err := jwks.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(keys.Close)
	auth, err := jwtauth.New(jwtauth.Config{KeySource: keys})
	require.NoError(t, err)
	return keys, authtest.Serve(t, auth)
}

// often fetches as often as a test can't wait for, rarely once.
func often(url string) jwks.Config {
	return jwks.Config{URL: url, Refresh: 20 * time.Millisecond, Pause: 5 * time.Millisecond, Timeout: patience}
}

func rarely(url string) jwks.Config {
	return jwks.Config{URL: url, Refresh: time.Hour, Pause: time.Hour, Timeout: patience}
}

func becomes(t *testing.T, api *authtest.API, token string, status int) {
	t.Helper()
	require.Eventually(t, func() bool { return api.Ask(t, token).Status == status }, patience, 5*time.Millisecond)
}

func TestKeysRotateWithoutARestart(t *testing.T) {
	login := authtest.NewLogin(t)
	signers := authtest.Asymmetric()
	first, second := signers[0], signers[1]
	login.Publish(authtest.JWK("1", first.Public))
	_, api := open(t, often(login.URL))
	refused := api.Refused(t)
	require.Equal(t, http.StatusOK, api.Ask(t, first.Token("1")).Status)
	require.Equal(t, refused, api.Ask(t, second.Token("2")))

	login.Publish(authtest.JWK("1", first.Public), authtest.JWK("2", second.Public))
	becomes(t, api, second.Token("2"), http.StatusOK)
	require.Equal(t, http.StatusOK, api.Ask(t, first.Token("1")).Status)

	login.Publish(authtest.JWK("2", second.Public))
	becomes(t, api, first.Token("1"), http.StatusUnauthorized)
	require.Equal(t, refused, api.Ask(t, first.Token("1")))
	require.Equal(t, http.StatusOK, api.Ask(t, second.Token("2")).Status)

	third := authtest.New(jwt.SigningMethodEdDSA) // under the same kid
	login.Publish(authtest.JWK("2", third.Public))
	becomes(t, api, third.Token("2"), http.StatusOK)
	require.Equal(t, refused, api.Ask(t, second.Token("2")))

	login.Publish()
	becomes(t, api, third.Token("2"), http.StatusUnauthorized)
}

// A token of a new key has it fetched, long before it would be anyway.
func TestUnknownKeyIsFetchedSoon(t *testing.T) {
	login := authtest.NewLogin(t)
	signer := authtest.New(jwt.SigningMethodEdDSA)
	_, api := open(t, jwks.Config{URL: login.URL, Refresh: time.Hour, Pause: time.Millisecond})
	require.Equal(t, http.StatusUnauthorized, api.Ask(t, signer.Token("1")).Status)
	require.Eventually(t, func() bool { return login.Fetches() == 2 }, patience, time.Millisecond)
	login.Publish(authtest.JWK("1", signer.Public))
	becomes(t, api, signer.Token("1"), http.StatusOK)
	fetches := login.Fetches()
	for range 100 {
		require.Equal(t, http.StatusOK, api.Ask(t, signer.Token("1")).Status)
	}
	require.LessOrEqual(t, login.Fetches(), fetches+1, "what is known needs no fetch; one may have been under way")
}

// flood sends tokens of so many kids that there are not.
func flood(t *testing.T, api *authtest.API, kids int) {
	t.Helper()
	refused := api.Refused(t)
	var senders sync.WaitGroup
	for sender := range 4 {
		// Each has a key of its own: crypto/ed25519 keeps what it makes of a key in a
		// weak map, which the race detector now and then takes for a race.
		signer := authtest.New(jwt.SigningMethodEdDSA)
		senders.Go(func() {
			for i := range kids / 4 {
				if got := api.Ask(t, signer.Token(fmt.Sprintf("%d-%d", sender, i))); got.Status != refused.Status || got.Body != refused.Body {
					t.Errorf("%+v", got)
					return
				}
			}
		})
	}
	senders.Wait()
}

// kids returns how many to flood with: in full with scripts/test -long, which sets the
// variable.
func kids(short, full int) int {
	if os.Getenv("CIMS_FAULTS") == "full" {
		return full
	}
	return short
}

func TestUnknownKeysFloodNobody(t *testing.T) {
	t.Run("within the pause", func(t *testing.T) {
		login := authtest.NewLogin(t)
		_, api := open(t, rarely(login.URL))
		flood(t, api, kids(500, 2000))
		require.Equal(t, 1, login.Fetches(), "the one at the start")
	})
	t.Run("over many pauses", func(t *testing.T) {
		const pause = 200 * time.Millisecond
		login := authtest.NewLogin(t)
		start := time.Now()
		_, api := open(t, jwks.Config{URL: login.URL, Refresh: time.Hour, Pause: pause})
		flood(t, api, kids(2000, 10_000))
		fetches := login.Fetches()
		t.Logf("%d fetches in %s", fetches, time.Since(start).Round(time.Millisecond))
		require.LessOrEqual(t, fetches, 1+int(time.Since(start)/pause))
	})
	// The login doesn't answer before all of them have been: so none has waited.
	t.Run("while the login hangs", func(t *testing.T) {
		login := authtest.NewLogin(t)
		_, api := open(t, jwks.Config{URL: login.URL, Refresh: time.Hour, Pause: time.Millisecond, Timeout: time.Hour})
		release := make(chan struct{})
		t.Cleanup(func() { close(release) })
		login.Answer(func(http.ResponseWriter, *http.Request) { <-release })
		require.Equal(t, http.StatusUnauthorized, api.Ask(t, authtest.New(jwt.SigningMethodEdDSA).Token("unknown")).Status)
		require.Eventually(t, func() bool { return login.Fetches() == 2 }, patience, time.Millisecond)
		flood(t, api, kids(500, 2000))
		require.Equal(t, 2, login.Fetches())
	})
}

// troubles are ways for a login not to publish its keys.
func troubles(t *testing.T) map[string]http.HandlerFunc {
	t.Helper()
	evil := authtest.NewLogin(t)
	evil.Publish(authtest.JWK("1", authtest.New(jwt.SigningMethodEdDSA).Public))
	t.Cleanup(func() { require.Zero(t, evil.Fetches(), "a redirect is not followed") })
	say := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
	}
	return map[string]http.HandlerFunc{
		"cut off": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"slow":    func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"slow to end": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{"keys":[`)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
		"endless": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat(" ", 4096)); err != nil {
					return
				}
			}
		},
		"a gzip bomb": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			bomb := gzip.NewWriter(w)
			_, _ = bomb.Write(append([]byte(`{"keys":[]}`), bytes.Repeat([]byte(" "), 64<<20)...))
			_ = bomb.Close()
		},
		"huge header":      func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) },
		"redirecting":      http.RedirectHandler(evil.URL, http.StatusFound).ServeHTTP,
		"redirecting back": http.RedirectHandler("/other", http.StatusTemporaryRedirect).ServeHTTP,
		"failing": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, `{"keys":[]}`)
		},
		"too large":     say(`{"keys":[]}` + strings.Repeat(" ", 1<<20)),
		"missing":       http.NotFound,
		"of no content": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"empty":         say(""),
		"a page":        say("<html>Welcome</html>"),
		"null":          say("null"),
		"a list":        say("[]"),
		"an object":     say("{}"),
		"keys null":     say(`{"keys":null}`),
		"keys a text":   say(`{"keys":"1"}`),
		"cut":           say(`{"keys":[`),
		"more behind":   say(`{"keys":[]} {"keys":[]}`),
		"deep":          say(`{"keys":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}"),
	}
}

// TestLoginInTrouble: before there were keys nobody gets in, and the answer is that
// it will pass; afterwards the keys stay. Neither needs a restart to go on.
func TestLoginInTrouble(t *testing.T) {
	signer, next := authtest.New(jwt.SigningMethodEdDSA), authtest.New(jwt.SigningMethodES256)
	for name, trouble := range troubles(t) {
		t.Run(name, func(t *testing.T) {
			login := authtest.NewLogin(t)
			login.Answer(trouble)
			var log logBuffer
			_, api := open(t, jwks.Config{
				URL: login.URL, Refresh: time.Hour, Pause: 5 * time.Millisecond, Timeout: 300 * time.Millisecond,
				Logger: slog.New(slog.NewTextHandler(&log, nil)),
			})
			require.Equal(t, http.StatusUnauthorized, api.Ask(t, "garbage").Status, "whatever the keys are")
			waiting := api.Ask(t, signer.Token("1"))
			require.Equal(t, http.StatusServiceUnavailable, waiting.Status)
			require.NotEmpty(t, waiting.Retry)
			require.NotContains(t, waiting.Body, "127.0.0.1")
			require.Contains(t, log.String(), "can't be fetched")

			login.Publish(authtest.JWK("1", signer.Public))
			becomes(t, api, signer.Token("1"), http.StatusOK)
			login.Answer(trouble)
			tried := login.Fetches()
			require.Equal(t, http.StatusUnauthorized, api.Ask(t, next.Token("2")).Status, "but it has them fetched")
			require.Eventually(t, func() bool { return login.Fetches() > tried+2 }, patience, time.Millisecond)
			require.Equal(t, http.StatusOK, api.Ask(t, signer.Token("1")).Status)
			login.Publish(authtest.JWK("2", next.Public))
			becomes(t, api, next.Token("2"), http.StatusOK)
		})
	}
}

// logBuffer is a log that may be read while it is written.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logBuffer) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(text)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestUnreachableLoginIsNoErrorOfOpen(t *testing.T) {
	nobody := httptest.NewServer(http.NotFoundHandler())
	nobody.Close()
	keys, _ := open(t, often(nobody.URL))
	_, err := keys.PublicKey("1")
	require.ErrorIs(t, err, cims.ErrUnavailable)
}

func TestLoginHasToBeGenuine(t *testing.T) {
	login := authtest.NewLogin(t)
	signer := authtest.New(jwt.SigningMethodEdDSA)
	login.Publish(authtest.JWK("1", signer.Public))
	secure := httptest.NewTLSServer(login)
	t.Cleanup(secure.Close)
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)

	_, api := open(t, rarely(secure.URL))
	require.Equal(t, http.StatusServiceUnavailable, api.Ask(t, signer.Token("1")).Status, "a certificate of nobody known")
	config := rarely(secure.URL)
	config.Transport = secure.Client().Transport
	_, api = open(t, config)
	require.Equal(t, http.StatusOK, api.Ask(t, signer.Token("1")).Status)
}

func fetch(t *testing.T, login *authtest.Login) *jwks.Keys {
	t.Helper()
	keys, err := jwks.Open(t.Context(), rarely(login.URL))
	require.NoError(t, err)
	t.Cleanup(keys.Close)
	return keys
}

// TestKeysThatAreLeftOut: a key that is fit for nothing, or for too much, doesn't
// count, and leaves the others alone.
func TestKeysThatAreLeftOut(t *testing.T) {
	signers := authtest.Asymmetric()
	rsaSigner, ecSigner, edSigner := signers[0], signers[1], signers[2]
	with := func(s authtest.Signer, more map[string]any) map[string]any {
		key := authtest.JWK("odd", s.Public)
		maps.Copy(key, more)
		return key
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // it is to be refused
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	even := &rsa.PublicKey{N: new(big.Int).Set(rsaSigner.Key.(*rsa.PrivateKey).N), E: 65536}
	giant := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 16_000), E: 65537}
	secret := authtest.Encode(string(authtest.Secret))
	for name, key := range map[string]map[string]any{
		"oct":                    {"kid": "odd", "kty": "oct", "k": secret},
		"oct for HS256":          {"kid": "odd", "kty": "oct", "k": secret, "alg": "HS256", "use": "sig"},
		"k beside":               with(edSigner, map[string]any{"k": secret}),
		"private RSA":            with(rsaSigner, map[string]any{"d": "AQAB"}),
		"a prime":                with(rsaSigner, map[string]any{"p": "AQAB"}),
		"private EC":             with(ecSigner, map[string]any{"d": "AQAB"}),
		"private Ed25519":        with(edSigner, map[string]any{"d": "AQAB"}),
		"D":                      with(edSigner, map[string]any{"D": "AQAB"}),
		"for encryption":         with(rsaSigner, map[string]any{"use": "enc"}),
		"for something else":     with(rsaSigner, map[string]any{"use": "tls"}),
		"for wrapping":           with(rsaSigner, map[string]any{"key_ops": []string{"wrapKey"}}),
		"RSA for HS256":          with(rsaSigner, map[string]any{"alg": "HS256"}),
		"RSA for PS256":          with(rsaSigner, map[string]any{"alg": "PS256"}),
		"RSA for ES256":          with(rsaSigner, map[string]any{"alg": "ES256"}),
		"EC for RS256":           with(ecSigner, map[string]any{"alg": "RS256"}),
		"Ed25519 for ES256":      with(edSigner, map[string]any{"alg": "ES256"}),
		"alg none":               with(edSigner, map[string]any{"alg": "none"}),
		"1024 bits":              authtest.JWK("odd", &weak.PublicKey),
		"16,000 bits":            authtest.JWK("odd", giant),
		"even exponent":          authtest.JWK("odd", even),
		"exponent past 64 bits":  with(rsaSigner, map[string]any{"e": "AQAAAAAAAQAB"}),
		"P-384":                  authtest.JWK("odd", &p384.PublicKey),
		"P-384 said to be P-256": {"kid": "odd", "kty": "EC", "crv": "P-256", "x": authtest.JWK("", &p384.PublicKey)["x"], "y": authtest.JWK("", &p384.PublicKey)["y"]},
		"off the curve":          with(ecSigner, map[string]any{"x": "AQAB"}),
		"X25519":                 with(edSigner, map[string]any{"crv": "X25519"}),
		"Ed25519 of zeros":       with(edSigner, map[string]any{"x": authtest.Encode(strings.Repeat("\x00", 32))}),
		"Ed25519, short":         with(edSigner, map[string]any{"x": "AQAB"}),
		"unknown kind":           with(edSigner, map[string]any{"kty": "AKP"}),
		"no kind":                with(edSigner, map[string]any{"kty": ""}),
		"no kid":                 with(edSigner, map[string]any{"kid": ""}),
		"a number as kid":        with(edSigner, map[string]any{"kid": 1}),
		"kid of another":         with(ecSigner, map[string]any{"kid": "good"}),
		"bad base64":             with(edSigner, map[string]any{"x": "!"}),
	} {
		login := authtest.NewLogin(t)
		good := authtest.New(jwt.SigningMethodEdDSA).Public
		login.Publish(authtest.JWK("good", good), key)
		keys := fetch(t, login)
		got, err := keys.PublicKey("good")
		require.NoError(t, err, name)
		require.Equal(t, good, got, name)
		for _, kid := range []string{"odd", "1", ""} {
			_, err = keys.PublicKey(kid)
			require.Error(t, err, name)
			require.NotErrorIs(t, err, cims.ErrUnavailable, name)
		}
	}
}

// TestKeysThatCount: what logins say beside the key doesn't matter.
func TestKeysThatCount(t *testing.T) {
	for _, signer := range authtest.Asymmetric() {
		for _, more := range []map[string]any{
			{},
			{"use": "sig", "alg": signer.Alg(), "key_ops": []string{"verify"}},
			{"x5c": []string{"not a certificate"}, "x5t": "x", "x5u": "https://evil.example/", "ext": true, "nbf": 1},
		} {
			const kid = "WsY4ilmyPOjtUJ1bDDLu+MrpSXAZW/RVpJAXGMCUWM="
			key := authtest.JWK(kid, signer.Public)
			maps.Copy(key, more)
			login := authtest.NewLogin(t)
			login.Publish(key)
			got, err := fetch(t, login).PublicKey(kid)
			require.NoError(t, err, "%s %v", signer.Alg(), more)
			require.Equal(t, signer.Public, got)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, config := range []jwks.Config{
		{},
		{URL: "://"},
		{URL: "login.example.com/jwks.json"},
		{URL: "/jwks.json"},
		{URL: "https:///jwks.json"},
		{URL: "http://login.example.com/jwks.json"},
		{URL: "http://127.0.0.1.example.com/jwks.json"},
		{URL: "http://192.168.0.1/jwks.json"},
		{URL: "https://user@127.0.0.1/jwks.json"},
		{URL: "file:///etc/jwks.json"},
		{URL: "ftp://127.0.0.1/jwks.json"},
		{URL: "http://127.0.0.1/", Refresh: -1},
		{URL: "http://127.0.0.1/", Pause: -1},
		{URL: "http://127.0.0.1/", Timeout: -1},
		{URL: "http://127.0.0.1/", Refresh: time.Second, Pause: time.Minute},
	} {
		_, err := jwks.Open(t.Context(), config)
		require.Error(t, err, config.URL)
	}
	for _, url := range []string{"http://127.0.0.1:1/", "http://[::1]:1/", "http://localhost:1/", "https://127.0.0.1:1/"} {
		keys, err := jwks.Open(t.Context(), jwks.Config{URL: url, Refresh: time.Second})
		require.NoError(t, err, url)
		keys.Close()
	}
}

// TestCloseEndsTheFetching: also one that is under way, and the keys stay.
func TestCloseEndsTheFetching(t *testing.T) {
	login := authtest.NewLogin(t)
	signer := authtest.New(jwt.SigningMethodEdDSA)
	login.Publish(authtest.JWK("1", signer.Public))
	config := often(login.URL)
	config.Timeout = time.Hour
	keys, api := open(t, config)
	hanging := make(chan struct{}, 1)
	login.Answer(func(_ http.ResponseWriter, r *http.Request) {
		hanging <- struct{}{}
		<-r.Context().Done()
	})
	<-hanging
	keys.Close()
	keys.Close() // twice does no harm
	require.Eventually(t, func() bool {
		var stacks strings.Builder
		require.NoError(t, pprof.Lookup("goroutine").WriteTo(&stacks, 2))
		return !strings.Contains(stacks.String(), "jwks.(*Keys).keepFresh")
	}, patience, time.Millisecond)
	fetches := login.Fetches()
	require.Equal(t, http.StatusOK, api.Ask(t, signer.Token("1")).Status)
	require.Equal(t, http.StatusUnauthorized, api.Ask(t, signer.Token("2")).Status)
	require.Equal(t, fetches, login.Fetches())
}
