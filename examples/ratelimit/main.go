// Command ratelimit has a limit on how fast each client may ask, in front of the
// mounted routes. What is to be limited, and how far, is the host's to say; it
// takes a page.
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
	store := customstorage.New() // all is gone at the end
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

// handler is the routes, the limiter in front of them, and in front of both what
// makes a problem document of the limiter's refusal too.
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

// limiter gives each client so many requests a second, and a burst of them after
// a pause. It is asked before anything else is done: who guesses at tokens is
// slowed down as well.
type limiter struct {
	perSecond rate.Limit
	burst     int

	mu      sync.Mutex
	clients map[netip.Prefix]*rate.Limiter
	tidied  time.Time
}

// maxClients is how many are told apart at a time.
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
		place.Cancel() // it is not waited for
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		http.Error(w, http.StatusText(http.StatusTooManyRequests), http.StatusTooManyRequests)
	})
}

// of is a client's limiter. Where there are too many clients, those are forgotten
// who have their whole burst again: they would start with as much.
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
		client = netip.Prefix{} // an attack from everywhere: whoever is new shares one
		if shared := l.clients[client]; shared != nil {
			return shared
		}
	}
	l.clients[client] = rate.NewLimiter(l.perSecond, l.burst)
	return l.clients[client]
}

// client is who asks: an address or, with IPv6, the network that one subscriber
// gets. Behind a proxy of yours take the address that the proxy says instead; it
// must be one that clients can't make up.
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
