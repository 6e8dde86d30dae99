// Package jwks knows the keys of a login that publishes them as a JWK Set (RFC
// 7517), as those that speak OpenID Connect do:
//
//	keys, err := jwks.New(ctx, jwks.Config{URL: "https://login.example.com/.well-known/jwks.json"})
//	…
//	auth, err := jwtauth.New(jwtauth.Config{Keys: keys, Issuer: "https://login.example.com", Audience: "crm"})
//
// The login may change its keys at any time; nothing has to be restarted.
package jwks

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/MicahParks/jwkset"
	"golang.org/x/time/rate"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi/jwtauth"
)

const (
	maxSet  = 1 << 20         // bytes
	maxWait = 3 * time.Second // for an answer of the login's
)

// Config says where the keys are. Only URL is required.
type Config struct {
	// URL is where the login publishes its keys: https, or on this machine's
	// loopback http. It is asked directly; a redirect is not followed.
	URL string
	// Refresh is how often the keys are read again, and so how long a key that the
	// login has taken away is good at most. Default: 15 minutes.
	Refresh time.Duration
	// Unknown is how often, at most, the keys are read again because a token names
	// one that is not known: so a new key is good at once, and whoever makes names up
	// causes no more than that. Default: 30 seconds.
	Unknown time.Duration
	// Client asks for the keys. Default: one with Go's own defaults. Its Timeout and
	// CheckRedirect are not used.
	Client *http.Client
	// Logger gets what goes wrong. Default: slog.Default().
	Logger *slog.Logger
}

// Set is a jwtauth.KeySource. It is safe for concurrent use.
type Set struct{ keys jwkset.Storage }

var _ jwtauth.KeySource = (*Set)(nil)

// New reads the keys, and goes on reading them until ctx ends. It returns an error
// for a URL that can't be. Where the login does not answer within three seconds it
// returns all the same: until the login does, whoever comes gets a 503.
func New(ctx context.Context, config Config) (*Set, error) {
	if err := checkURL(config.URL); err != nil {
		return nil, err
	}
	logger := config.Logger
	if logger == nil {
		logger = slog.Default()
	}
	client := http.Client{}
	if config.Client != nil {
		client = *config.Client
	}
	client.Timeout = maxWait
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client.Transport = bounded{client.Transport}
	remote, err := jwkset.NewStorageFromHTTP(config.URL, jwkset.HTTPClientStorageOptions{
		Client:                    &client,
		Ctx:                       ctx,
		HTTPTimeout:               maxWait,
		NoErrorReturnFirstHTTPReq: true,
		RefreshInterval:           cmp.Or(config.Refresh, 15*time.Minute),
		RefreshErrorHandler: func(ctx context.Context, err error) {
			logger.ErrorContext(ctx, "jwks: the keys can't be read", "url", config.URL, "error", err)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("jwks: %w", err)
	}
	keys, err := jwkset.NewHTTPClient(jwkset.HTTPClientOptions{
		HTTPURLs:          map[string]jwkset.Storage{config.URL: remote},
		RateLimitWaitMax:  maxWait,
		RefreshUnknownKID: rate.NewLimiter(rate.Every(cmp.Or(config.Unknown, 30*time.Second)), 1),
	})
	if err != nil {
		return nil, fmt.Errorf("jwks: %w", err)
	}
	return &Set{keys}, nil
}

// Key implements jwtauth.KeySource. It does not wait for others' keys: of those who
// name an unknown one, at most one at a time has it looked for.
func (s *Set) Key(ctx context.Context, id, algorithm string) (crypto.PublicKey, error) {
	if id == "" {
		return nil, errors.New("jwks: the token names no key")
	}
	// Whoever hangs up must not keep a new key from being found.
	key, err := s.keys.KeyRead(context.WithoutCancel(ctx), id)
	if err != nil {
		if known, _ := s.keys.KeyReadAll(ctx); len(known) == 0 {
			return nil, &cims.Error{Kind: cims.ErrUnavailable, Err: fmt.Errorf("jwks: no keys yet: %w", err)}
		}
		return nil, fmt.Errorf("jwks: %w", err)
	}
	told := key.Marshal()
	switch {
	case told.USE != "" && told.USE != jwkset.UseSig, len(told.KEYOPS) > 0 && !slices.Contains(told.KEYOPS, jwkset.KeyOpsVerify):
		return nil, errors.New("jwks: the key is not for signatures")
	case told.ALG != "" && told.ALG.String() != algorithm:
		return nil, fmt.Errorf("jwks: the key is for %s", told.ALG)
	}
	return key.Key(), nil // a secret or private one is no public key for jwtauth
}

// checkURL refuses what others could answer in the login's place.
func checkURL(text string) error {
	address, err := url.Parse(text)
	if err != nil || address.Host == "" {
		return errors.New("jwks: Config.URL has to be the URL of a JWK Set")
	}
	ip, err := netip.ParseAddr(address.Hostname())
	local := address.Hostname() == "localhost" || err == nil && ip.IsLoopback()
	if address.Scheme != "https" && (address.Scheme != "http" || !local) {
		return errors.New("jwks: Config.URL has to be https")
	}
	return nil
}

// bounded cuts off an answer that is too long to be a set of keys.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(request *http.Request) (*http.Response, error) {
	transport := b.RoundTripper
	if transport == nil {
		transport = http.DefaultTransport
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(response.Body, maxSet), response.Body}
	return response, nil
}
