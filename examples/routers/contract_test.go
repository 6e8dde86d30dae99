package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/gofiber/fiber/v3"
	"github.com/labstack/echo/v5"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims/internal/contract"
)

// The hosts under test mount the routes below a prefix. They also have a shop, whose types
// have the same names, and a middleware of their router.

type (
	Status   struct{ Name string }
	Customer struct{ Name string }
)

func withShop(register func(huma.API) error) func(huma.API) error {
	type answer struct {
		Body struct {
			Status   Status
			Customer Customer
		}
	}
	return func(api huma.API) error {
		for _, id := range []string{"list-statuses", "get-customer"} {
			huma.Register(api, huma.Operation{OperationID: id, Method: http.MethodGet, Path: "/shop/" + id}, func(context.Context, *struct{}) (*answer, error) {
				return &answer{}, nil
			})
		}
		return register(huma.NewGroup(api, "/api/v1"))
	}
}

// seenBy is the header that the host's middleware sets.
const seenBy = "X-Seen-By"

type serving func(t *testing.T, mount func(huma.API) error) (url string)

var hosts = map[string]serving{
	"net-http": func(t *testing.T, mount func(huma.API) error) string {
		t.Helper()
		handler, err := onNetHTTP(http.NewServeMux(), mount)
		require.NoError(t, err)
		return listen(t, seen("net-http")(handler))
	},
	"chi": func(t *testing.T, mount func(huma.API) error) string {
		t.Helper()
		router := chi.NewRouter()
		router.Use(seen("chi"))
		handler, err := onChi(router, mount)
		require.NoError(t, err)
		return listen(t, handler)
	},
	"gin": func(t *testing.T, mount func(huma.API) error) string {
		t.Helper()
		gin.SetMode(gin.ReleaseMode)
		engine := gin.New()
		engine.Use(func(c *gin.Context) {
			c.Header(seenBy, "gin")
			c.Next()
		})
		handler, err := onGin(engine, mount)
		require.NoError(t, err)
		return listen(t, handler)
	},
	"echo": func(t *testing.T, mount func(huma.API) error) string {
		t.Helper()
		e := echo.New()
		e.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
			return func(c *echo.Context) error {
				c.Response().Header().Set(seenBy, "echo")
				return next(c)
			}
		})
		handler, err := onEcho(e, mount)
		require.NoError(t, err)
		return listen(t, handler)
	},
	"fiber": func(t *testing.T, mount func(huma.API) error) string {
		t.Helper()
		app := newFiber()
		app.Use(func(c fiber.Ctx) error {
			c.Set(seenBy, "fiber")
			return c.Next()
		})
		require.NoError(t, onFiber(app, mount))
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		served := make(chan error, 1)
		go func() { served <- app.Listener(listener, fiber.ListenConfig{DisableStartupMessage: true}) }()
		t.Cleanup(func() {
			require.NoError(t, app.Shutdown())
			require.NoError(t, <-served)
		})
		return "http://" + listener.Addr().String()
	},
}

// seen is a middleware for net/http.
func seen(by string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(seenBy, by)
			next.ServeHTTP(w, r)
		})
	}
}

func listen(t *testing.T, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func TestContract(t *testing.T) {
	for name, serve := range hosts {
		t.Run(name, func(t *testing.T) {
			fiber := name == "fiber"
			contract.Run(t, contract.Host{
				Prefix: "/api/v1", RouterOnly: true,
				AnswersHead: name == "net-http" || fiber, AnswersOptions: name == "echo",
				MissesHangUps: fiber, JoinsTypes: fiber, WaitsForBodies: fiber, CutsLongBodies: fiber, OnlyStandard: fiber, MaxHeaderBytes: map[bool]int{true: 16 << 10}[fiber],
				Serve: func(t *testing.T, register func(huma.API) error, _ *slog.Logger) string {
					t.Helper()
					return serve(t, withShop(register))
				},
			})
		})
	}
}

// TestHostsOwn checks that the host's routes are unchanged and take precedence over mounted
// ones.
func TestHostsOwn(t *testing.T) {
	for name, serve := range hosts {
		t.Run(name, func(t *testing.T) {
			var url string
			server := contract.NewServer(t, contract.Host{Prefix: "/api/v1", Serve: func(t *testing.T, register func(huma.API) error, _ *slog.Logger) string {
				t.Helper()
				url = serve(t, withShop(register))
				return url
			}})
			shop := get(t, url+"/shop/list-statuses", "")
			require.Equal(t, 200, shop.StatusCode)
			require.Equal(t, name, shop.Header.Get(seenBy))
			me := get(t, server.URL+"/me", contract.Token(t, contract.CEOEmail))
			require.Equal(t, 200, me.StatusCode)
			require.Equal(t, name, me.Header.Get(seenBy))
			names := server.API.OpenAPI().Components.Schemas.Map()
			for _, schema := range []string{"Status", "Customer", "CimsStatus", "CimsCustomer"} {
				require.Contains(t, names, schema)
			}
		})
	}
}

// shopError is the host's own error model.
type shopError struct {
	Status  int    `json:"-"`
	Message string `json:"message"`
}

func (e *shopError) Error() string  { return e.Message }
func (e *shopError) GetStatus() int { return e.Status }

// TestHostsErrorModel checks that all refusals use the host's error model, also those of the
// router.
func TestHostsErrorModel(t *testing.T) {
	original := huma.NewError
	huma.NewError = func(status int, message string, _ ...error) huma.StatusError {
		return &shopError{Status: status, Message: "shop: " + message}
	}
	t.Cleanup(func() { huma.NewError = original })
	for name, serve := range hosts {
		t.Run(name, func(t *testing.T) {
			server := contract.NewServer(t, contract.Host{Prefix: "/api/v1", Serve: func(t *testing.T, register func(huma.API) error, _ *slog.Logger) string {
				t.Helper()
				return serve(t, withShop(register))
			}})
			for path, want := range map[string]string{
				"/crm/customers/99": "shop: Mijoz topilmadi",
				"/nowhere":          "shop: Bunday manzil yo'q",
			} {
				answer := get(t, server.URL+path, contract.Token(t, contract.CEOEmail))
				require.Equal(t, 404, answer.StatusCode)
				var refusal shopError
				require.NoError(t, json.NewDecoder(answer.Body).Decode(&refusal))
				require.Equal(t, want, refusal.Message)
			}
		})
	}
}

// TestServe starts the server of the program.
func TestServe(t *testing.T) {
	for name := range hosts {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			served := make(chan error, 1)
			contract.NewServer(t, contract.Host{Prefix: "/api", Serve: func(t *testing.T, register func(huma.API) error, _ *slog.Logger) string {
				t.Helper()
				listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
				require.NoError(t, err)
				go func() {
					served <- serve(ctx, strings.Replace(name, "-", "/", 1), listener, func(api huma.API) error {
						return register(huma.NewGroup(api, "/api"))
					})
				}()
				url := "http://" + listener.Addr().String()
				require.Equal(t, 401, get(t, url+"/api/me", "").StatusCode)
				return url
			}})
			stop()
			require.NoError(t, <-served)
		})
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.ErrorContains(t, serve(t.Context(), "other", listener, nil), "other")
}

func get(t *testing.T, url, token string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+token)
	request.Close = true // so that no server waits for another
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}
