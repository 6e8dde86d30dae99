package jwtauth_test

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"hash"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims/httpapi"
	"github.com/cimskit/cims/httpapi/jwtauth"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

var newSHA256 = sha256.New

const header = `{"alg":"HS256","typ":"JWT"}`

func encode(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func signWith(newHash func() hash.Hash, key []byte, header, claims string) string {
	signed := encode(header) + "." + encode(claims)
	mac := hmac.New(newHash, key)
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// sign signs whatever it is given, well-formed or not.
func sign(header, claims string) string { return signWith(newSHA256, secret, header, claims) }

// good are claims that nothing is wrong with, and more.
func good(more string) string {
	return fmt.Sprintf(`{"sub":"a@example.com","exp":%d%s}`, time.Now().Add(time.Hour).Unix(), more)
}

func newAuth(t *testing.T, config jwtauth.Config) *jwtauth.Authenticator {
	t.Helper()
	if config.Secret == nil {
		config.Secret = secret
	}
	auth, err := jwtauth.New(config)
	require.NoError(t, err)
	return auth
}

func authenticate(auth *jwtauth.Authenticator, authorization ...string) (httpapi.Identity, error) {
	request := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/", http.NoBody)
	request.Header["Authorization"] = authorization
	return auth.Authenticate(humago.NewContext(&huma.Operation{}, request, httptest.NewRecorder()))
}

func TestSubIsAnEmailOrAnID(t *testing.T) {
	auth := newAuth(t, jwtauth.Config{})
	for sub, want := range map[string]httpapi.Identity{
		"a@example.com": {Email: "a@example.com"}, "A@Example.com": {Email: "A@Example.com"}, "7": {UserID: 7}, "9223372036854775807": {UserID: 9223372036854775807},
	} {
		token, err := jwtauth.Token(secret, sub, time.Minute)
		require.NoError(t, err)
		for _, scheme := range []string{"Bearer", "bearer", "BEARER"} {
			got, err := authenticate(auth, scheme+" "+token)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
	}
	for _, sub := range []string{"", "0", "-1", "+7", "07", "7.0", "1e3", "9223372036854775808", "seven", " 7"} {
		token, err := jwtauth.Token(secret, sub, time.Minute)
		require.NoError(t, err)
		_, err = authenticate(auth, "Bearer "+token)
		require.Error(t, err, sub)
	}
}

func TestAuthorizationHeaderComesOnceAndAsBearer(t *testing.T) {
	auth := newAuth(t, jwtauth.Config{})
	token := sign(header, good(""))
	_, err := authenticate(auth, "Bearer "+token)
	require.NoError(t, err)
	for _, sent := range [][]string{
		nil,
		{""},
		{"Bearer"},
		{"Bearer "},
		{token},
		{"Basic " + token},
		{"Bearer  " + token},
		{"Bearer\t" + token},
		{"Bearer " + token + " "},
		{"Bearer " + token, "Bearer " + token},
	} {
		_, err := authenticate(auth, sent...)
		require.Error(t, err, sent)
	}
}

func TestGoodTokensAreTaken(t *testing.T) {
	auth := newAuth(t, jwtauth.Config{})
	now := time.Now().Unix()
	for name, token := range map[string]string{
		"plain":            sign(header, good("")),
		"no typ":           sign(`{"alg":"HS256"}`, good("")),
		"kid":              sign(`{"alg":"HS256","kid":"key-1"}`, good("")),
		"issued":           sign(header, good(fmt.Sprintf(`,"iat":%d,"nbf":%d`, now, now))),
		"fraction":         sign(header, fmt.Sprintf(`{"sub":"a@example.com","exp":%d.5}`, now+60)),
		"other claims":     sign(header, good(`,"role":"ceo","nested":{"exp":1,"exp":2},"iss":"x","aud":["a","b"]`)),
		"escaped, as JSON": sign(header, strings.Replace(good(""), "sub", `s\u0075b`, 1)),
	} {
		identity, err := authenticate(auth, "Bearer "+token)
		require.NoError(t, err, name)
		require.Equal(t, httpapi.Identity{Email: "a@example.com"}, identity, name)
	}
}

func TestBadTokensAreRefused(t *testing.T) {
	auth := newAuth(t, jwtauth.Config{})
	now := time.Now().Unix()
	exp := func(value string) string { return sign(header, `{"sub":"a@example.com","exp":`+value+`}`) }
	parts := strings.Split(sign(header, good("")), ".")
	for name, token := range map[string]string{
		"empty":                "",
		"garbage":              "garbage",
		"two parts":            parts[0] + "." + parts[1],
		"four parts":           sign(header, good("")) + ".x",
		"no signature":         parts[0] + "." + parts[1] + ".",
		"signature cut":        sign(header, good(""))[:len(sign(header, good("")))-2],
		"signature padded":     sign(header, good("")) + "=",
		"claims changed":       parts[0] + "." + encode(good(`,"x":1`)) + "." + parts[2],
		"other secret":         signWith(newSHA256, []byte(strings.Repeat("x", 32)), header, good("")),
		"empty secret":         signWith(newSHA256, nil, header, good("")),
		"alg none":             encode(`{"alg":"none"}`) + "." + encode(good("")) + ".",
		"alg nOnE":             encode(`{"alg":"nOnE"}`) + "." + encode(good("")) + ".",
		"alg none, signed":     sign(`{"alg":"none"}`, good("")),
		"alg empty":            sign(`{"alg":""}`, good("")),
		"no alg":               sign(`{"typ":"JWT"}`, good("")),
		"alg null":             sign(`{"alg":null}`, good("")),
		"alg a list":           sign(`{"alg":["HS256"]}`, good("")),
		"alg twice":            sign(`{"alg":"none","alg":"HS256"}`, good("")),
		"ALG":                  sign(`{"ALG":"HS256","alg":"HS256"}`, good("")),
		"alg hs256":            sign(`{"alg":"hs256"}`, good("")),
		"HS512":                signWith(sha512.New, secret, `{"alg":"HS512"}`, good("")),
		"RS256 signed as HMAC": sign(`{"alg":"RS256"}`, good("")),
		"crit":                 sign(`{"alg":"HS256","crit":["exp"]}`, good("")),
		"crit, empty":          sign(`{"alg":"HS256","crit":[]}`, good("")),
		"b64":                  sign(`{"alg":"HS256","b64":false,"crit":["b64"]}`, good("")),
		"jku":                  sign(`{"alg":"HS256","jku":"https://evil.example/keys"}`, good("")),
		"jwk":                  sign(`{"alg":"HS256","jwk":{"kty":"oct","k":"eA"}}`, good("")),
		"x5u":                  sign(`{"alg":"HS256","x5u":"https://evil.example/cert"}`, good("")),
		"kid a path":           sign(`{"alg":"HS256","kid":"../../dev/null"}`, good("")),
		"kid SQL":              sign(`{"alg":"HS256","kid":"x' UNION SELECT 'key"}`, good("")),
		"kid a number":         sign(`{"alg":"HS256","kid":1}`, good("")),
		"header no object":     sign(`"HS256"`, good("")),
		"header no JSON":       sign(`{"alg":"HS256"`, good("")),
		"claims no object":     sign(header, `[]`),
		"claims no JSON":       sign(header, `{`),
		"claims null":          sign(header, `null`),
		"exp missing":          sign(header, `{"sub":"a@example.com"}`),
		"exp text":             exp(fmt.Sprintf(`"%d"`, now+60)),
		"exp null":             exp(`null`),
		"exp 0":                exp(`0`),
		"exp negative":         exp(`-1`),
		"exp 1e300":            exp(`1e300`),
		"exp 1e400":            exp(`1e400`),
		"exp beyond calendars": exp(`253402300800`),
		"exp true":             exp(`true`),
		"exp a list":           exp(fmt.Sprintf(`[%d]`, now+60)),
		"exp passed":           exp(fmt.Sprint(now - 31)),
		"EXP only":             sign(header, fmt.Sprintf(`{"sub":"a@example.com","EXP":%d}`, now+60)),
		"EXP beside exp":       sign(header, good(`,"EXP":1`)),
		"exp twice":            sign(header, good(fmt.Sprintf(`,"exp":%d`, now+600))),
		"sub twice":            sign(header, good(`,"sub":"ceo@example.com"`)),
		"Sub beside sub":       sign(header, good(`,"Sub":"ceo@example.com"`)),
		"sub null":             sign(header, fmt.Sprintf(`{"sub":null,"exp":%d}`, now+60)),
		"sub a number":         sign(header, fmt.Sprintf(`{"sub":7,"exp":%d}`, now+60)),
		"no sub":               sign(header, fmt.Sprintf(`{"exp":%d}`, now+60)),
		"not yet valid":        sign(header, good(fmt.Sprintf(`,"nbf":%d`, now+100))),
		"nbf text":             sign(header, good(`,"nbf":"0"`)),
		"issued tomorrow":      sign(header, good(fmt.Sprintf(`,"iat":%d`, now+86_400))),
		"aud a number":         sign(header, good(`,"aud":1`)),
		"aud null":             sign(header, good(`,"aud":null`)),
		"iss a number":         sign(header, good(`,"iss":1`)),
		"too large":            sign(header, good(`,"x":"`+strings.Repeat("x", 8192)+`"`)),
		"dots":                 strings.Repeat(".", 100_000),
		"huge":                 strings.Repeat("a", 100<<10) + ".a.a",
		"header padded":        parts[0] + "=." + parts[1] + "." + parts[2],
		"line break":           parts[0] + ".\n" + parts[1] + "." + parts[2],
	} {
		start := time.Now()
		_, err := authenticate(auth, "Bearer "+token)
		require.Error(t, err, name)
		require.Less(t, time.Since(start), time.Second, name)
		if len(token) > 20 {
			require.NotContains(t, err.Error(), token, "tokens are not for logs")
		}
	}
}

// Tokens of other keys' algorithms, and HMACs made with a public key.
func TestAlgorithmsAreNotMixedUp(t *testing.T) {
	auth := newAuth(t, jwtauth.Config{})
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	claims := jwt.MapClaims{"sub": "a@example.com", "exp": time.Now().Add(time.Hour).Unix()}
	for method, key := range map[jwt.SigningMethod]any{
		jwt.SigningMethodRS256: rsaKey, jwt.SigningMethodPS256: rsaKey, jwt.SigningMethodES256: ecKey, jwt.SigningMethodEdDSA: edKey,
		jwt.SigningMethodNone: jwt.UnsafeAllowNoneSignatureType, jwt.SigningMethodHS384: secret,
	} {
		token, err := jwt.NewWithClaims(method, claims).SignedString(key)
		require.NoError(t, err)
		_, err = authenticate(auth, "Bearer "+token)
		require.Error(t, err, method.Alg())
	}
	public, err := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	require.NoError(t, err)
	_, err = jwtauth.New(jwtauth.Config{Secret: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})})
	require.ErrorContains(t, err, "PEM")
}

func TestIssuerAndAudienceCountWhereConfigured(t *testing.T) {
	auth := newAuth(t, jwtauth.Config{Issuer: "login", Audience: "crm"})
	for claims, ok := range map[string]bool{
		`,"iss":"login","aud":"crm"`:          true,
		`,"iss":"login","aud":["shop","crm"]`: true,
		`,"iss":"login","aud":["shop"]`:       false,
		`,"iss":"login","aud":[]`:             false,
		`,"iss":"login","aud":""`:             false,
		`,"iss":"login"`:                      false,
		`,"aud":"crm"`:                        false,
		`,"iss":"Login","aud":"crm"`:          false,
		`,"iss":"","aud":"crm"`:               false,
		``:                                    false,
	} {
		_, err := authenticate(auth, "Bearer "+sign(header, good(claims)))
		require.Equal(t, ok, err == nil, claims)
	}
}

func TestLeewayIsForClocksThatAreApart(t *testing.T) {
	const margin = 5 // seconds that the test itself may take
	for leeway, seconds := range map[time.Duration]int64{0: 30, 10 * time.Second: 10, time.Minute: 60} {
		auth := newAuth(t, jwtauth.Config{Leeway: leeway})
		for _, off := range []int64{1, seconds - margin, seconds + margin} {
			now := time.Now().Unix()
			for name, claims := range map[string]string{
				"exp": fmt.Sprintf(`{"sub":"a@example.com","exp":%d}`, now-off),
				"nbf": good(fmt.Sprintf(`,"nbf":%d`, now+off)),
				"iat": good(fmt.Sprintf(`,"iat":%d`, now+off)),
			} {
				_, err := authenticate(auth, "Bearer "+sign(header, claims))
				require.Equal(t, off < seconds, err == nil, "%s %d seconds off, leeway %s: %v", name, off, leeway, err)
			}
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, config := range []jwtauth.Config{
		{},
		{Secret: secret[:31]},
		{Secret: secret, Leeway: -1},
		{Secret: secret, Leeway: time.Minute + 1},
		{Secret: []byte(strings.Repeat("k", 32))},
		{Secret: make([]byte, 64)},
		{Secret: []byte(strings.Repeat(" \t\n", 20))},
	} {
		_, err := jwtauth.New(config)
		require.Error(t, err)
	}
	_, err := jwtauth.Token(secret[:31], "7", time.Hour)
	require.Error(t, err)
}

func TestSecretIsTakenOver(t *testing.T) {
	own := slices.Clone(secret)
	auth := newAuth(t, jwtauth.Config{Secret: own})
	token, err := jwtauth.Token(own, "7", time.Hour)
	require.NoError(t, err)
	clear(own)
	_, err = authenticate(auth, "Bearer "+token)
	require.NoError(t, err)
}

func TestTokenExpires(t *testing.T) {
	token, err := jwtauth.Token(secret, "7", -31*time.Second)
	require.NoError(t, err)
	_, err = authenticate(newAuth(t, jwtauth.Config{}), "Bearer "+token)
	require.Error(t, err)
}

// requireAgreed reads a token that was let in by a reader of its own, which has to
// come to the same.
func requireAgreed(t *testing.T, header, claims string, identity httpapi.Identity) *jwt.Token {
	t.Helper()
	var said jwt.MapClaims
	token, _, err := jwt.NewParser().ParseUnverified(encode(header)+"."+encode(claims)+".", &said)
	require.NoError(t, err)
	sub, err := said.GetSubject()
	require.NoError(t, err)
	require.NotEqual(t, identity.UserID != 0, identity.Email != "", "one of the two")
	require.Equal(t, sub, cmp.Or(identity.Email, strconv.FormatInt(identity.UserID, 10)))
	expires, err := said.GetExpirationTime()
	require.NoError(t, err)
	require.True(t, expires.After(time.Now().Add(-time.Minute)))
	return token
}

func FuzzToken(f *testing.F) {
	f.Add(header, `{"sub":"a@example.com","exp":4102444800}`)
	f.Add(`{"alg":"HS256","crit":["x"]}`, `{"sub":"7","exp":1e99}`)
	f.Add(`{"alg":"HS256"`, `null`)
	auth, err := jwtauth.New(jwtauth.Config{Secret: secret})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, header, claims string) {
		if identity, err := authenticate(auth, "Bearer "+sign(header, claims)); err == nil {
			require.Equal(t, "HS256", requireAgreed(t, header, claims, identity).Method.Alg())
		}
	})
}
