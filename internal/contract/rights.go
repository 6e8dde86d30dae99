package contract

import (
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

// Attempts to win rights or to take them from others.

// rounds returns how often a race is run: as often as the guarantees demand in
// scripts/test -long, which sets the variable.
func rounds(short, full int) int {
	if os.Getenv("CIMS_FAULTS") == "full" {
		return full
	}
	return short
}

// testRightsHangOnNoName: neither a role's name that looks like the CEO's nor the
// display name is one.
func testRightsHangOnNoName(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		before := s.state(t)
		for _, name := range []string{"ceo", "CEO", " Ceo ", "CEO\\t"} {
			a := s.post(t, "/management/roles", `{"name": "`+name+`", "display_name": "X"}`)
			require.Contains(t, []int{409, 422}, a.status, name)
		}
		for _, name := range []string{`c\u200beo`, `ceo\u200d`, `\ufeffceo`, `c\u00adeo`, `\u202eoec`, `ceo\u0000`, `ce\u0007o`} {
			require.Equal(t, []string{"body.name"}, s.post(t, "/management/roles", `{"name": "`+name+`", "display_name": "X"}`).is(t, 422).at(t), name)
		}
		require.Equal(t, before, s.state(t))
		for i, name := range []string{"сeo", "ｃｅｏ", "ceo_", "céo", "ⅽeo"} {
			role := s.post(t, "/management/roles", map[string]any{"name": name, "display_name": "CEO"}).is(t, 201).object(t)
			require.Equal(t, []any{}, role["permissions"])
			person := s.user(t, role["name"].(string), fmt.Sprintf("lookalike%d", i))
			for _, path := range []string{"/management/users", "/management/roles", "/management/statuses", "/crm/customers", "/crm/conversion-rate"} {
				s.request(t, http.MethodGet, path, nil).as(t, person.Email).do(t).is(t, 403)
			}
			s.request(t, http.MethodPut, "/management/users/1", `{"is_active": false}`).as(t, person.Email).do(t).is(t, 403)
		}
	})
}

