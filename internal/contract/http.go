package contract

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi"
)

const statusBody = `{"name": "hot", "display_name": "Hot"}`

func testWhoIsUnknownLearnsNothing(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		var bodies []string
		for name, set := range map[string]func(*call) *call{
			"no token":  func(c *call) *call { return c.with("Authorization") },
			"no bearer": func(c *call) *call { return c.with("Authorization", "Basic Y2VvOg==") },
			"garbage":   func(c *call) *call { return c.with("Authorization", "Bearer garbage") },
			"two tokens": func(c *call) *call {
				return c.with("Authorization", "Bearer "+Token(t, CEOEmail), "Bearer "+Token(t, CEOEmail))
			},
			"unknown user":  func(c *call) *call { return c.as(t, "nobody@example.com") },
			"unknown id":    func(c *call) *call { return c.as(t, "99") },
			"half an email": func(c *call) *call { return c.as(t, "1@") },
			"hidden sign":   func(c *call) *call { return c.as(t, "ceo@example.com\u200b") },
			"NUL in email":  func(c *call) *call { return c.as(t, "ceo@example.com\x00") },
			"no sub":        func(c *call) *call { return c.as(t, "") },
			"expired":       func(c *call) *call { return c.signed(t, `{"sub": "1", "exp": 1700000000}`) },
			"too early":     func(c *call) *call { return c.signed(t, `{"sub": "1", "exp": 4102444800, "nbf": 4102444700}`) },
			"without exp":   func(c *call) *call { return c.signed(t, `{"sub": "1"}`) },
		} {
			for _, request := range []*call{
				s.request(t, http.MethodGet, "/management/statuses?unknown=1", nil),
				s.request(t, http.MethodPost, "/management/statuses", "broken").with("Content-Type", "text/plain").with("Accept", "text/html"),
			} {
				a := set(request).do(t).is(t, 401)
				require.Equal(t, "Bearer", a.header.Get("WWW-Authenticate"), name)
				bodies = append(bodies, a.text)
			}
		}
		for _, text := range bodies {
			require.Equal(t, bodies[0], text)
		}
	})
}

