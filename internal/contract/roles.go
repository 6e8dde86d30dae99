package contract

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func testRolesComeByDisplayName(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		roles := s.get(t, "/management/roles").is(t, 200).objects(t)
		require.Len(t, roles, 5)
		for i, role := range roles {
			require.ElementsMatch(t, []string{
				"id", "name", "display_name", "description", "permissions", "is_active", "is_system", "created_at", "updated_at",
			}, keys(role))
			require.IsType(t, []any{}, role["permissions"], "never null")
			if i > 0 {
				require.Less(t, roles[i-1]["display_name"], role["display_name"])
			}
		}
	})
}

func testRoleLivesFromCreationToDeletion(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		created := s.post(t, "/management/roles", `{"name": "Operator", "display_name": "Operator", "permissions": ["leads:read", "statuses:read", "leads:read"], "is_system": false}`).
			is(t, 201).object(t)
		require.Equal(t, "operator", created["name"])
		require.Equal(t, []any{"statuses:read", "leads:read"}, created["permissions"])
		path := fmt.Sprintf("/management/roles/%v", created["id"])

		changed := s.put(t, path, `{"permissions": [], "description": "Qo'ng'iroqlar"}`).is(t, 200).object(t)
		require.Equal(t, []any{}, changed["permissions"])
		require.Equal(t, "Qo'ng'iroqlar", changed["description"])
		require.Nil(t, s.put(t, path, `{"description": null}`).is(t, 200).object(t)["description"])
		require.Equal(t, false, s.put(t, path, `{"is_active": false}`).is(t, 200).object(t)["is_active"])
		require.Len(t, s.get(t, "/management/roles?active=false").is(t, 200).objects(t), 1)
		s.delete(t, path).is(t, 204)
		s.delete(t, path).is(t, 404)
		require.Equal(t, "Rol topilmadi", s.put(t, path, `{"display_name": "A"}`).is(t, 404).problem(t).Detail)
	})
}

func testRoleFieldsHaveBounds(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		for name, c := range map[string]struct{ body, field string }{
			"unknown permission":   {`{"name": "a", "display_name": "A", "permissions": ["everything"]}`, "permissions"},
			"null permission":      {`{"name": "a", "display_name": "A", "permissions": [null]}`, "permissions"},
			"permissions null":     {`{"name": "a", "display_name": "A", "permissions": null}`, "permissions"},
			"permissions a text":   {`{"name": "a", "display_name": "A", "permissions": "leads:read"}`, "permissions"},
			"permissions numbers":  {`{"name": "a", "display_name": "A", "permissions": [1]}`, "permissions"},
			"permissions nested":   {`{"name": "a", "display_name": "A", "permissions": [["leads:read"]]}`, "permissions"},
			"color is no field":    {`{"name": "a", "display_name": "A", "color": "#fff"}`, "color"},
			"order is no field":    {`{"name": "a", "display_name": "A", "order": 1}`, "order"},
			"system":               {`{"name": "a", "display_name": "A", "is_system": true}`, "is_system"},
			"zero width in a name": {`{"name": "ceo\u200d", "display_name": "A"}`, "name"},
		} {
			t.Run(name, func(t *testing.T) {
				a := s.post(t, "/management/roles", c.body).is(t, 422)
				require.Equal(t, []string{"body." + c.field}, a.at(t))
			})
		}
		s.post(t, "/management/roles", `{"name": "CEO ", "display_name": "A"}`).is(t, 409)
		lookalike := s.post(t, "/management/roles", `{"name": "сeo", "display_name": "CEO"}`).is(t, 201).object(t)
		require.Equal(t, []any{}, lookalike["permissions"], "rights hang on nothing but the permissions")
	})
}

func testRoleInUseIsDeletedOnlyByMoving(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		role := s.post(t, "/management/roles", `{"name": "operator", "display_name": "Operator"}`).is(t, 201).object(t)
		path := fmt.Sprintf("/management/roles/%v", role["id"])
		s.user(t, "operator", "Olim")
		p := s.delete(t, path).is(t, 409).problem(t)
		require.Equal(t, 1, p.Count)
		require.Equal(t, "Bu rol 1 ta foydalanuvchida bor, uni o'chirib bo'lmaydi", p.Detail)
		require.Equal(t, []string{"query.move_to"}, s.delete(t, path+"?move_to=nobody").is(t, 422).at(t))
		s.delete(t, path+"?move_to=member").is(t, 204)
		require.Equal(t, "member", s.get(t, "/management/users?q=olim").objects(t)[0]["role_name"])
	})
}
