package contract

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

func testAuditSaysWhoDidWhat(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		created := s.request(t, "POST", "/management/statuses", statusBody).with("X-Request-ID", "set-up.1").do(t).is(t, 201).object(t)
		updated := s.put(t, fmt.Sprintf("/management/statuses/%v", created["id"]), `{"display_name": "Другой"}`).is(t, 200).object(t)

		entries := s.get(t, "/management/audit?limit=2").is(t, 200).objects(t)
		require.Equal(t, "updated", entries[0]["action"])
		require.Equal(t, created, entries[0]["before"], "as it was shown")
		require.Equal(t, updated, entries[0]["after"])
		require.ElementsMatch(t, []string{
			"action", "after", "at", "before", "by", "cause", "entity", "entity_id", "id", "move_to", "request_id", "system",
		}, keys(entries[1]))
		require.Equal(t, "set-up.1", entries[1]["request_id"])
		require.Equal(t, "created", entries[1]["action"])
		require.Equal(t, "status", entries[1]["entity"])
		require.Equal(t, created["id"], entries[1]["entity_id"])
		require.Equal(t, created["created_at"], entries[1]["at"])
		require.Nil(t, entries[1]["before"])
		require.Equal(t, created, entries[1]["after"])
		require.Equal(t, CEOEmail, entries[1]["by"].(map[string]any)["email"])
		require.Nil(t, entries[1]["system"])

		anvar, botir := s.user(t, cims.RoleSalesManager, "Anvar"), s.user(t, cims.RoleSalesManager, "Botir")
		entry := s.get(t, "/management/audit?entity=user&limit=1").objects(t)[0]
		require.Nil(t, entry["by"])
		require.NotEmpty(t, entry["system"])
		lead := s.post(t, "/crm/customers", `{"full_name": "Aziza", "phone_number": "+998901234567"}`).is(t, 201).object(t)
		require.Equal(t, anvar.Email, lead["sales_manager"].(map[string]any)["email"])
		s.post(t, "/crm/assign-sales-manager", map[string]any{"customer_id": lead["id"], "sales_manager_id": botir.ID}).is(t, 200)
		a := s.get(t, "/management/audit?entity=customer").is(t, 200)
		require.NotContains(t, a.text, "+998901234567", "the log has nothing of the customer but the id")
		entry = a.objects(t)[0]
		require.Equal(t, "assigned", entry["action"])
		require.Equal(t, "manual", entry["cause"])
		require.Equal(t, lead["sales_manager"], entry["before"].(map[string]any)["sales_manager"])
	})
}

func testAuditIsFiltered(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		begin := time.Now().UTC().Add(-time.Minute)
		for i := range 5 {
			s.request(t, "POST", "/management/statuses", fmt.Sprintf(`{"name": "s%d", "display_name": "S"}`, i)).with("X-Request-ID", fmt.Sprint("r", i)).do(t).is(t, 201)
		}
		count := func(query string) int {
			return len(s.get(t, "/management/audit?entity=status&"+query).is(t, 200).objects(t))
		}
		at := func(t time.Time) string { return url.QueryEscape(t.Format(time.RFC3339)) }
		require.Equal(t, 5, count("by=1"))
		require.Equal(t, 0, count("by=2"))
		require.Equal(t, 5, count("action=created"))
		require.Equal(t, 0, count("action=deleted"))
		require.Equal(t, 1, count("request_id=r3"))
		require.Equal(t, 1, count("entity_id=9"))
		require.Equal(t, 5, count("since="+at(begin)))
		require.Equal(t, 5, count("since="+at(begin.In(time.FixedZone("Tashkent", 5*60*60)))))
		require.Equal(t, 0, count("until="+at(begin)))

		var names []any
		for path := "/management/audit?entity=status&limit=2"; path != ""; {
			a := s.get(t, path).is(t, 200)
			for _, entry := range a.objects(t) {
				names = append(names, entry["after"].(map[string]any)["name"])
			}
			path = ""
			if next, ok := a.object(t)["next"].(string); ok {
				path = "/management/audit?entity=status&limit=2&cursor=" + url.QueryEscape(next)
			}
		}
		require.Equal(t, []any{"s4", "s3", "s2", "s1", "s0"}, names)

		for query, at := range map[string]string{
			"entity=lead": "query.entity", "action=stolen": "query.action", "entity_id=x": "query.entity_id", "by=": "query.by",
			"request_id=": "query.request_id", "request_id=a%0Ab": "query.request_id", "since=yesterday": "query.since",
			"since=2025-12-15": "query.since", "since=2026-01-01T00:00:00,5Z": "query.since", "until=2026-01-01T0:00:00Z": "query.until", "until=0001-01-01T00:00:00Z": "query.until", "until=99999-01-01T00:00:00Z": "query.until",
			"cursor=x": "query.cursor", "limit=0": "query.limit", "sort=id": "query.sort",
		} {
			require.Equal(t, []string{at}, s.get(t, "/management/audit?"+query).is(t, 422).at(t), query)
		}
	})
}
