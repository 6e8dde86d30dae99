// Package jwtauth knows users by a Bearer JWT: the Authorization header of a
// request has a token whose sub is the user's email, when it holds an @, or
// else the user's id.
//
//	auth, err := jwtauth.New(jwtauth.Config{Secret: secret})
//
// A Secret is shared with the login (HS256). A login that keeps its key to itself
// signs by RS256, ES256 or EdDSA: give its [PublicKeys], or, where it publishes
// them as a JWK Set, a [KeySource] of the package jwks.
//
// Who gets a token is the login's business, which is the host's; [Token] makes
// one for tests and tools. What a user may do is never read from the token.
package jwtauth

import (
	"context"
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
	defaultLeeway = 30 * time.Second
	maxLeeway     = time.Minute
	maxToken      = 8 << 10
)

// Config says which tokens are good.
type Config struct {
	// Secret is the key of HS256, at least 32 bytes. Required, unless there are
	// Keys.
	Secret []byte
	// OldSecrets are good as well: those that were the Secret until all tokens
	// made with them have expired.
	OldSecrets [][]byte
	// Keys are the public keys of RS256, ES256 and EdDSA, instead of a Secret.
	Keys KeySource
	// Issuer is what iss must be; empty for anything, or nothing.
	Issuer string
	// Audience is what aud must have; empty for anything, or nothing.
	Audience string
	// Leeway is how far the clocks of who issues tokens and who verifies them
	// may be apart: exp, nbf and iat are taken that much less strictly. At most
	// a minute. Default: 30 seconds.
	Leeway time.Duration
}

// Authenticator is an httpapi.Authenticator for tokens. It is safe for
// concurrent use.
type Authenticator struct {
	keys   keys
	parser *jwt.Parser
}

var _ httpapi.Authenticator = (*Authenticator)(nil)

// New makes an Authenticator. It returns an error for a secret that is too short
// or that is no secret, for both or neither of secret and keys, and for a leeway
// out of bounds.
func New(config Config) (*Authenticator, error) {
	known, err := config.keys()
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
	return a.identify(ctx.Context(), token)
}

// identify checks a token and says whose it is.
func (a *Authenticator) identify(ctx context.Context, text string) (httpapi.Identity, error) {
	if len(text) > maxToken {
		return httpapi.Identity{}, errors.New("jwtauth: the token is too large")
	}
	if err := checkHeader(text); err != nil {
		return httpapi.Identity{}, err
	}
	var said claims
	find := func(token *jwt.Token) (any, error) { return a.keys.find(ctx, token) }
	if _, err := a.parser.ParseWithClaims(text, &said, find); err != nil {
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
