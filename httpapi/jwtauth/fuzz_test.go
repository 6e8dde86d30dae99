package jwtauth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims/httpapi/jwtauth"
	"github.com/cimskit/cims/internal/authtest"
)

// FuzzToken signs any header and claims with a key of any kind, or puts any
// signature under them: whatever is accepted was signed by us, for the algorithm
// of the key that it names, has not expired, and says who it is for.
func FuzzToken(f *testing.F) {
	signers := append(authtest.Asymmetric(), authtest.New(jwt.SigningMethodHS256))
	public := map[string]crypto.PublicKey{}
	for _, s := range signers[:3] {
		public[s.Alg()] = s.Public
	}
	auth, err := jwtauth.New(jwtauth.Config{Secret: authtest.Secret, PublicKeys: public})
	require.NoError(f, err)
	for i, s := range signers {
		f.Add(byte(i), s.Header(s.Alg(), ""), `{"sub":"a@example.com","exp":4102444800}`, "")
	}
	f.Fuzz(func(t *testing.T, by byte, header, claims, signature string) {
		token := authtest.Encode(header) + "." + authtest.Encode(claims) + "." + signature
		if signature == "" {
			token = signers[int(by)%len(signers)].Sign(header, claims)
		}
		identity, err := authenticate(auth, "Bearer "+token)
		if err != nil {
			return
		}
		require.True(t, signedByUs(t, public, token), token)
		require.NotEqual(t, identity.UserID != 0, identity.Email != "", "one of the two")
		said := struct {
			Sub string  `json:"sub"`
			Exp float64 `json:"exp"`
		}{}
		require.NoError(t, json.Unmarshal([]byte(claims), &said))
		require.Greater(t, said.Exp, float64(time.Now().Unix()-31))
		if identity.UserID != 0 {
			require.Equal(t, said.Sub, strconv.FormatInt(identity.UserID, 10))
		} else {
			require.Equal(t, said.Sub, identity.Email)
		}
	})
}

// signedByUs verifies a signature by the standard library alone.
func signedByUs(t *testing.T, keys map[string]crypto.PublicKey, token string) bool {
	t.Helper()
	parts := strings.Split(token, ".")
	require.Len(t, parts, 3)
	header, err := base64.RawURLEncoding.DecodeString(parts[0])
	require.NoError(t, err)
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	require.NoError(t, err)
	said := struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
	}{}
	require.NoError(t, json.Unmarshal(header, &said))
	text := []byte(parts[0] + "." + parts[1])
	sum := sha256.Sum256(text)
	if said.Alg == "HS256" {
		mac := hmac.New(sha256.New, authtest.Secret)
		mac.Write(text)
		return hmac.Equal(mac.Sum(nil), signature)
	}
	require.Equal(t, said.Alg, said.Kid, "the algorithm is the key's")
	switch key := keys[said.Kid].(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature) == nil
	case *ecdsa.PublicKey:
		return len(signature) == 64 && ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
	case ed25519.PublicKey:
		return ed25519.Verify(key, text, signature)
	default:
		return false
	}
}
