package main

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"

	"github.com/cimskit/cims/httpapi"
)

// onGin mounts on gin, which by itself answers 404 for 405, redirects to paths
// without a slash at the end, and takes %2F for a slash.
func onGin(engine *gin.Engine, mount func(huma.API) error) (http.Handler, error) {
	engine.HandleMethodNotAllowed, engine.RedirectTrailingSlash, engine.UseRawPath = true, false, true
	api := humagin.New(engine, huma.DefaultConfig("My CRM", "1.0.0"))
	return httpapi.Problems(engine, nil), mount(api)
}