// signed sends a token with any claims, and a good signature.
func (c *call) signed(t *testing.T, claims string) *call {
	t.Helper()
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"HS256"}`)) + "." + encode([]byte(claims))
	mac := hmac.New(sha256.New, secret)
	_, err := io.WriteString(mac, text)
	require.NoError(t, err)
	return c.with("Authorization", "Bearer "+text+"."+encode(mac.Sum(nil)))
}

func testWhoMayNotLearnsNothingOfTheBody(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		s.user(t, "member", "Malika")
		var bodies []string
		for _, body := range []string{"", "{", `{"x": 1}`, statusBody, strings.Repeat("a", 2<<20)} {
			for _, contentType := range []string{"application/json", "text/plain"} {
				a := s.request(t, http.MethodPost, "/management/statuses?x=1", body).as(t, "malika@example.com").with("Content-Type", contentType).do(t).is(t, 403)
				bodies = append(bodies, a.text)
			}
		}
		for _, text := range bodies {
			require.Equal(t, bodies[0], text)
		}
		require.Contains(t, bodies[0], "statuses:write")
	})
}

func testRightsAreReadForEachRequest(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		user := s.user(t, cims.RoleCEO, "Otabek")
		ask := func() answer {
			return s.request(t, http.MethodGet, "/management/users", nil).as(t, "otabek@example.com").do(t)
		}
		ask().is(t, 200)
		s.put(t, fmt.Sprintf("/management/users/%d", user.ID), `{"role_name": "member"}`).is(t, 200)
		ask().is(t, 403)
		role := s.post(t, "/management/roles", `{"name": "reader", "display_name": "Reader", "permissions": ["users:read"]}`).is(t, 201).object(t)
		s.put(t, fmt.Sprintf("/management/users/%d", user.ID), `{"role_name": "reader"}`).is(t, 200)
		ask().is(t, 200)
		rolePath := fmt.Sprintf("/management/roles/%v", role["id"])
		s.put(t, rolePath, `{"is_active": false}`).is(t, 200)
		require.Equal(t, "Foydalanuvchining roli faol emas", ask().is(t, 403).problem(t).Detail)
		s.put(t, rolePath, `{"is_active": true}`).is(t, 200)
		s.put(t, fmt.Sprintf("/management/users/%d", user.ID), `{"is_active": false}`).is(t, 200)
		require.Equal(t, "Foydalanuvchi faol emas", ask().is(t, 403).problem(t).Detail)
	})
}

// testRightsAreReadAgainAfterTheBody: who sends slowly has the rights of the moment at
// which the last byte comes.
func testRightsAreReadAgainAfterTheBody(t *testing.T, on Host) {
	if on.WaitsForBodies {
		t.Skip("the router waits for the body before it asks anybody")
	}
	asked := make(chan struct{}, 1)
	s := on.newServerOn(t, watched{newStorage(t), asked})
	s.role(t, "writer", cims.LeadsWrite)
	user := s.user(t, "writer", "Otabek")
	set := func(update cims.UserUpdate) {
		_, err := s.CRM.UpdateUser(t.Context(), system, user.ID, update)
		require.NoError(t, err)
	}
	for _, c := range []struct {
		meanwhile, after cims.UserUpdate
		status           int
	}{
		{cims.UserUpdate{Name: new("Otabek")}, cims.UserUpdate{Name: new("Otabek")}, 201},
		{cims.UserUpdate{Active: new(false)}, cims.UserUpdate{Active: new(true)}, 403},
		{cims.UserUpdate{RoleName: new("customer")}, cims.UserUpdate{RoleName: new("writer")}, 403},
	} {
		for _, request := range []struct{ path, contentType, body string }{
			{"/crm/customers", "application/json", `{"full_name": "Slow"}`},
			{"/crm/customers/import", httpapi.CSV, "full_name\nSlow\n"},
		} {
			conn := s.dial(t)
			last := len(request.body) - 1
			_, err := fmt.Fprintf(conn, "POST %s%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
				s.host.Prefix, request.path, Token(t, user.Email), request.contentType, last+1, request.body[:last])
			require.NoError(t, err)
			<-asked
			set(c.meanwhile)
			_, err = io.WriteString(conn, request.body[last:])
			require.NoError(t, err)
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Equal(t, c.status, response.StatusCode, request.path)
			set(c.after)
		}
	}
	require.Len(t, s.get(t, "/crm/customers").objects(t), 2)
}

// watched is a storage that tells when Otabek's rights have been read.
type watched struct {
	cims.Storage
	asked chan<- struct{}
}

func (w watched) AccountsByEmail(ctx context.Context, email string) ([]cims.Account, error) {
	accounts, err := w.Storage.AccountsByEmail(ctx, email)
	if email == "otabek@example.com" && err == nil && len(accounts) > 0 {
		select {
		case w.asked <- struct{}{}:
		default:
		}
	}
	return accounts, err
}

func testEmailInAnotherCaseIsFound(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		s.request(t, http.MethodGet, "/me", nil).as(t, "CEO@Example.com").do(t).is(t, 200)
	})
}

// testEmailOfAnotherIsNotFound: letters that are one letter in two cases by Unicode's
// tables alone are different addresses to the login.
func testEmailOfAnotherIsNotFound(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		for _, name := range []string{"karim", "ilker", "ömer"} {
			_, err := s.CRM.CreateUser(t.Context(), system, cims.NewUser{Email: name + "@example.com", Name: name, Surname: "K", RoleName: cims.RoleCEO})
			require.NoError(t, err)
		}
		for sub, status := range map[string]int{
			"Karim@example.com": 200, "KARIM@EXAMPLE.COM": 200, "ÖMER@example.com": 200,
			"\u212aarim@example.com": 401, "İlker@example.com": 401, "ılker@example.com": 401,
			"o\u0308mer@example.com": 401, "karim@example.com\u200b": 401,
		} {
			require.Equal(t, status, s.request(t, http.MethodGet, "/me", nil).as(t, sub).do(t).status, "%+q", sub)
		}
	})
}

func testBodyIsReadStrictly(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		for name, c := range map[string]struct {
			body   string
			status int
			at     []string
		}{
			"empty":             {"", 400, nil},
			"spaces":            {"  ", 400, nil},
			"cut off":           {`{"name": "a"`, 400, nil},
			"trailing data":     {statusBody + `{}`, 400, nil},
			"trailing comma":    {`{"name": "a",}`, 400, nil},
			"comment":           {statusBody + `// x`, 400, nil},
			"byte order mark":   {"\ufeff" + statusBody, 400, nil},
			"UTF-16":            {"{\x00\"\x00", 400, nil},
			"invalid UTF-8":     {"{\"name\": \"a\xff\", \"display_name\": \"A\"}", 400, nil},
			"raw NUL":           {"{\"name\": \"a\x00\", \"display_name\": \"A\"}", 400, nil},
			"NaN":               {`{"order": NaN}`, 400, nil},
			"nested too deeply": {strings.Repeat(`[`, 15_000) + strings.Repeat(`]`, 15_000), 400, nil},
			"nested":            {`{"name":` + strings.Repeat(`[`, 9_000) + strings.Repeat(`]`, 9_000) + `, "display_name": "A"}`, 422, []string{"body.name"}},
			"array":             {`[]`, 422, []string{"body"}},
			"array of many":     {`[` + strings.Repeat("1,", 100_000) + `1]`, 422, []string{"body"}},
			"text":              {`"x"`, 422, []string{"body"}},
			"null":              {`null`, 422, []string{"body"}},
			"number for text":   {`{"name": 1, "display_name": "A"}`, 422, []string{"body.name"}},
			"object for text":   {`{"name": {}, "display_name": "A"}`, 422, []string{"body.name"}},
			"several":           {`{"name": 1, "x": 2}`, 422, []string{"body.name", "body.x", "body.display_name"}},
		} {
			t.Run(name, func(t *testing.T) {
				a := s.post(t, "/management/statuses", c.body).is(t, c.status)
				require.Equal(t, c.at, a.at(t))
			})
		}
		require.Len(t, s.get(t, "/management/statuses").objects(t), 6, "nothing was stored")
	})
}

