package contract

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

// absentID is the id of nothing.
const absentID = 1 << 40

// scene makes requests to any route, out of the examples of the document.
type scene struct {
	*Server
	routes  map[string]*huma.Operation // by "GET /path"
	seller  int64                      // a sales manager
	entries map[string]int64           // by the parameter that names them
	n       int                        // requests made
}

func newScene(t *testing.T, s *Server) *scene {
	t.Helper()
	seller := s.user(t, cims.RoleSalesManager, "Seller").ID
	scene := &scene{Server: s, routes: s.operations(), seller: seller, entries: map[string]int64{}}
	for _, parameter := range []string{"{status_id}", "{role_id}", "{user_id}"} {
		scene.entries[parameter] = scene.entry(t, parameter)
	}
	return scene
}

// target says which entries a request is about.
type target struct {
	lead  int64
	fresh bool // an entry of the request's own, which it may change or delete
}

// good makes a request to a route that succeeds for anybody who may make it.
func (s *scene) good(t *testing.T, route string, of target) *call {
	t.Helper()
	s.n++
	method, path, _ := strings.Cut(route, " ")
	entry := func(parameter string) string {
		switch {
		case !strings.Contains(path, parameter):
			return ""
		case of.lead == absentID:
			return strconv.Itoa(absentID)
		case strings.HasPrefix(path, "/crm/sales-managers/"):
			return strconv.FormatInt(s.seller, 10)
		case !of.fresh:
			return strconv.FormatInt(s.entries[parameter], 10)
		}
		return strconv.FormatInt(s.entry(t, parameter), 10)
	}
	path = strings.NewReplacer("{customer_id}", strconv.FormatInt(of.lead, 10),
		"{status_id}", entry("{status_id}"), "{role_id}", entry("{role_id}"), "{user_id}", entry("{user_id}")).Replace(path)
	body := s.routes[route].RequestBody
	if body == nil {
		return s.request(t, method, path, nil)
	}
	types := slices.Sorted(maps.Keys(body.Content))
	contentType := types[s.n%len(types)] // each in turn
	example := body.Content[contentType].Example
	require.NotNil(t, example, "%s has no example of its body", route)
	if text, ok := example.(string); ok {
		return s.request(t, method, path, text).with("Content-Type", contentType)
	}
	return s.request(t, method, path, s.fill(t, example, of)).with("Content-Type", contentType)
}

// fill puts into an example what depends on the database: ids that exist, names
// that are new, and no rights, which not everybody may give.
func (s *scene) fill(t *testing.T, example any, of target) map[string]any {
	t.Helper()
	body := exampleOf(t, example)
	for field, value := range map[string]any{
		"customer_id":      of.lead,
		"sales_manager_id": s.seller,
		"name":             fmt.Sprint("name", s.n),
		"email":            fmt.Sprintf("name%d@example.com", s.n),
		"role_name":        "customer",
		"permissions":      []string{},
	} {
		if _, ok := body[field]; ok {
			body[field] = value
		}
	}
	return body
}

// exampleOf returns the fields of an example of a JSON body.
func exampleOf(t *testing.T, example any) map[string]any {
	t.Helper()
	text, err := json.Marshal(example)
	require.NoError(t, err)
	var body map[string]any
	require.NoError(t, json.Unmarshal(text, &body))
	return body
}

// namesEntry reports whether a request to a route names an entry, which may be absent.
func (s *scene) namesEntry(t *testing.T, route string) bool {
	t.Helper()
	if op := s.routes[route]; takesJSON(op) {
		if _, ok := exampleOf(t, op.RequestBody.Content["application/json"].Example)["customer_id"]; ok {
			return true
		}
	}
	return strings.Contains(route, "{")
}

// entry creates an entry for a parameter of a path and returns its id.
func (s *scene) entry(t *testing.T, parameter string) int64 {
	t.Helper()
	name := fmt.Sprintf("entry%d", s.n)
	switch parameter {
	case "{status_id}":
		status, err := s.CRM.CreateStatus(t.Context(), system, cims.NewStatus{Name: name, DisplayName: name})
		require.NoError(t, err)
		return status.ID
	case "{role_id}":
		return s.role(t, name).ID
	default:
		return s.user(t, "customer", name).ID
	}
}

func (s *Server) role(t *testing.T, name string, permissions ...cims.Permission) cims.Role {
	t.Helper()
	role, err := s.CRM.CreateRole(t.Context(), system, cims.NewRole{Name: name, DisplayName: name, Permissions: permissions})
	require.NoError(t, err)
	return role
}

func (s *Server) lead(t *testing.T) int64 {
	t.Helper()
	lead, err := s.CRM.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Lead"})
	require.NoError(t, err)
	return lead.ID
}

// state is all that a request could have changed, as one text.
func (s *Server) state(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, path := range []string{
		"/management/statuses", "/management/roles", "/management/users?limit=200", "/crm/sales-managers", "/crm/customers?limit=200", "/management/audit?limit=200",
	} {
		all.WriteString(s.get(t, path).is(t, 200).text)
	}
	return all.String()
}

// asker is a client that makes requests, and has a lead.
type asker struct {
	name    string
	holds   []cims.Permission
	refusal int // at every door, if not 0
	sub     string
	lead    int64
}

// ask makes a request in its name.
func (a asker) ask(t *testing.T, c *call) answer {
	t.Helper()
	if a.sub == "" {
		return c.with("Authorization").do(t)
	}
	return c.as(t, a.sub).do(t)
}

