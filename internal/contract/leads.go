package contract

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

func testNewCustomerIsAssignedAtOnce(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		manager := s.user(t, cims.RoleSalesManager, "Dilshod")
		created := s.post(t, "/crm/customers", `{"full_name": " Aziza Karimova ", "phone_number": "+998901234567", "platform": null, "username": "", "notes": "a\nb"}`).
			is(t, 201).object(t)
		require.ElementsMatch(t, []string{
			"id", "full_name", "phone_number", "platform", "username", "notes", "status_name", "created_at", "updated_at", "sales_manager", "assignment",
		}, keys(created))
		require.Equal(t, "Aziza Karimova", created["full_name"])
		require.Equal(t, "contacted", created["status_name"])
		require.Nil(t, created["platform"])
		require.Nil(t, created["username"])
		person := map[string]any{"id": float64(manager.ID), "email": "dilshod@example.com", "name": "Dilshod", "surname": "Karimov"}
		require.Equal(t, person, created["sales_manager"])
		assignment, _ := created["assignment"].(map[string]any)
		require.ElementsMatch(t, []string{"id", "assigned_at", "assigned_by"}, keys(assignment))
		require.Nil(t, assignment["assigned_by"])

		one := s.get(t, "/crm/customers/1").is(t, 200).object(t)
		delete(created, "assignment")
		require.Equal(t, created, one)
		require.Equal(t, []map[string]any{one}, s.get(t, "/crm/customers").is(t, 200).objects(t))

		require.Equal(t, map[string]any{
			"assignment_id": assignment["id"], "customer_id": 1.0, "sales_manager": person,
			"assigned_at": assignment["assigned_at"], "assigned_by": nil,
		}, s.get(t, "/crm/customer/1/sales-manager").is(t, 200).object(t))
	})
}

func testCustomerWaitsWhileNobodySells(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		created := s.post(t, "/crm/customers", `{"full_name": "Aziza"}`).is(t, 201).object(t)
		require.Nil(t, created["sales_manager"])
		require.Contains(t, keys(created), "assignment")
		require.Nil(t, created["assignment"])
		require.Equal(t, "Mijozga sotuv menejeri biriktirilmagan", s.get(t, "/crm/customer/1/sales-manager").is(t, 404).problem(t).Detail)
		require.Len(t, s.get(t, "/crm/customers?unassigned=true").is(t, 200).objects(t), 1)
		require.Len(t, s.get(t, "/crm/customers?unassigned=false").is(t, 200).objects(t), 1)
	})
}

func testCustomerFieldsHaveBounds(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		for field, value := range map[string]string{
			"full_name":    strings.Repeat("a", 501),
			"phone_number": strings.Repeat("1", 51),
			"platform":     strings.Repeat("a", 256),
			"username":     strings.Repeat("a", 256),
			"notes":        strings.Repeat("a", 10_001),
			"status_name":  "nowhere",
		} {
			body := map[string]any{"full_name": "Aziza"}
			body[field] = value
			require.Equal(t, []string{"body." + field}, s.post(t, "/crm/customers", body).is(t, 422).at(t))
		}
		require.Equal(t, []string{"body.status_name"}, s.post(t, "/crm/customers", `{"full_name": "A", "status_name": null}`).is(t, 422).at(t))
		require.Equal(t, []string{"body.status_name"}, s.post(t, "/crm/customers", `{"full_name": "A", "status_name": "a\u0000"}`).is(t, 422).at(t))
		require.Equal(t, []string{"body.sales_manager_id"}, s.post(t, "/crm/customers", `{"full_name": "A", "sales_manager_id": null}`).is(t, 422).at(t))
		s.post(t, "/crm/customers", `{"full_name": "A", "sales_manager_id": 1}`).is(t, 404)
		require.Empty(t, s.get(t, "/crm/customers").objects(t))
	})
}