func testAnswerToAHostileBodyIsSmallAndQuick(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		var many strings.Builder
		for i := range 5500 {
			fmt.Fprintf(&many, `"%s\u0000\u2028%d": 1, `, strings.Repeat("<я\\\"", 5), i)
		}
		long := strings.Repeat("k", 100_000)
		for _, body := range []string{"{" + many.String() + `"x": 1}`, `{"` + long + `": 1}`, `{"name": "` + long + `", "display_name": "` + long + `"}`} {
			for _, language := range []string{"uz", "ru", "en"} {
				start := time.Now()
				a := s.request(t, http.MethodPost, "/management/statuses", body).with("Accept-Language", language).do(t).is(t, 422)
				require.Less(t, time.Since(start), 2*time.Second) // far more than it takes on a busy machine
				require.LessOrEqual(t, len(a.at(t)), 10)
				require.NotEmpty(t, a.at(t))
				require.NotContains(t, a.text, long[:50])
			}
		}
		var query strings.Builder
		query.WriteString(strings.Repeat("x", 5000) + "=1")
		for i := range 500 {
			fmt.Fprintf(&query, "&key%d=1", i)
		}
		a := s.get(t, "/management/statuses?"+query.String()).is(t, 422)
		require.Len(t, a.at(t), 10)
	})
}

