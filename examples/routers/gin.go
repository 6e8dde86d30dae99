package main

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"

	"github.com/cimskit/cims/httpapi"
)

// onGin mounts the routes on gin. By default gin answers 404 instead of 405, redirects
// paths with a trailing slash, and treats %2F as a slash.
func onGin(engine *gin.Engine, mount func(huma.API) error) (http.Handler, error) {
	engine.HandleMethodNotAllowed, engine.RedirectTrailingSlash, engine.UseRawPath = true, false, true
	api := humagin.New(engine, huma.DefaultConfig("My CRM", "1.0.0"))
	return httpapi.Problems(engine, nil), mount(api)
}
