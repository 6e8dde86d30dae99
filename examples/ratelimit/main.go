// Command ratelimit limits the requests of each client before they reach the routes of
// httpapi. A limiter is the host's task, since only the host knows its limits.
//
//	go run ./examples/ratelimit
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"golang.org/x/time/rate"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/examples/customstorage"
	"github.com/cimskit/cims/httpapi"
	"github.com/cimskit/cims/httpapi/jwtauth"
)

func main() {
	ctx := context.Background()
	store := customstorage.New() // in memory only
	must(store, store.Migrate(ctx))
	crm := must(cims.New(store, nil))
	must(crm.CreateUser(ctx, cims.System("ratelimit"), cims.NewUser{
		Email: "ceo@example.com", Name: "Gulnora", Surname: "Umarova", RoleName: cims.RoleCEO,
	}))
	secret := []byte(rand.Text() + rand.Text())
	server := &http.Server{
		Addr:              "127.0.0.1:8000",
		Handler:           must(handler(crm, secret, newLimiter(2, 5))),
		ReadHeaderTimeout: 5 * time.Second,
	}
	fmt.Println("Five requests at once, then two a second:")
	fmt.Printf("for i in $(seq 9); do curl -i -H 'Authorization: Bearer %s' http://%s/me; done\n",
		must(jwtauth.Token(secret, "ceo@example.com", time.Hour)), server.Addr)
	must(server, server.ListenAndServe())
}

// handler returns the routes behind the limiter. Both are behind Problems, which turns the
// refusals of the limiter into problem documents too.
func handler(crm *cims.Manager, secret []byte, limit *limiter) (http.Handler, error) {
	auth, err := jwtauth.New(jwtauth.Config{Secret: secret})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	config := huma.DefaultConfig("CRM", "1.0.0")
	config.DocsPath = "" // it would load its scripts from another host
	api := humago.New(mux, config)
	if err := httpapi.Register(api, crm, httpapi.Options{Authenticator: auth}); err != nil {
		return nil, err
	}
	return httpapi.Problems(limit.wrap(mux), nil), nil
}

// limiter limits each client to a number of requests per second, with a burst after a
// pause. It comes before authentication, so that it also slows down guesses of tokens.
type limiter struct {
	perSecond rate.Limit
	burst     int

	mu      sync.Mutex
	clients map[netip.Prefix]*rate.Limiter
	tidied  time.Time
}

// maxClients is the number of clients with separate limits.
const maxClients = 10_000

func newLimiter(perSecond rate.Limit, burst int) *limiter {
	return &limiter{perSecond: perSecond, burst: burst, clients: map[netip.Prefix]*rate.Limiter{}}
}

func (l *limiter) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		place := l.of(client(r)).Reserve()
		wait := place.Delay()
		if wait == 0 {
			next.ServeHTTP(w, r)
			return
		}
		place.Cancel() // the request doesn't wait for its turn
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		http.Error(w, http.StatusText(http.StatusTooManyRequests), http.StatusTooManyRequests)
	})
}

// of returns the limiter of a client. If there are too many clients, it forgets those with
// a full burst, since a new limiter starts with a full burst too.
func (l *limiter) of(client netip.Prefix) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known := l.clients[client]; known != nil {
		return known
	}
	if now := time.Now(); len(l.clients) >= maxClients && now.Sub(l.tidied) > time.Second {
		l.tidied = now
		for other, idle := range l.clients {
			if idle.Tokens() >= float64(l.burst) {
				delete(l.clients, other)
			}
		}
	}
	if len(l.clients) >= maxClients {
		client = netip.Prefix{} // under a distributed attack, new clients share one limiter
		if shared := l.clients[client]; shared != nil {
			return shared
		}
	}
	l.clients[client] = rate.NewLimiter(l.perSecond, l.burst)
	return l.clients[client]
}

// client returns the client of a request: its address or, with IPv6, the network of one
// subscriber. Behind a proxy, use the address that the proxy reports instead. Clients must
// not be able to forge it.
func client(r *http.Request) netip.Prefix {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Prefix{}
	}
	address, bits := remote.Addr().Unmap().WithZone(""), 64
	if address.Is4() {
		bits = 32
	}
	return netip.PrefixFrom(address, bits).Masked()
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
