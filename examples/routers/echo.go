package main

import (
	"cmp"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humaecho"
	"github.com/labstack/echo/v5"

	"github.com/cimskit/cims/httpapi"
)

// onEcho mounts the routes on echo. It turns echo's own refusals into plain text, which
// Problems replaces.
func onEcho(e *echo.Echo, mount func(huma.API) error) (http.Handler, error) {
	e.HTTPErrorHandler = func(c *echo.Context, err error) {
		status := cmp.Or(echo.StatusCode(err), http.StatusInternalServerError)
		http.Error(c.Response(), http.StatusText(status), status)
	}
	api := humaecho.New(e, huma.DefaultConfig("My CRM", "1.0.0"))
	return httpapi.Problems(e, nil), mount(api)
}