func testBodyIsBounded(t *testing.T, on Host) {
	const limit = 1 << 20
	s := on.newServer(t)
	padded := func(size int) string {
		return `{"name": "hot", "display_name": "Hot"` + strings.Repeat(" ", size-len(statusBody)) + `}`
	}
	s.post(t, "/management/statuses", padded(limit+1)).is(t, 413)
	chunked := struct{ io.Reader }{strings.NewReader(padded(limit + 1))} // of a length that nobody knows
	s.post(t, "/management/statuses", chunked).is(t, 413)
	s.post(t, "/management/statuses", padded(limit)).is(t, 201)

	small := on.newServer(t, func(o *httpapi.Options) { o.MaxBodyBytes = 100 })
	small.post(t, "/management/statuses", padded(101)).is(t, 413)
	small.post(t, "/management/statuses", padded(100)).is(t, 201)
}

func testEndlessBodyIsCutOff(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		var read atomic.Int64
		endless := readerFunc(func(p []byte) (int, error) {
			read.Add(int64(len(p)))
			return len(p), nil
		})
		s.request(t, http.MethodPost, "/management/statuses", endless).isCutOff(t, 413)
		require.Less(t, read.Load(), int64(16<<20))
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func testBodyThatNeverArrivesIsNotWaitedFor(t *testing.T, on Host) {
	s := on.newServer(t, func(o *httpapi.Options) { o.Timeout = 200 * time.Millisecond })
	conn := s.dial(t)
	_, err := fmt.Fprintf(conn, "POST "+s.host.Prefix+"/management/statuses HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", Token(t, CEOEmail))
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusRequestTimeout, response.StatusCode)
}

// testWhoIsTurnedAwayIsNotWaitedFor: neither the answer nor the connection waits
// for the body of a client that is refused.
func testWhoIsTurnedAwayIsNotWaitedFor(t *testing.T, on Host) {
	if on.WaitsForBodies {
		t.Skip("the router waits for the body before it asks anybody")
	}
	s := on.newServer(t, func(o *httpapi.Options) { o.Timeout = time.Hour })
	s.user(t, "member", "Malika")
	for _, c := range []struct {
		path, authorization, sent string
		status                    int
	}{
		{"/management/statuses", "", "Content-Length: 100\r\n\r\n{", 401},
		{"/management/statuses", "", "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", 401},
		{"/management/statuses", "Authorization: Bearer " + Token(t, "malika@example.com") + "\r\n", "Content-Length: 100\r\n\r\n{", 403},
		{"/nowhere", "", "Content-Length: 100\r\n\r\n{", 404},
		{"/crm/customers/import", "", "Content-Length: 1000000\r\n\r\nfull_name\n", 401},
	} {
		conn := s.dial(t)
		require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
		_, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%s%s", s.host.Prefix+c.path, c.authorization, c.sent)
		require.NoError(t, err)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err, "%s %d", c.path, c.status)
		require.NoError(t, response.Body.Close())
		require.Equal(t, c.status, response.StatusCode)
		require.True(t, response.Close, "what comes of the body would be taken for another request")
	}
}

// testRestOfABodyIsNotWaitedForWithoutEnd: a known client is refused on a connection
// that serves on, if the rest of the body comes in time.
func testRestOfABodyIsNotWaitedForWithoutEnd(t *testing.T, on Host) {
	if on.WaitsForBodies {
		t.Skip("the router waits for the body before it asks anybody")
	}
	s := on.newServer(t, func(o *httpapi.Options) { o.Timeout = 200 * time.Millisecond })
	conn := s.dial(t)
	_, err := fmt.Fprintf(conn, "POST %s/management/statuses HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n{", s.host.Prefix, Token(t, CEOEmail))
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusUnsupportedMediaType, response.StatusCode)
}

