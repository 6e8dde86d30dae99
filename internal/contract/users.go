package contract

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

func testUserIsCreatedAndChanged(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		created := s.post(t, "/management/users", `{"email": "Dilshod@Example.com", "name": "Dilshod", "surname": "Rahimov", "role_name": "Sales Manager"}`).
			is(t, 201).object(t)
		require.Equal(t, map[string]any{
			"id": 2.0, "email": "Dilshod@Example.com", "name": "Dilshod", "surname": "Rahimov", "role_name": "sales_manager", "is_active": true,
		}, created)
		p := s.post(t, "/management/users", `{"email": "dilshod@example.COM", "name": "D", "surname": "R", "role_name": "member"}`).is(t, 409).problem(t)
		require.Equal(t, "Bunday email band", p.Detail)
		require.Equal(t, "body.email", p.Errors[0].Location)

		changed := s.put(t, "/management/users/2", `{"email": "d@example.com", "is_active": false}`).is(t, 200).object(t)
		require.Equal(t, "d@example.com", changed["email"])
		require.Equal(t, false, changed["is_active"])
		s.put(t, "/management/users/99", `{"name": "X"}`).is(t, 404)
	})
}

func testUserFieldsHaveBounds(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		a := s.post(t, "/management/users", `{}`).is(t, 422)
		require.Equal(t, []string{"body.email", "body.name", "body.role_name", "body.surname"}, a.at(t))
		for field, value := range map[string]string{"email": `"nobody"`, "name": `""`, "surname": `" "`, "role_name": `"nobody"`} {
			body := map[string]string{"email": `"a@b"`, "name": `"A"`, "surname": `"B"`, "role_name": `"member"`}
			body[field] = value
			a := s.post(t, "/management/users", fmt.Sprintf(`{"email": %s, "name": %s, "surname": %s, "role_name": %s}`,
				body["email"], body["name"], body["surname"], body["role_name"])).is(t, 422)
			require.Equal(t, []string{"body." + field}, a.at(t))
			a = s.put(t, "/management/users/1", `{"`+field+`": `+value+`}`).is(t, 422)
			require.Equal(t, []string{"body." + field}, a.at(t))
			a = s.put(t, "/management/users/1", `{"`+field+`": null}`).is(t, 422)
			require.Equal(t, []string{"body." + field}, a.at(t))
		}
		require.Equal(t, []string{"query.leads"}, s.put(t, "/management/users/1?leads=burn", `{"name": "A"}`).is(t, 422).at(t))
	})
}

func testUsersAreListedInPages(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		for _, name := range []string{"Aziz", "Azamat", "Bobur"} {
			s.user(t, "member", name)
		}
		require.Len(t, s.get(t, "/management/users").is(t, 200).objects(t), 4)
		require.Len(t, s.get(t, "/management/users?role=member&active=true&q=az").is(t, 200).objects(t), 2)
		require.Empty(t, s.get(t, "/management/users?role=Sales%20Manager").is(t, 200).objects(t))
		require.Len(t, s.get(t, "/management/users?role=%20MEMBER").is(t, 200).objects(t), 3)
		require.Empty(t, s.get(t, "/management/users?active=false").is(t, 200).objects(t))
		require.Equal(t, []string{"query.role"}, s.get(t, "/management/users?role=nobody").is(t, 422).at(t))

		var emails []any
		for path := "/management/users?limit=3"; path != ""; {
			a := s.get(t, path).is(t, 200)
			for _, user := range a.objects(t) {
				emails = append(emails, user["email"])
			}
			path = ""
			if next, ok := a.object(t)["next"].(string); ok {
				path = "/management/users?limit=3&cursor=" + url.QueryEscape(next)
			}
		}
		require.Equal(t, []any{CEOEmail, "aziz@example.com", "azamat@example.com", "bobur@example.com"}, emails)
	})
}

func testLastCEOStays(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		p := s.put(t, "/management/users/1", `{"is_active": false}`).is(t, 409).problem(t)
		require.Equal(t, "Kamida bitta faol CEO qolishi kerak", p.Detail)
		s.put(t, "/management/users/1", `{"role_name": "member"}`).is(t, 409)
		s.user(t, cims.RoleCEO, "Otabek")
		s.put(t, "/management/users/1", `{"is_active": false}`).is(t, 200)
	})
}

func testLeavingManagersLeadsAreKeptOrRedistributed(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		a, b := s.user(t, cims.RoleSalesManager, "Aziz"), s.user(t, cims.RoleSalesManager, "Bobur")
		for range 4 {
			s.post(t, "/crm/customers", `{"full_name": "Lead"}`).is(t, 201)
		}
		owned := func(id int64) int {
			return len(s.get(t, fmt.Sprintf("/crm/customers?sales_manager_id=%d", id)).is(t, 200).objects(t))
		}
		s.put(t, fmt.Sprintf("/management/users/%d", a.ID), `{"is_active": false}`).is(t, 200)
		require.Equal(t, 2, owned(a.ID), "kept, unless told otherwise")
		s.put(t, fmt.Sprintf("/management/users/%d?leads=redistribute", a.ID), `{"is_active": false}`).is(t, 200)
		require.Equal(t, 0, owned(a.ID))
		require.Equal(t, 4, owned(b.ID))

		s.post(t, "/management/roles", `{"name": "clerk", "display_name": "Clerk", "permissions": ["users:write", "statuses:read", "leads:write:own", "leads:read:own", "analytics:read"]}`).is(t, 201)
		s.user(t, "clerk", "Karim")
		path := fmt.Sprintf("/management/users/%d", b.ID)
		s.request(t, http.MethodPut, path+"?leads=redistribute", `{"is_active": false}`).as(t, "karim@example.com").do(t).is(t, 403)
		s.request(t, http.MethodPut, path+"?leads=keep", `{"is_active": false}`).as(t, "karim@example.com").do(t).is(t, 200)
	})
}

func testMeSaysWhoAndWhat(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		user := s.user(t, cims.RoleSalesManager, "Dilshod")
		me := s.request(t, http.MethodGet, "/me", nil).as(t, "dilshod@example.com").do(t).is(t, 200).object(t)
		require.Equal(t, map[string]any{
			"id": float64(user.ID), "email": "dilshod@example.com", "name": "Dilshod", "surname": "Karimov", "role_name": "sales_manager",
			"permissions": []any{"statuses:read", "leads:read:own", "leads:write:own", "analytics:read"},
		}, me)
		byID := s.request(t, http.MethodGet, "/me", nil).as(t, fmt.Sprint(user.ID)).do(t).is(t, 200).object(t)
		require.Equal(t, me, byID)
		s.user(t, "customer", "Kamola")
		require.Equal(t, []any{}, s.request(t, http.MethodGet, "/me", nil).as(t, "kamola@example.com").do(t).is(t, 200).object(t)["permissions"])
	})
}
