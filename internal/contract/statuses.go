package contract

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

func testStatusesComeInOrder(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		statuses := s.get(t, "/management/statuses").is(t, 200).objects(t)
		var names []any
		for _, status := range statuses {
			names = append(names, status["name"])
			require.Equal(t, true, status["is_system"])
			require.ElementsMatch(t, []string{
				"id", "name", "display_name", "description", "color", "order", "is_active", "is_system", "created_at", "updated_at",
			}, keys(status))
		}
		require.Equal(t, []any{"contacted", "project_started", "continuing", "finished", "rejected", "need_to_call"}, names)
	})
}

func keys(object map[string]any) []string {
	var names []string
	for name := range object {
		names = append(names, name)
	}
	return names
}

func testStatusLivesFromCreationToDeletion(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		created := s.post(t, "/management/statuses", `{"name": "Meeting Set", "display_name": " Uchrashuv ", "color": "#0ea5e9", "order": 7, "is_system": false}`).
			is(t, 201).object(t)
		require.Equal(t, "meeting_set", created["name"])
		require.Equal(t, "Uchrashuv", created["display_name"])
		require.Equal(t, "#0ea5e9", created["color"])
		require.Nil(t, created["description"])
		require.EqualValues(t, 7, created["order"])
		require.Equal(t, true, created["is_active"])
		require.Equal(t, false, created["is_system"])
		require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$`, created["created_at"])

		path := fmt.Sprintf("/management/statuses/%v", created["id"])
		changed := s.put(t, path, `{"description": "Kelishildi", "is_active": false}`).is(t, 200).object(t)
		require.Equal(t, "Kelishildi", changed["description"])
		require.Equal(t, false, changed["is_active"])
		require.Equal(t, "Uchrashuv", changed["display_name"], "what was not sent stays")

		require.Len(t, s.get(t, "/management/statuses?active=false").is(t, 200).objects(t), 1)
		require.Len(t, s.get(t, "/management/statuses?active=true").is(t, 200).objects(t), 6)

		s.delete(t, path).is(t, 204)
		s.delete(t, path).is(t, 404)
		require.Len(t, s.get(t, "/management/statuses").objects(t), 6)
	})
}

func testNullClearsDescriptionAndColorOnly(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		cleared := s.put(t, "/management/statuses/1", `{"description": null, "color": null}`).is(t, 200).object(t)
		require.Nil(t, cleared["description"])
		require.Nil(t, cleared["color"])
		for _, field := range []string{"display_name", "order", "is_active", "is_system"} {
			a := s.put(t, "/management/statuses/1", `{"`+field+`": null}`).is(t, 422)
			require.Equal(t, []string{"body." + field}, a.at(t))
			a = s.post(t, "/management/statuses", `{"name": "a", "display_name": "A", "`+field+`": null}`).is(t, 422)
			require.Contains(t, a.at(t), "body."+field)
		}
		created := s.post(t, "/management/statuses", `{"name": "a", "display_name": "A", "description": null, "color": null}`).is(t, 201).object(t)
		require.Nil(t, created["description"])
		require.Nil(t, created["color"])
	})
}

func testChangeOfNothingIsRefused(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		s.user(t, cims.RoleSalesManager, "Dilshod")
		for _, path := range []string{"/management/statuses/1", "/management/roles/5", "/management/users/2", "/crm/sales-managers/2"} {
			a := s.put(t, path, `{}`).is(t, 422)
			require.Equal(t, []string{"body"}, a.at(t), path)
		}
		require.Equal(t, []string{"body"}, s.put(t, "/management/statuses/1", `{"is_system": false}`).is(t, 422).at(t))
	})
}

func testSameValuesAreNoChange(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		before := s.get(t, "/management/statuses").objects(t)[0]
		after := s.put(t, "/management/statuses/1", map[string]any{"color": before["color"], "order": before["order"]}).is(t, 200).object(t)
		require.Equal(t, before, after)
	})
}

func testStatusFieldsHaveBounds(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		for name, c := range map[string]struct{ body, field string }{
			"no name":             {`{"display_name": "A"}`, "name"},
			"empty name":          {`{"name": " ", "display_name": "A"}`, "name"},
			"no display name":     {`{"name": "a"}`, "display_name"},
			"empty display name":  {`{"name": "a", "display_name": ""}`, "display_name"},
			"zero width in name":  {`{"name": "a\u200bb", "display_name": "A"}`, "name"},
			"control in name":     {`{"name": "a\nb", "display_name": "A"}`, "name"},
			"NUL in name":         {`{"name": "a\u0000b", "display_name": "A"}`, "name"},
			"NUL in display name": {`{"name": "a", "display_name": "A\u0000"}`, "display_name"},
			"half a character":    {`{"name": "a", "display_name": "A\ud83d"}`, "display_name"},
			"the other half":      {`{"name": "a", "display_name": "\uDE00 A"}`, "display_name"},
			"two first halves":    {`{"name": "a", "display_name": "\ud83d\ud83d"}`, "display_name"},
			"style in color":      {`{"name": "a", "display_name": "A", "color": "red;}</style>"}`, "color"},
			"url in color":        {`{"name": "a", "display_name": "A", "color": "url(x)"}`, "color"},
			"line break in color": {`{"name": "a", "display_name": "A", "color": "#fff\n"}`, "color"},
			"nine digits":         {`{"name": "a", "display_name": "A", "color": "#123456789"}`, "color"},
			"negative order":      {`{"name": "a", "display_name": "A", "order": -1}`, "order"},
			"large order":         {`{"name": "a", "display_name": "A", "order": 1000001}`, "order"},
			"fractional order":    {`{"name": "a", "display_name": "A", "order": 1.5}`, "order"},
			"huge order":          {`{"name": "a", "display_name": "A", "order": 1e400}`, "order"},
			"order as text":       {`{"name": "a", "display_name": "A", "order": "1"}`, "order"},
			"is_active as number": {`{"name": "a", "display_name": "A", "is_active": 1}`, "is_active"},
			"system":              {`{"name": "a", "display_name": "A", "is_system": true}`, "is_system"},
			"system as text":      {`{"name": "a", "display_name": "A", "is_system": "false"}`, "is_system"},
			"id":                  {`{"name": "a", "display_name": "A", "id": 7}`, "id"},
			"created_at":          {`{"name": "a", "display_name": "A", "created_at": "2020-01-01T00:00:00Z"}`, "created_at"},
			"other case":          {`{"name": "a", "display_name": "A", "Is_System": true}`, "Is_System"},
			"name in other case":  {`{"NAME": "a", "name": "a", "display_name": "A"}`, "NAME"},
			"name twice":          {`{"name": "a", "name": "b", "display_name": "A"}`, "name"},
			"$schema":             {`{"$schema": "x", "name": "a", "display_name": "A"}`, "$schema"},
		} {
			t.Run(name, func(t *testing.T) {
				a := s.post(t, "/management/statuses", c.body).is(t, 422)
				require.Equal(t, []string{"body." + c.field}, a.at(t))
			})
		}
		before := s.get(t, "/management/statuses").text
		for _, color := range []string{`red;}</style>`, `url(x)`, `#fff\n`, `#123456789`, `#ff`, `#12345g`, `fff`, `#fff;`, ` #fff`, `#FFF "`, `var(--x)`, `#１２３`} {
			a := s.put(t, "/management/statuses/1", `{"color": "`+strings.ReplaceAll(color, `"`, `\"`)+`"}`).is(t, 422)
			require.Equal(t, []string{"body.color"}, a.at(t), color)
		}
		require.Equal(t, before, s.get(t, "/management/statuses").text)
		require.Len(t, s.get(t, "/management/statuses").objects(t), 6, "nothing was stored")
	})
}

