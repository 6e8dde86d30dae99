package jwtauth_test

import (
	"bytes"
	"context"
	"crypto"
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
	"errors"
	"fmt"
	"hash"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi"
	"github.com/cimskit/cims/httpapi/jwtauth"
	"github.com/cimskit/cims/internal/authtest"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

const header = `{"alg":"HS256","typ":"JWT"}`

func encode(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func signWith(newHash func() hash.Hash, key []byte, header, claims string) string {
	signed := encode(header) + "." + encode(claims)
	mac := hmac.New(newHash, key)
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// sign signs a text, well-formed or not.
func sign(header, claims string) string { return signWith(sha256.New, secret, header, claims) }

// good are claims that nothing is wrong with, and more.
func good(more string) string {
	return fmt.Sprintf(`{"sub":"a@example.com","exp":%d%s}`, time.Now().Add(time.Hour).Unix(), more)
}

func newAuth(t *testing.T, config jwtauth.Config) *jwtauth.Authenticator {
	t.Helper()
	if config.Secret == nil && config.PublicKeys == nil && config.KeySource == nil {
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
		"kid in base64":    sign(`{"alg":"HS256","kid":"+a/b=="}`, good("")),
		"kid a URN":        sign(`{"alg":"HS256","kid":"urn:ietf:params:oauth:jwk-thumbprint:sha-256:x_-"}`, good("")),
		"thumbprints":      sign(`{"alg":"HS256","x5t":"eA","x5t#S256":"eA"}`, good("")),
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
		"other secret":         signWith(sha256.New, []byte(strings.Repeat("x", 32)), header, good("")),
		"empty secret":         signWith(sha256.New, nil, header, good("")),
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
		"x5c":                  sign(`{"alg":"HS256","x5c":["eA=="]}`, good("")),
		"kid a path":           sign(`{"alg":"HS256","kid":"../../dev/null"}`, good("")),
		"kid empty":            sign(`{"alg":"HS256","kid":""}`, good("")),
		"kid long":             sign(`{"alg":"HS256","kid":"`+strings.Repeat("k", 129)+`"}`, good("")),
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
		{Secret: secret, MoreSecrets: [][]byte{secret[:31]}},
		{Secret: secret, MoreSecrets: [][]byte{nil}},
		{Secret: []byte{}, MoreSecrets: [][]byte{secret}},
		{Secret: []byte{}, PublicKeys: map[string]crypto.PublicKey{"1": authtest.New(jwt.SigningMethodEdDSA).Public}},
		{PublicKeys: map[string]crypto.PublicKey{}},
		{PublicKeys: map[string]crypto.PublicKey{"../1": authtest.New(jwt.SigningMethodEdDSA).Public}},
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

// During a change of a secret or key, both the old and the new one are accepted.
func TestSecretsAndKeysRotate(t *testing.T) {
	before, after := bytes.Repeat([]byte("before"), 6), bytes.Repeat([]byte("after!"), 6)
	old, err := jwtauth.Token(before, "7", time.Hour)
	require.NoError(t, err)
	young, err := jwtauth.Token(after, "7", time.Hour)
	require.NoError(t, err)
	for _, step := range []struct {
		config   jwtauth.Config
		old, new bool
	}{
		{jwtauth.Config{Secret: before}, true, false},
		{jwtauth.Config{Secret: before, MoreSecrets: [][]byte{after}}, true, true},
		{jwtauth.Config{Secret: after, MoreSecrets: [][]byte{before}}, true, true},
		{jwtauth.Config{MoreSecrets: [][]byte{before, after}}, true, true},
		{jwtauth.Config{Secret: after}, false, true},
	} {
		auth, err := jwtauth.New(step.config)
		require.NoError(t, err)
		_, err = authenticate(auth, "Bearer "+old)
		require.Equal(t, step.old, err == nil)
		_, err = authenticate(auth, "Bearer "+young)
		require.Equal(t, step.new, err == nil)
	}

	first, second := authtest.New(jwt.SigningMethodEdDSA), authtest.New(jwt.SigningMethodEdDSA)
	both := newAuth(t, jwtauth.Config{PublicKeys: map[string]crypto.PublicKey{"1": first.Public, "2": second.Public}})
	for token, good := range map[string]bool{first.Token("1"): true, second.Token("2"): true, first.Token("2"): false, second.Token(""): false} {
		_, err := authenticate(both, "Bearer "+token)
		require.Equal(t, good, err == nil)
	}
}

// A login whose tokens have no kid has one key, under none.
func TestTokensWithoutAKid(t *testing.T) {
	for _, signer := range authtest.Asymmetric() {
		auth := newAuth(t, jwtauth.Config{PublicKeys: map[string]crypto.PublicKey{"": signer.Public}})
		_, err := authenticate(auth, "Bearer "+signer.Token(""))
		require.NoError(t, err)
		_, err = authenticate(auth, "Bearer "+signer.Token("1"))
		require.Error(t, err, "a kid that nobody has")
	}
}

// source is a KeySource of one key, or of an error.
type source struct {
	key crypto.PublicKey
	err error
}

func (s source) PublicKey(string) (crypto.PublicKey, error) { return s.key, s.err }

// Keys that are too weak count for nothing, also from a source of keys, and that it
// has none yet is not the client's fault.
func TestKeySource(t *testing.T) {
	signer := authtest.New(jwt.SigningMethodEdDSA)
	ask := func(s source, static map[string]crypto.PublicKey, kid string) error {
		_, err := authenticate(newAuth(t, jwtauth.Config{KeySource: s, PublicKeys: static}), "Bearer "+signer.Token(kid))
		return err
	}
	require.NoError(t, ask(source{key: signer.Public}, nil, "1"))
	require.Error(t, ask(source{key: signer.Public}, nil, ""), "it is asked for what has a kid only")
	require.Error(t, ask(source{}, nil, "1"))
	require.Error(t, ask(source{key: signer.Key}, nil, "1"), "a private key")
	none := source{err: fmt.Errorf("none yet: %w", cims.ErrUnavailable)}
	require.ErrorIs(t, ask(none, nil, "1"), cims.ErrUnavailable)
	require.NoError(t, ask(none, map[string]crypto.PublicKey{"1": signer.Public}, "1"), "who has a key need not ask")
	_, err := authenticate(newAuth(t, jwtauth.Config{KeySource: none}), "Bearer garbage")
	require.NotErrorIs(t, err, cims.ErrUnavailable)
}

func TestAlgorithmIsTheKeys(t *testing.T) {
	for _, signer := range authtest.Asymmetric() {
		algorithm, err := jwtauth.Algorithm(signer.Public)
		require.NoError(t, err)
		require.Equal(t, signer.Alg(), algorithm)
		_, err = jwtauth.Algorithm(signer.Key)
		require.ErrorContains(t, err, "no public key", "it is the private one")
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // it is to be refused
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	modulus := authtest.New(jwt.SigningMethodRS256).Public.(*rsa.PublicKey).N
	for name, key := range map[string]crypto.PublicKey{
		"nil": nil, "a secret": secret, "PEM": "-----BEGIN PUBLIC KEY-----",
		"RSA, nil": (*rsa.PublicKey)(nil), "RSA, empty": &rsa.PublicKey{}, "RSA, a value": weak.PublicKey, "RSA, 1024": &weak.PublicKey,
		"RSA, 16000":  &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 16_000), E: 65537},
		"RSA, e of 1": &rsa.PublicKey{N: modulus, E: 1}, "RSA, e even": &rsa.PublicKey{N: modulus, E: 4},
		"ECDSA, nil": (*ecdsa.PublicKey)(nil), "ECDSA, empty": &ecdsa.PublicKey{}, "ECDSA, P-384": &p384.PublicKey,
		"ECDSA, nowhere":       &ecdsa.PublicKey{Curve: elliptic.P256()},
		"ECDSA, off the curve": &ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)}, //nolint:staticcheck // malformed on purpose
		"Ed25519, nil":         ed25519.PublicKey(nil), "Ed25519, short": make(ed25519.PublicKey, 31), "Ed25519, zeros": make(ed25519.PublicKey, 32),
	} {
		_, err := jwtauth.Algorithm(key)
		require.Error(t, err, name)
		_, err = jwtauth.New(jwtauth.Config{Secret: secret, PublicKeys: map[string]crypto.PublicKey{"1": key}})
		require.Error(t, err, name)
	}
}

func TestTokenExpires(t *testing.T) {
	token, err := jwtauth.Token(secret, "7", -31*time.Second)
	require.NoError(t, err)
	_, err = authenticate(newAuth(t, jwtauth.Config{}), "Bearer "+token)
	require.Error(t, err)
}

// TestLookup checks that a host says whose a sub is, and that nothing else does then.
func TestLookup(t *testing.T) {
	const uuid = "0198c0de-5f3a-7e11-9d5b-3f1f6a2b4c55"
	auth := newAuth(t, jwtauth.Config{Secret: secret, Lookup: func(ctx context.Context, subject string) (httpapi.Identity, error) {
		require.NoError(t, ctx.Err())
		switch subject {
		case uuid:
			return httpapi.Identity{UserID: 7}, nil
		case "down":
			return httpapi.Identity{}, fmt.Errorf("directory: %w", cims.ErrUnavailable)
		default:
			return httpapi.Identity{}, errors.New("no such person")
		}
	}})
	token := func(subject string) string {
		text, err := jwtauth.Token(secret, subject, time.Hour)
		require.NoError(t, err)
		return "Bearer " + text
	}
	identity, err := authenticate(auth, token(uuid))
	require.NoError(t, err)
	require.Equal(t, httpapi.Identity{UserID: 7}, identity)
	_, err = authenticate(auth, token("down"))
	require.ErrorIs(t, err, cims.ErrUnavailable)
	for _, subject := range []string{"7", "a@example.com"} {
		_, err = authenticate(auth, token(subject))
		require.ErrorContains(t, err, "no such person")
	}
	_, err = authenticate(auth, token(""))
	require.ErrorContains(t, err, "no sub", "nobody is asked")
}