// testNobodyHandsOutWhatHeLacks: each way to do so is refused and changes nothing.
func testNobodyHandsOutWhatHeLacks(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		low := s.role(t, "low", cims.StatusesRead)
		high := s.role(t, "high", cims.LeadsAssign)
		lowUser, highUser := s.user(t, "low", "Lola"), s.user(t, "high", "Hasan")
		status, err := s.CRM.CreateStatus(t.Context(), system, cims.NewStatus{Name: "used", DisplayName: "U"})
		require.NoError(t, err)
		seller := s.user(t, cims.RoleSalesManager, "Sardor")
		lead := s.lead(t)
		_, err = s.CRM.SetStatus(t.Context(), system, lead, "used", "")
		require.NoError(t, err)
		ceoRole := s.roleID(t, cims.RoleCEO)

		hire := func(name string, permissions ...cims.Permission) cims.User {
			s.role(t, name, permissions...)
			return s.user(t, name, name)
		}
		hr := hire("hr", cims.UsersRead, cims.UsersWrite, cims.StatusesRead)
		admin := hire("admin", cims.RolesRead, cims.RolesWrite, cims.StatusesRead)
		both := hire("both", cims.UsersWrite, cims.RolesWrite, cims.StatusesRead)
		editor := hire("editor", cims.StatusesWrite, cims.LeadsWriteOwn)
		almost := hire("almost", cims.AllPermissions()...)
		hrRole, adminRole, almostRole := s.roleID(t, "hr"), s.roleID(t, "admin"), s.roleID(t, "almost")

		user := func(u cims.User) string { return fmt.Sprintf("/management/users/%d", u.ID) }
		role := func(id int64) string { return fmt.Sprintf("/management/roles/%d", id) }
		ceo := cims.User{ID: 1}
		before := s.state(t)
		for _, c := range []struct {
			who                cims.User
			method, path, body string
		}{
			// With users:write: oneself or others above oneself, or those who are.
			{hr, "PUT", user(hr), `{"role_name": "high"}`},
			{hr, "PUT", user(hr), `{"role_name": "admin"}`},
			{hr, "PUT", user(hr), `{"role_name": "ceo"}`},
			{hr, "PUT", user(lowUser), `{"role_name": "high"}`},
			{hr, "PUT", user(lowUser), `{"role_name": "ceo"}`},
			{hr, "PUT", user(lowUser), `{"email": "stolen@example.com"}`},
			{hr, "PUT", user(hr), `{"email": "ceo@example.com"}`},
			{hr, "PUT", user(highUser), `{"name": "X"}`},
			{hr, "PUT", user(highUser), `{"is_active": false}`},
			{hr, "PUT", user(highUser), `{"role_name": "low"}`},
			{hr, "POST", "/management/users", `{"email": "a@b", "name": "A", "surname": "B", "role_name": "high"}`},
			{hr, "POST", "/management/users", `{"email": "a@b", "name": "A", "surname": "B", "role_name": "high", "is_active": false}`},
			{hr, "POST", "/management/users", `{"email": "a@b", "name": "A", "surname": "B", "role_name": "ceo"}`},
			// A CEO's email, name, state and role.
			{hr, "PUT", user(ceo), `{"email": "mine@example.com"}`},
			{hr, "PUT", user(ceo), `{"name": "X"}`},
			{hr, "PUT", user(ceo), `{"is_active": false}`},
			{hr, "PUT", user(ceo), `{"role_name": "low"}`},
			// All permissions don't make a CEO.
			{almost, "PUT", user(ceo), `{"email": "mine@example.com"}`},
			{almost, "PUT", user(ceo), `{"surname": "X"}`},
			{almost, "PUT", user(ceo), `{"is_active": false}`},
			{almost, "PUT", user(ceo), `{"role_name": "low"}`},
			{almost, "PUT", user(almost), `{"role_name": "ceo"}`},
			{almost, "PUT", user(lowUser), `{"email": "stolen@example.com"}`},
			{almost, "POST", "/management/users", `{"email": "a@b", "name": "A", "surname": "B", "role_name": "ceo"}`},
			{almost, "DELETE", role(low.ID) + "?move_to=ceo", ""},
			// With roles:write: any role beyond oneself, or one that is.
			{admin, "POST", "/management/roles", `{"name": "a", "display_name": "A", "permissions": ["leads:read"]}`},
			{admin, "POST", "/management/roles", `{"name": "a", "display_name": "A", "permissions": ["leads:read"], "is_active": false}`},
			{admin, "PUT", role(low.ID), `{"permissions": ["statuses:read", "users:write"]}`},
			{admin, "PUT", role(adminRole), `{"permissions": ["roles:read", "roles:write", "statuses:read", "users:write"]}`},
			{admin, "PUT", role(high.ID), `{"permissions": []}`},
			{admin, "PUT", role(high.ID), `{"display_name": "X"}`},
			{admin, "PUT", role(high.ID), `{"is_active": false}`},
			{admin, "PUT", role(hrRole), `{"display_name": "X"}`},
			{admin, "DELETE", role(high.ID), ""},
			{both, "DELETE", role(high.ID) + "?move_to=low", ""},
			{both, "DELETE", role(low.ID) + "?move_to=high", ""},
			{both, "DELETE", role(almostRole) + "?move_to=low", ""},
			// The CEO's role stays as it is.
			{admin, "PUT", role(ceoRole), `{"permissions": []}`},
			{admin, "PUT", role(ceoRole), `{"display_name": "X"}`},
			{almost, "PUT", role(ceoRole), `{"permissions": ["statuses:read"]}`},
			{almost, "PUT", role(ceoRole), `{"is_active": false}`},
			{almost, "DELETE", role(ceoRole), ""},
			{almost, "DELETE", role(ceoRole) + "?move_to=low", ""},
			{ceo, "PUT", role(ceoRole), `{"permissions": []}`},
			{ceo, "PUT", role(ceoRole), `{"is_active": false}`},
			{ceo, "DELETE", role(ceoRole), ""},
			{ceo, "DELETE", role(ceoRole) + "?move_to=low", ""},
			// Half of the two that are needed.
			{editor, "DELETE", fmt.Sprintf("/management/statuses/%d?move_to=finished", status.ID), ""},
			{admin, "DELETE", role(low.ID) + "?move_to=customer", ""},
			{hr, "PUT", user(lowUser) + "?leads=redistribute", `{"is_active": false}`},
			{almost, "PUT", user(ceo) + "?leads=redistribute", `{"is_active": false}`},
		} {
			var body any
			if c.body != "" {
				body = c.body
			}
			a := s.request(t, c.method, c.path, body).as(t, fmt.Sprint(c.who.ID)).do(t)
			require.Equal(t, 403, a.status, "%s: %s %s %s: %s", c.who.Name, c.method, c.path, c.body, a.text)
		}
		require.Equal(t, before, s.state(t))

		// They may give the permissions that they hold.
		for _, c := range []struct {
			who                cims.User
			method, path, body string
			status             int
		}{
			{hr, "PUT", user(lowUser), `{"name": "Lobar"}`, 200},
			{hr, "POST", "/management/users", `{"email": "a@b", "name": "A", "surname": "B", "role_name": "low"}`, 201},
			{admin, "POST", "/management/roles", `{"name": "a", "display_name": "A", "permissions": ["roles:read"]}`, 201},
			{admin, "DELETE", role(low.ID), "", 409},
			{both, "DELETE", role(low.ID) + "?move_to=customer", "", 204},
			{almost, "PUT", user(seller) + "?leads=redistribute", `{"is_active": false}`, 200},
			{almost, "DELETE", fmt.Sprintf("/management/statuses/%d?move_to=finished", status.ID), "", 204},
		} {
			s.request(t, c.method, c.path, c.body).as(t, fmt.Sprint(c.who.ID)).do(t).is(t, c.status)
		}
	})
}

