package jwtauth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims/httpapi"
	"github.com/cimskit/cims/httpapi/jwtauth"
)

// pair is a key with what it signs by.
type pair struct {
	method  jwt.SigningMethod
	private crypto.Signer
}

// pairs are one of each kind, by their ids.
var pairs = func() map[string]pair {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return map[string]pair{
		"rsa": {jwt.SigningMethodRS256, rsaKey}, "ec": {jwt.SigningMethodES256, ecKey}, "ed": {jwt.SigningMethodEdDSA, edKey},
	}
}()

// publicKeys are those of all pairs.
func publicKeys() jwtauth.PublicKeys {
	keys := jwtauth.PublicKeys{}
	for id, pair := range pairs {
		keys[id] = pair.private.Public()
	}
	return keys
}

// signed signs whatever it is given by a key of a pair.
func (p pair) signed(t testing.TB, header, claims string) string {
	t.Helper()
	text := encode(header) + "." + encode(claims)
	signature, err := p.method.Sign(text, p.private)
	require.NoError(t, err)
	return text + "." + encode(string(signature))
}

func (p pair) header(id string) string { return `{"alg":"` + p.method.Alg() + `","kid":"` + id + `"}` }

func TestPublicKeys(t *testing.T) {
	auth, err := jwtauth.New(jwtauth.Config{Keys: publicKeys()})
	require.NoError(t, err)
	for id, key := range pairs {
		identity, err := authenticate(auth, "Bearer "+key.signed(t, key.header(id), good("")))
		require.NoError(t, err, id)
		require.Equal(t, httpapi.Identity{Email: "a@example.com"}, identity)
		parts := strings.Split(key.signed(t, key.header(id), good("")), ".")
		for other := range pairs {
			if other == id {
				continue
			}
			for name, token := range map[string]string{
				"another's id":        key.signed(t, key.header(other), good("")),
				"another's algorithm": key.signed(t, pairs[other].header(id), good("")),
				"another's signature": parts[0] + "." + parts[1] + "." + strings.Split(pairs[other].signed(t, key.header(id), good("")), ".")[2],
			} {
				_, err := authenticate(auth, "Bearer "+token)
				require.Error(t, err, "%s for %s: %s", other, id, name)
			}
		}
		der, err := x509.MarshalPKIXPublicKey(key.private.Public())
		require.NoError(t, err)
		for name, token := range map[string]string{
			"unknown id":               key.signed(t, key.header("other"), good("")),
			"no id":                    key.signed(t, `{"alg":"`+key.method.Alg()+`"}`, good("")),
			"none":                     encode(`{"alg":"none","kid":"`+id+`"}`) + "." + parts[1] + ".",
			"signature stripped":       parts[0] + "." + parts[1] + ".",
			"HMAC with the public key": signWith(newSHA256, der, `{"alg":"HS256","kid":"`+id+`"}`, good("")),
			"jwk of one's own":         key.signed(t, `{"alg":"`+key.method.Alg()+`","kid":"`+id+`","jwk":{}}`, good("")),
			"jku":                      key.signed(t, `{"alg":"`+key.method.Alg()+`","kid":"`+id+`","jku":"https://evil.example"}`, good("")),
			"crit":                     key.signed(t, `{"alg":"`+key.method.Alg()+`","kid":"`+id+`","crit":["x"]}`, good("")),
			"id a path":                key.signed(t, key.header("../"+id), good("")),
			"expired":                  key.signed(t, key.header(id), `{"sub":"a@example.com","exp":1}`),
			"exp missing":              key.signed(t, key.header(id), `{"sub":"a@example.com"}`),
			"EXP":                      key.signed(t, key.header(id), good(`,"EXP":1`)),
		} {
			_, err := authenticate(auth, "Bearer "+token)
			require.Error(t, err, "%s: %s", id, name)
		}
	}
}

