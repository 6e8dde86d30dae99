package contract

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"
)

// Operations returns every operation of a document by "GET /path".
func Operations(document *huma.OpenAPI) map[string]*huma.Operation {
	all := map[string]*huma.Operation{}
	for path, item := range document.Paths {
		for method, op := range map[string]*huma.Operation{"GET": item.Get, "POST": item.Post, "PUT": item.Put, "DELETE": item.Delete} {
			if op != nil {
				all[method+" "+path] = op
			}
		}
	}
	return all
}

// operations returns those of the routes, without the prefix.
func (s *Server) operations() map[string]*huma.Operation {
	all := map[string]*huma.Operation{}
	for route, op := range Operations(s.API.OpenAPI()) {
		method, path, _ := strings.Cut(route, " ")
		if path, ours := strings.CutPrefix(path, s.host.Prefix); ours {
			all[method+" "+path] = op
		}
	}
	return all
}

// routeOf returns the route that serves a path.
func (s *scene) routeOf(t *testing.T, method, path string) string {
	t.Helper()
	path, _, _ = strings.Cut(path, "?")
	for route := range s.routes {
		template := regexp.MustCompile(`\{\w+\}`).ReplaceAllString(route, `\d+`)
		if regexp.MustCompile("^" + template + "$").MatchString(method + " " + path) {
			return route
		}
	}
	require.Fail(t, "no route serves "+method+" "+path)
	return ""
}

// isDocumented checks an answer of a route against the document.
func (s *scene) isDocumented(t *testing.T, route string, a answer) {
	t.Helper()
	response := s.routes[route].Responses[strconv.Itoa(a.status)]
	require.NotNil(t, response, "%s: %d %s", route, a.status, a.text)
	if a.status == http.StatusNoContent {
		return
	}
	content := response.Content[a.header.Get("Content-Type")]
	require.NotNil(t, content, "%s: %d %s", route, a.status, a.header.Get("Content-Type"))
	var value any
	a.read(t, &value)
	result := &huma.ValidateResult{}
	huma.Validate(s.API.OpenAPI().Components.Schemas, content.Schema, huma.NewPathBuffer(nil, 0), huma.ModeReadFromServer, value, result)
	require.Empty(t, result.Errors, "%s: %s", route, a.text)
}

// testAnswersAreAsDocumented checks real answers against the document: each
// route's to a good request and to those that any route refuses, then answers
// that depend on what is stored.
func testAnswersAreAsDocumented(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, server *Server) {
		s := newScene(t, server)
		lead := s.lead(t)
		for _, route := range slices.Sorted(maps.Keys(s.routes)) {
			of := target{lead: lead, fresh: true}
			good := s.good(t, route, of).do(t).is(t, successOf(s.routes[route]))
			s.isDocumented(t, route, good)

			unknown := s.good(t, route, of)
			unknown.path += "?unknown=1"
			refused := []*call{
				unknown,
				s.good(t, route, of).with("Authorization"),
				s.good(t, route, of).with("Accept", "text/html"),
			}
			if s.namesEntry(t, route) {
				refused = append(refused, s.good(t, route, target{lead: absentID}))
			}
			if s.routes[route].RequestBody != nil {
				broken := s.good(t, route, of)
				broken.body = strings.NewReader("{")
				refused = append(refused, broken, s.good(t, route, of).with("Content-Type", "text/plain"))
			}
			for _, request := range refused {
				a := request.do(t)
				require.GreaterOrEqual(t, a.status, 400, "%s: %s", route, a.text)
				s.isDocumented(t, route, a)
			}
		}

		status := s.post(t, "/management/statuses", statusBody).is(t, 201).object(t)
		statusPath := fmt.Sprintf("/management/statuses/%v", status["id"])
		sellerPath := fmt.Sprintf("/crm/sales-managers/%d", s.seller)
		for _, request := range []struct {
			method, path, body string
			status             int
		}{
			{"POST", "/management/statuses", statusBody, 409},
			{"PUT", statusPath, `{"color": null, "description": null}`, 200},
			{"PUT", fmt.Sprintf("/management/roles/%d", s.entries["{role_id}"]), `{"description": null}`, 200},
			{"POST", "/crm/customers", `{"full_name": "Aziza", "status_name": "hot"}`, 201},
			{"POST", "/crm/customers", `{"full_name": 1}`, 422},
			{"DELETE", statusPath, "", 409},
			{"GET", "/management/audit?since=x", "", 422},
			{"PUT", sellerPath, `{"paused": true}`, 200},
			{"POST", "/crm/customers", `{"full_name": "Waits"}`, 201},
			{"GET", "/crm/customers?unassigned=true", "", 200},
			{"POST", "/crm/assign-backlog", "", 200},
			{"DELETE", statusPath + "?move_to=contacted", "", 204},
		} {
			a := s.request(t, request.method, request.path, request.body).do(t).is(t, request.status)
			s.isDocumented(t, s.routeOf(t, request.method, request.path), a)
		}
	})
}
