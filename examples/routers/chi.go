package main

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"

	"github.com/cimskit/cims/httpapi"
)

// onChi mounts the routes on chi.
func onChi(router chi.Router, mount func(huma.API) error) (http.Handler, error) {
	api := humachi.New(router, huma.DefaultConfig("My CRM", "1.0.0"))
	return httpapi.Problems(router, nil), mount(api)
}
