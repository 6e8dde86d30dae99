// Command routers serves the same routes on the router of your choice:
//
//	go run . -router fiber
//
// Each router has a function to copy, which is all that a host needs. The tests run the
// whole HTTP contract on each router: below a prefix, beside operations of the host, behind
// its middleware, and with its error model. This is a separate module, so that the library's
// go.mod requires no router.
//
// The routers differ in these points, which the tests expect:
//
//   - net/http and fiber answer HEAD as GET without the body; chi, gin and echo
//     with 405.
//   - echo answers OPTIONS itself, with 204 and Allow. The others answer 405.
//   - fiber doesn't notice that a client has hung up. A request continues until it
//     is done or times out.
//   - fiber keeps the last of two Content-Type headers, so it doesn't refuse two.
//   - fiber answers 431 to headers larger than its ReadBufferSize. Each connection
//     has one such buffer.
//   - fiber reads up to 8 KiB of a body before it calls a handler. Its ReadTimeout
//     limits the time for them, and it answers 408 itself.
//   - fiber closes the connection of a client that still sends after 4 MiB of
//     unread body. Such a client may see no answer.
//
// fiber has to stream bodies (StreamRequestBody). Otherwise its BodyLimit applies to a file
// of leads, and the whole file is in memory. When it streams, fiber limits no body, and
// takes an unread rest for the next request. The routes of httpapi read the whole body or
// close the connection, and the host's handlers must do the same. fiber doesn't recover from
// panics either. The routes of httpapi answer them with 500; for its own handlers and
// middleware, a host uses fiber's middleware recover.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/gofiber/fiber/v3"
	"github.com/labstack/echo/v5"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi"
	"github.com/cimskit/cims/httpapi/jwtauth"
	"github.com/cimskit/cims/storage/sqlite"
)

const ceoEmail = "ceo@example.com"

func main() {
	router := flag.String("router", "net/http", "net/http, chi, gin, echo or fiber")
	address := flag.String("addr", "127.0.0.1:8000", "where to listen")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *router, *address)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run serves a CRM until ctx ends.
func run(ctx context.Context, router, address string) error {
	store, err := sqlite.Open(ctx, "crm.db")
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	crm, err := cims.New(store, nil)
	if err != nil {
		return err
	}
	defer func() { _ = crm.Close(context.WithoutCancel(ctx)) }()
	_, err = crm.CreateUser(ctx, cims.System("routers"), cims.NewUser{Email: ceoEmail, Name: "Aziza", Surname: "Karimova", RoleName: cims.RoleCEO})
	if err != nil && !errors.Is(err, cims.ErrExists) { // she exists from the second run on
		return err
	}

	secret := []byte(rand.Text() + rand.Text()) // valid for this run only
	auth, err := jwtauth.New(jwtauth.Config{Secret: secret})
	if err != nil {
		return err
	}
	token, err := jwtauth.Token(secret, ceoEmail, time.Hour)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	fmt.Printf("curl -H 'Authorization: Bearer %s' http://%s/api/me\n", token, listener.Addr())
	return serve(ctx, router, listener, func(api huma.API) error {
		return httpapi.Register(huma.NewGroup(api, "/api"), crm, httpapi.Options{Authenticator: auth})
	})
}

// serve serves the routes of mount until ctx ends.
func serve(ctx context.Context, router string, listener net.Listener, mount func(huma.API) error) error {
	var handler http.Handler
	var err error
	switch router {
	case "net/http":
		handler, err = onNetHTTP(http.NewServeMux(), mount)
	case "chi":
		handler, err = onChi(chi.NewRouter(), mount)
	case "gin":
		gin.SetMode(gin.ReleaseMode)
		handler, err = onGin(gin.New(), mount)
	case "echo":
		handler, err = onEcho(echo.New(), mount)
	case "fiber":
		app := newFiber()
		if err := onFiber(app, mount); err != nil {
			return err
		}
		return app.Listener(listener, fiber.ListenConfig{DisableStartupMessage: true, GracefulContext: ctx})
	default:
		err = fmt.Errorf("there is no router %q here", router)
	}
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Shutdown(context.WithoutCancel(ctx)) })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
