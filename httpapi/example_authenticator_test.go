package httpapi_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi"
	"github.com/cimskit/cims/httpapi/jwtauth"
	"github.com/cimskit/cims/storage/sqlite"
)

// sessions holds the users that are logged in, by the hash of their cookie. The hash keeps a
// reader of the sessions from taking one over. A host stores them in its database.
type sessions struct {
	mu   sync.Mutex
	open map[[sha256.Size]byte]session
}

type session struct {
	userID int64
	until  time.Time
}

// The prefix makes browsers accept the cookie only from this host, over TLS.
const cookieName = "__Host-session"

// Authenticate returns the user of the session in the cookie.
func (s *sessions) Authenticate(ctx huma.Context) (httpapi.Identity, error) {
	cookie, err := huma.ReadCookie(ctx, cookieName)
	if err != nil {
		return httpapi.Identity{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.open[sha256.Sum256([]byte(cookie.Value))]
	if !ok || time.Now().After(found.until) {
		return httpapi.Identity{}, errors.New("no such session")
	}
	return httpapi.Identity{UserID: found.userID}, nil
}

// start sets the cookie of a new session, after the login has identified the user.
func (s *sessions) start(w http.ResponseWriter, userID int64) {
	token, lasting := rand.Text(), 12*time.Hour
	s.mu.Lock()
	s.open[sha256.Sum256([]byte(token))] = session{userID, time.Now().Add(lasting)}
	s.mu.Unlock()
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: token, Path: "/", MaxAge: int(lasting.Seconds()),
		HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode, // scripts can't read it, and forms of other sites don't send it
	})
}

// end ends the session at logout, also for copies of the cookie.
func (s *sessions) end(r *http.Request) {
	if cookie, err := r.Cookie(cookieName); err == nil {
		s.mu.Lock()
		delete(s.open, sha256.Sum256([]byte(cookie.Value)))
		s.mu.Unlock()
	}
}

// Identify users by a session cookie.
func ExampleAuthenticator_sessionCookie() {
	crm, done := exampleCRM()
	defer done()
	auth := &sessions{open: map[[sha256.Size]byte]session{}}
	mux := http.NewServeMux()
	api := humago.New(mux, huma.DefaultConfig("My CRM", "1.0.0"))
	must(api, httpapi.Register(api, crm, httpapi.Options{Authenticator: auth}))
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, _ *http.Request) { auth.start(w, 1) }) // after a correct password
	mux.HandleFunc("POST /logout", func(_ http.ResponseWriter, r *http.Request) { auth.end(r) })
	// Browsers also send cookies with requests from other sites, and SameSite allows
	// sites on the same domain.
	server := httptest.NewTLSServer(http.NewCrossOriginProtection().Handler(httpapi.Problems(mux, nil)))
	defer server.Close()

	browser := server.Client()
	browser.Jar = must(cookiejar.New(nil))
	ask := func(method, path, site string) int {
		return askAs(browser, method, server.URL+path, http.Header{"Sec-Fetch-Site": {site}})
	}
	fmt.Println("nobody:", ask("GET", "/me", "same-origin"))
	fmt.Println("login:", ask("POST", "/login", "same-origin"), ask("GET", "/me", "same-origin"))
	fmt.Println("from our page:", ask("POST", "/crm/assign-backlog", "same-origin"))
	fmt.Println("from another site:", ask("POST", "/crm/assign-backlog", "cross-site"))
	fmt.Println("from a neighbor:", ask("POST", "/crm/assign-backlog", "same-site"))
	fmt.Println("logout:", ask("POST", "/logout", "same-origin"), ask("GET", "/me", "same-origin"))
	// Output:
	// nobody: 401
	// login: 200 200
	// from our page: 200
	// from another site: 403
	// from a neighbor: 403
	// logout: 200 401
}

// proxyHeader trusts the header in which a proxy names the user that logged in there. The
// proxy has to replace a header sent by the client. Since anybody can send the header, it
// only counts if the connection comes from the proxy. X-Forwarded-For is a claim of the
// client too, so no middleware that trusts it, such as chi's RealIP, may run before this.
type proxyHeader struct{ proxies []netip.Prefix }

