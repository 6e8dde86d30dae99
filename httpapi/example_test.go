package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi"
	"github.com/cimskit/cims/httpapi/docs"
	"github.com/cimskit/cims/httpapi/jwtauth"
)

// mount mounts everything that a host on net/http needs.
func mount(mux *http.ServeMux, crm *cims.Manager, secret []byte) error {
	config := huma.DefaultConfig("My CRM", "1.0.0")
	config.DocsPath = "" // package docs loads nothing from other hosts
	api := humago.New(mux, config)
	auth, err := jwtauth.New(jwtauth.Config{Secret: secret})
	if err != nil {
		return err
	}
	return errors.Join(httpapi.Register(api, crm, httpapi.Options{Authenticator: auth}), docs.Register(api))
}

// mountBelow mounts the routes below /api, such as /api/crm/customers.
func mountBelow(mux *http.ServeMux, crm *cims.Manager, options httpapi.Options) error {
	config := huma.DefaultConfig("My CRM", "1.0.0")
	config.DocsPath, config.OpenAPIPath = "", "" // docs serves both
	routes := http.NewServeMux()
	api := huma.NewGroup(humago.New(routes, config), "/api")
	mux.Handle("/api/", options.Problems(routes))
	return errors.Join(httpapi.Register(api, crm, options), docs.Register(api))
}

func ExampleRegister_below() {
	crm, done := exampleCRM()
	defer done()
	secret := []byte("a secret of at least thirty-two bytes")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<title>Shop</title>") })
	must(mux, mountBelow(mux, crm, httpapi.Options{Authenticator: must(jwtauth.New(jwtauth.Config{Secret: secret}))}))

	token := must(jwtauth.Token(secret, "ceo@example.com", time.Hour))
	for _, path := range []string{"/", "/api/crm/customers", "/api/docs", "/api/openapi.json", "/api/nowhere"} {
		request := httptest.NewRequestWithContext(context.Background(), http.MethodGet, path, http.NoBody)
		request.Header.Set("Authorization", "Bearer "+token)
		answer := httptest.NewRecorder()
		mux.ServeHTTP(answer, request)
		fmt.Println(answer.Code, path, answer.Header().Get("Content-Type"))
	}
	// Output:
	// 200 / text/html; charset=utf-8
	// 200 /api/crm/customers application/json
	// 200 /api/docs text/html; charset=utf-8
	// 200 /api/openapi.json application/json
	// 404 /api/nowhere application/problem+json
}

func Example() {
	crm, done := exampleCRM()
	defer done()
	secret := []byte("a secret of at least thirty-two bytes")
	mux := http.NewServeMux()
	must(mux, mount(mux, crm, secret))

	token := must(jwtauth.Token(secret, "ceo@example.com", time.Hour))
	request := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/management/statuses", strings.NewReader(`{"name": "negotiating", "display_name": "Negotiating"}`))
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	answer := httptest.NewRecorder()
	mux.ServeHTTP(answer, request)
	fmt.Println(answer.Code)
	// Output: 201
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
