package jwtauth_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/golang-jwt/jwt/v5"

	"github.com/cimskit/cims/httpapi/jwtauth"
)

// The login and this program share a secret, which is being changed: the login uses
// the old one still, or the new one already.
func ExampleNew_secrets() {
	before, after := []byte("the secret of thirty-two bytes, until June"), []byte("the secret of thirty-two bytes, since June")
	auth := must(jwtauth.New(jwtauth.Config{Secret: before, MoreSecrets: [][]byte{after}}))

	fmt.Println(whoIs(auth, must(jwtauth.Token(before, "7", time.Hour))))
	fmt.Println(whoIs(auth, must(jwtauth.Token(after, "7", time.Hour))))
	fmt.Println(whoIs(auth, must(jwtauth.Token([]byte("the secret of thirty-two bytes, as guessed"), "7", time.Hour))))
	// Output:
	// user 7
	// user 7
	// nobody
}

// The login alone can make tokens; this program has its public key.
func ExampleNew_publicKeys() {
	file, login := exampleKey()
	block, _ := pem.Decode(file)
	key := must(x509.ParsePKIXPublicKey(block.Bytes))
	auth := must(jwtauth.New(jwtauth.Config{
		PublicKeys: map[string]crypto.PublicKey{"2026-06": key},
		Issuer:     "https://login.example.com",
		Audience:   "crm",
	}))

	fmt.Println(whoIs(auth, login("2026-06", "crm")))
	fmt.Println("for another program:", whoIs(auth, login("2026-06", "shop")))
	fmt.Println("of another key:", whoIs(auth, login("2025-06", "crm")))
	// Output:
	// user 7
	// for another program: nobody
	// of another key: nobody
}

// exampleKey is the PEM file of a public key, and the login that signs with it.
func exampleKey() (file []byte, login func(kid, audience string) string) {
	public, private, err := ed25519.GenerateKey(nil)
	der := must(x509.MarshalPKIXPublicKey(public))
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(der, err)}), func(kid, audience string) string {
		token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
			"sub": "7", "iss": "https://login.example.com", "aud": audience, "exp": time.Now().Add(time.Hour).Unix(),
		})
		token.Header["kid"] = kid
		return must(token.SignedString(private))
	}
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