func (s *Server) roleID(t *testing.T, name string) int64 {
	t.Helper()
	for _, role := range s.get(t, "/management/roles").is(t, 200).objects(t) {
		if role["name"] == name {
			return int64(role["id"].(float64))
		}
	}
	require.Fail(t, "no such role", name)
	return 0
}

// testTwoCEOsRemoveEachOther at the same moment: one succeeds, each time.
func testTwoCEOsRemoveEachOther(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		ceos := []int64{1, s.user(t, cims.RoleCEO, "Otabek").ID}
		ways := []string{`{"is_active": false}`, `{"role_name": "member"}`}
		for round := range rounds(20, 500) {
			calls := make([]*call, 2)
			for i := range calls {
				calls[i] = s.request(t, http.MethodPut, fmt.Sprintf("/management/users/%d", ceos[1-i]), ways[round/(1+i)%2]).as(t, fmt.Sprint(ceos[i]))
			}
			statuses := map[int]int{}
			for _, a := range together(t, calls) {
				statuses[a.status]++
			}
			require.Equal(t, 1, statuses[200], "round %d: %v", round, statuses)
			require.Equal(t, 1, statuses[403]+statuses[409], "round %d: %v", round, statuses)

			active, err := s.CRM.Users(t.Context(), system, cims.UserFilter{Role: cims.RoleCEO, Active: new(true)}, cims.PageRequest{})
			require.NoError(t, err)
			require.Len(t, active.Items, 1)
			last := active.Items[0].ID
			for _, way := range ways {
				s.request(t, http.MethodPut, fmt.Sprintf("/management/users/%d", last), way).as(t, fmt.Sprint(last)).do(t).is(t, 409)
			}
			s.request(t, http.MethodPut, fmt.Sprintf("/management/users/%d", ceos[0]+ceos[1]-last), `{"is_active": true, "role_name": "ceo"}`).
				as(t, fmt.Sprint(last)).do(t).is(t, 200)
		}
	})
}

// together makes requests at the same moment.
func together(t *testing.T, calls []*call) []answer {
	t.Helper()
	answers := make([]answer, len(calls))
	errs := make([]error, len(calls))
	start := make(chan struct{})
	var under sync.WaitGroup
	for i, c := range calls {
		under.Go(func() {
			<-start
			answers[i], errs[i] = c.try(t)
		})
	}
	close(start)
	under.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	return answers
}

// testNothingIsAssignedAfterTheDeactivation: not by hand either, by callers that are
// under way.
func testNothingIsAssignedAfterTheDeactivation(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		const hands = 3
		seller := s.user(t, cims.RoleSalesManager, "Sardor")
		stays := s.user(t, cims.RoleSalesManager, "Temur")
		path := fmt.Sprintf("/management/users/%d", seller.ID)
		owned := func() []map[string]any {
			return s.get(t, fmt.Sprintf("/crm/customers?limit=200&sales_manager_id=%d", seller.ID)).is(t, 200).objects(t)
		}
		leads := make([]int64, hands)
		for i := range leads {
			leads[i] = s.lead(t)
		}
		assigned, refused := 0, 0
		for round := range rounds(10, 100) {
			s.put(t, path, `{"is_active": true}`).is(t, 200)
			for _, lead := range leads {
				_, err := s.CRM.Assign(t.Context(), system, lead, stays.ID)
				require.NoError(t, err)
			}
			// One pair of hands for each lead goes on until it is refused.
			var done atomic.Int64
			var working sync.WaitGroup
			errs := make([]error, hands)
			for i, lead := range leads {
				call := func() *call {
					return s.request(t, http.MethodPost, "/crm/assign-sales-manager", map[string]int64{"customer_id": lead, "sales_manager_id": seller.ID})
				}
				working.Go(func() {
					for {
						a, err := call().try(t)
						if err != nil || a.status != 200 {
							if err == nil && a.status != 404 {
								err = fmt.Errorf("%d %s", a.status, a.text)
							}
							errs[i] = err
							return
						}
						done.Add(1)
					}
				})
			}
			for range round % 4 { // at another moment each time
				s.get(t, "/me").is(t, 200)
			}
			s.put(t, path, `{"is_active": false}`).is(t, 200)
			atOnce := owned()
			working.Wait()
			for _, err := range errs {
				require.NoError(t, err)
			}
			require.Equal(t, atOnce, owned(), "round %d", round)
			assigned += int(done.Load())
			refused += hands - len(atOnce)
		}
		t.Logf("%d assignments before a deactivation, %d leads that came too late", assigned, refused)
		require.NotZero(t, assigned)
	})
}
