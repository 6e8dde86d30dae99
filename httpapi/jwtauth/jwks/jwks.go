// Package jwks keeps the public keys that a login publishes as a JSON Web Key Set,
// so that jwtauth verifies its tokens and the login changes its keys while the
// program runs:
//
//	keys, err := jwks.Open(ctx, jwks.Config{URL: "https://login.example.com/.well-known/jwks.json"})
//	…
//	defer keys.Close()
//	auth, err := jwtauth.New(jwtauth.Config{KeySource: keys, Issuer: "https://login.example.com", Audience: "crm"})
//
// No request ever waits for the login: the keys are fetched in the background, every
// few minutes, and sooner when a token names a key that is not among them. That
// token is refused meanwhile; a login that publishes a key some minutes before it
// signs with it has none refused. Whatever tokens are sent, from one fetch to the
// next it takes [Config.Pause].
//
// As long as the login can't be reached, or answers with something else than a key
// set, the keys that it published last stay good. Before there were any, nobody gets
// in: requests are answered with 503.
package jwks

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi/jwtauth"
)

// Config says where the keys are. The zero value of each field but URL stands for
// its default.
type Config struct {
	// URL is where the login publishes its keys: https, or http on this machine
	// itself. No redirect is followed. Required.
	URL string
	// Refresh is how often they are fetched. A key that the login withdraws is good
	// for that much longer. Default: 5 minutes.
	Refresh time.Duration
	// Pause is how long it takes at least from the end of a fetch to the next,
	// whether tokens name unknown keys or the login doesn't answer. A key that the
	// login signs with at once is known after at most that and Timeout. At most
	// Refresh. Default: 10 seconds.
	Pause time.Duration
	// Timeout is how long a fetch may take. Default: 5 seconds.
	Timeout time.Duration
	// Transport makes the requests, where they need a proxy or a certificate
	// authority of their own. Default: a plain one that keeps no connection open.
	Transport http.RoundTripper
	// Logger is told of fetches that fail and of keys that don't count. Default:
	// slog.Default().
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Refresh = cmp.Or(c.Refresh, 5*time.Minute)
	c.Pause = cmp.Or(c.Pause, min(10*time.Second, c.Refresh))
	c.Timeout = cmp.Or(c.Timeout, 5*time.Second)
	if c.Transport == nil {
		c.Transport = &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c Config) check() error {
	where, err := url.Parse(c.URL)
	if err != nil {
		return fmt.Errorf("jwks: %w", err)
	}
	switch {
	case where.Host == "" || where.User != nil:
		return errors.New("jwks: the URL must be https://host/path, without a password")
	case where.Scheme != "https" && (where.Scheme != "http" || !loopback(where.Hostname())):
		return errors.New("jwks: the URL must be https: who can change the answer on its way gets in as anybody")
	case c.Refresh < 0 || c.Pause < 0 || c.Timeout < 0 || c.Pause > c.Refresh:
		return errors.New("jwks: durations must be positive, and Pause at most Refresh")
	}
	return nil
}

func loopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// Keys are a login's public keys, as it published them last. They are safe for
// concurrent use.
type Keys struct {
	config  Config
	client  http.Client
	text    []byte                                      // that they were read from
	current atomic.Pointer[map[string]crypto.PublicKey] // nil before the first
	unknown chan struct{}                               // has one where a token named a key that isn't there
	stop    context.CancelFunc
	stopped chan struct{}
}

var _ jwtauth.KeySource = (*Keys)(nil)

// Open fetches the keys, and keeps them fresh until Close. A login that is down is
// no error: it is logged and tried again, each Pause. ctx is for the first fetch
// alone.
func Open(ctx context.Context, config Config) (*Keys, error) {
	config = config.withDefaults()
	if err := config.check(); err != nil {
		return nil, err
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	k := &Keys{
		config: config,
		client: http.Client{
			Transport:     config.Transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		unknown: make(chan struct{}, 1),
		stop:    stop,
		stopped: make(chan struct{}),
	}
	fetched := k.refresh(ctx)
	go k.keepFresh(background, fetched)
	return k, nil
}

// Close ends the fetching, and returns when it has ended. The keys stay.
func (k *Keys) Close() {
	k.stop()
	<-k.stopped
}

// PublicKey returns the key that the login published under that id. For an unknown
// one it asks for a fetch, and doesn't wait for it.
func (k *Keys) PublicKey(kid string) (crypto.PublicKey, error) {
	keys := k.current.Load()
	if keys == nil {
		return nil, noKeysYet{}
	}
	key, ok := (*keys)[kid]
	if !ok {
		select {
		case k.unknown <- struct{}{}:
		default: // somebody has asked already
		}
		return nil, errors.New("jwks: unknown kid")
	}
	return key, nil
}

// noKeysYet is a cims.ErrUnavailable, whose own words are of the database.
type noKeysYet struct{} //nolint:errname // it reads as what it says

func (noKeysYet) Error() string { return "jwks: there are no keys yet" }

func (noKeysYet) Is(target error) bool { return target == cims.ErrUnavailable }

// keepFresh fetches until ctx ends, with a pause in between that nothing shortens.
func (k *Keys) keepFresh(ctx context.Context, fetched bool) {
	defer close(k.stopped)
	for ctx.Err() == nil {
		wait(ctx, k.config.Pause, nil)
		if fetched {
			wait(ctx, k.config.Refresh-k.config.Pause, k.unknown)
		}
		fetched = k.refresh(ctx)
	}
}

// wait is over when the time is, ctx ends or there is something in sooner.
func wait(ctx context.Context, long time.Duration, sooner <-chan struct{}) {
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-sooner:
	}
}

// refresh fetches what the login publishes now, and tells whether it could.
func (k *Keys) refresh(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, k.config.Timeout)
	defer cancel()
	text, err := k.fetch(ctx)
	if err == nil {
		err = k.takeOver(text)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		k.config.Logger.WarnContext(ctx, "jwks: the login's keys can't be fetched", "url", k.config.URL, "error", err)
	}
	return err == nil
}

func (k *Keys) takeOver(text []byte) error {
	if k.text != nil && bytes.Equal(text, k.text) {
		return nil // and what is wrong with a key has been logged
	}
	keys, err := readSet(text, k.config.Logger)
	if err != nil {
		return err
	}
	k.text = text
	k.current.Store(&keys)
	return nil
}

// maxAnswer is many times what the largest logins publish.
const maxAnswer = 1 << 20

func (k *Keys) fetch(ctx context.Context) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, k.config.URL, http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	answer, err := k.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %s", answer.Status)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err == nil && len(text) > maxAnswer {
		err = fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	return text, err
}
