package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi"
	"github.com/cimskit/cims/httpapi/docs"
	"github.com/cimskit/cims/httpapi/jwtauth"
	"github.com/cimskit/cims/storage/sqlite"
)

// mount is all that a host on net/http needs.
func mount(mux *http.ServeMux, crm *cims.Manager, secret []byte) error {
	config := huma.DefaultConfig("My CRM", "1.0.0")
	config.DocsPath = "" // ours needs no other host
	api := humago.New(mux, config)
	auth, err := jwtauth.New(jwtauth.Config{Secret: secret})
	if err != nil {
		return err
	}
	return errors.Join(httpapi.Register(api, crm, httpapi.Options{Authenticator: auth}), docs.Register(api))
}

func Example() {
	ctx := context.Background()
	folder := must(os.MkdirTemp("", "cims"))
	defer func() { must(0, os.RemoveAll(folder)) }()
	store := must(sqlite.Open(ctx, filepath.Join(folder, "crm.db")))
	must(store, store.Migrate(ctx))
	crm := must(cims.New(store, nil))
	must(crm.CreateUser(ctx, cims.System("example"), cims.NewUser{Email: "ceo@example.com", Name: "Aziza", Surname: "Karimova", RoleName: cims.RoleCEO}))

	secret := []byte("a secret of at least thirty-two bytes")
	mux := http.NewServeMux()
	must(mux, mount(mux, crm, secret))

	token := must(jwtauth.Token(secret, "ceo@example.com", time.Hour))
	request := httptest.NewRequestWithContext(ctx, http.MethodPost, "/management/statuses", strings.NewReader(`{"name": "negotiating", "display_name": "Negotiating"}`))
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	answer := httptest.NewRecorder()
	mux.ServeHTTP(answer, request)
	fmt.Println(answer.Code)
	must(crm, errors.Join(crm.Close(ctx), store.Close()))
	// Output: 201
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