func testContentTypeHasToBeJSON(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		for _, contentTypes := range [][]string{
			nil,
			{""},
			{"text/plain"},
			{"application/x-www-form-urlencoded"},
			{"application/json; charset=utf-16"},
			{"application/json; x=1"},
			{"application/cbor"},
			{"application/problem+json"},
			{"application/json, text/plain"},
			{"application/json", "application/json"},
			{"application/json;;;="},
		} {
			a := s.request(t, http.MethodPost, "/management/statuses", statusBody).with("Content-Type", contentTypes...).do(t)
			want := 415
			if len(contentTypes) > 1 && on.JoinsTypes {
				want = 201
			}
			require.Equal(t, want, a.status, contentTypes)
		}
		for _, header := range [][2]string{{"Content-Encoding", "gzip"}, {"Content-Type", "application/json; charset=utf-16"}} {
			a := s.request(t, http.MethodPost, "/management/statuses", statusBody).with(header[0], header[1]).with("Accept-Language", "en").do(t).is(t, 415)
			require.Contains(t, a.problem(t).Detail, header[0], "that, and not application/json, is what is wrong")
		}
		for i, contentType := range []string{"application/json", "Application/JSON", "application/json; charset=utf-8", `application/json;charset="UTF-8"`} {
			body := fmt.Sprintf(`{"name": "s%d", "display_name": "S"}`, i)
			s.request(t, http.MethodPost, "/management/statuses", body).with("Content-Type", contentType).do(t).is(t, 201)
		}
	})
}

func testAcceptHasToLetJSONIn(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		for accept, status := range map[string]int{
			"": 200, "*/*": 200, "application/*": 200, "application/json": 200, "text/html, */*;q=0.1": 200, "application/json;q=0.5": 200,
			"APPLICATION/JSON": 200, "*/*;q=0, application/json": 200,
			"text/html": 406, "application/xml, text/*": 406, "application/json;q=0": 406, "application/json;q=0, */*": 406, "*/*;q=0": 406,
			"application/cbor": 406, "nonsense": 406, "application/json;q=NaN": 406,
		} {
			a := s.request(t, http.MethodGet, "/me", nil).with("Accept", accept).do(t)
			require.Equal(t, status, a.status, accept)
		}
	})
}

func testQueryIsReadStrictly(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		for path, at := range map[string]string{
			"/management/statuses?x=1":                     "query.x",
			"/management/statuses?Active=true":             "query.Active",
			"/management/statuses?active=true&active=true": "query.active",
			"/management/statuses?active=1":                "query.active",
			"/management/statuses?active=":                 "query.active",
			"/management/statuses?active=TRUE":             "query.active",
			"/management/statuses?active":                  "query.active",
			"/management/statuses?%zz":                     "query",
			"/management/statuses?a;b":                     "query",
			"/me?x=1":                                      "query.x",
			"/crm/customers?limit=0":                       "query.limit",
			"/crm/customers?limit=-1":                      "query.limit",
			"/crm/customers?limit=201":                     "query.limit",
			"/crm/customers?limit=1e20":                    "query.limit",
			"/crm/customers?limit=99999999999999999999":    "query.limit",
			"/crm/customers?limit=+5":                      "query.limit",
			"/crm/customers?limit=05":                      "query.limit",
			"/crm/customers?limit=5&limit=6":               "query.limit",
			"/crm/customers?cursor=":                       "query.cursor",
			"/crm/customers?cursor=x":                      "query.cursor",
			"/crm/customers?cursor=%27%3B--":               "query.cursor",
			"/crm/customers/1/history?cursor=x":            "query.cursor",
			"/management/users?cursor=x":                   "query.cursor",
			"/crm/customers?unassigned=yes":                "query.unassigned",
			"/crm/customers?status=":                       "query.status",
			"/crm/customers?status=nowhere":                "query.status",
			"/crm/customers?status=%00":                    "query.status",
			"/crm/customers?status=%FF":                    "query.status",
			"/crm/customers?q=%00":                         "query.q",
			"/crm/customers?sales_manager_id=0":            "query.sales_manager_id",
			"/crm/customers?sales_manager_id=one":          "query.sales_manager_id",
			"/crm/customers?sort=id":                       "query.sort",
			"/crm/customers/one":                           "path.customer_id",
			"/crm/customers/1.0":                           "path.customer_id",
			"/crm/customers/01":                            "path.customer_id",
			"/crm/customers/+1":                            "path.customer_id",
			"/crm/customers/1%20":                          "path.customer_id",
			"/crm/customers/1%00":                          "path.customer_id",
		} {
			s.post(t, "/crm/customers", `{"full_name": "A"}`)
			a := s.get(t, path)
			require.Equal(t, 422, a.status, path)
			require.Equal(t, []string{at}, a.at(t), path)
		}
		a := s.request(t, http.MethodGet, "/crm/customers?status=nowhere", nil).with("Accept-Language", "en").do(t).is(t, 422)
		require.Equal(t, "names no entry", a.problem(t).Errors[0].Message, "an inactive one would do")
		a = s.request(t, http.MethodGet, "/crm/customers?limit=99999999999999999999", nil).with("Accept-Language", "en").do(t).is(t, 422)
		require.Equal(t, "must be from 1 to 200", a.problem(t).Errors[0].Message)
		a = s.request(t, http.MethodGet, "/crm/conversion-rate?sales_manager_id=9223372036854775808", nil).with("Accept-Language", "en").do(t).is(t, 422)
		require.Equal(t, "must be from 1 to 9223372036854775807", a.problem(t).Errors[0].Message)
		a = s.request(t, http.MethodGet, "/crm/conversion-rate?sales_manager_id=0", nil).with("Accept-Language", "en").do(t).is(t, 422)
		require.Equal(t, "must be at least 1", a.problem(t).Errors[0].Message)
		for _, id := range []string{"9223372036854775807", "9223372036854775808", strings.Repeat("9", 500)} {
			s.post(t, "/crm/assign-sales-manager", `{"customer_id": 1, "sales_manager_id": `+id+`}`).is(t, 404)
		}
		for _, id := range []string{"0", "-1", "99", "9223372036854775807", "9223372036854775808", "-99999999999999999999", strings.Repeat("9", 500)} {
			s.get(t, "/crm/customers/"+id).is(t, 404)
			s.delete(t, "/management/statuses/"+id).is(t, 404)
		}
	})
}