func testIdempotencyKeyMakesARepetitionHarmless(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		s.user(t, cims.RoleSalesManager, "Dilshod")
		add := func(body string, keys ...string) answer {
			return s.request(t, http.MethodPost, "/crm/customers", body).with("Idempotency-Key", keys...).do(t)
		}
		first := add(`{"full_name": "Aziza", "notes": "x"}`, "form-1").is(t, 201)
		again := add(`{ "notes":"x","full_name": "Az\u0069za" }`, "form-1").is(t, 201)
		require.JSONEq(t, first.text, again.text, "the same as JSON values")
		other := add(`{"full_name": "Bobur"}`, "form-1").is(t, 422)
		require.Equal(t, []string{"header.Idempotency-Key"}, other.at(t))
		require.Len(t, s.get(t, "/crm/customers").objects(t), 1)

		for _, keys := range [][]string{{"a", "b"}, {"a", "a"}, {""}, {"a b"}, {"ключ"}, {strings.Repeat("k", 256)}} {
			require.Equal(t, []string{"header.Idempotency-Key"}, add(`{"full_name": "Aziza"}`, keys...).is(t, 422).at(t), keys)
		}
		spaced := s.request(t, http.MethodPost, "/crm/customers", `{"full_name": "A"}`).with("Idempotency-Key", "a b").with("Accept-Language", "en").do(t)
		require.Equal(t, "must have visible ASCII characters only, no spaces", spaced.problem(t).Errors[0].Message)
		require.Len(t, s.get(t, "/crm/customers").objects(t), 1)
		add(`{"full_name": "Aziza"}`, strings.Repeat("k", 255)).is(t, 201)
	})
}

func testCustomersAreFiltered(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		manager := s.user(t, cims.RoleSalesManager, "Dilshod")
		s.post(t, "/crm/customers", `{"full_name": "Aziza", "phone_number": "+99890"}`).is(t, 201)
		s.post(t, "/crm/customers", `{"full_name": "Bobur", "status_name": "finished"}`).is(t, 201)
		s.post(t, "/crm/customers", `{"full_name": "100%_?$1 O'tkir", "phone_number": "+7"}`).is(t, 201)
		for query, want := range map[string]int{
			"": 3, "?status=finished": 1, "?status=Finished": 1, "?status=rejected": 0, "?q=azi": 1, "?q=%2B998": 1, "?q=+998": 1, "?q=998": 1, "?q=98": 0, "?q=": 3,
			"?q=%25": 0, "?q=_": 0, "?q=100%25_": 1, "?q=%27%20OR%201=1--": 0,
			fmt.Sprintf("?sales_manager_id=%d", manager.ID): 3, "?sales_manager_id=1": 0, "?unassigned=true": 0,
		} {
			require.Len(t, s.get(t, "/crm/customers"+query).is(t, 200).objects(t), want, query)
		}
		require.Equal(t, "Foydalanuvchi topilmadi", s.get(t, "/crm/customers?sales_manager_id=99").is(t, 404).problem(t).Detail)
	})
}

func testCustomersComeInPagesNewestFirst(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		for i := range 5 {
			s.post(t, "/crm/customers", map[string]any{"full_name": fmt.Sprint(i)}).is(t, 201)
		}
		var names []any
		for path := "/crm/customers?limit=2"; path != ""; {
			a := s.get(t, path).is(t, 200)
			for _, customer := range a.objects(t) {
				names = append(names, customer["full_name"])
			}
			path = ""
			if next, ok := a.object(t)["next"].(string); ok {
				path = "/crm/customers?limit=2&cursor=" + url.QueryEscape(next)
			}
		}
		require.Equal(t, []any{"4", "3", "2", "1", "0"}, names)
	})
}

