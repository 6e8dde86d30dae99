package jwtauth

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

// KeySource has the public keys of whoever signs tokens. It is safe for concurrent
// use, and may be asked for whatever a stranger sends.
type KeySource interface {
	// Key returns the key of this id, the kid of a token, for an algorithm: an
	// *rsa.PublicKey of at least 2048 bits for RS256, an *ecdsa.PublicKey on P-256
	// for ES256, or an ed25519.PublicKey for EdDSA. A key of another kind is refused
	// by whoever asks. The id is empty for a token without one, else of up to 128
	// letters, digits, ".", "_" and "-". An error means that there is no such key;
	// one that wraps cims.ErrUnavailable, that nobody can tell at present, which is
	// answered with 503.
	Key(ctx context.Context, id, algorithm string) (crypto.PublicKey, error)
}

// PublicKeys are keys by their ids. A key under the empty id is for tokens without
// one. To change a key, add the new one before the login signs with it, and take
// the old one away when its last token has expired.
type PublicKeys map[string]crypto.PublicKey

var errNoKey = errors.New("there is no such key")

// Key implements KeySource.
func (p PublicKeys) Key(_ context.Context, id, _ string) (crypto.PublicKey, error) {
	key, found := p[id]
	if !found {
		return nil, errNoKey
	}
	return key, nil
}

// keys finds the key that a token has to be signed with.
type keys interface {
	// algorithms lists what the keys are for; no other is accepted.
	algorithms() []string
	// find returns the key for a token whose signature has yet to be checked.
	find(ctx context.Context, token *jwt.Token) (any, error)
}

// keys are those of one kind: a public key that could also serve as a secret is
// how RS256 tokens are forged as HS256.
func (c Config) keys() (keys, error) {
	secrets := slices.Clone(c.OldSecrets)
	if c.Keys == nil || c.Secret != nil {
		secrets = append([][]byte{c.Secret}, secrets...)
	}
	if c.Keys != nil {
		if len(secrets) > 0 {
			return nil, errors.New("jwtauth: there are Keys and secrets: which is it to be?")
		}
		if known, ok := c.Keys.(PublicKeys); ok {
			return known.source()
		}
		return public{c.Keys}, nil
	}
	var all hmacKeys
	for _, secret := range secrets {
		if err := checkSecret(secret); err != nil {
			return nil, err
		}
		all.Keys = append(all.Keys, slices.Clone(secret))
	}
	return all, nil
}

const minSecret = 32

// checkSecret refuses what somebody could guess or has published.
func checkSecret(secret []byte) error {
	switch {
	case len(secret) < minSecret:
		return fmt.Errorf("jwtauth: the secret must have at least %d bytes", minSecret)
	case bytes.Contains(secret, []byte("-----BEGIN ")):
		return errors.New("jwtauth: the secret is a PEM file, which is no secret for HS256")
	case bytes.Count(secret, secret[:1]) == len(secret):
		return errors.New("jwtauth: the secret is one byte repeated")
	case len(bytes.TrimSpace(secret)) == 0:
		return errors.New("jwtauth: the secret is white space only")
	}
	return nil
}

// hmacKeys are the keys of HS256.
type hmacKeys jwt.VerificationKeySet

func (hmacKeys) algorithms() []string { return []string{jwt.SigningMethodHS256.Alg()} }

func (k hmacKeys) find(context.Context, *jwt.Token) (any, error) {
	return jwt.VerificationKeySet(k), nil
}

// source takes over keys that are all good.
func (p PublicKeys) source() (keys, error) {
	if len(p) == 0 {
		return nil, errors.New("jwtauth: there are no Keys")
	}
	own := PublicKeys{}
	for id, key := range p {
		if id != "" && !validKeyID(id) {
			return nil, fmt.Errorf("jwtauth: %q can't be the id of a key", id)
		}
		if _, err := algorithm(key); err != nil {
			return nil, fmt.Errorf("jwtauth: key %q: %w", id, err)
		}
		own[id] = key
	}
	return public{own}, nil
}

// public are keys of others, each of which is for one algorithm.
type public struct{ source KeySource }

func (public) algorithms() []string {
	return []string{jwt.SigningMethodRS256.Alg(), jwt.SigningMethodES256.Alg(), jwt.SigningMethodEdDSA.Alg()}
}

func (p public) find(ctx context.Context, token *jwt.Token) (any, error) {
	id, _ := token.Header["kid"].(string) // checkHeader has seen it
	key, err := p.source.Key(ctx, id, token.Method.Alg())
	if err != nil {
		return nil, err
	}
	made, err := algorithm(key)
	if err != nil {
		return nil, err
	}
	if made != token.Method.Alg() {
		return nil, fmt.Errorf("the key is one for %s", made)
	}
	return key, nil
}

const (
	minRSA = 2048 // bits; RFC 7518, section 3.3
	maxRSA = 8192 // larger ones only cost time
)

// algorithm is the one that a key is for.
func algorithm(key crypto.PublicKey) (string, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if key == nil || key.N == nil || key.N.BitLen() < minRSA || key.N.BitLen() > maxRSA {
			return "", fmt.Errorf("an RSA key must have %d to %d bits", minRSA, maxRSA)
		}
		return jwt.SigningMethodRS256.Alg(), nil
	case *ecdsa.PublicKey:
		if key == nil || key.Curve != elliptic.P256() {
			return "", errors.New("an ECDSA key must be on P-256")
		}
		return jwt.SigningMethodES256.Alg(), nil
	case ed25519.PublicKey:
		if len(key) != ed25519.PublicKeySize {
			return "", errors.New("the Ed25519 key is cut off")
		}
		return jwt.SigningMethodEdDSA.Alg(), nil
	default:
		return "", fmt.Errorf("a %T is no public key for RS256, ES256 or EdDSA", key)
	}
}
