package requests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"pgregory.net/rapid"

	"github.com/cimskit/cims/httpapi"
)

// care is how much of a request is as it should be.
type care int

const (
	good   care = iota
	oneOff      // one thing is wrong
	wild
)

// one draws one of several things.
func one[T any](r *rapid.T, label string, of ...T) T { return rapid.SampledFrom(of).Draw(r, label) }

// chance is true once in n times.
func chance(r *rapid.T, label string, n int) bool { return rapid.IntRange(1, n).Draw(r, label) == 1 }

// request makes one up.
func (s *server) request(r *rapid.T) request {
	route := one(r, "route", sorted(s.operations)...)
	op := s.operations[route]
	made := request{route: route, header: http.Header{}, good: true}
	made.method, made.path, _ = strings.Cut(route, " ")
	how := one(r, "how", good, good, good, oneOff, oneOff, wild)
	made.good = how == good
	// off reports whether this part is the wrong one.
	wrong := rapid.IntRange(0, 4).Draw(r, "wrong")
	off := func(part int) bool { return how == wild && chance(r, "off", 2) || how == oneOff && part == wrong }

	query := url.Values{}
	for _, p := range op.Parameters {
		switch p.In {
		case "path":
			made.path = strings.ReplaceAll(made.path, "{"+p.Name+"}", url.PathEscape(s.parameter(r, p, off(0))))
		case "query":
			if chance(r, "has "+p.Name, 3) {
				query.Add(p.Name, s.parameter(r, p, off(1)))
			}
		case "header":
			if chance(r, "has "+p.Name, 4) {
				made.header.Set(p.Name, s.parameter(r, p, off(2)))
			}
		}
	}
	if off(1) {
		query.Add(one(r, "name", "x", "limit", "Limit", "active", "", "\x00"), rapid.String().Draw(r, "value"))
	}
	if len(query) > 0 {
		made.path += "?" + query.Encode()
	}
	if op.RequestBody != nil {
		made.body = s.body(r, op, made.header, off(3))
	} else if off(3) {
		made.body = rapid.SliceOf(rapid.Byte()).Draw(r, "body")
	}
	if off(2) {
		made.header.Set(one(r, "header", "Accept", "Content-Encoding", "X-HTTP-Method-Override", "Cookie", "Range", "Idempotency-Key"), printable(r))
	}
	if off(4) && how == wild {
		made.method = one(r, "method", "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "get")
		made.path = one(r, "path", made.path, made.path+"/", "/"+made.path, strings.ToUpper(made.path), made.path+"/../..", "/%2e%2e"+made.path, made.path+"%00")
	}
	made.actor = s.actor(r, how, off(4), made.header)
	return made
}

// actor signs the request in a user's name, mostly of one who may make it.
func (s *server) actor(r *rapid.T, how care, off bool, header http.Header) string {
	switch {
	case off && chance(r, "nobody", 3):
		return "nobody"
	case off:
		header.Set("Authorization", one(r, "token", "Bearer x", "Basic eDp5", "Bearer "+s.tokens["ceo"]+"x", "bearer", printable(r)))
		return "a stranger"
	}
	role := "ceo"
	if how == wild || chance(r, "another", 3) {
		role = one(r, "role", sorted(s.tokens)...)
	}
	header.Set("Authorization", "Bearer "+s.tokens[role])
	return role
}

// printable can stand in a header.
func printable(r *rapid.T) string { return rapid.StringMatching(`[ -~]{0,40}`).Draw(r, "text") }

func (s *server) parameter(r *rapid.T, p *huma.Param, off bool) string {
	if off {
		text := one(r, "wrong "+p.Name, "", "x", "-1", "0", "01", "1e9", "99999999999999999999", "true", "null", "'; --", "%", "я", strings.Repeat("9", 300))
		if p.In == "header" {
			return printable(r)
		}
		return one(r, "or", text, rapid.String().Draw(r, "string"))
	}
	switch p.Name {
	case "X-Request-ID", "request_id":
		return rapid.StringMatching(`[A-Za-z0-9._/+=-]{1,20}`).Draw(r, p.Name)
	case "Idempotency-Key":
		return rapid.StringMatching(`[!-~]{1,3}`).Draw(r, p.Name)
	case "Accept-Language":
		return one(r, p.Name, "uz", "ru", "en-GB, ru;q=0.5", "xx")
	case "cursor":
		return one(r, p.Name, "Yy4xNzY1Nzk0NjAwMDAwMDAwLjQy", "dS4z", "YS44MTI", "aC4xLjAuMQ")
	case "since", "until":
		return one(r, p.Name, "2025-12-15T10:30:00Z", "2026-11-27T10:30:00+05:00")
	}
	return fmt.Sprint(s.value(r, p.Name, p.Schema))
}

// value is one that a schema allows.
func (s *server) value(r *rapid.T, name string, schema *huma.Schema) any {
	if schema.Ref != "" {
		schema = s.schemas.SchemaFromRef(schema.Ref)
	}
	if len(schema.Enum) > 0 {
		return one(r, name, schema.Enum...)
	}
	switch schema.Type {
	case huma.TypeBoolean:
		return rapid.Bool().Draw(r, name)
	case huma.TypeInteger:
		lowest, highest := 1, 30 // ids that there are
		if schema.Minimum != nil {
			lowest = int(*schema.Minimum)
		}
		if schema.Maximum != nil {
			highest = int(*schema.Maximum)
		}
		return rapid.IntRange(lowest, highest).Draw(r, name)
	case huma.TypeArray:
		list := []any{}
		for range rapid.IntRange(0, 3).Draw(r, name) {
			list = append(list, s.value(r, name, schema.Items))
		}
		return list
	case huma.TypeObject:
		return s.object(r, schema)
	default:
		return s.text(r, name)
	}
}

// text is one for a field of this name.
func (s *server) text(r *rapid.T, name string) string {
	switch name {
	case "name":
		return one(r, name, "hot", "warm", "Янги", rapid.StringMatching(`[a-zа-я]{1,8}[0-9]{0,2}`).Draw(r, "another name"))
	case "surname", "display_name":
		return rapid.StringMatching(`[a-zа-я]{1,8}[0-9]{0,2}`).Draw(r, name)
	case "email":
		return rapid.StringMatching(`[a-z]{1,6}@[a-z]{1,6}\.uz`).Draw(r, name)
	case "role_name", "role":
		return one(r, name, "ceo", "member", "sales_manager", "Sales Manager", "customer", "nobody")
	case "status_name", "status", "target", "move_to":
		return one(r, name, "contacted", "finished", "Project Started", "nowhere")
	case "color":
		return one(r, name, "#fff", "#0EA5E9", "")
	case "phone_number":
		return rapid.StringMatching(`\+998[0-9]{9}`).Draw(r, name)
	default:
		return rapid.StringOfN(rapid.RuneFrom([]rune("aя '\"<>%_\\😀ʻ-")), 1, 20, 60).Draw(r, name) + "x"
	}
}

func (s *server) object(r *rapid.T, schema *huma.Schema) map[string]any {
	object := map[string]any{}
	for _, name := range sorted(schema.Properties) {
		required := false
		for _, n := range schema.Required {
			required = required || n == name
		}
		if !required && !chance(r, "has "+name, 2) {
			continue
		}
		if name == "is_system" {
			object[name] = false
			continue
		}
		object[name] = s.value(r, name, schema.Properties[name])
	}
	return object
}

// body makes one up, and its type.
func (s *server) body(r *rapid.T, op *huma.Operation, header http.Header, off bool) []byte {
	content := op.RequestBody.Content["application/json"]
	if content == nil {
		contentType := one(r, "type", httpapi.NDJSON, httpapi.CSV)
		header.Set("Content-Type", contentType)
		if off {
			header.Set("Content-Type", one(r, "type", httpapi.NDJSON, httpapi.CSV, "text/plain", "application/json"))
			return rapid.SliceOf(rapid.Byte()).Draw(r, "file")
		}
		return []byte(map[string]string{httpapi.NDJSON: "{\"full_name\": \"A\"}\n", httpapi.CSV: "full_name\nA\n"}[contentType])
	}
	header.Set("Content-Type", "application/json")
	object := s.object(r, s.schemas.SchemaFromRef(content.Schema.Ref))
	if !off {
		return encode(object)
	}
	switch rapid.IntRange(0, 6).Draw(r, "off") {
	case 0: // something else
		return one(r, "text", []byte(""), []byte("{"), []byte("[]"), []byte("null"), []byte(`"x"`), []byte("\xef\xbb\xbf{}"), []byte("{\x00}"),
			bytes.Repeat([]byte("["), 20_000), []byte(`{"a":1,"a":2}`), []byte(`{}{}`))
	case 1:
		return rapid.SliceOf(rapid.Byte()).Draw(r, "bytes")
	case 2:
		object[rapid.String().Draw(r, "name")] = rapid.String().Draw(r, "value")
	case 3: // one less
		for _, name := range sorted(object) {
			delete(object, name)
			break
		}
	case 4:
		header.Set("Content-Type", one(r, "type", "text/plain", "application/json; charset=utf-16", "", "application/xml", printable(r)))
	default: // a value of another kind
		if names := sorted(object); len(names) > 0 {
			object[one(r, "name", names...)] = one[any](r, "value", nil, true, -1, 1e300, json.Number("1e400"), "", "\u0000", "\u202e", strings.Repeat("я", 3_000),
				[]any{}, map[string]any{}, []any{nil}, rapid.String().Draw(r, "string"), strconv.Itoa(rapid.Int().Draw(r, "int")), rapid.Int64().Draw(r, "int64"), rapid.Float64().Draw(r, "float"))
		}
	}
	return encode(object)
}

func encode(object map[string]any) []byte {
	text, err := json.Marshal(object)
	if err != nil { // a float that is none
		return []byte("NaN")
	}
	return text
}
