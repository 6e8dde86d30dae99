package contract

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi"
)

// The rights of each route, in the words of the contract: written down here once
// more, and not read from the code that keeps them.
var (
	leadsRead  = rights{all: cims.LeadsRead, own: cims.LeadsReadOwn}
	leadsWrite = rights{all: cims.LeadsWrite, own: cims.LeadsWriteOwn}
)

type rights struct {
	all, own cims.Permission // neither: whoever is known
	ofALead  bool            // one's own, under own
}

func (r rights) lead() rights { r.ofALead = true; return r }

// want is what somebody with these permissions is answered.
func (r rights) want(held []cims.Permission, owns bool, success int) int {
	switch {
	case r.all == "", slices.Contains(held, r.all):
		return success
	case r.own == "" || !slices.Contains(held, r.own):
		return http.StatusForbidden
	case r.ofALead && !owns:
		return http.StatusNotFound
	default:
		return success
	}
}

// subject is what a request of the matrix is about: all of it is new.
type subject struct {
	name               string // that nobody has yet
	lead, status, role int64
	user, manager      int64
}

// matrix has a request for each route that whoever may succeeds with.
var matrix = map[string]struct {
	rights  rights
	success int
	body    func(s subject) any
}{
	"GET /management/statuses":  {rights{all: cims.StatusesRead}, 200, nil},
	"POST /management/statuses": {rights{all: cims.StatusesWrite}, 201, named},
	"PUT /management/statuses/{status_id}": {rights{all: cims.StatusesWrite}, 200, func(s subject) any {
		return map[string]any{"display_name": s.name}
	}},
	"DELETE /management/statuses/{status_id}": {rights{all: cims.StatusesWrite}, 204, nil},
	"GET /management/roles":                   {rights{all: cims.RolesRead}, 200, nil},
	"POST /management/roles":                  {rights{all: cims.RolesWrite}, 201, named},
	"PUT /management/roles/{role_id}": {rights{all: cims.RolesWrite}, 200, func(s subject) any {
		return map[string]any{"display_name": s.name}
	}},
	"DELETE /management/roles/{role_id}": {rights{all: cims.RolesWrite}, 204, nil},
	"GET /management/users":              {rights{all: cims.UsersRead}, 200, nil},
	"POST /management/users": {rights{all: cims.UsersWrite}, 201, func(s subject) any {
		return map[string]any{"email": s.name + "@example.com", "name": s.name, "surname": "X", "role_name": "customer"}
	}},
	"PUT /management/users/{user_id}": {rights{all: cims.UsersWrite}, 200, func(s subject) any {
		return map[string]any{"surname": s.name}
	}},
	"GET /management/audit":   {rights{all: cims.AuditRead}, 200, nil},
	"GET /crm/sales-managers": {leadsRead, 200, nil},
	"PUT /crm/sales-managers/{user_id}": {rights{all: cims.LeadsAssign}, 200, func(subject) any {
		return map[string]any{"paused": false}
	}},
	"POST /crm/assign-sales-manager": {rights{all: cims.LeadsAssign}, 200, func(s subject) any {
		return map[string]any{"customer_id": s.lead, "sales_manager_id": s.manager}
	}},
	"POST /crm/assign-backlog":                      {rights{all: cims.LeadsAssign}, 200, nil},
	"GET /crm/customer/{customer_id}/sales-manager": {leadsRead.lead(), 200, nil},
	"GET /crm/conversion-rate":                      {rights{all: cims.AnalyticsRead}, 200, nil},
	"POST /crm/customers": {leadsWrite, 201, func(s subject) any {
		return map[string]any{"full_name": s.name}
	}},
	"POST /crm/customers/import": {rights{all: cims.LeadsWrite}, 201, func(s subject) any {
		return strings.NewReader("full_name\n" + s.name + "\n")
	}},
	"GET /crm/customers":               {leadsRead, 200, nil},
	"GET /crm/customers/{customer_id}": {leadsRead.lead(), 200, nil},
	"PUT /crm/customers/{customer_id}/status": {leadsWrite.lead(), 200, func(subject) any {
		return map[string]any{"status_name": "finished"}
	}},
	"GET /crm/customers/{customer_id}/history": {leadsRead.lead(), 200, nil},
	"GET /me": {rights{}, 200, nil},
}

