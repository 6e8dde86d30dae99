package httpapi_test

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi"
	"github.com/cimskit/cims/httpapi/jwtauth"
	"github.com/cimskit/cims/internal/contract"
)

// asCEO authenticates every request as the CEO.
var asCEO = httpapi.Options{
	Authenticator: httpapi.AuthenticatorFunc(func(huma.Context) (httpapi.Identity, error) {
		return httpapi.Identity{Email: contract.CEOEmail}, nil
	}),
	Logger: slog.New(slog.DiscardHandler),
}

func newManager(t *testing.T) *cims.Manager {
	t.Helper()
	return contract.NewServer(t, netHTTP).CRM
}

func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(text)
}

func TestRegisterTellsWhatIsWrong(t *testing.T) {
	crm := newManager(t)
	api := humago.New(http.NewServeMux(), huma.DefaultConfig("CRM", "1.0.0"))
	require.ErrorContains(t, httpapi.Register(nil, crm, asCEO), "API")
	require.ErrorContains(t, httpapi.Register(api, nil, asCEO), "Manager")
	for _, none := range []httpapi.Authenticator{nil, httpapi.AuthenticatorFunc(nil), (*jwtauth.Authenticator)(nil)} {
		require.ErrorContains(t, httpapi.Register(api, crm, httpapi.Options{Authenticator: none}), "Authenticator")
	}
	require.Empty(t, api.OpenAPI().Paths, "nothing is mounted")
	require.NoError(t, httpapi.Register(api, crm, asCEO))
	require.ErrorContains(t, httpapi.Register(api, crm, asCEO), "duplicate")

	noJSON := huma.DefaultConfig("CRM", "1.0.0")
	noJSON.Formats = nil
	require.ErrorContains(t, httpapi.Register(humago.New(http.NewServeMux(), noJSON), crm, asCEO), "application/json")

	taken := http.NewServeMux()
	taken.HandleFunc("GET /management/statuses", http.NotFound)
	require.Error(t, httpapi.Register(humago.New(taken, huma.DefaultConfig("CRM", "1.0.0")), crm, asCEO))
}

func TestHostsAPIMayHaveASuchlikeOfItsOwn(t *testing.T) {
	type Status struct{ X string }
	type Customer struct{ X string }
	mux := http.NewServeMux()
	config := huma.DefaultConfig("Shop", "1.0.0")
	config.Tags = []*huma.Tag{{Name: "Users", Description: "the shop's"}}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"bearerAuth": {Type: "http", Scheme: "bearer", Description: "the shop's"}}
	api := humago.New(mux, config)
	add := func(id string) {
		huma.Register(api, huma.Operation{OperationID: id, Method: http.MethodGet, Path: "/" + id}, func(context.Context, *struct{}) (*struct {
			Body struct {
				Status   Status
				Customer Customer
			}
		}, error,
		) {
			return nil, huma.Error404NotFound("the shop's")
		})
	}
	add("list-statuses")
	require.NoError(t, httpapi.Register(api, newManager(t), asCEO))
	add("get-me")
	require.Equal(t, "the shop's", api.OpenAPI().Components.SecuritySchemes["bearerAuth"].Description)
	require.Equal(t, "the shop's", api.OpenAPI().Tags[0].Description)
	server := httptest.NewServer(mux)
	defer server.Close()
	status, text := fetch(t, server.URL+"/get-me")
	require.Equal(t, 404, status)
	require.Contains(t, text, "the shop's")
	status, _ = fetch(t, server.URL+"/management/statuses")
	require.Equal(t, 200, status)
}

func TestWorksBelowPrefixes(t *testing.T) {
	crm := newManager(t)
	mux := http.NewServeMux()
	api := humago.New(mux, huma.DefaultConfig("CRM", "1.0.0"))
	group := huma.NewGroup(api, "/v1", "/v2")
	seen := 0
	group.UseMiddleware(func(ctx huma.Context, next func(huma.Context)) {
		seen++
		next(ctx)
	})
	require.NoError(t, httpapi.Register(group, crm, asCEO))
	server := httptest.NewServer(mux)
	defer server.Close()
	for _, prefix := range []string{"/v1", "/v2"} {
		status, text := fetch(t, server.URL+prefix+"/me")
		require.Equal(t, 200, status)
		require.Contains(t, text, contract.CEOEmail)
		require.NotEmpty(t, api.OpenAPI().Paths[prefix+"/me"].Get.Responses["200"].Content["application/json"].Example)
	}
	require.Equal(t, 2, seen, "the group's middleware")

	prefixed := http.NewServeMux()
	require.NoError(t, httpapi.Register(humago.NewWithPrefix(prefixed, "/api", huma.DefaultConfig("CRM", "1.0.0")), crm, asCEO))
	below := httptest.NewServer(prefixed)
	defer below.Close()
	status, _ := fetch(t, below.URL+"/api/crm/customers")
	require.Equal(t, 200, status)
}

func TestTwoAPIsMayStandSideBySide(t *testing.T) {
	crm := newManager(t)
	api := humago.New(http.NewServeMux(), huma.DefaultConfig("CRM", "1.0.0"))
	require.NoError(t, httpapi.Register(huma.NewGroup(api, "/a"), crm, asCEO))
	other := asCEO
	other.OperationIDPrefix = "other-"
	require.NoError(t, httpapi.Register(huma.NewGroup(api, "/b"), crm, other))
	require.Equal(t, "cims-get-me", api.OpenAPI().Paths["/a/me"].Get.OperationID)
	require.Equal(t, "other-get-me", api.OpenAPI().Paths["/b/me"].Get.OperationID)
}