// Authenticate reads X-Auth-Request-Email.
func (p proxyHeader) Authenticate(ctx huma.Context) (httpapi.Identity, error) {
	peer, err := netip.ParseAddrPort(ctx.RemoteAddr())
	if err != nil {
		return httpapi.Identity{}, err
	}
	if !slices.ContainsFunc(p.proxies, func(proxy netip.Prefix) bool { return proxy.Contains(peer.Addr().Unmap()) }) {
		return httpapi.Identity{}, fmt.Errorf("%s is no proxy of ours", peer)
	}
	var emails []string
	ctx.EachHeader(func(name, value string) {
		if strings.EqualFold(name, "X-Auth-Request-Email") {
			emails = append(emails, value)
		}
	})
	if len(emails) != 1 { // a second one may come from the client
		return httpapi.Identity{}, fmt.Errorf("%d names", len(emails))
	}
	return httpapi.Identity{Email: emails[0]}, nil
}

// Identify users by the header of a proxy, such as oauth2-proxy.
func ExampleAuthenticator_proxyHeader() {
	crm, done := exampleCRM()
	defer done()
	ask := func(proxy string, emails ...string) int {
		auth := proxyHeader{proxies: []netip.Prefix{netip.MustParsePrefix(proxy)}}
		mux := http.NewServeMux()
		api := humago.New(mux, huma.DefaultConfig("My CRM", "1.0.0"))
		must(api, httpapi.Register(api, crm, httpapi.Options{Authenticator: auth}))
		server := httptest.NewServer(mux)
		defer server.Close()
		return askAs(server.Client(), "GET", server.URL+"/me", http.Header{"X-Auth-Request-Email": emails})
	}
	fmt.Println("the proxy:", ask("127.0.0.0/8", "ceo@example.com"))
	fmt.Println("the proxy, of nobody:", ask("127.0.0.0/8"))
	fmt.Println("the proxy, of two:", ask("127.0.0.0/8", "ceo@example.com", "somebody@example.com"))
	fmt.Println("anybody else:", ask("192.0.2.1/32", "ceo@example.com"))
	// Output:
	// the proxy: 200
	// the proxy, of nobody: 401
	// the proxy, of two: 401
	// anybody else: 401
}

// Identify users by a Bearer token.
func ExampleAuthenticator_jwt() {
	crm, done := exampleCRM()
	defer done()
	secret := []byte("a secret of at least thirty-two bytes")
	auth := must(jwtauth.New(jwtauth.Config{Secret: secret}))
	mux := http.NewServeMux()
	api := humago.New(mux, huma.DefaultConfig("My CRM", "1.0.0"))
	must(api, httpapi.Register(api, crm, httpapi.Options{Authenticator: auth}))
	server := httptest.NewServer(mux)
	defer server.Close()

	ask := func(token string) int {
		return askAs(server.Client(), "GET", server.URL+"/me", http.Header{"Authorization": {"Bearer " + token}})
	}
	fmt.Println("the CEO, by id:", ask(must(jwtauth.Token(secret, "1", time.Hour))))
	fmt.Println("of another issuer:", ask(must(jwtauth.Token([]byte("another secret of thirty-two bytes"), "1", time.Hour))))
	fmt.Println("expired:", ask(must(jwtauth.Token(secret, "1", -time.Hour))))
	// Output:
	// the CEO, by id: 200
	// of another issuer: 401
	// expired: 401
}

// exampleCRM has one user, the CEO.
func exampleCRM() (crm *cims.Manager, done func()) {
	ctx := context.Background()
	folder := must(os.MkdirTemp("", "cims"))
	store := must(sqlite.Open(ctx, filepath.Join(folder, "crm.db")))
	must(store, store.Migrate(ctx))
	crm = must(cims.New(store, nil))
	must(crm.CreateUser(ctx, cims.System("example"), cims.NewUser{Email: "ceo@example.com", Name: "Aziza", Surname: "Karimova", RoleName: cims.RoleCEO}))
	return crm, func() { must(crm, errors.Join(crm.Close(ctx), store.Close(), os.RemoveAll(folder))) }
}

// askAs makes a request and returns the answer's status.
func askAs(client *http.Client, method, url string, header http.Header) int {
	request := must(http.NewRequestWithContext(context.Background(), method, url, http.NoBody))
	request.Header = header
	response := must(client.Do(request))
	must(response, response.Body.Close())
	return response.StatusCode
}