func named(s subject) any { return map[string]any{"name": s.name, "display_name": s.name} }

// testTheMatrixOfRightsIsExact: every route of the document, for nobody, for each
// role, and for one with each permission alone, about one's own lead and another's.
func testTheMatrixOfRightsIsExact(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		require.ElementsMatch(t, slices.Collect(maps.Keys(matrix)), slices.Collect(maps.Keys(s.operations())), "each route has its rights here")
		actors := map[string][]cims.Permission{
			"ceo": cims.AllPermissions(), "customer": nil,
			"financial_director": {cims.StatusesRead, cims.RolesRead, cims.LeadsRead, cims.AnalyticsRead},
			"member":             {cims.StatusesRead, cims.RolesRead, cims.LeadsRead, cims.AnalyticsRead},
			"sales_manager":      {cims.StatusesRead, cims.LeadsReadOwn, cims.LeadsWriteOwn, cims.AnalyticsRead},
		}
		for _, p := range cims.AllPermissions() {
			role := "only_" + strings.ReplaceAll(string(p), ":", "_")
			_, err := s.CRM.CreateRole(t.Context(), system, cims.NewRole{Name: role, DisplayName: role, Permissions: []cims.Permission{p}})
			require.NoError(t, err)
			actors[role] = []cims.Permission{p}
		}
		ids := map[string]int64{}
		for role := range actors {
			if role == "ceo" {
				continue // who has the email CEOEmail
			}
			ids[role] = s.user(t, role, role).ID
		}
		managers := [2]int64{s.user(t, cims.RoleSalesManager, "First").ID, s.user(t, cims.RoleSalesManager, "Second").ID}
		made := 0
		// about makes what a route needs to be asked about, and a lead that is owner's.
		about := func(route string, owner int64) subject {
			made++
			about := subject{name: fmt.Sprint("new", made), manager: managers[made%2]}
			if strings.Contains(route, "{status_id}") {
				status, err := s.CRM.CreateStatus(t.Context(), system, cims.NewStatus{Name: "status" + about.name, DisplayName: "S"})
				require.NoError(t, err)
				about.status = status.ID
			}
			if strings.Contains(route, "{role_id}") {
				role, err := s.CRM.CreateRole(t.Context(), system, cims.NewRole{Name: "role" + about.name, DisplayName: "R"})
				require.NoError(t, err)
				about.role = role.ID
			}
			if strings.Contains(route, "{user_id}") {
				user, err := s.CRM.CreateUser(t.Context(), system, cims.NewUser{Email: "user" + about.name + "@example.com", Name: "U", Surname: "U", RoleName: "customer"})
				require.NoError(t, err)
				about.user = user.ID
			}
			if strings.Contains(route, "{customer_id}") || strings.Contains(route, "assign-sales-manager") {
				lead, err := s.CRM.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Lead"})
				require.NoError(t, err)
				_, err = s.CRM.Assign(t.Context(), system, lead.ID, owner)
				require.NoError(t, err)
				about.lead = lead.ID
			}
			return about
		}
		ask := func(route string, role string, about subject) answer {
			method, path, _ := strings.Cut(route, " ")
			path = strings.NewReplacer(
				"{status_id}", fmt.Sprint(about.status), "{role_id}", fmt.Sprint(about.role), "{customer_id}", fmt.Sprint(about.lead),
			).Replace(path)
			id := about.user
			if strings.HasPrefix(path, "/crm/sales-managers/") {
				id = about.manager
			}
			path = strings.ReplaceAll(path, "{user_id}", fmt.Sprint(id))
			var body any
			if matrix[route].body != nil {
				body = matrix[route].body(about)
			}
			request := s.request(t, method, path, body)
			if strings.HasSuffix(path, "/import") {
				request.with("Content-Type", httpapi.CSV)
			}
			switch role {
			case "":
				request.with("Authorization")
			case "ceo":
			default:
				request.as(t, role+"@example.com")
			}
			return request.do(t)
		}
		for route, row := range matrix {
			ask(route, "", about(route, managers[0])).is(t, 401)
			for role, held := range actors {
				require.Equal(t, row.rights.want(held, false, row.success), ask(route, role, about(route, managers[0])).status, "%s as %s", route, role)
			}
			require.Equal(t, row.rights.want(actors[cims.RoleSalesManager], true, row.success),
				ask(route, cims.RoleSalesManager, about(route, ids[cims.RoleSalesManager])).status, "%s as the lead's sales manager", route)
		}
	})
}

