package contract

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims/httpapi"
)

// Hostile requests to every route of the document.

// eachRoute runs a test for every route that it is for, and checks that nothing
// was changed.
func (h Host) eachRoute(t *testing.T, isFor func(op *huma.Operation) bool, test func(t *testing.T, s *scene, route string, op *huma.Operation)) {
	t.Helper()
	h.each(t, func(t *testing.T, server *Server) {
		s := newScene(t, server)
		s.lead(t)
		count := 0
		for _, route := range slices.Sorted(maps.Keys(s.routes)) {
			if op := s.routes[route]; isFor(op) {
				before := s.state(t)
				t.Run(route, func(t *testing.T) { test(t, s, route, op) })
				require.Equal(t, before, s.state(t), route)
				count++
			}
		}
		require.NotZero(t, count)
	})
}

var firstLead = target{lead: 1}

func takesJSON(op *huma.Operation) bool {
	return op.RequestBody != nil && op.RequestBody.Content["application/json"] != nil
}

func takesParameters(op *huma.Operation) bool {
	return strings.Contains(op.Path, "{") || slices.ContainsFunc(op.Parameters, func(p *huma.Param) bool { return p.In == "query" })
}

func every(*huma.Operation) bool { return true }

func testEveryBodyIsReadStrictly(t *testing.T, on Host) {
	on.eachRoute(t, takesJSON, func(t *testing.T, s *scene, route string, op *huma.Operation) {
		send := func(change func(body string) string) answer {
			c := s.good(t, route, firstLead)
			text, err := io.ReadAll(c.body)
			require.NoError(t, err)
			c.body = struct{ io.Reader }{strings.NewReader(change(string(text)))} // of a length that nobody knows
			return c.do(t)
		}
		instead := func(body string) func(string) string { return func(string) string { return body } }
		with := func(key, value string) func(string) string {
			return func(body string) string { return fmt.Sprintf(`{%q: %s, %s`, key, value, body[1:]) }
		}
		for name, c := range map[string]struct {
			change func(body string) string
			status int
		}{
			"nothing":           {instead(""), 400},
			"byte order mark":   {func(body string) string { return "\ufeff" + body }, 400},
			"more after it":     {func(body string) string { return body + "{}" }, 400},
			"cut off":           {func(body string) string { return body[:len(body)-1] }, 400},
			"UTF-16":            {func(body string) string { return strings.Join(strings.Split(body, ""), "\x00") }, 400},
			"invalid UTF-8":     {with("x", "\"\xff\""), 400},
			"a raw NUL":         {with("x", "\"\x00\""), 400},
			"nested too deeply": {with("x", strings.Repeat("[", 15_000)+strings.Repeat("]", 15_000)), 400},
			"nested":            {with("x", strings.Repeat("[", 9_000)+strings.Repeat("]", 9_000)), 422},
			"array of many":     {instead("[" + strings.Repeat("0,", 100_000) + "0]"), 422},
			"null":              {instead("null"), 422},
			"too much":          {func(body string) string { return body + strings.Repeat(" ", 1<<20) }, 413},
			"many keys": {func(body string) string {
				var keys strings.Builder
				for i := range 5_500 {
					fmt.Fprintf(&keys, `"%d": 0, `, i)
				}
				return "{" + keys.String() + body[1:]
			}, 422},
		} {
			require.Equal(t, c.status, send(c.change).status, name)
		}
		for _, contentTypes := range [][]string{nil, {"text/plain"}, {"application/x-www-form-urlencoded"}, {"application/json; charset=utf-16"}} {
			s.good(t, route, firstLead).with("Content-Type", contentTypes...).do(t).is(t, 415)
		}

		refused := func(key, value string) {
			t.Helper()
			require.Contains(t, send(with(key, value)).is(t, 422).at(t), "body."+key)
		}
		schema := s.API.OpenAPI().Components.Schemas.SchemaFromRef(op.RequestBody.Content["application/json"].Schema.Ref)
		for _, name := range []string{"id", "Id", "created_at", "updated_at", "is_system", "Is_System", "IS_SYSTEM", "sales_manager_id", "__proto__", "$schema", ""} {
			if _, known := schema.Properties[name]; !known {
				refused(name, "null")
				refused(name, "true")
			}
		}
		var sent map[string]json.RawMessage
		send(func(body string) string {
			require.NoError(t, json.Unmarshal([]byte(body), &sent))
			return "" // only looked at
		})
		for name, property := range schema.Properties {
			refused(strings.ToUpper(name), "null")
			refused(strings.ToUpper(name[:1])+name[1:], "null")
			if value, ok := sent[name]; ok {
				refused(name, string(value)) // once more
			}
			if name == "is_system" {
				refused(name, "true")
			}
			if property.Type == huma.TypeString {
				for _, value := range []string{`"a\u0000"`, `"a\u0001b"`, `"a\u009bb"`, `"\ud800"`, `"\udc00\ud800"`, `0`, `{}`, `["a"]`} {
					changed := maps.Clone(sent)
					changed[name] = json.RawMessage(value)
					body, err := json.Marshal(changed)
					require.NoError(t, err)
					require.Contains(t, send(instead(string(body))).is(t, 422).at(t), "body."+name, value)
				}
			}
		}
	})
}

