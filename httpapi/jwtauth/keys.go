package jwtauth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

// KeySource provides public keys that may change while the program runs. Package jwks has
// one. It is called for each token before the signature is verified, so anybody can cause
// calls. It must be safe for concurrent use.
type KeySource interface {
	// PublicKey returns the key with this id, without waiting for a fetch. If no keys are
	// known yet, the error wraps cims.ErrUnavailable, and the answer to the request is 503
	// instead of 401.
	PublicKey(kid string) (crypto.PublicKey, error)
}

var (
	hs256 = jwt.SigningMethodHS256.Alg()
	rs256 = jwt.SigningMethodRS256.Alg()
	es256 = jwt.SigningMethodES256.Alg()
	eddsa = jwt.SigningMethodEdDSA.Alg()
)

const minRSA, maxRSA = 2048, 8192 // bits

// Algorithm returns the one algorithm of a public key: RS256, ES256 or EdDSA. It
// returns an error for a key that is weak, malformed, or of another kind.
func Algorithm(key crypto.PublicKey) (string, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		switch {
		case key == nil || key.N == nil:
			return "", errors.New("jwtauth: the RSA key is nil")
		case key.N.BitLen() < minRSA || key.N.BitLen() > maxRSA:
			return "", fmt.Errorf("jwtauth: an RSA key must have from %d to %d bits", minRSA, maxRSA)
		case key.E < 3 || key.E%2 == 0:
			return "", errors.New("jwtauth: the RSA key's exponent must be odd and at least 3")
		}
		return rs256, nil
	case *ecdsa.PublicKey:
		if key == nil || key.Curve != elliptic.P256() || key.X == nil || key.Y == nil { //nolint:staticcheck // Bytes panics where they are nil
			return "", errors.New("jwtauth: an ECDSA key must be on P-256")
		}
		if _, err := key.Bytes(); err != nil {
			return "", fmt.Errorf("jwtauth: the ECDSA key: %w", err)
		}
		return es256, nil
	case ed25519.PublicKey:
		// All zeros is a valid point, for which anybody can forge signatures.
		if len(key) != ed25519.PublicKeySize || bytes.Count(key, []byte{0}) == len(key) {
			return "", errors.New("jwtauth: the Ed25519 key is malformed")
		}
		return eddsa, nil
	default:
		return "", fmt.Errorf("jwtauth: %T is no public key of RSA, ECDSA or Ed25519", key)
	}
}

// keyring holds all keys for verifying tokens. A secret only serves HS256, and a public key
// only serves the algorithm of its kind, so that no key is used with another algorithm.
type keyring struct {
	secrets jwt.VerificationKeySet
	public  map[string]crypto.PublicKey
	source  KeySource
}

func newKeyring(config Config) (keyring, error) {
	k := keyring{public: maps.Clone(config.PublicKeys), source: config.KeySource}
	if config.Secret != nil {
		config.MoreSecrets = append([][]byte{config.Secret}, config.MoreSecrets...)
	}
	for _, secret := range config.MoreSecrets {
		if err := checkSecret(secret); err != nil {
			return keyring{}, err
		}
		k.secrets.Keys = append(k.secrets.Keys, slices.Clone(secret))
	}
	for kid, key := range k.public {
		if kid != "" && !validKeyID(kid) {
			return keyring{}, fmt.Errorf("jwtauth: no token can have the kid %q", kid)
		}
		if _, err := Algorithm(key); err != nil {
			return keyring{}, fmt.Errorf("%w (kid %q)", err, kid)
		}
	}
	if len(k.algorithms()) == 0 {
		return keyring{}, errors.New("jwtauth: a Secret, PublicKeys or a KeySource is needed")
	}
	return k, nil
}

// algorithms lists the algorithms that may have a key. No other is accepted.
func (k keyring) algorithms() []string {
	var names []string
	if len(k.secrets.Keys) > 0 {
		names = append(names, hs256)
	}
	if len(k.public) > 0 || k.source != nil {
		names = append(names, rs256, es256, eddsa)
	}
	return names
}

// find returns the key or the secrets that verify a token.
func (k keyring) find(token *jwt.Token) (any, error) {
	if token.Method.Alg() == hs256 {
		return k.secrets, nil
	}
	kid, _ := token.Header["kid"].(string)
	key, err := k.publicKey(kid)
	if err != nil {
		return nil, err
	}
	algorithm, err := Algorithm(key)
	if err != nil {
		return nil, err
	}
	if algorithm != token.Method.Alg() {
		return nil, fmt.Errorf("the key is for %s", algorithm)
	}
	return key, nil
}

func (k keyring) publicKey(kid string) (crypto.PublicKey, error) {
	if key, ok := k.public[kid]; ok {
		return key, nil
	}
	if k.source == nil || kid == "" {
		return nil, errors.New("unknown kid")
	}
	return k.source.PublicKey(kid)
}