func testProblemsSpeakTheClientsLanguage(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		const uzbek, russian, english = "Mijoz topilmadi", "Клиент не найден", "Customer not found"
		for accept, want := range map[string]string{
			"": uzbek, "uz": uzbek, "ru": russian, "en": english, "RU": russian, "en-US,en;q=0.9": english, "ru-RU": russian,
			"de, fr": uzbek, "de, en;q=0.5": english, "en;q=0.1, ru;q=0.9": russian, "en;q=0, ru;q=0.1": russian, "ru;q=0.5, en;q=0.5": russian,
			"*": uzbek, "en;q=0.5, *": uzbek, "en;q=2": uzbek, "en;q=x, ru": russian, ";;;,,,=": uzbek, "\u00ff": uzbek, "ru;q=1;q=0": russian,
			strings.Repeat("a,", 50_000) + "en": english,
		} {
			call := s.request(t, http.MethodGet, "/crm/customers/99", nil).with("Accept-Language", accept)
			if on.MaxHeaderBytes > 0 && len(accept) > on.MaxHeaderBytes {
				call.isCutOff(t, 431)
				continue
			}
			a := call.do(t).is(t, 404)
			require.Equal(t, want, a.problem(t).Detail, accept)
		}
		for accept, want := range map[string]string{"uz": "ko'pi bilan 50 ta belgi bo'lsin", "ru": "не более 50 символов", "en": "must have at most 50 characters"} {
			a := s.request(t, http.MethodPost, "/crm/customers", map[string]string{"full_name": "A", "phone_number": strings.Repeat("1", 51)}).
				with("Accept-Language", accept).do(t).is(t, 422)
			require.Equal(t, want, a.problem(t).Errors[0].Message)
		}
		for accept, want := range map[string]string{"uz": "Bunday manzil yo'q", "ru": "Такого адреса нет", "en": "There is no such address"} {
			require.Equal(t, want, s.request(t, http.MethodGet, "/nowhere", nil).with("Accept-Language", accept).do(t).is(t, 404).problem(t).Detail)
		}
	})
}