// testNobodyRaisesHimself: each way to more rights than one's own is closed, and
// leaves nothing behind.
func testNobodyRaisesHimself(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		role := func(name string, permissions ...string) int64 {
			created := s.post(t, "/management/roles", map[string]any{"name": name, "display_name": name, "permissions": append([]string{}, permissions...)}).is(t, 201).object(t)
			return int64(created["id"].(float64))
		}
		everything := func() (texts []string) {
			for _, path := range []string{"/management/statuses", "/management/roles", "/management/users?limit=200", "/crm/customers", "/crm/sales-managers", "/management/audit"} {
				texts = append(texts, s.get(t, path).is(t, 200).text)
			}
			return texts
		}
		clerk := role("clerk", "users:write", "users:read")
		role("warden", "roles:write", "roles:read")
		role("editor", "statuses:write")
		greater := role("greater", "leads:assign", "leads:read")
		empty := role("empty")
		me, victim := s.user(t, "clerk", "Karim"), s.user(t, "greater", "Gulnora")
		other, boss := s.user(t, "empty", "Olim"), s.user(t, cims.RoleCEO, "Botir")
		s.user(t, "warden", "Vali")
		s.user(t, "editor", "Eldor")
		seller := s.user(t, cims.RoleSalesManager, "Sardor")
		status := s.post(t, "/management/statuses", statusBody).is(t, 201).object(t)
		s.post(t, "/crm/customers", `{"full_name": "Lead", "status_name": "hot"}`).is(t, 201)

		before := everything()
		users := func(id int64) string { return fmt.Sprintf("/management/users/%d", id) }
		roles := func(id int64) string { return fmt.Sprintf("/management/roles/%d", id) }
		for name, c := range map[string]struct{ as, method, path, body string }{
			"himself a CEO":                  {"karim", "PUT", users(me.ID), `{"role_name": "ceo"}`},
			"himself greater":                {"karim", "PUT", users(me.ID), `{"role_name": "greater"}`},
			"another greater":                {"karim", "PUT", users(other.ID), `{"role_name": "greater"}`},
			"another a CEO":                  {"karim", "PUT", users(other.ID), `{"role_name": "CEO "}`},
			"a new CEO":                      {"karim", "POST", "/management/users", `{"email": "x@y", "name": "X", "surname": "Y", "role_name": "ceo"}`},
			"a new greater one":              {"karim", "POST", "/management/users", `{"email": "x@y", "name": "X", "surname": "Y", "role_name": "greater"}`},
			"a greater one less":             {"karim", "PUT", users(victim.ID), `{"role_name": "empty"}`},
			"a greater one inactive":         {"karim", "PUT", users(victim.ID), `{"is_active": false}`},
			"a greater one's email":          {"karim", "PUT", users(victim.ID), `{"email": "mine@example.com"}`},
			"an equal's email":               {"karim", "PUT", users(other.ID), `{"email": "mine@example.com"}`},
			"the CEO's email":                {"karim", "PUT", users(boss.ID), `{"email": "mine@example.com"}`},
			"the CEO's name":                 {"karim", "PUT", users(boss.ID), `{"name": "Nobody"}`},
			"the CEO inactive":               {"karim", "PUT", users(boss.ID), `{"is_active": false}`},
			"the CEO no CEO":                 {"karim", "PUT", users(boss.ID), `{"role_name": "empty"}`},
			"leads of somebody else's":       {"karim", "PUT", users(seller.ID) + "?leads=redistribute", `{"is_active": false}`},
			"his own role greater":           {"vali", "PUT", roles(clerk), `{"permissions": ["leads:read"]}`},
			"an empty role greater":          {"vali", "PUT", roles(empty), `{"permissions": ["audit:read"]}`},
			"a new role greater":             {"vali", "POST", "/management/roles", `{"name": "x", "display_name": "X", "permissions": ["roles:write", "leads:read"]}`},
			"a greater role less":            {"vali", "PUT", roles(greater), `{"permissions": []}`},
			"a greater role inactive":        {"vali", "PUT", roles(greater), `{"is_active": false}`},
			"a greater role's name":          {"vali", "PUT", roles(greater), `{"display_name": "X"}`},
			"a greater role gone":            {"vali", "DELETE", roles(greater), ""},
			"users moved":                    {"vali", "DELETE", roles(empty) + "?move_to=warden", ""},
			"users moved up":                 {"vali", "DELETE", roles(empty) + "?move_to=ceo", ""},
			"leads moved":                    {"eldor", "DELETE", fmt.Sprintf("/management/statuses/%v?move_to=finished", status["id"]), ""},
			"a lead by a permission too few": {"eldor", "PUT", "/crm/customers/1/status", `{"status_name": "finished"}`},
			"the CEO's role without a right": {"ceo", "PUT", roles(s.roleNamed(t, "ceo")), `{"permissions": ["statuses:read"]}`},
			"the CEO's role inactive":        {"ceo", "PUT", roles(s.roleNamed(t, "ceo")), `{"is_active": false}`},
			"the sales managers' role gone":  {"ceo", "DELETE", roles(s.roleNamed(t, "sales_manager")) + "?move_to=member", ""},
		} {
			var body any
			if c.body != "" {
				body = c.body
			}
			a := s.request(t, c.method, c.path, body).as(t, c.as+"@example.com").do(t)
			require.Equal(t, 403, a.status, "%s: %s", name, a.text)
		}
		require.Equal(t, before, everything(), "nothing has changed, and nothing was written down as done")
	})
}

