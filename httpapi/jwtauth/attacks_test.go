package jwtauth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims/httpapi/jwtauth"
	"github.com/cimskit/cims/httpapi/jwtauth/jwks"
	"github.com/cimskit/cims/internal/authtest"
)

const issuer, audience = "https://login.example.com", "crm"

// ours are claims that nothing is wrong with, and more.
func ours(more string) string {
	return authtest.Claims(fmt.Sprintf(`,"iss":%q,"aud":%q`, issuer, audience) + more)
}

// TestAttacks sends every kind of bad token over HTTP, for each algorithm, with keys
// that are configured and keys that are published. Nobody learns what was wrong.
func TestAttacks(t *testing.T) {
	signers := authtest.Asymmetric()
	public, published := map[string]crypto.PublicKey{}, []map[string]any{}
	for _, s := range signers {
		public[s.Alg()] = s.Public
		published = append(published, authtest.JWK(s.Alg(), s.Public))
	}
	login := authtest.NewLogin(t)
	login.Publish(published...)
	keys, err := jwks.Open(t.Context(), jwks.Config{URL: login.URL, Refresh: time.Hour, Pause: time.Hour})
	require.NoError(t, err)
	t.Cleanup(keys.Close)
	var lured atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { lured.Add(1) }))
	t.Cleanup(elsewhere.Close)

	shared := authtest.New(jwt.SigningMethodHS256)
	for name, c := range map[string]struct {
		config  jwtauth.Config
		signers []authtest.Signer
	}{
		"secret":    {jwtauth.Config{Secret: authtest.Secret}, []authtest.Signer{shared}},
		"static":    {jwtauth.Config{PublicKeys: public}, signers},
		"published": {jwtauth.Config{KeySource: keys}, signers},
		"all":       {jwtauth.Config{Secret: authtest.Secret, PublicKeys: public, KeySource: keys}, append(signers, shared)},
	} {
		t.Run(name, func(t *testing.T) {
			c.config.Issuer, c.config.Audience = issuer, audience
			auth, err := jwtauth.New(c.config)
			require.NoError(t, err)
			authtest.OnEach(t, auth, func(t *testing.T, api *authtest.API) {
				refused := api.Refused(t)
				for _, s := range c.signers {
					require.Equal(t, http.StatusOK, api.Ask(t, s.Sign(s.Header(s.Alg(), ""), ours(""))).Status, s.Alg())
					for name, token := range badTokens(t, s, signers, elsewhere.URL) {
						require.Equal(t, refused, api.Ask(t, token), "%s: %s", s.Alg(), name)
					}
				}
			})
		})
	}
	require.Equal(t, 1, login.Fetches(), "no token makes it fetch again, but after the pause")
	require.Zero(t, lured.Load(), "no token says where to fetch from")
}