// hostileTexts mean something to somebody: to SQL, to a driver, to LIKE.
var hostileTexts = []string{
	`'; DROP TABLE customer; --`, `1' OR '1'='1`, `1 OR 1=1`, `1;SELECT pg_sleep(10)`, `?`, `$1`, `:name`, `%`, `_`, `\`, `\'`, `"`, `../..`, `{{7*7}}`,
	"a\x00b", "\xff", "\u202e", strings.Repeat("a", 4_000),
}

func testEveryParameterIsReadStrictly(t *testing.T, on Host) {
	on.eachRoute(t, takesParameters, func(t *testing.T, s *scene, route string, op *huma.Operation) {
		with := func(query string) answer {
			c := s.good(t, route, firstLead)
			c.path += "?" + query
			return c.do(t)
		}
		for _, p := range op.Parameters {
			switch p.In {
			case "path":
				for _, text := range hostileTexts {
					c := s.good(t, route, firstLead)
					c.path = strings.Replace(strings.TrimPrefix(op.Path, s.host.Prefix), "{"+p.Name+"}", url.PathEscape(text), 1)
					require.Contains(t, []int{404, 422}, c.do(t).status, text)
				}
			case "query":
				at := func(value string) {
					t.Helper()
					require.Equal(t, []string{"query." + p.Name}, with(p.Name+"="+url.QueryEscape(value)).is(t, 422).at(t), value)
				}
				with(p.Name+"=1&"+p.Name+"=2").is(t, 422)
				with(strings.ToUpper(p.Name)+"=1").is(t, 422)
				for _, text := range hostileTexts {
					literal := p.Name == "q" && utf8.ValidString(text) && !strings.Contains(text, "\x00") && len(text) <= 255 ||
						p.Name == "request_id" && (text == "_" || text == "../..")
					if !literal {
						at(text)
						continue
					}
					require.Empty(t, with(p.Name+"="+url.QueryEscape(text)).is(t, 200).objects(t), "nothing has to do with %s", text)
				}
				if p.Schema.Type == huma.TypeInteger {
					for _, number := range []string{"0", "-1", "1e20", "1.0", "0x1", "١", strconv.Itoa(1<<62) + "0"} {
						at(number)
					}
				}
			}
		}
	})
}

// testNoWayAroundTheRoutes: neither another spelling of a path, nor another method,
// nor a header that some proxy believes gets anybody anywhere.
func testNoWayAroundTheRoutes(t *testing.T, on Host) {
	on.eachRoute(t, every, func(t *testing.T, s *scene, route string, _ *huma.Operation) {
		path := s.good(t, route, firstLead).path
		for _, spelling := range []string{
			path + "/", "/" + path, path + "/.", "/%2e" + path, "/x/.." + path, "/x/%2e%2e" + path, path + "/%2e", path + "%2f",
			path + ";a=b", path + "%00", path + ".json", strings.ToUpper(path), "/" + strings.Replace(path[1:], "/", "%2f", 1),
		} {
			if spelling == path {
				continue
			}
			c := s.good(t, route, firstLead)
			c.path = spelling
			a := c.do(t)
			require.Contains(t, []int{404, 405, 422}, a.status, spelling) // 422: an id that is no number
		}
		for _, method := range []string{http.MethodPatch, http.MethodTrace, "PROPFIND", "get", "delete"} {
			c := s.good(t, route, firstLead)
			c.method = method
			a, err := c.try(t)
			require.NoError(t, err)
			if on.OnlyStandard && a.status == http.StatusNotImplemented {
				continue
			}
			a.checkHeaders(t)
			a.is(t, 405)
		}
		read := s.request(t, http.MethodGet, "/me", nil)
		for _, name := range []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-Method"} {
			for _, method := range []string{"DELETE", "PUT", "POST"} {
				read.with(name, method).do(t).is(t, 200)
			}
		}
		method, _, _ := strings.Cut(route, " ")
		c := s.request(t, method, "/nowhere", nil)
		for _, name := range []string{"X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix", "X-Forwarded-Path"} {
			c.with(name, path)
		}
		c.do(t).is(t, 404)
	})
}

// testEveryRouteRefusesInProblems: each refusal has the form and the headers of all
// others.
func testEveryRouteRefusesInProblems(t *testing.T, on Host) {
	s := newScene(t, on.newServer(t, func(o *httpapi.Options) {
		tokens := o.Authenticator
		o.Authenticator = httpapi.AuthenticatorFunc(func(ctx huma.Context) (httpapi.Identity, error) {
			switch ctx.Header("X-Trouble") {
			case "panic":
				panic(inside)
			case "late":
				return httpapi.Identity{}, fmt.Errorf("%s: %w", inside, context.DeadlineExceeded)
			case "refusal":
				return httpapi.Identity{}, errors.New(inside)
			}
			return tokens.Authenticate(ctx)
		})
	}))
	s.lead(t)
	before := s.state(t)
	for route := range s.routes {
		for trouble, status := range map[string]int{"panic": 500, "late": 503, "refusal": 401} {
			a := s.good(t, route, firstLead).with("X-Trouble", trouble).do(t).is(t, status)
			require.NotContains(t, a.text, "SELECT")
		}
		s.good(t, route, firstLead).with("Accept", "text/html").do(t).is(t, 406)
	}
	require.Equal(t, before, s.state(t))
}