func testEscapesThatAreWholeCharactersAreTaken(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		created := s.post(t, "/management/statuses", `{"n\u0061me": "a", "display_name": "\ud83d\ude00 \\ud800 \"\u0041"}`).is(t, 201).object(t)
		require.Equal(t, "😀 \\ud800 \"A", created["display_name"])
	})
}

func testNamesAreTakenInAnyCase(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		for _, name := range []string{"contacted", "CONTACTED", " Contacted "} {
			p := s.post(t, "/management/statuses", map[string]any{"name": name, "display_name": "A"}).is(t, 409).problem(t)
			require.Equal(t, "Bunday nom band", p.Detail)
			require.Equal(t, "body.name", p.Errors[0].Location)
		}
		created := s.post(t, "/management/statuses", `{"name": "Янги босқич", "display_name": "A"}`).is(t, 201).object(t)
		require.Equal(t, "янги_босқич", created["name"])
	})
}

func testSystemStatusStays(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		require.NotEmpty(t, s.delete(t, "/management/statuses/1").is(t, 403).problem(t).Detail)
		s.put(t, "/management/statuses/1", `{"is_active": false}`).is(t, 403)
		s.put(t, "/management/statuses/2", `{"is_active": false}`).is(t, 403)
		require.Len(t, s.get(t, "/management/statuses?active=true").objects(t), 6)
		s.put(t, "/management/statuses/6", `{"is_active": false}`).is(t, 200)
		require.NotEmpty(t, s.delete(t, "/management/statuses/6").is(t, 403).problem(t).Detail)
		require.Len(t, s.get(t, "/management/statuses?active=true").objects(t), 5)
	})
}

