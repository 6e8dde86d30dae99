package httpapi

import (
	"cmp"
	"errors"
	"io"
	"maps"
	"math"
	"mime"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cimskit/cims"
	"github.com/danielgtaylor/huma/v2"
)

// These rules are checked by this package, in addition to those of the Manager.
const (
	ruleUnknownField     cims.FieldRule = "unknown_field"
	ruleUnknownParameter cims.FieldRule = "unknown_parameter"
	ruleRepeated         cims.FieldRule = "repeated"
	ruleString           cims.FieldRule = "type_string"
	ruleInteger          cims.FieldRule = "type_integer"
	ruleBoolean          cims.FieldRule = "type_boolean"
	ruleArray            cims.FieldRule = "type_array"
	ruleObject           cims.FieldRule = "type_object"
	ruleLongLine         cims.FieldRule = "long_line"
	ruleEncoding         cims.FieldRule = "encoding"
	ruleUnnamed          cims.FieldRule = "unnamed"
	ruleEmpty            cims.FieldRule = "empty"
	ruleUnknownEntry     cims.FieldRule = "unknown_entry"
	ruleVisible          cims.FieldRule = "visible"
	ruleSpaces           cims.FieldRule = "spaces"
	ruleNoKey            cims.FieldRule = "no_key"
)

// typeRule returns the rule that a value of a wrong type breaks.
func typeRule(t reflect.Type) cims.FieldRule {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool:
		return ruleBoolean
	case reflect.Int, reflect.Int64:
		return ruleInteger
	case reflect.Slice:
		return ruleArray
	default:
		return ruleString
	}
}

// input describes the request of a route. It is derived from a struct with the tags
// that huma reads: path, query or header, with bounds, for parameters, and the
// field Body for the body. One declaration serves the document, the reading and the
// checks. huma's reading is not used: it repeats values in its errors, has one
// language, and reads the body before the sender is authenticated.
type input struct {
	parameters []parameter
	body       *body
	upload     bool // the field Upload is a file
}

// upload is a file sent as a body. It is read as it arrives.
type upload struct {
	body        io.Reader
	contentType string
}

// parameter describes a parameter in the path, the query or a header.
type parameter struct {
	name, in string
	field    int
	schema   *huma.Schema
}

// timeForm is stricter than time.Parse, which takes a comma before a fraction, an hour of
// one digit and an offset of any size.
var timeForm = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

var locations = []string{"path", "query", "header"}

func inputOf(t reflect.Type, registry huma.Registry) input {
	var in input
	for i := range t.NumField() {
		field := t.Field(i)
		if field.Type == reflect.TypeFor[upload]() {
			in.upload = true
			continue
		}
		if field.Name == "Body" {
			in.body = bodyOf(i, field.Type, registry)
			continue
		}
		for _, location := range locations {
			if name := field.Tag.Get(location); name != "" {
				schema := huma.SchemaFromField(registry, field, "")
				schema.Nullable = false
				in.parameters = append(in.parameters, parameter{name: name, in: location, field: i, schema: schema})
			}
		}
	}
	return in
}

// location returns the location in the request of a field named by the Manager.
func (in input) location(field string) string {
	for _, p := range in.parameters {
		if strings.ReplaceAll(strings.ToLower(p.name), "-", "_") == field {
			return p.in + "." + p.name
		}
	}
	if field == "body" || in.body == nil {
		return "body"
	}
	return "body." + field
}

// read fills the struct that the input was derived from.
func (in input) read(hc huma.Context, to reflect.Value, s *server) error {
	contentType := ""
	if in.body != nil || in.upload {
		var err error
		if contentType, err = bodyType(hc); err != nil {
			return err
		}
	}
	if in.body != nil && contentType != jsonType {
		return httpError{status: http.StatusUnsupportedMediaType}
	}
	if err := in.readParameters(hc, to); err != nil {
		return err
	}
	if in.upload {
		if len(headers(hc, idempotencyKey)) > 0 { // the sender would rely on a safe repetition
			return invalid{{location: "header." + idempotencyKey, rule: ruleNoKey}}
		}
		body := &flowing{Reader: hc.BodyReader(), hc: hc, silence: s.opts.Timeout, end: time.Now().Add(s.opts.ImportTimeout)}
		to.FieldByName("Upload").Set(reflect.ValueOf(upload{body, contentType}))
		return nil
	}
	if in.body == nil {
		return nil
	}
	text, err := readBody(hc, s)
	if err != nil {
		return err
	}
	return in.body.decode(text, to.Field(in.body.field))
}

