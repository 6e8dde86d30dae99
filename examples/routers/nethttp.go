package main

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/cimskit/cims/httpapi"
)

// onNetHTTP mounts the routes on the router of net/http.
func onNetHTTP(mux *http.ServeMux, mount func(huma.API) error) (http.Handler, error) {
	api := humago.New(mux, huma.DefaultConfig("My CRM", "1.0.0"))
	return httpapi.Problems(mux, nil), mount(api)
}