func testStatusIsSetWithHistory(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		manager := s.user(t, cims.RoleSalesManager, "Dilshod")
		s.post(t, "/crm/customers", `{"full_name": "Aziza"}`).is(t, 201)
		changed := s.put(t, "/crm/customers/1/status", `{"status_name": "Project Started", "reason": "Shartnoma"}`).is(t, 200).object(t)
		require.Equal(t, "project_started", changed["status_name"])
		s.put(t, "/crm/customers/1/status", `{"status_name": "project_started"}`).is(t, 200)
		noted := s.put(t, "/crm/customers/1/status", `{"status_name": "project_started", "reason": "Avans olindi"}`).is(t, 200).object(t)
		require.Equal(t, "project_started", noted["status_name"])

		id := float64(manager.ID)
		page := s.get(t, "/crm/customers/1/history").is(t, 200)
		require.Nil(t, page.object(t)["next"])
		events := page.objects(t)
		for _, event := range events {
			require.NotEmpty(t, event["at"])
			delete(event, "at")
		}
		require.Equal(t, []map[string]any{
			{"kind": "status", "from": nil, "to": "contacted", "by": 1.0, "cause": "created", "reason": nil, "owner": id},
			{"kind": "assignment", "from": nil, "to": id, "by": nil, "cause": "automatic", "reason": nil, "owner": id},
			{"kind": "status", "from": "contacted", "to": "project_started", "by": 1.0, "cause": "manual", "reason": "Shartnoma", "owner": id},
			{"kind": "note", "from": nil, "to": nil, "by": 1.0, "cause": "manual", "reason": "Avans olindi", "owner": id},
		}, events)

		first := s.get(t, "/crm/customers/1/history?limit=1").is(t, 200)
		require.Len(t, first.objects(t), 1)
		next, _ := first.object(t)["next"].(string)
		require.Len(t, s.get(t, "/crm/customers/1/history?cursor="+url.QueryEscape(next)).is(t, 200).objects(t), 3)

		for _, body := range []string{`{}`, `{"status_name": ""}`, `{"status_name": null}`, `{"status_name": "nowhere"}`, `{"status_name": 1}`} {
			require.Equal(t, []string{"body.status_name"}, s.put(t, "/crm/customers/1/status", body).is(t, 422).at(t), body)
		}
		s.put(t, "/crm/customers/99/status", `{"status_name": "finished"}`).is(t, 404)
	})
}

func testManagersAreListedWeighedAndPaused(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		b, a := s.user(t, cims.RoleSalesManager, "Bobur"), s.user(t, cims.RoleSalesManager, "Aziz")
		s.post(t, "/crm/customers", `{"full_name": "Lead"}`).is(t, 201)
		managers := s.get(t, "/crm/sales-managers").is(t, 200).objects(t)
		require.Equal(t, []map[string]any{
			{"id": float64(a.ID), "email": "aziz@example.com", "name": "Aziz", "surname": "Karimov", "assigned_leads_count": 0.0, "weight": 1.0, "paused": false},
			{"id": float64(b.ID), "email": "bobur@example.com", "name": "Bobur", "surname": "Karimov", "assigned_leads_count": 1.0, "weight": 1.0, "paused": false},
		}, managers)

		path := fmt.Sprintf("/crm/sales-managers/%d", a.ID)
		changed := s.put(t, path, `{"weight": 2, "paused": true}`).is(t, 200).object(t)
		require.EqualValues(t, 2, changed["weight"])
		require.Equal(t, true, changed["paused"])
		for range 2 {
			created := s.post(t, "/crm/customers", `{"full_name": "Lead"}`).is(t, 201).object(t)
			require.EqualValues(t, b.ID, created["sales_manager"].(map[string]any)["id"], "who is paused gets none")
		}
		for _, body := range []string{`{"weight": 0}`, `{"weight": 101}`, `{"weight": "2"}`, `{"weight": null}`} {
			require.Equal(t, []string{"body.weight"}, s.put(t, path, body).is(t, 422).at(t))
		}
		s.put(t, "/crm/sales-managers/1", `{"paused": true}`).is(t, 404)
	})
}