// askers returns nobody, a holder of each permission alone, a user of each default
// role, and users who have lost their rights.
func (s *scene) askers(t *testing.T) []asker {
	t.Helper()
	reader := []cims.Permission{"statuses:read", "roles:read", "leads:read", "analytics:read"}
	holds := map[string][]cims.Permission{
		"ceo": cims.AllPermissions(), "financial_director": reader, "member": reader, "customer": nil,
		"sales_manager": {"statuses:read", "leads:read:own", "leads:write:own", "analytics:read"},
	}
	s.role(t, "сeo") // its first letter is Cyrillic
	holds["сeo"] = nil
	for _, permission := range cims.AllPermissions() {
		name := strings.ReplaceAll(string(permission), ":", "_")
		s.role(t, name, permission)
		holds[name] = []cims.Permission{permission}
	}
	former := s.role(t, "former", cims.AllPermissions()...)

	all := []asker{{name: "nobody", refusal: 401, lead: s.lead(t)}}
	add := func(role string, holds []cims.Permission, refusal int) cims.User {
		name := fmt.Sprintf("asker%d", len(all))
		user := s.user(t, cims.RoleSalesManager, name)
		lead := s.lead(t)
		_, err := s.CRM.Assign(t.Context(), system, lead, user.ID)
		require.NoError(t, err)
		user, err = s.CRM.UpdateUser(t.Context(), system, user.ID, cims.UserUpdate{RoleName: &role})
		require.NoError(t, err)
		all = append(all, asker{name: role, holds: holds, refusal: refusal, sub: user.Email, lead: lead})
		return user
	}
	for _, role := range slices.Sorted(maps.Keys(holds)) {
		add(role, holds[role], 0)
	}
	add("former", nil, 403)
	_, err := s.CRM.UpdateRole(t.Context(), system, former.ID, cims.RoleUpdate{Active: new(false)})
	require.NoError(t, err)
	gone := add(cims.RoleCEO, nil, 403)
	_, err = s.CRM.UpdateUser(t.Context(), system, gone.ID, cims.UserUpdate{Active: new(false)})
	require.NoError(t, err)
	return all
}

// testEveryRouteForEveryRole asks every route of the document in the name of each
// role, for the asker's lead, another's and an absent one. A refusal is the same for
// any request and changes nothing. Under :own another's lead is refused byte for
// byte as an absent one.
func testEveryRouteForEveryRole(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, server *Server) {
		s := newScene(t, server)
		askers := s.askers(t)
		others := s.lead(t)
		for _, route := range slices.Sorted(maps.Keys(s.routes)) {
			op := s.routes[route]
			needs, ok := op.Extensions["x-cims-permission"].([]cims.Permission)
			require.True(t, ok, "%s says nothing of who may", route)
			before, refused := s.state(t), 0
			for _, a := range askers {
				if want := a.refused(needs); want != 0 {
					s.isRefused(t, a, route, others, want)
					refused++
				}
			}
			require.Equal(t, before, s.state(t), route)
			for _, a := range askers {
				if a.refused(needs) == 0 {
					s.isServed(t, a, route, needs, others, successOf(op))
					refused++
				}
			}
			require.Equal(t, len(askers), refused)
		}
	})
}

// refused returns the status that refuses an asker before its request is read, or 0.
func (a asker) refused(needs []cims.Permission) int {
	may := len(needs) == 0 || slices.ContainsFunc(needs, func(p cims.Permission) bool { return slices.Contains(a.holds, p) })
	if a.refusal == 0 && !may {
		return http.StatusForbidden
	}
	return a.refusal
}

func (s *scene) isRefused(t *testing.T, a asker, route string, others int64, status int) {
	t.Helper()
	broken := s.good(t, route, target{lead: a.lead})
	broken.path += "?wrong=1"
	if s.routes[route].RequestBody != nil {
		broken.body = strings.NewReader(`{"id": `)
	}
	first := a.ask(t, broken)
	require.Equal(t, status, first.status, "%s as %s", route, a.name)
	for _, lead := range []int64{a.lead, others, absentID} {
		require.Equal(t, first.text, a.ask(t, s.good(t, route, target{lead: lead})).text, "%s as %s", route, a.name)
	}
}

func (s *scene) isServed(t *testing.T, a asker, route string, needs []cims.Permission, others int64, success int) {
	t.Helper()
	ask := func(lead int64) answer { return a.ask(t, s.good(t, route, target{lead: lead, fresh: true})) }
	ownOnly := strings.Contains(route, "{customer_id}") && !slices.Contains(a.holds, needs[0])

	require.Equal(t, success, ask(a.lead).status, "%s as %s", route, a.name)
	absent, another := ask(absentID), ask(others)
	want := map[bool]int{true: http.StatusNotFound, false: success}
	require.Equal(t, want[s.namesEntry(t, route)], absent.status, "%s as %s, absent", route, a.name)
	require.Equal(t, want[ownOnly], another.status, "%s as %s, another's lead", route, a.name)
	if ownOnly {
		require.Equal(t, absent.text, another.text, "%s as %s: nothing tells them apart", route, a.name)
	}
}

// successOf is the status of a route's good answers.
func successOf(op *huma.Operation) int {
	for status := range op.Responses {
		if code, err := strconv.Atoi(status); err == nil && code < 300 {
			return code
		}
	}
	return 0
}
