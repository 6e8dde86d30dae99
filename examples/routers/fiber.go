package main

import (
	"errors"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v3"

	"github.com/cimskit/cims/httpapi"
)

// newFiber makes an app that knows one spelling of a path, hands bodies on as they
// come, takes tokens of up to 8 KiB, and words its own refusals as problems. It
// closes the connection after each: what is left of the body would be taken for
// the next request. Its server waits for a body, or the first 4 MB of one, before
// it hands a request on: ReadTimeout is how long.
func newFiber() *fiber.App {
	return fiber.New(fiber.Config{
		CaseSensitive: true, StrictRouting: true, StreamRequestBody: true, ReadBufferSize: 16 << 10, ReadTimeout: 10 * time.Second,
		ErrorHandler: func(c fiber.Ctx, err error) error {
			refusal := fiber.ErrInternalServerError
			errors.As(err, &refusal) // else it stays what it is
			c.Set("Connection", "close")
			return c.Status(refusal.Code).Send(httpapi.Problem(refusal.Code, c.Get("X-Request-ID"), c.Get("Accept-Language"), c.Set))
		},
	})
}

// onFiber mounts on fiber.
func onFiber(app *fiber.App, mount func(huma.API) error) error {
	return mount(humafiber.New(app, huma.DefaultConfig("My CRM", "1.0.0")))
}