// shopError is a host's own error model.
type shopError struct {
	Status  int    `json:"-"`
	Message string `json:"message"`
}

func (e *shopError) Error() string  { return e.Message }
func (e *shopError) GetStatus() int { return e.Status }

func TestHostsErrorModelApplies(t *testing.T) {
	crm := newManager(t)
	original := huma.NewError
	huma.NewError = func(status int, message string, _ ...error) huma.StatusError {
		return &shopError{Status: status, Message: "shop: " + message}
	}
	t.Cleanup(func() { huma.NewError = original })
	mux := http.NewServeMux()
	config := huma.DefaultConfig("CRM", "1.0.0")
	config.CreateHooks = nil
	api := humago.New(mux, config)
	require.NoError(t, httpapi.Register(api, crm, asCEO))
	server := httptest.NewServer(mux)
	defer server.Close()
	status, text := fetch(t, server.URL+"/crm/customers/99")
	require.Equal(t, 404, status)
	require.JSONEq(t, `{"message": "shop: Mijoz topilmadi"}`, text)
	content := api.OpenAPI().Paths["/me"].Get.Responses["401"].Content
	require.Contains(t, content, "application/json")
	require.Equal(t, "#/components/schemas/ShopError", content["application/json"].Schema.Ref)
}

func TestSecurityIsDocumentedAsTheHostHasIt(t *testing.T) {
	api := humago.New(http.NewServeMux(), huma.DefaultConfig("CRM", "1.0.0"))
	options := asCEO
	options.Security = []map[string][]string{{"session": {}}}
	require.NoError(t, httpapi.Register(api, newManager(t), options))
	require.Equal(t, options.Security, api.OpenAPI().Paths["/me"].Get.Security)
	require.Empty(t, api.OpenAPI().Components.SecuritySchemes, "the host documents its own")
}

func TestHostsTransformersApply(t *testing.T) {
	mux := http.NewServeMux()
	config := huma.DefaultConfig("CRM", "1.0.0")
	fail := false
	config.Transformers = []huma.Transformer{func(_ huma.Context, _ string, v any) (any, error) {
		if fail {
			return nil, io.ErrUnexpectedEOF
		}
		return map[string]any{"data": v}, nil
	}}
	api := humago.New(mux, config)
	require.NoError(t, httpapi.Register(api, newManager(t), asCEO))
	server := httptest.NewServer(mux)
	defer server.Close()
	_, text := fetch(t, server.URL+"/me")
	require.Contains(t, text, `{"data":{"id":1,`)
	fail = true
	status, text := fetch(t, server.URL+"/me")
	require.Equal(t, 500, status)
	require.Empty(t, text, "nothing half done")
}

func TestDefaultLanguage(t *testing.T) {
	crm := newManager(t)
	type texts struct{ route, router string } // of 404
	uz := texts{"Mijoz topilmadi", "Bunday manzil yo'q"}
	ru := texts{"Клиент не найден", "Такого адреса нет"}
	en := texts{"Customer not found", "There is no such address"}
	for language, preset := range map[string]texts{"": uz, "uz": uz, "ru": ru, "en": en} {
		options := asCEO
		options.DefaultLanguage = language
		mux := http.NewServeMux()
		api := humago.New(mux, huma.DefaultConfig("CRM", "1.0.0"))
		require.NoError(t, httpapi.Register(api, crm, options))
		server := httptest.NewServer(options.Problems(mux))
		t.Cleanup(server.Close)
		for accept, want := range map[string]texts{
			"": preset, "*": preset, "fr, de;q=0.5": preset, "fr, uz;q=0.1": uz, "ru": ru, "en-GB, *;q=0.1": en,
		} {
			require.Equal(t, want.route, problemDetail(t, server.URL+"/crm/customers/99", accept), "default %q, Accept-Language %q", language, accept)
			require.Equal(t, want.router, problemDetail(t, server.URL+"/nowhere", accept), "default %q, Accept-Language %q", language, accept)
		}
		op := api.OpenAPI().Paths["/crm/customers/{customer_id}"].Get
		example, err := json.Marshal(op.Responses["404"].Content["application/problem+json"].Example)
		require.NoError(t, err)
		require.Contains(t, string(example), preset.route, "the document shows what is answered")
		header := op.Parameters[slices.IndexFunc(op.Parameters, func(p *huma.Param) bool { return p.Name == "Accept-Language" })]
		require.Equal(t, cmp.Or(language, "uz"), header.Schema.Default)
	}
}

func TestRegisterRefusesAnUnknownDefaultLanguage(t *testing.T) {
	for _, language := range []string{"fr", "EN", "en-GB", " "} {
		options := asCEO
		options.DefaultLanguage = language
		api := humago.New(http.NewServeMux(), huma.DefaultConfig("CRM", "1.0.0"))
		require.ErrorContains(t, httpapi.Register(api, newManager(t), options), "DefaultLanguage")
		require.Empty(t, api.OpenAPI().Paths, "nothing is mounted")
	}
}

func problemDetail(t *testing.T, url, acceptLanguage string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	if acceptLanguage != "" {
		request.Header.Set("Accept-Language", acceptLanguage)
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusNotFound, response.StatusCode)
	var problem struct{ Detail string }
	require.NoError(t, json.NewDecoder(response.Body).Decode(&problem))
	return problem.Detail
}