func testCustomerIsAssignedByHand(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		a, b := s.user(t, cims.RoleSalesManager, "Aziz"), s.user(t, cims.RoleSalesManager, "Bobur")
		s.post(t, "/crm/customers", `{"full_name": "Lead"}`).is(t, 201)
		for _, manager := range []cims.User{b, a} {
			given := s.post(t, "/crm/assign-sales-manager", map[string]any{"customer_id": 1, "sales_manager_id": manager.ID}).is(t, 200).object(t)
			require.ElementsMatch(t, []string{"id", "customer_id", "sales_manager_id", "assigned_at", "assigned_by", "is_active"}, keys(given))
			require.EqualValues(t, manager.ID, given["sales_manager_id"])
			require.EqualValues(t, 1, given["assigned_by"])
			require.Equal(t, true, given["is_active"])
		}
		s.post(t, "/crm/assign-sales-manager", map[string]any{"customer_id": 99, "sales_manager_id": a.ID}).is(t, 404)
		p := s.post(t, "/crm/assign-sales-manager", `{"customer_id": 1, "sales_manager_id": 1}`).is(t, 404).problem(t)
		require.Equal(t, "Bunday faol sotuv menejeri yo'q", p.Detail, "a CEO is none")
		require.Equal(t, []string{"body.customer_id", "body.sales_manager_id"}, s.post(t, "/crm/assign-sales-manager", `{}`).is(t, 422).at(t))
	})
}

func testBacklogIsAssignedOnCommand(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		require.Equal(t, map[string]any{"assigned": 0.0, "waiting": 0.0},
			s.request(t, http.MethodPost, "/crm/assign-backlog", nil).do(t).is(t, 200).object(t))
	})
}

func testConversionRateIsMeasured(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		require.Equal(t, map[string]any{"total_customers": 0.0, "project_started_count": 0.0, "conversion_rate": 0.0, "period": "Oxirgi 0 ta lead"},
			s.get(t, "/crm/conversion-rate").is(t, 200).object(t))
		manager := s.user(t, cims.RoleSalesManager, "Dilshod")
		for i := range 3 {
			s.post(t, "/crm/customers", map[string]any{"full_name": fmt.Sprint(i)}).is(t, 201)
		}
		s.put(t, "/crm/customers/3/status", `{"status_name": "project_started"}`).is(t, 200)
		s.put(t, "/crm/customers/3/status", `{"status_name": "finished"}`).is(t, 200)
		for query, want := range map[string][3]float64{
			"":                              {3, 1, 33.33},
			"?last=2":                       {2, 1, 50},
			"?mode=reached":                 {3, 1, 33.33},
			"?mode=current":                 {3, 0, 0},
			"?mode=current&target=finished": {3, 1, 33.33},
			"?last=100000&target=Contacted": {3, 3, 100},
			fmt.Sprintf("?sales_manager_id=%d", manager.ID): {3, 1, 33.33},
			"?own=exclude":        {3, 1, 33.33},
			"?sales_manager_id=1": {0, 0, 0},
		} {
			got := s.get(t, "/crm/conversion-rate"+query).is(t, 200).object(t)
			require.Equal(t, want, [3]float64{got["total_customers"].(float64), got["project_started_count"].(float64), got["conversion_rate"].(float64)}, query)
		}
		s.get(t, "/crm/conversion-rate?sales_manager_id=99").is(t, 404)
		as := func(query string) answer {
			return s.request(t, http.MethodGet, "/crm/conversion-rate"+query, nil).as(t, "dilshod@example.com").with("Accept-Language", "en").do(t)
		}
		as("?last=40").is(t, 200)
		as(fmt.Sprintf("?last=7&sales_manager_id=%d", manager.ID)).is(t, 200)
		require.Equal(t, "This needs the permission leads:read", as("?sales_manager_id=1").is(t, 403).problem(t).Detail)
		require.Equal(t, as("?sales_manager_id=1").text, as("?sales_manager_id=99").text)
		require.Equal(t, []string{"query.last"}, as("?last=30").is(t, 422).at(t))
		require.Equal(t, "must be a multiple of 20", as("?last=1").problem(t).Errors[0].Message)
		require.Equal(t, []string{"query.own"}, as("?own=exclude").is(t, 422).at(t))
		for query, at := range map[string]string{
			"?last=0": "query.last", "?last=100001": "query.last", "?target=nowhere": "query.target", "?mode=x": "query.mode",
			"?target=%00": "query.target", "?target=": "query.target", "?own=include": "query.own", "?sales_manager_id=0": "query.sales_manager_id",
		} {
			require.Equal(t, []string{at}, s.get(t, "/crm/conversion-rate"+query).is(t, 422).at(t), query)
		}
	})
}

