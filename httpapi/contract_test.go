package httpapi_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims/httpapi"
	"github.com/cimskit/cims/internal/contract"
)

// netHTTP has only the routes. The module examples/routers has hosts on other routers, with
// their own routes and a middleware.
var netHTTP = contract.Host{AnswersHead: true, Serve: func(t *testing.T, register func(huma.API) error, logger *slog.Logger) string {
	t.Helper()
	mux := http.NewServeMux()
	require.NoError(t, register(humago.New(mux, huma.DefaultConfig("CRM", "1.0.0"))))
	server := httptest.NewServer(httpapi.Problems(mux, logger))
	t.Cleanup(server.Close)
	return server.URL
}}

func TestContract(t *testing.T) { contract.Run(t, netHTTP) }