func TestATokenWithoutAnIDNeedsTheKeyWithoutOne(t *testing.T) {
	key := pairs["ed"]
	auth, err := jwtauth.New(jwtauth.Config{Keys: jwtauth.PublicKeys{"": key.private.Public()}})
	require.NoError(t, err)
	_, err = authenticate(auth, "Bearer "+key.signed(t, `{"alg":"EdDSA"}`, good("")))
	require.NoError(t, err)
	_, err = authenticate(auth, "Bearer "+key.signed(t, key.header("ed"), good("")))
	require.Error(t, err)
}

func TestKeysAreTakenOverAndChecked(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // to be refused
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	for name, config := range map[string]jwtauth.Config{
		"no keys":               {Keys: jwtauth.PublicKeys{}},
		"a short RSA key":       {Keys: jwtauth.PublicKeys{"k": weak.Public()}},
		"another curve":         {Keys: jwtauth.PublicKeys{"k": p384.Public()}},
		"a private key":         {Keys: jwtauth.PublicKeys{"k": pairs["rsa"].private}},
		"a secret":              {Keys: jwtauth.PublicKeys{"k": secret}},
		"a key cut off":         {Keys: jwtauth.PublicKeys{"k": ed25519.PublicKey("short")}},
		"nil":                   {Keys: jwtauth.PublicKeys{"k": nil}},
		"nil, but of a type":    {Keys: jwtauth.PublicKeys{"k": (*rsa.PublicKey)(nil)}},
		"an id that can't be":   {Keys: jwtauth.PublicKeys{"a/b": pairs["ed"].private.Public()}},
		"keys and a secret":     {Keys: publicKeys(), Secret: secret},
		"keys and old secrets":  {Keys: publicKeys(), OldSecrets: [][]byte{secret}},
		"old secrets alone":     {OldSecrets: [][]byte{secret}},
		"a bad one among those": {Secret: secret, OldSecrets: [][]byte{secret[:31]}},
	} {
		_, err := jwtauth.New(config)
		require.Error(t, err, name)
	}
	keys := publicKeys()
	auth, err := jwtauth.New(jwtauth.Config{Keys: keys})
	require.NoError(t, err)
	clear(keys)
	_, err = authenticate(auth, "Bearer "+pairs["ed"].signed(t, pairs["ed"].header("ed"), good("")))
	require.NoError(t, err)
}

func TestOldSecretsAreGoodUntilTheyAreTakenAway(t *testing.T) {
	newer := []byte(strings.Repeat("new secret ", 4))
	old, fresh := sign(header, good("")), signWith(newSHA256, newer, header, good(""))
	both := newAuth(t, jwtauth.Config{Secret: newer, OldSecrets: [][]byte{secret}})
	for _, token := range []string{old, fresh} {
		_, err := authenticate(both, "Bearer "+token)
		require.NoError(t, err)
	}
	_, err := authenticate(both, "Bearer "+signWith(newSHA256, []byte(strings.Repeat("another one ", 4)), header, good("")))
	require.Error(t, err)
	_, err = authenticate(newAuth(t, jwtauth.Config{Secret: newer}), "Bearer "+old)
	require.Error(t, err)
}

func FuzzSignedToken(f *testing.F) {
	for id, key := range pairs {
		f.Add(id, key.header(id), `{"sub":"a@example.com","exp":4102444800}`)
	}
	f.Add("ec", `{"alg":"RS256","kid":"ec"}`, `{"sub":"7","exp":4102444800}`)
	f.Add("rsa", `{"alg":"HS256","kid":"rsa"}`, `{"sub":"7","exp":4102444800,"aud":["crm"]}`)
	auth, err := jwtauth.New(jwtauth.Config{Keys: publicKeys()})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, by, header, claims string) {
		key, known := pairs[by]
		if !known {
			return
		}
		if identity, err := authenticate(auth, "Bearer "+key.signed(t, header, claims)); err == nil {
			token := requireAgreed(t, header, claims, identity)
			require.Equal(t, key.method.Alg(), token.Method.Alg())
			require.Equal(t, by, token.Header["kid"])
		}
	})
}