func (in input) readParameters(hc huma.Context, to reflect.Value) error {
	address := hc.URL()
	query, err := url.ParseQuery(address.RawQuery)
	if err != nil {
		return invalid{{location: "query", rule: cims.RuleFormat}}
	}
	var faults invalid
	for _, p := range in.parameters {
		var values []string
		switch p.in {
		case "path":
			values = []string{hc.Param(p.name)}
		case "query":
			values = query[p.name]
			delete(query, p.name)
		case "header":
			values = headers(hc, p.name)
		}
		if fault := p.set(values, to.Field(p.field)); fault.rule != "" {
			fault.location = p.in + "." + p.name
			faults = append(faults, fault)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		faults = append(faults, fault{location: "query." + harmless(name), rule: ruleUnknownParameter})
	}
	return faults.err()
}

// set parses a parameter, stores it and checks its bounds.
func (p parameter) set(values []string, to reflect.Value) fault {
	switch len(values) {
	case 0:
		return fault{}
	case 1:
	default:
		return fault{rule: ruleRepeated}
	}
	text := values[0]
	if to.Kind() == reflect.Pointer {
		to.Set(reflect.New(to.Type().Elem()))
		to = to.Elem()
	}
	switch to.Kind() {
	case reflect.Bool:
		if text != "true" && text != "false" {
			return fault{rule: ruleBoolean}
		}
		to.SetBool(text == "true")
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, 64)
		switch {
		case p.in == "path" && errors.Is(err, strconv.ErrRange):
			n = 0 // like any other id that does not exist
		case errors.Is(err, strconv.ErrRange):
			f := p.outOfRange()
			f.max = cmp.Or(f.max, math.MaxInt64)
			return f
		case err != nil || strconv.FormatInt(n, 10) != text:
			return fault{rule: ruleInteger}
		}
		to.SetInt(n)
		return p.between(n)
	case reflect.Struct:
		at, err := time.Parse(time.RFC3339, text)
		if err != nil || !timeForm.MatchString(text) || at.IsZero() { // the zero time means no bound
			return fault{rule: cims.RuleFormat}
		}
		to.Set(reflect.ValueOf(at))
	default:
		to.SetString(text)
		return p.text(text)
	}
	return fault{}
}

func (p parameter) between(n int64) fault {
	below := p.schema.Minimum != nil && float64(n) < *p.schema.Minimum
	above := p.schema.Maximum != nil && float64(n) > *p.schema.Maximum
	if below || above {
		return p.outOfRange()
	}
	return fault{}
}

func (p parameter) outOfRange() fault {
	f := fault{rule: cims.RuleRange}
	if p.schema.Minimum != nil {
		f.min = int(*p.schema.Minimum)
	}
	if p.schema.Maximum != nil {
		f.max = int(*p.schema.Maximum)
	}
	return f
}

func (p parameter) text(text string) fault {
	switch {
	case !plainText(text):
		return fault{rule: cims.RuleText}
	case len(p.schema.Enum) > 0 && !slices.Contains(p.schema.Enum, any(text)):
		return fault{rule: cims.RuleChoice}
	case p.schema.MinLength != nil && len(text) < *p.schema.MinLength:
		return fault{rule: ruleEmpty} // an optional parameter must be omitted instead
	}
	return fault{}
}

// bodyType returns the content type of a body. It refuses a Content-Encoding and any
// charset but UTF-8.
func bodyType(hc huma.Context) (string, error) {
	contentType, parameters, err := mime.ParseMediaType(header(hc, "Content-Type"))
	if err != nil {
		return "", httpError{status: http.StatusUnsupportedMediaType}
	}
	if len(headers(hc, "Content-Encoding")) > 0 {
		return "", httpError{status: http.StatusUnsupportedMediaType, reason: "encoding"}
	}
	for name, value := range parameters {
		header := contentType == CSV && name == "header" && value == "present" // RFC 4180, section 3
		if !header && (name != "charset" || !strings.EqualFold(value, "utf-8")) {
			return "", httpError{status: http.StatusUnsupportedMediaType, reason: "parameter"}
		}
	}
	return contentType, nil
}

// readBody reads a body within the limits of size and time.
func readBody(hc huma.Context, s *server) ([]byte, error) {
	done := readDeadline(hc, s.opts.Timeout)
	text, err := io.ReadAll(io.LimitReader(hc.BodyReader(), s.opts.MaxBodyBytes+1))
	if int64(len(text)) > s.opts.MaxBodyBytes {
		return nil, httpError{status: http.StatusRequestEntityTooLarge}
	}
	if err != nil {
		return nil, bodyFault(err)
	}
	done()
	return text, nil
}

// flowing is a body that may arrive slowly until end, but without long pauses.
type flowing struct {
	io.Reader
	hc      huma.Context
	silence time.Duration
	end     time.Time
}

// Read waits for the next part.
func (f *flowing) Read(p []byte) (int, error) {
	deadline := time.Now().Add(f.silence)
	if f.end.Before(deadline) {
		deadline = f.end
	}
	_ = f.hc.SetReadDeadline(deadline)
	n, err := f.Reader.Read(p)
	if errors.Is(err, io.EOF) { // net/http reads on, and would take an expired deadline for a client that hung up
		_ = f.hc.SetReadDeadline(time.Time{})
	}
	return n, err
}

// bodyFault returns the refusal for an error of reading a body.
func bodyFault(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return httpError{status: http.StatusRequestEntityTooLarge}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return httpError{status: http.StatusRequestTimeout}
	default:
		return httpError{status: http.StatusBadRequest}
	}
}
