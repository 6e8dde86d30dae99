// Package jwtauth knows users by a Bearer JWT: the Authorization header of a
// request has a token whose sub is the user's email, when it holds an @, or
// else the user's id.
//
//	auth, err := jwtauth.New(jwtauth.Config{Secret: secret})
//
// That is HS256, where the login and this program share a secret. Where only the
// login can make tokens (RS256, ES256, EdDSA) this program has its public keys, as
// [Config.PublicKeys] or, where it publishes them, by package jwks.
//
// Who gets a token is the login's business, which is the host's; [Token] makes
// one for tests and tools. What a user may do is never read from the token.
package jwtauth

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/golang-jwt/jwt/v5"

	"github.com/cimskit/cims/httpapi"
)

const (
	minSecret     = 32
	defaultLeeway = 30 * time.Second
	maxLeeway     = time.Minute
	maxToken      = 8 << 10
)

// Config says which tokens are good. There has to be a key of some kind; with
// several kinds each is for its own algorithms, which is how to move from one to
// another.
type Config struct {
	// Secret is the key of HS256, at least 32 bytes.
	Secret []byte
	// MoreSecrets are as good as Secret. To change it, add the new one here, have
	// the login use it, and take the old one away when its tokens have expired.
	MoreSecrets [][]byte
	// PublicKeys are those of the login: *rsa.PublicKey of at least 2048 bits for
	// RS256, *ecdsa.PublicKey on P-256 for ES256, ed25519.PublicKey for EdDSA. Each
	// is under the kid that its tokens have, or under "" for tokens that have none.
	// To change a key, add the new one beside it first.
	PublicKeys map[string]crypto.PublicKey
	// KeySource has more of them, that change while the program runs: see package
	// jwks. It is asked for what is not in PublicKeys, by kid.
	KeySource KeySource
	// Issuer is what iss must be; empty for anything, or nothing.
	Issuer string
	// Audience is what aud must have; empty for anything, or nothing. A login that
	// makes tokens for other programs too needs it, or theirs are good here.
	Audience string
	// Leeway is how far the clocks of who issues tokens and who verifies them
	// may be apart: exp, nbf and iat are taken that much less strictly. At most
	// a minute. Default: 30 seconds.
	Leeway time.Duration
}

// Authenticator is an httpapi.Authenticator for tokens. It is safe for
// concurrent use.
type Authenticator struct {
	keys   keyring
	parser *jwt.Parser
}

var _ httpapi.Authenticator = (*Authenticator)(nil)

// New makes an Authenticator. It returns an error where there is no key at all or
// one that is too weak or of the wrong kind, and for a leeway out of bounds.
func New(config Config) (*Authenticator, error) {
	known, err := newKeyring(config)
	if err != nil {
		return nil, err
	}
	if config.Leeway < 0 || config.Leeway > maxLeeway {
		return nil, fmt.Errorf("jwtauth: the leeway must be from 0 to %s", maxLeeway)
	}
	if config.Leeway == 0 {
		config.Leeway = defaultLeeway
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods(known.algorithms()),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithStrictDecoding(),
		jwt.WithLeeway(config.Leeway),
	}
	if config.Issuer != "" {
		options = append(options, jwt.WithIssuer(config.Issuer))
	}
	if config.Audience != "" {
		options = append(options, jwt.WithAudience(config.Audience))
	}
	return &Authenticator{keys: known, parser: jwt.NewParser(options...)}, nil
}

// checkSecret refuses what somebody could guess or has published. A public key
// in PEM as the secret is how RS256 tokens are forged as HS256.
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

// Authenticate reads the Authorization header.
func (a *Authenticator) Authenticate(ctx huma.Context) (httpapi.Identity, error) {
	var sent []string
	ctx.EachHeader(func(name, value string) {
		if strings.EqualFold(name, "Authorization") {
			sent = append(sent, value)
		}
	})
	if len(sent) != 1 {
		return httpapi.Identity{}, fmt.Errorf("jwtauth: %d Authorization headers", len(sent))
	}
	scheme, token, _ := strings.Cut(sent[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return httpapi.Identity{}, errors.New("jwtauth: no Bearer token")
	}
	return a.identify(token)
}

// identify checks a token and says whose it is.
func (a *Authenticator) identify(text string) (httpapi.Identity, error) {
	if len(text) > maxToken {
		return httpapi.Identity{}, errors.New("jwtauth: the token is too large")
	}
	if err := checkHeader(text); err != nil {
		return httpapi.Identity{}, err
	}
	var said claims
	if _, err := a.parser.ParseWithClaims(text, &said, a.keys.find); err != nil {
		return httpapi.Identity{}, fmt.Errorf("jwtauth: %w", err)
	}
	if strings.Contains(said.Subject, "@") {
		return httpapi.Identity{Email: said.Subject}, nil
	}
	id, err := strconv.ParseInt(said.Subject, 10, 64)
	if err != nil || id <= 0 || strconv.FormatInt(id, 10) != said.Subject {
		return httpapi.Identity{}, errors.New("jwtauth: sub is neither an email nor an id")
	}
	return httpapi.Identity{UserID: id}, nil
}

// Token makes a token for sub, a user's email or id, that is good for ttl.
func Token(secret []byte, sub string, ttl time.Duration) (string, error) {
	if err := checkSecret(secret); err != nil {
		return "", err
	}
	now := time.Now()
	return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Subject:   sub,
		IssuedAt:  jwt.NewNumericDate(now),
		ExpiresAt: jwt.NewNumericDate(now.Add(ttl)),
	}).SignedString(secret)
}
