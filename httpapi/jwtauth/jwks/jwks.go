// Package jwks keeps the public keys that a login publishes as a JSON Web Key Set,
// so that the login can change its keys while the program runs:
//
//	keys, err := jwks.Open(ctx, jwks.Config{URL: "https://login.example.com/.well-known/jwks.json"})
//	…
//	defer keys.Close()
//	auth, err := jwtauth.New(jwtauth.Config{KeySource: keys, Issuer: "https://login.example.com", Audience: "crm"})
//
// No request waits for the login. The keys are fetched in the background every few minutes,
// and sooner if a token names an unknown key. That token is refused meanwhile, so a login
// should publish a key some minutes before it signs with it. Two fetches are at least
// [Config.Pause] apart, regardless of the tokens.
//
// While the login can't be reached, or doesn't answer with a key set, the last published
// keys stay valid. Before the first fetch has succeeded, the answer to requests is 503.
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

// Config configures Open. The zero value of each field, except URL, means its default.
type Config struct {
	// URL is the address of the login's keys. It must be https, or http on this machine.
	// Redirects are not followed. Required.
	URL string
	// Refresh is the time from one fetch to the next. A key that the login withdraws
	// stays valid for up to that long. Default: 5 minutes.
	Refresh time.Duration
	// Pause is the minimum time from the end of a fetch to the next, even if tokens name
	// unknown keys or the login doesn't answer. A new key is known after at most Pause
	// plus Timeout. Pause must not exceed Refresh. Default: 10 seconds.
	Pause time.Duration
	// Timeout limits a fetch. Default: 5 seconds.
	Timeout time.Duration
	// Transport makes the requests. Set it for a proxy or a certificate authority.
	// Default: an http.Transport that keeps no connection open.
	Transport http.RoundTripper
	// Logger receives failed fetches and unusable keys. Default: slog.Default().
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
		return errors.New("jwks: the URL must be https: an attacker who changes the keys in transit could act as any user")
	case c.Refresh < 0 || c.Pause < 0 || c.Timeout < 0 || c.Pause > c.Refresh:
		return errors.New("jwks: durations must be positive, and Pause at most Refresh")
	}
	return nil
}

func loopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// Keys holds the last published public keys of a login. It is safe for concurrent use.
type Keys struct {
	config  Config
	client  http.Client
	text    []byte                                      // the key set of the last fetch
	current atomic.Pointer[map[string]crypto.PublicKey] // nil before the first
	unknown chan struct{}                               // holds a value once a token named an unknown key
	stop    context.CancelFunc
	stopped chan struct{}
}

var _ jwtauth.KeySource = (*Keys)(nil)

// Open fetches the keys and keeps them current until Close. It returns no error if the login
// is down: it logs the failure, and the fetch is repeated after each Pause. ctx limits only
// the first fetch.
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

// Close stops the background fetches and waits until they have stopped. The keys stay valid.
func (k *Keys) Close() {
	k.stop()
	<-k.stopped
}

// PublicKey implements jwtauth.KeySource. For an unknown id it requests a fetch, and doesn't
// wait for it.
func (k *Keys) PublicKey(kid string) (crypto.PublicKey, error) {
	keys := k.current.Load()
	if keys == nil {
		return nil, noKeysYet{}
	}
	key, ok := (*keys)[kid]
	if !ok {
		select {
		case k.unknown <- struct{}{}:
		default: // a fetch is requested already
		}
		return nil, errors.New("jwks: unknown kid")
	}
	return key, nil
}

// noKeysYet matches cims.ErrUnavailable. It has another text, since that of
// cims.ErrUnavailable is about the database.
type noKeysYet struct{} //nolint:errname // named as its text reads

func (noKeysYet) Error() string { return "jwks: there are no keys yet" }

func (noKeysYet) Is(target error) bool { return target == cims.ErrUnavailable }

// keepFresh fetches until ctx ends. Nothing shortens the pause between two fetches.
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

// wait returns after the time, at the end of ctx, or once sooner has a value.
func wait(ctx context.Context, long time.Duration, sooner <-chan struct{}) {
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-sooner:
	}
}

// refresh fetches the published keys and reports whether it could.
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
		return nil // unusable keys have been logged
	}
	keys, err := readSet(text, k.config.Logger)
	if err != nil {
		return err
	}
	k.text = text
	k.current.Store(&keys)
	return nil
}

// maxAnswer is many times the size of the largest published key sets.
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