func testStatusInUseIsDeletedOnlyByMoving(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		status := s.post(t, "/management/statuses", `{"name": "hot", "display_name": "Hot"}`).is(t, 201).object(t)
		path := fmt.Sprintf("/management/statuses/%v", status["id"])
		for range 3 {
			s.post(t, "/crm/customers", `{"full_name": "Aziza", "status_name": "hot"}`).is(t, 201)
		}
		a := s.delete(t, path).is(t, 409)
		require.Equal(t, 3, a.problem(t).Count)
		require.False(t, a.problem(t).CountIsMinimum)
		require.Equal(t, "Bu statusda 3 ta mijoz bor, uni o'chirib bo'lmaydi", a.problem(t).Detail)

		require.Equal(t, []string{"query.move_to"}, s.delete(t, path+"?move_to=nowhere").is(t, 422).at(t))
		require.Equal(t, []string{"query.move_to"}, s.delete(t, path+"?move_to=hot").is(t, 422).at(t))
		require.Equal(t, []string{"query.move_to"}, s.delete(t, path+"?move_to=").is(t, 422).at(t))
		s.delete(t, path+"?move_to=finished").is(t, 204)
		for _, customer := range s.get(t, "/crm/customers").objects(t) {
			require.Equal(t, "finished", customer["status_name"])
		}
		events := s.get(t, "/crm/customers/1/history").objects(t)
		require.Equal(t, []any{"hot", "finished", "moved"}, []any{events[1]["from"], events[1]["to"], events[1]["cause"]})
	})
}

func testCountOfManyIsAMinimum(t *testing.T, on Host) {
	s := on.newServer(t)
	status := s.post(t, "/management/statuses", `{"name": "hot", "display_name": "Hot"}`).is(t, 201).object(t)
	for range 1001 {
		_, err := s.CRM.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "Aziza", StatusName: "hot"})
		require.NoError(t, err)
	}
	p := s.request(t, http.MethodDelete, fmt.Sprintf("/management/statuses/%v", status["id"]), nil).with("Accept-Language", "en").do(t).is(t, 409).problem(t)
	require.Equal(t, 1000, p.Count)
	require.True(t, p.CountIsMinimum)
	require.Equal(t, "The status can't be deleted, more than 1000 customers are in it", p.Detail)
}
