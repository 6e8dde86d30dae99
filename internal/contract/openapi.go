package contract

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

// Operations lists every operation as "GET /path".
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

// operations are those of the routes, without the prefix.
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

// testAnswersAreAsDocumented checks real answers against the document.
func testAnswersAreAsDocumented(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		s.user(t, cims.RoleSalesManager, "Dilshod")
		checked := map[string]bool{}
		for _, request := range []struct{ method, path, route, body string }{
			{"POST", "/management/statuses", "/management/statuses", statusBody},
			{"POST", "/management/statuses", "/management/statuses", statusBody},
			{"GET", "/management/statuses", "/management/statuses", ""},
			{"PUT", "/management/statuses/7", "/management/statuses/{status_id}", `{"color": null}`},
			{"GET", "/management/roles", "/management/roles", ""},
			{"POST", "/management/roles", "/management/roles", statusBody},
			{"PUT", "/management/roles/6", "/management/roles/{role_id}", `{"description": null}`},
			{"GET", "/management/users", "/management/users", ""},
			{"POST", "/management/users", "/management/users", `{"email": "a@b", "name": "A", "surname": "B", "role_name": "member"}`},
			{"PUT", "/management/users/3", "/management/users/{user_id}", `{"name": "C"}`},
			{"GET", "/me", "/me", ""},
			{"GET", "/management/audit", "/management/audit", ""},
			{"GET", "/management/audit?since=x", "/management/audit", ""},
			{"POST", "/crm/customers", "/crm/customers", `{"full_name": "Aziza", "status_name": "hot"}`},
			{"POST", "/crm/customers", "/crm/customers", `{"full_name": 1}`},
			{"POST", "/crm/customers", "/crm/customers", `{`},
			{"DELETE", "/management/statuses/7", "/management/statuses/{status_id}", ""},
			{"GET", "/crm/customers", "/crm/customers", ""},
			{"GET", "/crm/customers?x=1", "/crm/customers", ""},
			{"GET", "/crm/customers/1", "/crm/customers/{customer_id}", ""},
			{"GET", "/crm/customers/9", "/crm/customers/{customer_id}", ""},
			{"PUT", "/crm/customers/1/status", "/crm/customers/{customer_id}/status", `{"status_name": "finished"}`},
			{"GET", "/crm/customers/1/history", "/crm/customers/{customer_id}/history", ""},
			{"GET", "/crm/customer/1/sales-manager", "/crm/customer/{customer_id}/sales-manager", ""},
			{"GET", "/crm/sales-managers", "/crm/sales-managers", ""},
			{"PUT", "/crm/sales-managers/2", "/crm/sales-managers/{user_id}", `{"paused": true}`},
			{"POST", "/crm/assign-sales-manager", "/crm/assign-sales-manager", `{"customer_id": 1, "sales_manager_id": 2}`},
			{"POST", "/crm/assign-backlog", "/crm/assign-backlog", ""},
			{"POST", "/crm/customers", "/crm/customers", `{"full_name": "Waits"}`},
			{"GET", "/crm/conversion-rate", "/crm/conversion-rate", ""},
			{"DELETE", "/management/statuses/7?move_to=contacted", "/management/statuses/{status_id}", ""},
			{"DELETE", "/management/roles/6", "/management/roles/{role_id}", ""},
		} {
			a := s.request(t, request.method, request.path, request.body).do(t)
			op := s.operations()[request.method+" "+request.route]
			response := op.Responses[fmt.Sprint(a.status)]
			require.NotNil(t, response, "%s %s: %d %s", request.method, request.path, a.status, a.text)
			checked[request.method+" "+request.route] = true
			if a.status == http.StatusNoContent {
				continue
			}
			content := response.Content[a.header.Get("Content-Type")]
			require.NotNil(t, content)
			var value any
			a.read(t, &value)
			result := &huma.ValidateResult{}
			huma.Validate(s.API.OpenAPI().Components.Schemas, content.Schema, huma.NewPathBuffer(nil, 0), huma.ModeReadFromServer, value, result)
			require.Empty(t, result.Errors, "%s %s: %s", request.method, request.path, a.text)
		}
		require.Len(t, checked, 24, "every route was asked")
	})
}
