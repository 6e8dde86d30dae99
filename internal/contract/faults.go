package contract

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi"
)

// faulty is a storage that can't list statuses, or change anything.
type faulty struct {
	cims.Storage
	fail func(ctx context.Context) error
}

func (f *faulty) Statuses(ctx context.Context) ([]cims.Status, error) { return nil, f.fail(ctx) }

func (h Host) newFaulty(t *testing.T, fail func(ctx context.Context) error, options ...option) *Server {
	t.Helper()
	return h.newServerOn(t, &faulty{Storage: newStorage(t), fail: fail}, options...)
}

const inside = "pq: SELECT secret FROM /var/lib at 10.0.0.1"

func testTroubleThatPassesIs503(t *testing.T, on Host) {
	for name, err := range map[string]error{
		"database down":   &cims.Error{Kind: cims.ErrUnavailable, Err: errors.New(inside)},
		"outcome unknown": fmt.Errorf("%w: %s", cims.ErrOutcomeUnknown, inside),
		"closed":          cims.ErrClosed,
		"deadline":        fmt.Errorf("%s: %w", inside, context.DeadlineExceeded),
		"canceled":        fmt.Errorf("%s: %w", inside, context.Canceled),
	} {
		t.Run(name, func(t *testing.T) {
			s := on.newFaulty(t, func(context.Context) error { return err })
			a := s.get(t, "/management/statuses").is(t, 503)
			require.Equal(t, "1", a.header.Get("Retry-After"))
			require.NotContains(t, a.text, "SELECT")
			require.NotContains(t, a.text, "Idempotency-Key", "the route takes none")
			require.Contains(t, s.log.String(), a.header.Get("X-Request-Id"))
			s.get(t, "/me").is(t, 200)
		})
	}
}

func testRequestIsNotWaitedForWithoutEnd(t *testing.T, on Host) {
	s := on.newFaulty(t, func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}, func(o *httpapi.Options) { o.Timeout = 50 * time.Millisecond })
	start := time.Now()
	s.get(t, "/management/statuses").is(t, 503)
	require.Less(t, time.Since(start), 5*time.Second)
}

func testTheUnexpectedIs500ThatSaysNothing(t *testing.T, on Host) {
	for name, fail := range map[string]func(context.Context) error{
		"error": func(context.Context) error { return errors.New(inside) },
		"panic": func(context.Context) error { panic(inside) },
	} {
		t.Run(name, func(t *testing.T) {
			s := on.newFaulty(t, fail)
			a := s.request(t, http.MethodGet, "/management/statuses", nil).with("X-Request-ID", "find-me").do(t).is(t, 500)
			require.NotContains(t, a.text, "SELECT")
			require.NotContains(t, a.text, "panic")
			require.Contains(t, s.log.String(), "find-me")
			require.Contains(t, s.log.String(), inside)
			require.NotContains(t, s.log.String(), Token(t, CEOEmail)[:20])
			s.get(t, "/me").is(t, 200)
		})
	}
}

func testAuthenticatorsTroubleIs503AndItsRefusal401(t *testing.T, on Host) {
	store := newStorage(t)
	for _, c := range []struct {
		err    error
		status int
	}{
		{fmt.Errorf("session store: %w", cims.ErrUnavailable), 503},
		{context.DeadlineExceeded, 503},
		{errors.New(inside), 401},
		{&cims.Error{Kind: cims.ErrForbidden, Reason: cims.ReasonOnlyCEO}, 401},
	} {
		s := on.newServerOn(t, store, func(o *httpapi.Options) {
			o.Authenticator = httpapi.AuthenticatorFunc(func(huma.Context) (httpapi.Identity, error) { return httpapi.Identity{}, c.err })
		})
		a := s.get(t, "/me").is(t, c.status)
		require.NotContains(t, a.text, "SELECT")
	}
}

// testRefusedTokensAreExplained to who runs the server, and to nobody else.
func testRefusedTokensAreExplained(t *testing.T, on Host) {
	var told []string
	s := on.newServer(t, func(o *httpapi.Options) {
		o.OnRefused = func(ctx huma.Context, reason error) {
			told = append(told, cims.RequestID(ctx.Context())+" "+reason.Error())
			if ctx.Header("X-Panic") != "" {
				panic(inside)
			}
		}
	})
	for id, c := range map[string]struct {
		claims, why string
		panics      bool
	}{
		"late":    {`{"sub": "1", "exp": 1700000000}`, "token is expired", false},
		"nobody":  {`{"sub": "nobody@example.com", "exp": 4102444800}`, "nobody@example.com", false},
		"half":    {`{"sub": "1@", "exp": 4102444800}`, "1@", false},
		"strange": {`{"sub": "x", "exp": 4102444800}`, "neither an email nor an id", true},
	} {
		told = nil
		call := s.request(t, http.MethodGet, "/me", nil).signed(t, c.claims).with("X-Request-ID", id)
		if c.panics {
			call.with("X-Panic", "1")
		}
		a := call.do(t).is(t, 401)
		require.NotContains(t, a.text, c.why)
		require.Len(t, told, 1)
		require.Contains(t, told[0], id+" ")
		require.Contains(t, told[0], c.why)
		var line string
		for text := range strings.Lines(s.log.String()) {
			if strings.Contains(text, `"request_id":"`+id+`"`) && strings.Contains(text, `"level":"DEBUG"`) {
				line = text
			}
		}
		require.Contains(t, line, c.why)
		require.NotContains(t, s.log.String(), strings.TrimPrefix(call.header.Get("Authorization"), "Bearer "))
	}
	require.Contains(t, s.log.String(), "OnRefused failed")
	told = nil
	s.get(t, "/me").is(t, 200)
	require.Empty(t, told)
}

func testAuthenticatorCanReadWhateverItLikes(t *testing.T, on Host) {
	s := on.newServer(t, func(o *httpapi.Options) {
		o.Authenticator = httpapi.AuthenticatorFunc(func(ctx huma.Context) (httpapi.Identity, error) {
			if ctx.Header("X-Panic") != "" {
				panic(inside)
			}
			session, err := huma.ReadCookie(ctx, "session")
			if err != nil {
				return httpapi.Identity{}, err
			}
			return map[string]httpapi.Identity{"by-id": {UserID: 1}, "by-email": {Email: CEOEmail}}[session.Value], nil
		})
	})
	for value, status := range map[string]int{"by-id": 200, "by-email": 200, "nobody": 401} {
		s.request(t, http.MethodGet, "/me", nil).with("Cookie", "session="+value).do(t).is(t, status)
	}
	s.request(t, http.MethodGet, "/me", nil).with("X-Panic", "1").do(t).is(t, 500)
}

func testLoggedTextCanForgeNoLine(t *testing.T, on Host) {
	s := on.newFaulty(t, func(context.Context) error { return errors.New("a\nlevel=INFO msg=forged") })
	s.get(t, "/management/statuses").is(t, 500)
	require.NotContains(t, s.log.String(), "\nlevel=INFO")
}
