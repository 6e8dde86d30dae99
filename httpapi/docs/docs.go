// Package docs serves a page for reading and trying out an API. The page and its
// files are embedded: it works without internet access, and under a
// Content-Security-Policy that allows no other origin and no inline script.
//
//	config := huma.DefaultConfig("CRM", "1.0.0")
//	config.DocsPath = "" // huma's own page loads its scripts from another host
//	config.OpenAPIPath = ""
//	…
//	err := docs.Register(api)
package docs

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
)

//go:embed index.html init.js swagger-ui/*.gz
var files embed.FS

var page = template.Must(template.ParseFS(files, "index.html"))

const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Register serves the page at /docs and its files below that path. It serves the OpenAPI
// document at /openapi.json, and for tools that don't read version 3.1 at /openapi-3.0.json,
// unless huma already does (Config.OpenAPIPath of the API). None requires authentication, unless a middleware does. The first request creates the document
// from the routes registered by then. Register returns an error if one of the paths is
// taken.
func Register(api huma.API) (err error) {
	if api == nil {
		return errors.New("docs: Register needs an API")
	}
	defer func() { // routers panic where a path is taken
		if fault := recover(); fault != nil {
			err = fmt.Errorf("docs: %v", fault)
		}
	}()
	script, err := files.ReadFile("init.js")
	if err != nil {
		return err
	}
	serve(api, "/docs/init.js", "text/javascript; charset=utf-8", func() ([]byte, error) { return script, nil })
	for name, contentType := range map[string]string{
		"swagger-ui.css":       "text/css; charset=utf-8",
		"swagger-ui-bundle.js": "text/javascript; charset=utf-8",
	} {
		compressed, err := files.ReadFile("swagger-ui/" + name + ".gz")
		if err != nil {
			return err
		}
		serveCompressed(api, "/docs/"+name, contentType, compressed)
	}
	document := "/openapi.json"
	_, grouped := api.(*huma.Group) // huma serves it at the root only
	if configured, ok := api.(interface{ Config() huma.Config }); ok && !grouped && configured.Config().OpenAPIPath != "" {
		document = configured.Config().OpenAPIPath + ".json"
	} else {
		serve(api, document, "application/json", sync.OnceValues(func() ([]byte, error) { return json.Marshal(api.OpenAPI()) }))
		serve(api, "/openapi-3.0.json", "application/json", sync.OnceValues(func() ([]byte, error) { return api.OpenAPI().Downgrade() }))
	}
	serve(api, "/docs", "text/html; charset=utf-8", sync.OnceValues(func() ([]byte, error) {
		title := "API"
		if info := api.OpenAPI().Info; info != nil && info.Title != "" {
			title = info.Title
		}
		var text bytes.Buffer
		// The paths are relative to the page, so that they work below any prefix.
		err := page.Execute(&text, map[string]string{"Title": title, "Base": "docs", "Document": strings.TrimPrefix(document, "/")})
		return text.Bytes(), err
	}))
	return nil
}

func serve(api huma.API, path, contentType string, content func() ([]byte, error)) {
	handle(api, path, func(ctx huma.Context) {
		text, err := content()
		if err != nil {
			_ = huma.WriteErr(api, ctx, http.StatusInternalServerError, "") // it logs its own failure
			return
		}
		write(ctx, contentType, text)
	})
}

// serveCompressed serves a gzipped file as it is to clients that accept gzip, as
// every browser does.
func serveCompressed(api huma.API, path, contentType string, compressed []byte) {
	handle(api, path, func(ctx huma.Context) {
		ctx.SetHeader("Vary", "Accept-Encoding")
		if strings.Contains(ctx.Header("Accept-Encoding"), "gzip") {
			ctx.SetHeader("Content-Encoding", "gzip")
			write(ctx, contentType, compressed)
			return
		}
		text, err := decompress(compressed)
		if err != nil {
			_ = huma.WriteErr(api, ctx, http.StatusInternalServerError, "")
			return
		}
		write(ctx, contentType, text)
	})
}

func decompress(compressed []byte) ([]byte, error) {
	reader, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(reader)
}

// handle mounts a route that the OpenAPI document leaves out.
func handle(api huma.API, path string, handler func(huma.Context)) {
	op := &huma.Operation{Method: http.MethodGet, Path: path, Hidden: true}
	api.Adapter().Handle(op, api.Middlewares().Handler(handler))
}

func write(ctx huma.Context, contentType string, text []byte) {
	ctx.SetHeader("Content-Type", contentType)
	ctx.SetHeader("Content-Security-Policy", policy)
	ctx.SetHeader("X-Content-Type-Options", "nosniff")
	ctx.SetHeader("Referrer-Policy", "no-referrer")
	ctx.SetHeader("Cache-Control", "no-store")
	ctx.SetStatus(http.StatusOK)
	_, _ = ctx.BodyWriter().Write(text) // an error means that the client has hung up
}