func (s *Server) roleNamed(t *testing.T, name string) int64 {
	t.Helper()
	for _, role := range s.get(t, "/management/roles").is(t, 200).objects(t) {
		if role["name"] == name {
			return int64(role["id"].(float64))
		}
	}
	require.Fail(t, "there is no role "+name)
	return 0
}

// often is how often something that may go wrong by chance is tried.
func often(few int) int {
	if os.Getenv("CIMS_FAULTS") == "full" {
		return 500
	}
	return few
}

// testTwoCEOsCanNotBothGo: who deactivates the other one at the same moment finds
// that one of them has to stay.
func testTwoCEOsCanNotBothGo(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		first := s.put(t, "/management/users/1", `{"surname": "Umidova"}`).is(t, 200).object(t)
		second := s.user(t, cims.RoleCEO, "Botir")
		emails := []string{first["email"].(string), second.Email}
		for round := range often(25) {
			body := []string{`{"is_active": false}`, `{"role_name": "member"}`}[round%2]
			answers := make([]answer, 2)
			var both sync.WaitGroup
			for i, email := range emails {
				both.Go(func() { // each the other
					path := fmt.Sprintf("/management/users/%d", []int64{second.ID, 1}[i])
					answers[i] = s.request(t, http.MethodPut, path, body).as(t, email).do(t)
				})
			}
			both.Wait()
			statuses := []int{answers[0].status, answers[1].status}
			slices.Sort(statuses)
			// The one who was too late is no CEO any more, or finds the last one.
			require.Equal(t, 200, statuses[0], "%s %s", answers[0].text, answers[1].text)
			require.Contains(t, []int{403, 409}, statuses[1])
			left, err := s.CRM.Users(t.Context(), system, cims.UserFilter{Role: cims.RoleCEO, Active: new(true)}, cims.PageRequest{})
			require.NoError(t, err)
			require.Len(t, left.Items, 1)
			for _, id := range []int64{1, second.ID} {
				_, err := s.CRM.UpdateUser(t.Context(), system, id, cims.UserUpdate{RoleName: new(cims.RoleCEO), Active: new(true)})
				require.NoError(t, err)
			}
		}
	})
}

