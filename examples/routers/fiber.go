package main

import (
	"errors"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v3"

	"github.com/cimskit/cims/httpapi"
)

// newFiber returns an app that matches paths exactly, streams bodies, accepts tokens of up
// to 8 KiB, and answers its own refusals with problem documents. After a refusal it closes
// the connection, since fiber would take the rest of the body for the next request. The
// server waits up to ReadTimeout for a body, or its first 4 MB, before it passes a request
// on.
func newFiber() *fiber.App {
	return fiber.New(fiber.Config{
		CaseSensitive: true, StrictRouting: true, StreamRequestBody: true, ReadBufferSize: 16 << 10, ReadTimeout: 10 * time.Second,
		ErrorHandler: func(c fiber.Ctx, err error) error {
			refusal := fiber.ErrInternalServerError
			errors.As(err, &refusal) // otherwise refusal keeps its value
			c.Set("Connection", "close")
			return c.Status(refusal.Code).Send(httpapi.Problem(refusal.Code, c.Get("X-Request-ID"), c.Get("Accept-Language"), c.Set))
		},
	})
}

// onFiber mounts the routes on fiber.
func onFiber(app *fiber.App, mount func(huma.API) error) error {
	return mount(humafiber.New(app, huma.DefaultConfig("My CRM", "1.0.0")))
}
