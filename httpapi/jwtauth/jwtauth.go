// Package jwtauth identifies users by a Bearer JWT in the Authorization header. The sub of
// the token is the user's email if it contains an @, and the user's id otherwise, unless
// [Config.Lookup] says who it is.
//
//	auth, err := jwtauth.New(jwtauth.Config{Secret: secret})
//
// This uses HS256, where the login and this program share a secret. With RS256, ES256 and
// EdDSA only the login can issue tokens, and this program needs the login's public keys. Set
// them in [Config.PublicKeys], or use package jwks if the login publishes them.
//
// The host's login issues the tokens. [Token] issues tokens for tests and tools. A user's
// permissions are never read from the token.
package jwtauth

import (
	"bytes"
	"context"
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

// Config defines which tokens are valid. It needs a key of at least one kind. It may have
// keys of several kinds, so that a login can move from one algorithm to another.
type Config struct {
	// Secret is the key of HS256, at least 32 bytes.
	Secret []byte
	// MoreSecrets are accepted like Secret. To change the secret, add the new one
	// here, let the login use it, and remove the old one once its tokens expired.
	MoreSecrets [][]byte
	// PublicKeys holds the login's keys: *rsa.PublicKey of at least 2048 bits for
	// RS256, *ecdsa.PublicKey on P-256 for ES256, ed25519.PublicKey for EdDSA. The
	// map's keys are the kids of the tokens, "" for tokens without one. To change a
	// key, add the new one beside it first.
	PublicKeys map[string]crypto.PublicKey
	// KeySource provides further public keys, which may change while the program runs:
	// see package jwks. It serves the kids that are not in PublicKeys.
	KeySource KeySource
	// Issuer is the required iss. Empty accepts any, and none.
	Issuer string
	// Audience is a required entry of aud. Empty accepts any, and none. Set it if the
	// login also issues tokens for other programs, which would be valid here otherwise.
	Audience string
	// Leeway is the allowed difference between the clocks of the login and this program
	// in the checks of exp, nbf and iat. It is at most a minute. Default: 30 seconds.
	Leeway time.Duration
	// Lookup, if set, returns the user of each verified token by its sub, for a login whose
	// subs are neither emails nor user ids, such as UUIDs. An error is answered with 401, or
	// with 503 if it wraps cims.ErrUnavailable. It is called for each request and must be
	// safe for concurrent use. By default a sub with an @ is an email, and any other an id.
	Lookup func(ctx context.Context, subject string) (httpapi.Identity, error)
}

// Authenticator is an httpapi.Authenticator that verifies tokens. It is safe for
// concurrent use.
type Authenticator struct {
	keys   keyring
	parser *jwt.Parser
	lookup func(ctx context.Context, subject string) (httpapi.Identity, error)
}

var _ httpapi.Authenticator = (*Authenticator)(nil)

// New returns an Authenticator. It returns an error if there is no key, if a key is weak or
// of the wrong kind, and if the leeway is out of range.
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
	if config.Lookup == nil {
		config.Lookup = emailOrID
	}
	return &Authenticator{keys: known, parser: jwt.NewParser(options...), lookup: config.Lookup}, nil
}

// checkSecret refuses secrets that are easy to guess, and public keys in PEM: with
// such a key as the secret, anybody could forge RS256 tokens as HS256 ones.
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

// Authenticate returns the user of the token in the Authorization header.
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
	return a.identify(ctx.Context(), token)
}

// identify verifies a token and returns its user.
func (a *Authenticator) identify(ctx context.Context, text string) (httpapi.Identity, error) {
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
	if said.Subject == "" {
		return httpapi.Identity{}, errors.New("jwtauth: there is no sub")
	}
	return a.lookup(ctx, said.Subject)
}

// emailOrID is the Lookup of a Config without one.
func emailOrID(_ context.Context, subject string) (httpapi.Identity, error) {
	if strings.Contains(subject, "@") {
		return httpapi.Identity{Email: subject}, nil
	}
	id, err := strconv.ParseInt(subject, 10, 64)
	if err != nil || id <= 0 || strconv.FormatInt(id, 10) != subject {
		return httpapi.Identity{}, errors.New("jwtauth: sub is neither an email nor an id")
	}
	return httpapi.Identity{UserID: id}, nil
}

// Token returns a token for sub, a user's email or id, that expires after ttl.
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