// testNobodyIsAssignedToWhoHasGone: once a deactivation has been answered, no
// assignment that was asked for later succeeds, and none that was under way shows.
func testNobodyIsAssignedToWhoHasGone(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		manager := s.user(t, cims.RoleSalesManager, "Sardor")
		s.user(t, cims.RoleSalesManager, "Sevara")
		const leads = 20
		for range leads {
			s.post(t, "/crm/customers", `{"full_name": "Lead"}`).is(t, 201)
		}
		path := fmt.Sprintf("/management/users/%d", manager.ID)
		for range often(5) {
			s.put(t, path, `{"is_active": true}`).is(t, 200)
			gone := make(chan struct{})
			var assigning sync.WaitGroup
			for lead := range leads {
				assigning.Go(func() {
					for {
						late := false
						select {
						case <-gone:
							late = true
						default:
						}
						status := s.request(t, http.MethodPost, "/crm/assign-sales-manager", map[string]any{"customer_id": lead + 1, "sales_manager_id": manager.ID}).do(t).status
						if late {
							if status != 404 {
								t.Errorf("assigned after the end: %d", status)
							}
							return
						}
					}
				})
			}
			s.put(t, path+"?leads=redistribute", `{"is_active": false}`).is(t, 200)
			close(gone)
			assigning.Wait()
			require.Empty(t, s.get(t, fmt.Sprintf("/crm/customers?sales_manager_id=%d", manager.ID)).is(t, 200).objects(t))
		}
	})
}

// testWhatIsNotThereAndWhatIsNotOnesOwnAreOne: no answer tells another's lead from
// one that does not exist.
func testWhatIsNotThereAndWhatIsNotOnesOwnAreOne(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		s.user(t, cims.RoleSalesManager, "Aziz")
		owner := s.user(t, cims.RoleSalesManager, "Bobur")
		lead := s.post(t, "/crm/customers", `{"full_name": "Lead"}`).is(t, 201).object(t)["id"]
		s.post(t, "/crm/assign-sales-manager", map[string]any{"customer_id": lead, "sales_manager_id": owner.ID}).is(t, 200)
		ofALead := 0
		for route, row := range matrix {
			if !row.rights.ofALead {
				continue
			}
			ofALead++
			method, path, _ := strings.Cut(route, " ")
			for _, language := range []string{"uz", "ru", "en"} {
				var texts []string
				for _, id := range []any{lead, 999_999} {
					var body any
					if row.body != nil {
						body = row.body(subject{})
					}
					path := regexp.MustCompile(`{\w+}`).ReplaceAllString(path, fmt.Sprint(id))
					a := s.request(t, method, path, body).as(t, "aziz@example.com").with("Accept-Language", language).do(t).is(t, 404)
					texts = append(texts, a.text)
				}
				require.Equal(t, texts[0], texts[1], route)
			}
		}
		require.Equal(t, 4, ofALead)
	})
}
