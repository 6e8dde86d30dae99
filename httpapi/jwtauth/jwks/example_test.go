package jwks_test

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi"
	"github.com/cimskit/cims/httpapi/jwtauth"
	"github.com/cimskit/cims/httpapi/jwtauth/jwks"
)

// The tokens of a login that publishes its keys. It may change them at any time.
func Example() {
	mount := func(ctx context.Context, mux *http.ServeMux, crm *cims.Manager) error {
		keys, err := jwks.New(ctx, jwks.Config{URL: "https://login.example.com/.well-known/jwks.json"})
		if err != nil {
			return err
		}
		auth, err := jwtauth.New(jwtauth.Config{Keys: keys, Issuer: "https://login.example.com", Audience: "crm"})
		if err != nil {
			return err
		}
		api := humago.New(mux, huma.DefaultConfig("My CRM", "1.0.0"))
		return httpapi.Register(api, crm, httpapi.Options{Authenticator: auth})
	}
	_ = mount
}
