package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/rs/cors"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi"
	"github.com/cimskit/cims/httpapi/docs"
	"github.com/cimskit/cims/httpapi/jwtauth"
)

// These timeouts close connections that are slow on purpose. httpapi limits the time of the
// request itself.
const (
	headerTime   = 5 * time.Second
	readTime     = 30 * time.Second
	writeTime    = 60 * time.Second
	importTime   = 15 * time.Minute // including the answer, which comes at the end
	idleTime     = 2 * time.Minute
	shutdownTime = 20 * time.Second
	maxHeader    = 32 << 10
)

// newHandler mounts everything on one router, as a host does.
func newHandler(crm *cims.Manager, secret []byte, origins []string, log *slog.Logger) (http.Handler, error) {
	auth, err := jwtauth.New(jwtauth.Config{Secret: secret})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	config := huma.DefaultConfig("cims", "1.0.0")
	config.DocsPath, config.OpenAPIPath, config.SchemasPath = "", "", "" // docs serves the first two without other hosts
	api := humago.New(mux, config)
	if err := httpapi.Register(api, crm, httpapi.Options{Authenticator: auth, ImportTimeout: importTime, Logger: log}); err != nil {
		return nil, err
	}
	if err := docs.Register(api); err != nil {
		return nil, err
	}
	mux.Handle("GET /{$}", http.RedirectHandler("/docs", http.StatusFound)) // the start page
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "up") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), headerTime)
		defer cancel()
		if err := crm.Ready(ctx); err != nil {
			log.WarnContext(ctx, "not ready", "error", err)
			w.Header().Set("Retry-After", "1")
			answer(w, http.StatusServiceUnavailable, "not ready")
			return
		}
		answer(w, http.StatusOK, "ready")
	})
	handler := patient(mux)
	if len(origins) > 0 {
		handler = cors.New(cors.Options{
			// Browsers send one Origin. With several, the package checks only the first.
			AllowOriginVaryRequestFunc: func(r *http.Request, origin string) (bool, []string) {
				return len(r.Header["Origin"]) == 1 && slices.ContainsFunc(origins, func(o string) bool { return strings.EqualFold(o, origin) }), nil
			},
			AllowedMethods: []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete},
			AllowedHeaders: []string{"Authorization", "Content-Type", "Accept-Language", "Idempotency-Key", "X-Request-ID"},
			ExposedHeaders: []string{"X-Request-ID", "Retry-After"},
			MaxAge:         600,
		}).Handler(handler)
	}
	return logged(httpapi.Problems(handler, log), log), nil
}

// patient allows more time for the answer of an import.
func patient(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/crm/customers/import" {
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(importTime)) // otherwise writeTime applies
		}
		next.ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(`{"status":"` + text + `"}` + "\n")) // the client may be gone
}

// logged logs every request, for -v. It logs neither headers nor queries, since these may
// hold secrets.
func logged(next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !log.Enabled(r.Context(), slog.LevelDebug) {
			next.ServeHTTP(w, r)
			return
		}
		begin := time.Now()
		recorder := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(recorder, r)
		log.DebugContext(r.Context(), "request", "method", r.Method, "path", r.URL.Path, "status", recorder.status,
			"duration", time.Since(begin), "request_id", w.Header().Get("X-Request-ID"))
	})
}

type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// serve serves until ctx ends. Then it finishes the requests in progress and accepts no
// others.
func serve(ctx context.Context, listener net.Listener, handler http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       readTime,
		WriteTimeout:      writeTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		// "OPTIONS *" gets the usual headers and problem document too.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	log.Info("shutting down")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	return server.Shutdown(ctx)
}