func testRequestIDIsTheClientsOwnIfHarmless(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		for _, path := range []string{"/me", "/nowhere", "/me?x=1"} {
			for _, id := range []string{"a", "A-b_c.1", "vm/v5Pa4BSHuC-000051", "MTIz+/4=", strings.Repeat("x", 128)} {
				a := s.request(t, http.MethodGet, path, nil).with("X-Request-ID", id).do(t)
				require.Equal(t, []string{id}, a.header.Values("X-Request-Id"))
			}
			seen := map[string]bool{}
			for _, id := range []string{"", "a b", "a\tb", "<script>", "ключ", strings.Repeat("x", 129), strings.Repeat("x", 10_000)} {
				a := s.request(t, http.MethodGet, path, nil).with("X-Request-ID", id).do(t)
				require.Regexp(t, `^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`, a.header.Get("X-Request-Id"))
				seen[a.header.Get("X-Request-Id")] = true
			}
			require.Len(t, seen, 7, "no two are the same")
		}
		for _, sent := range []string{"a%0d%0aX-Evil: 1", "a\r\n X-Evil: 1", "a\rX-Evil: 1", "a\\r\\nX-Evil: 1", "a\x00b", "a\r\nX-Request-ID: b\r\nX-Evil; 1"} {
			conn := s.dial(t)
			_, err := fmt.Fprintf(conn, "GET %s/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nX-Request-ID: %s\r\nConnection: close\r\n\r\n", s.host.Prefix, Token(t, CEOEmail), sent)
			require.NoError(t, err)
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Contains(t, []int{200, 400}, response.StatusCode, sent) // 400: what the server does not take for HTTP
			require.Empty(t, response.Header.Values("X-Evil"))
			require.LessOrEqual(t, len(response.Header.Values("X-Request-Id")), 1)
			require.NotContains(t, response.Header.Get("X-Request-Id"), "X-Evil")
		}
	})
}

func testRouterSpeaksInProblemsToo(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		for _, path := range []string{
			"/", "/nowhere", "/me/", "/management/statuses/", "//management/statuses", "/management/./statuses", "/crm/../me",
			"/management/%2e/statuses", "/crm/%2e%2e/me", "/management%2Fstatuses", "/ME",
		} {
			s.get(t, path).is(t, 404)
		}
		a := s.request(t, http.MethodPatch, "/management/statuses", nil).do(t).is(t, 405)
		allowed := strings.Split(strings.Join(a.header.Values("Allow"), ", "), ", ")
		require.Subset(t, allowed, []string{"GET", "POST"})
		require.NotContains(t, allowed, "PATCH")
		s.request(t, http.MethodTrace, "/me", nil).do(t).is(t, 405)
		a = s.request(t, http.MethodOptions, "/me", nil).with("Origin", "https://evil.example").do(t)
		require.Equal(t, map[bool]int{true: 204, false: 405}[on.AnswersOptions], a.status)
		require.Empty(t, a.header.Values("Access-Control-Allow-Origin"))
		s.request(t, http.MethodPost, "/management/statuses/1", `{}`).with("X-HTTP-Method-Override", "DELETE").do(t).is(t, 405)
		require.Len(t, s.get(t, "/management/statuses").objects(t), 6)
	})
}

func testForeignOriginsGetNothing(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		a := s.request(t, http.MethodGet, "/me", nil).with("Origin", "https://evil.example").do(t).is(t, 200)
		for name := range a.header {
			require.NotContains(t, name, "Access-Control")
		}
	})
}

func testTextIsStoredAsTextAndAnsweredAsJSON(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		const name = `<script>alert(1)</script> 'x' "y" \ % _ ; -- $1`
		created := s.post(t, "/crm/customers", map[string]string{"full_name": name}).is(t, 201).object(t)
		require.Equal(t, name, created["full_name"])
		require.Equal(t, name, s.get(t, "/crm/customers/1").is(t, 200).object(t)["full_name"])
	})
}