func testPeriodFollowsTheLanguage(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		for language, want := range map[string]string{"uz": "Oxirgi 0 ta lead", "ru-RU": "Последние 0 лидов", "en": "Last 0 leads", "de": "Oxirgi 0 ta lead"} {
			got := s.request(t, http.MethodGet, "/crm/conversion-rate", nil).with("Accept-Language", language).do(t).is(t, 200).object(t)
			require.Equal(t, want, got["period"])
		}
	})
}

func testOwnPermissionReachesOwnLeadsOnly(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		a := s.user(t, cims.RoleSalesManager, "Aziz")
		s.user(t, cims.RoleSalesManager, "Bobur")
		for range 2 {
			s.post(t, "/crm/customers", `{"full_name": "Lead"}`).is(t, 201)
		}
		as := func(method, path string, body any) answer {
			return s.request(t, method, path, body).as(t, "aziz@example.com").do(t)
		}
		own := as(http.MethodGet, "/crm/customers", nil).is(t, 200).objects(t)
		require.Len(t, own, 1)
		require.EqualValues(t, a.ID, own[0]["sales_manager"].(map[string]any)["id"])
		mine, others := fmt.Sprint(own[0]["id"]), map[any]string{1.0: "2", 2.0: "1"}[own[0]["id"]]

		for _, suffix := range []string{"customers/%s", "customers/%s/history", "customer/%s/sales-manager"} {
			as(http.MethodGet, "/crm/"+fmt.Sprintf(suffix, mine), nil).is(t, 200)
			another := as(http.MethodGet, "/crm/"+fmt.Sprintf(suffix, others), nil).is(t, 404)
			require.Equal(t, another.text, as(http.MethodGet, "/crm/"+fmt.Sprintf(suffix, "99"), nil).is(t, 404).text, "nothing tells them apart")
		}
		as(http.MethodPut, "/crm/customers/"+mine+"/status", `{"status_name": "finished"}`).is(t, 200)
		as(http.MethodPut, "/crm/customers/"+others+"/status", `{"status_name": "finished"}`).is(t, 404)
		as(http.MethodPost, "/crm/customers", `{"full_name": "Lead"}`).is(t, 201)
		as(http.MethodPost, "/crm/customers", `{"full_name": "Lead", "status_name": "contacted"}`).is(t, 201)
		require.Equal(t, []string{"body.status_name"}, as(http.MethodPost, "/crm/customers", `{"full_name": "Lead", "status_name": "project_started"}`).is(t, 422).at(t))
		as(http.MethodPost, "/crm/customers", map[string]any{"full_name": "Lead", "sales_manager_id": a.ID}).is(t, 403)
		walkIn := s.post(t, "/crm/customers", map[string]any{"full_name": "Lead", "sales_manager_id": a.ID, "status_name": "finished"}).is(t, 201).object(t)
		require.EqualValues(t, a.ID, walkIn["sales_manager"].(map[string]any)["id"])
		require.EqualValues(t, 1, walkIn["assignment"].(map[string]any)["assigned_by"])
		require.Len(t, as(http.MethodGet, "/crm/sales-managers", nil).is(t, 200).objects(t), 2, "all managers")
		as(http.MethodPost, "/crm/assign-sales-manager", `{"customer_id": 1, "sales_manager_id": 2}`).is(t, 403)
	})
}