// badTokens are lines 1 to 6 of what attackers try, signed with the right key
// wherever one can sign it; others are the signers of the same API.
func badTokens(t *testing.T, s authtest.Signer, others []authtest.Signer, elsewhere string) map[string]string {
	t.Helper()
	kid, now := s.Alg(), time.Now().Unix()
	header := s.Header(kid, "")
	signed := s.Sign(header, ours(""))
	parts := strings.Split(signed, ".")
	claims := func(exp string) string {
		return s.Sign(header, fmt.Sprintf(`{"sub":%q,"iss":%q,"aud":%q%s}`, authtest.Email, issuer, audience, exp))
	}
	with := func(more string) string { return s.Sign(s.Header(kid, more), ours("")) }
	named := func(kid string) string { return s.Sign(s.Header(kid, ""), ours("")) }
	stranger := authtest.New(s.Method)
	if s.Public == nil {
		stranger.Key = []byte(strings.Repeat("x", 31) + "y")
	}
	bad := map[string]string{
		"garbage":          "garbage",
		"expired":          claims(fmt.Sprintf(`,"exp":%d`, now-31)),
		"not yet valid":    s.Sign(header, ours(fmt.Sprintf(`,"nbf":%d`, now+100))),
		"issued later":     s.Sign(header, ours(fmt.Sprintf(`,"iat":%d`, now+100))),
		"alg none":         authtest.Encode(`{"alg":"none"}`) + "." + parts[1] + ".",
		"alg nOnE":         authtest.Encode(`{"alg":"nOnE"}`) + "." + parts[1] + ".",
		"alg none, signed": authtest.Encode(fmt.Sprintf(`{"alg":"none","kid":%q}`, kid)) + "." + parts[1] + "." + parts[2],
		"alg in lowercase": s.Sign(strings.Replace(header, s.Alg(), strings.ToLower(s.Alg()), 1), ours("")),
		"stripped":         parts[0] + "." + parts[1] + ".",
		"no third part":    parts[0] + "." + parts[1],
		"other claims":     parts[0] + "." + authtest.Encode(ours(`,"x":1`)) + "." + parts[2],
		"other key":        stranger.Sign(header, ours("")),
		"signature cut":    signed[:len(signed)-3],
		"signature of 0":   parts[0] + "." + parts[1] + "." + strings.Repeat("A", len(parts[2])),
		"no exp":           claims(``),
		"EXP":              claims(fmt.Sprintf(`,"EXP":%d`, now+60)),
		"exp text":         claims(fmt.Sprintf(`,"exp":"%d"`, now+60)),
		"exp null":         claims(`,"exp":null`),
		"exp 0":            claims(`,"exp":0`),
		"exp 1e300":        claims(`,"exp":1e300`),
		"exp negative":     claims(`,"exp":-1`),
		"exp twice":        s.Sign(header, ours(fmt.Sprintf(`,"exp":%d`, now+600))),
		"no iss":           s.Sign(header, authtest.Claims(fmt.Sprintf(`,"aud":%q`, audience))),
		"other iss":        s.Sign(header, authtest.Claims(fmt.Sprintf(`,"iss":"https://evil.example","aud":%q`, audience))),
		"no aud":           s.Sign(header, authtest.Claims(fmt.Sprintf(`,"iss":%q`, issuer))),
		"other aud":        s.Sign(header, authtest.Claims(fmt.Sprintf(`,"iss":%q,"aud":["shop"]`, issuer))),
		"crit":             with(`,"crit":["x"],"x":1`),
		"b64":              with(`,"b64":false,"crit":["b64"]`),
		"jku":              with(fmt.Sprintf(`,"jku":%q`, elsewhere)),
		"x5u":              with(fmt.Sprintf(`,"x5u":%q`, elsewhere)),
		"x5c":              with(`,"x5c":["eA=="]`),
		"jwk":              with(`,"jwk":{"kty":"oct","k":"eA"}`),
		"kid a path":       named("../" + kid),
		"kid SQL":          named("x' OR '1'='1"),
		"kid twice":        with(`,"kid":"x"`),
		"kid null":         s.Sign(fmt.Sprintf(`{"alg":%q,"kid":null}`, s.Alg()), ours("")),
		"100 KB":           s.Sign(header, ours(`,"x":"`+strings.Repeat("x", 100<<10)+`"`)),
		"100,000 dots":     strings.Repeat(".", 100_000),
		"8,192 dots":       strings.Repeat(".", 8192),
		"dots behind":      signed + strings.Repeat(".", 4000),
	}
	for _, other := range others {
		if other.Alg() == s.Alg() {
			continue
		}
		bad["signed by "+other.Alg()] = other.Sign(header, ours(""))
		if s.Public != nil { // a secret has no kid
			bad["kid of "+other.Alg()] = s.Sign(s.Header(other.Alg(), ""), ours(""))
		}
		bad["alg of "+other.Alg()] = s.Sign(other.Header(kid, ""), ours(""))
		bad["alg and kid of "+other.Alg()] = s.Sign(other.Header(other.Alg(), ""), ours(""))
	}
	if s.Public == nil {
		return bad
	}
	bad["no kid"] = s.Sign(s.Header("", ""), ours(""))
	bad["unknown kid"] = named("unknown")
	own := authtest.JWK("own", stranger.Public)
	text, err := json.Marshal(own)
	require.NoError(t, err)
	bad["its own jwk"] = stranger.Sign(s.Header(kid, `,"jwk":`+string(text)), ours(""))
	for form, key := range publicForms(t, s.Public) {
		shared := authtest.Signer{Method: jwt.SigningMethodHS256, Key: key}
		bad["HS256 with "+form] = shared.Sign(shared.Header(kid, ""), ours(""))
		bad["HS256 with "+form+", under its alg"] = shared.Sign(header, ours(""))
	}
	if s.Method == jwt.SigningMethodRS256 {
		for _, method := range []jwt.SigningMethod{jwt.SigningMethodRS384, jwt.SigningMethodRS512, jwt.SigningMethodPS256} {
			other := authtest.Signer{Method: method, Key: s.Key}
			bad[other.Alg()] = other.Token(kid)
			bad[other.Alg()+", under its alg"] = other.Sign(header, ours(""))
		}
	}
	return bad
}

// publicForms are what an attacker can make HMAC keys of.
func publicForms(t *testing.T, key crypto.PublicKey) map[string][]byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	require.NoError(t, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	forms := map[string][]byte{"DER": der, "PEM": text, "PEM trimmed": []byte(strings.TrimSpace(string(text))), "nothing": {}}
	switch key := key.(type) {
	case ed25519.PublicKey:
		forms["raw bytes"] = key
	case *ecdsa.PublicKey:
		forms["raw bytes"], err = key.Bytes()
		require.NoError(t, err)
	}
	return forms
}

// TestLargeTokensAreNotLookedAt: they are refused by their length, so that it costs
// the same however large they are.
func TestLargeTokensAreNotLookedAt(t *testing.T) {
	public := map[string]crypto.PublicKey{}
	for _, s := range authtest.Asymmetric() {
		public[s.Alg()] = s.Public
	}
	auth := newAuth(t, jwtauth.Config{PublicKeys: public})
	for name, token := range map[string]string{
		"100 KB": strings.Repeat("a", 100<<10) + ".a.a", "dots": strings.Repeat(".", 100_000),
		"just too large": strings.Repeat("a", 8193), "1 MB": strings.Repeat("a.", 1<<19),
	} {
		request := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/", http.NoBody)
		request.Header.Set("Authorization", "Bearer "+token)
		ctx := humago.NewContext(&huma.Operation{}, request, httptest.NewRecorder())
		refuse := func() {
			_, err := auth.Authenticate(ctx)
			require.ErrorContains(t, err, "too large")
		}
		const times = 100
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range times {
			refuse()
		}
		runtime.ReadMemStats(&after)
		require.Less(t, (after.TotalAlloc-before.TotalAlloc)/times, uint64(4096), name)
	}
}
