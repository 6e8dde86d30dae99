package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cimskit/cims"
	"github.com/danielgtaylor/huma/v2"
)

// body describes the body of a route, a JSON object with these fields and no others.
type body struct {
	field  int // its index in the input
	typ    reflect.Type
	fields map[string]bodyField
}

type bodyField struct {
	index    int
	required bool // without omitempty
	nullable bool // null stands for the zero value
}

func bodyOf(field int, t reflect.Type, registry huma.Registry) *body {
	b := &body{field: field, typ: t, fields: map[string]bodyField{}}
	schema := registry.Schema(t, false, "")
	for i := range t.NumField() {
		f := t.Field(i)
		name := fieldName(f)
		b.fields[name] = bodyField{
			index:    i,
			required: slices.Contains(schema.Required, name),
			nullable: f.Tag.Get("nullable") == "true",
		}
	}
	if len(schema.Required) == 0 {
		schema.MinProperties = new(1) // an empty update is a mistake
	}
	return b
}

func fieldName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// alwaysFalse is a field that only the library sets. A client may only send false.
type alwaysFalse bool

// Schema documents the only accepted value.
func (alwaysFalse) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeBoolean, Enum: []any{false}, Description: "Read-only: `false` is accepted and ignored."}
}

// decode reads an object more strictly than json.Unmarshal does. Each key must be known,
// spelled exactly, and given once with a value of its type. No text is replaced silently.
func (b *body) decode(text []byte, to reflect.Value) error {
	if !utf8.Valid(text) || !json.Valid(text) {
		return httpError{status: http.StatusBadRequest}
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return invalid{{location: "body", rule: ruleObject}}
	}
	var faults invalid
	seen := map[string]bool{}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return httpError{status: http.StatusBadRequest}
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return httpError{status: http.StatusBadRequest}
		}
		name, _ := key.(string)
		if rule := b.set(name, value, seen[name], to); rule != "" {
			faults = append(faults, fault{location: "body." + harmless(name), rule: rule})
		}
		seen[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(b.fields)) {
		if b.fields[name].required && !seen[name] {
			faults = append(faults, fault{location: "body." + name, rule: cims.RuleRequired})
		}
	}
	return faults.err()
}

// set stores a value. It returns the rule that the value breaks, or "".
func (b *body) set(name string, value json.RawMessage, again bool, to reflect.Value) cims.FieldRule {
	field, known := b.fields[name]
	switch {
	case !known:
		return ruleUnknownField
	case again:
		return ruleRepeated
	}
	target := to.Field(field.index)
	rule := typeRule(target.Type())
	null := string(value) == "null"
	if null && !field.nullable {
		return rule
	}
	if target.Kind() == reflect.Pointer {
		target.Set(reflect.New(target.Type().Elem()))
		target = target.Elem()
	}
	if null {
		return ""
	}
	if err := json.Unmarshal(value, target.Addr().Interface()); err != nil && !nearest(value, target) {
		return rule
	}
	switch {
	case target.Kind() == reflect.String && strings.ContainsRune(target.String(), 0), loneSurrogate(value):
		return cims.RuleText
	case target.Type() == reflect.TypeFor[alwaysFalse]() && target.Bool():
		return cims.RuleReadOnly
	}
	return ""
}

// nearest stores the nearest integer for one that is out of range, so that the Manager
// refuses it like other wrong values. It reports whether the value is such an integer.
func nearest(value json.RawMessage, target reflect.Value) bool {
	if !target.CanInt() {
		return false
	}
	n, err := strconv.ParseInt(string(value), 10, target.Type().Bits())
	target.SetInt(n)
	return errors.Is(err, strconv.ErrRange)
}

// loneSurrogate reports whether a value has an escape that is half of a character, such as
// \ud800. encoding/json would replace it silently.
func loneSurrogate(value []byte) bool {
	for i := 0; i < len(value); i++ {
		if value[i] != '\\' {
			continue
		}
		i++
		if value[i] != 'u' {
			continue
		}
		first := escaped(value[i-1:])
		i += 4
		if !utf16Half(first) {
			continue
		}
		if second := escaped(value[i+1:]); first >= 0xDC00 || second < 0xDC00 || second > 0xDFFF {
			return true
		}
		i += 6
	}
	return false
}

func utf16Half(r rune) bool { return r >= 0xD800 && r <= 0xDFFF }

// escaped returns the code of the \uXXXX at the start of text, or -1.
func escaped(text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}

// plainText reports whether a text is valid UTF-8 without a NUL.
func plainText(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsRune(text, 0)
}

// harmless returns a client's key in a form that is safe to repeat in an answer.
func harmless(key string) string {
	const longest = 40
	key = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, key)
	if len(key) > longest {
		key = strings.ToValidUTF8(key[:longest], "") + "…"
	}
	return key
}
