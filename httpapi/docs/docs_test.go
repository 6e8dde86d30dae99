package docs_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims/httpapi/docs"
)

func newAPI(t *testing.T, openAPIPath, title string) (huma.API, *httptest.Server) {
	t.Helper()
	mux := http.NewServeMux()
	config := huma.DefaultConfig(title, "1.0.0")
	config.DocsPath, config.OpenAPIPath = "", openAPIPath
	api := humago.New(mux, config)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return api, server
}

// get asks without the client's own decompression.
func get(t *testing.T, url, encoding string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	request.Header.Set("Accept-Encoding", encoding)
	response, err := http.DefaultTransport.RoundTrip(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response, string(text)
}

func TestPageLoadsNothingFromElsewhere(t *testing.T) {
	api, server := newAPI(t, "", "CRM")
	require.NoError(t, docs.Register(api))
	response, page := get(t, server.URL+"/docs", "gzip")
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "text/html; charset=utf-8", response.Header.Get("Content-Type"))
	policy := response.Header.Get("Content-Security-Policy")
	require.Contains(t, policy, "default-src 'none'; script-src 'self'; style-src 'self'")
	require.NotContains(t, policy, "unsafe")
	require.NotContains(t, page, "://")
	require.NotRegexp(t, `<script[^>]*>[^<]`, page, "an inline script")

	links := regexp.MustCompile(`(?:href|src|data-url)="([^"]*)"`).FindAllStringSubmatch(page, -1)
	require.Len(t, links, 6)
	for _, link := range links {
		if link[1] == "data:," {
			continue
		}
		response, text := get(t, server.URL+"/"+link[1], "identity")
		require.Equal(t, http.StatusOK, response.StatusCode, link[1])
		require.NotEmpty(t, text)
		require.Equal(t, "nosniff", response.Header.Get("X-Content-Type-Options"))
		require.Equal(t, "no-store", response.Header.Get("Cache-Control"))
		require.Equal(t, "no-referrer", response.Header.Get("Referrer-Policy"))
		require.NotEmpty(t, response.Header.Get("Content-Security-Policy"))
	}
}

func TestAssetsAreServedCompressedOrNot(t *testing.T) {
	api, server := newAPI(t, "", "CRM")
	require.NoError(t, docs.Register(api))
	for _, name := range []string{"swagger-ui.css", "swagger-ui-bundle.js"} {
		response, compressed := get(t, server.URL+"/docs/"+name, "gzip, br")
		require.Equal(t, "gzip", response.Header.Get("Content-Encoding"))
		response, text := get(t, server.URL+"/docs/"+name, "identity")
		require.Empty(t, response.Header.Get("Content-Encoding"))
		require.Equal(t, "Accept-Encoding", response.Header.Get("Vary"))
		require.Greater(t, len(text), 3*len(compressed))
		require.Contains(t, text, "swagger-ui")
	}
}

func TestDocumentIsServedByWhoIsToldTo(t *testing.T) {
	for path, contentType := range map[string]string{"": "application/json", "/openapi": "application/openapi+json"} {
		api, server := newAPI(t, path, "CRM")
		require.NoError(t, docs.Register(api))
		response, document := get(t, server.URL+"/openapi.json", "identity")
		require.Equal(t, http.StatusOK, response.StatusCode)
		require.Equal(t, contentType, response.Header.Get("Content-Type"))
		require.Contains(t, document, `"openapi":"3.1.0"`)
		_, page := get(t, server.URL+"/docs", "identity")
		require.Contains(t, page, `data-url="openapi.json"`)
	}
}

func TestTitleIsEscaped(t *testing.T) {
	api, server := newAPI(t, "", "<script>alert(1)</script>")
	require.NoError(t, docs.Register(api))
	_, page := get(t, server.URL+"/docs", "identity")
	require.Contains(t, page, "<title>&lt;script&gt;alert(1)&lt;/script&gt;</title>")
}

func TestRegisterTellsWhatIsWrong(t *testing.T) {
	require.Error(t, docs.Register(nil))
	api, _ := newAPI(t, "", "CRM")
	require.NoError(t, docs.Register(api))
	require.Error(t, docs.Register(api), "the paths are taken")
}

func TestWorksBelowAPrefix(t *testing.T) {
	api, server := newAPI(t, "/openapi", "CRM") // which huma serves at the root
	require.NoError(t, docs.Register(huma.NewGroup(api, "/v1")))
	_, document := get(t, server.URL+"/v1/openapi.json", "identity")
	require.Contains(t, document, `"openapi":"3.1.0"`, "what the page asks for")
	response, _ := get(t, server.URL+"/v1/docs", "identity")
	require.Equal(t, http.StatusOK, response.StatusCode)
	response, _ = get(t, server.URL+"/v1/docs/init.js", "identity")
	require.Equal(t, http.StatusOK, response.StatusCode)
}

func TestDocumentForOlderTools(t *testing.T) {
	for _, servedByHuma := range []string{"", "/openapi"} {
		api, server := newAPI(t, servedByHuma, "CRM")
		huma.Get(api, "/leads", func(context.Context, *struct{}) (*struct{ Body []string }, error) { return nil, nil }) //nolint:nilnil // never called
		require.NoError(t, docs.Register(api))
		response, text := get(t, server.URL+"/openapi-3.0.json", "identity")
		require.Equal(t, http.StatusOK, response.StatusCode)
		var document struct {
			OpenAPI string
			Paths   map[string]any
		}
		require.NoError(t, json.Unmarshal([]byte(text), &document))
		require.Regexp(t, `^3\.0\.`, document.OpenAPI)
		require.Contains(t, document.Paths, "/leads")
	}
}
