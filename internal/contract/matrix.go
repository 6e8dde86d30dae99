package contract

import (
	"cmp"
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
	"github.com/cimskit/cims/httpapi"
)

// sample is a body that a route takes; "" for those that take none. The rest of a
// good request to it is in the document. {n} is a number that no other has, {lead}
// a customer and {seller} a sales manager.
type sample struct {
	body        string
	contentType string // of a body that is no JSON
}

// samples has a line for each route.
var samples = map[string]sample{
	"GET /management/statuses":                {},
	"POST /management/statuses":               {body: `{"name": "n{n}", "display_name": "N"}`},
	"PUT /management/statuses/{status_id}":    {body: `{"order": 7}`},
	"DELETE /management/statuses/{status_id}": {},

	"GET /management/roles":              {},
	"POST /management/roles":             {body: `{"name": "n{n}", "display_name": "N"}`},
	"PUT /management/roles/{role_id}":    {body: `{"description": "d"}`},
	"DELETE /management/roles/{role_id}": {},

	"GET /management/users":           {},
	"POST /management/users":          {body: `{"email": "n{n}@example.com", "name": "N", "surname": "N", "role_name": "customer"}`},
	"PUT /management/users/{user_id}": {body: `{"surname": "S"}`},
	"GET /me":                         {},

	"GET /crm/customers":                       {},
	"POST /crm/customers":                      {body: `{"full_name": "N"}`},
	"POST /crm/customers/import":               {body: "full_name\nN\n", contentType: httpapi.CSV},
	"GET /crm/customers/{customer_id}":         {},
	"PUT /crm/customers/{customer_id}/status":  {body: `{"status_name": "finished"}`},
	"GET /crm/customers/{customer_id}/history": {},

	"GET /crm/customer/{customer_id}/sales-manager": {},
	"GET /crm/sales-managers":                       {},
	"PUT /crm/sales-managers/{user_id}":             {body: `{"weight": 1}`},
	"POST /crm/assign-sales-manager":                {body: `{"customer_id": {lead}, "sales_manager_id": {seller}}`},
	"POST /crm/assign-backlog":                      {},

	"GET /crm/conversion-rate": {},
	"GET /management/audit":    {},
}

// absentID is nobody's.
const absentID = 1 << 40

// scene fills in what samples leave open.
type scene struct {
	*Server
	seller  int64            // a sales manager
	entries map[string]int64 // by the parameter that names them
	n       int
}

func newScene(t *testing.T, s *Server) *scene {
	t.Helper()
	scene := &scene{Server: s, seller: s.user(t, cims.RoleSalesManager, "Seller").ID, entries: map[string]int64{}}
	for _, parameter := range []string{"{status_id}", "{role_id}", "{user_id}"} {
		scene.entries[parameter] = scene.entry(t, parameter)
	}
	return scene
}

// target is what the ids of a request are those of.
type target struct {
	lead  int64
	fresh bool // an entry of the request's own, which it may change or delete
}

// good makes a request to a route, which anybody who may is answered well.
func (s *scene) good(t *testing.T, route string, of target) *call {
	t.Helper()
	known, ok := samples[route]
	require.True(t, ok, "%s has no line in samples", route)
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
	fill := strings.NewReplacer("{customer_id}", strconv.FormatInt(of.lead, 10), "{lead}", strconv.FormatInt(of.lead, 10),
		"{seller}", strconv.FormatInt(s.seller, 10), "{n}", strconv.Itoa(s.n),
		"{status_id}", entry("{status_id}"), "{role_id}", entry("{role_id}"), "{user_id}", entry("{user_id}"))
	if known.body == "" {
		return s.request(t, method, fill.Replace(path), nil)
	}
	return s.request(t, method, fill.Replace(path), fill.Replace(known.body)).with("Content-Type", cmp.Or(known.contentType, "application/json"))
}

// entry makes what a parameter of a path names.
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

// asker is somebody who asks, and has a lead.
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

// askers are: nobody, whoever holds one permission alone, a user of each role that
// there is from the start, and those who have lost what they had.
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
// role, for a lead of one's own, of another and of nobody. Whoever may not gets the
// same refusal whatever was sent, and changes nothing; another's lead is, under
// :own, refused byte for byte as one that is not there.
func testEveryRouteForEveryRole(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, server *Server) {
		s := newScene(t, server)
		askers := s.askers(t)
		others := s.lead(t)
		operations := s.operations()
		for _, route := range slices.Sorted(maps.Keys(samples)) {
			require.Contains(t, operations, route, "the document has no such route")
		}
		for _, route := range slices.Sorted(maps.Keys(operations)) {
			needs, ok := operations[route].Extensions["x-cims-permission"].([]cims.Permission)
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
					s.isServed(t, a, route, needs, others, successOf(operations[route]))
					refused++
				}
			}
			require.Equal(t, len(askers), refused)
		}
	})
}

// refused is what an asker is refused with at the door, or 0.
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
	if samples[route].body != "" {
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
	names := strings.Contains(route, "{") || strings.Contains(samples[route].body, "{lead}") // something that may be absent
	ownOnly := strings.Contains(route, "{customer_id}") && !slices.Contains(a.holds, needs[0])

	require.Equal(t, success, ask(a.lead).status, "%s as %s", route, a.name)
	absent, another := ask(absentID), ask(others)
	want := map[bool]int{true: http.StatusNotFound, false: success}
	require.Equal(t, want[names], absent.status, "%s as %s, absent", route, a.name)
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
