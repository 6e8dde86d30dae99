package httpapi

import (
	"cmp"
	"context"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cimskit/cims"
	"github.com/danielgtaylor/huma/v2"
)

// route declares a route for the document, with the permissions that open it.
type route struct {
	id           string
	method, path string
	summary      string
	description  string
	tag          string
	permissions  []cims.Permission // any of these opens it; if empty, it is open to any known user
	entity       cims.Entity       // of its 404; empty for no 404
	conflict     error             // the kind of its 409, if it has one
	status       int               // of a success; 200 unless set
	request      any               // an example of its body
	answer       any               // an example of its answer
	uploads      map[string]any    // an example for each content type, of a file instead of a body
	timeout      time.Duration     // Options.Timeout unless set

	input input
}

// none is an empty answer.
type none struct{}

// add mounts a route. It calls do with an actor who holds a permission of the route, and
// with a request that satisfies the tags of In.
func add[In, Out any](s *server, r route, do func(ctx context.Context, actor cims.Actor, in *In) (Out, error)) {
	registry := s.api.OpenAPI().Components.Schemas
	r.input = inputOf(reflect.TypeFor[In](), registry)
	r.status = cmp.Or(r.status, http.StatusOK)

	op := s.operation(&r)
	handler := s.serve(&r, func(hc huma.Context, actor cims.Actor) (any, error) {
		in := new(In)
		if err := r.input.read(hc, reflect.ValueOf(in).Elem(), s); err != nil {
			return nil, err
		}
		if r.input.body != nil {
			var err error
			if actor, err = s.stillMay(hc.Context(), actor, r.permissions); err != nil {
				return nil, err
			}
		}
		return do(hc.Context(), actor, in)
	})
	// This does the same as huma.Register, except for reading the request.
	if group, ok := s.api.(huma.OperationDocumenter); ok {
		group.DocumentOperation(op)
	} else {
		s.api.OpenAPI().AddOperation(op)
	}
	s.api.Adapter().Handle(op, s.api.Middlewares().Handler(op.Middlewares.Handler(handler)))

	s.documentBodies(op, &r, reflect.TypeFor[Out]())
}

// operation returns the documentation of a route.
func (s *server) operation(r *route) *huma.Operation {
	op := &huma.Operation{
		OperationID: s.opts.OperationIDPrefix + r.id,
		Method:      r.method,
		Path:        r.path,
		Summary:     r.summary,
		Description: r.describe(),
		Tags:        []string{r.tag},
		Security:    s.opts.Security,
		// For tools and tests: any of these opens the route.
		Extensions: map[string]any{"x-cims-permission": append([]cims.Permission{}, r.permissions...)},
		Responses: map[string]*huma.Response{strconv.Itoa(r.status): {
			Description: http.StatusText(r.status), Headers: headersOf(r.status), Content: map[string]*huma.MediaType{},
		}},
		DefaultStatus: r.status,
	}
	for _, p := range r.input.parameters {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: p.name, In: p.in, Required: p.in == "path", Description: p.schema.Description, Schema: p.schema,
		})
	}
	op.Parameters = append(op.Parameters, s.acceptLanguageDoc(), sentRequestIDDoc)
	if r.input.body != nil || r.uploads != nil {
		op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{}}
	}
	for _, err := range r.errors() {
		status := r.problem(s.language, err).status
		op.Responses[strconv.Itoa(status)] = &huma.Response{
			Description: http.StatusText(status), Headers: headersOf(status), Content: map[string]*huma.MediaType{},
		}
	}
	return op
}

// documentBodies adds the bodies to the documentation, with an example of each. It
// runs after the API's OnAddOperation hooks: huma's default hook would add a $schema
// to every body, which mirrors the Host header.
func (s *server) documentBodies(op *huma.Operation, r *route, answer reflect.Type) {
	registry := s.api.OpenAPI().Components.Schemas
	if in := r.input.body; in != nil {
		op.RequestBody.Content[jsonType] = &huma.MediaType{Schema: registry.Schema(in.typ, true, ""), Example: r.request}
	}
	for contentType, example := range r.uploads {
		op.RequestBody.Content[contentType] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}, Example: example}
	}
	if r.status != http.StatusNoContent {
		schema := registry.Schema(answer, true, "")
		schema.Nullable = false
		op.Responses[strconv.Itoa(r.status)].Content[jsonType] = &huma.MediaType{Schema: schema, Example: r.answer}
	}
	for _, err := range r.errors() {
		p := r.problem(s.language, err)
		body := p.document(huma.NewError(p.status, p.detail, p.errors()...)) // as refuse writes it
		op.Responses[strconv.Itoa(p.status)].Content[contentType(body)] = &huma.MediaType{
			Schema: registry.Schema(reflect.TypeOf(body), true, "CimsError"), Example: body,
		}
	}
}

// contentType returns the declared content type of an answer.
func contentType(body any) string {
	if filter, ok := body.(huma.ContentTypeFilter); ok {
		return filter.ContentType(jsonType)
	}
	return jsonType
}

func (r *route) describe() string {
	var needs string
	switch names := quoted(r.permissions); len(names) {
	case 0:
		needs = "Needs no permission."
	case 1:
		needs = "Needs the permission " + names[0] + "."
	default:
		needs = "Needs the permission " + names[0] + " or, limited to the actor's own leads, " + names[1] + "."
	}
	return strings.TrimSpace(needs + " " + r.description)
}

func quoted(permissions []cims.Permission) []string {
	var names []string
	for _, p := range permissions {
		names = append(names, "`"+string(p)+"`")
	}
	return names
}

// errors returns one error for each status that a route may refuse with.
func (r *route) errors() []error {
	errs := []error{
		cims.ErrUnauthenticated,
		&cims.Error{Kind: cims.ErrForbidden, Reason: cims.ReasonInactiveUser, Entity: cims.EntityUser},
		httpError{status: http.StatusNotAcceptable},
		httpError{status: http.StatusInternalServerError},
		cims.ErrUnavailable,
	}
	if len(r.permissions) > 0 {
		errs[1] = &cims.Error{Kind: cims.ErrForbidden, Reason: cims.ReasonPermission, Permission: r.permissions[0]}
	}
	if r.entity != "" {
		errs = append(errs, &cims.Error{Kind: cims.ErrNotFound, Entity: r.entity})
	}
	if r.conflict != nil {
		errs = append(errs, &cims.Error{Kind: r.conflict, Entity: r.entity, Count: 12})
	}
	if b := r.input.body; b != nil || r.uploads != nil {
		for _, status := range []int{
			http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
		} {
			errs = append(errs, httpError{status: status})
		}
		if b == nil {
			return append(errs, &LineError{Line: 2, Err: invalid{{location: "full_name", rule: cims.RuleRequired}}})
		}
		return append(errs, invalid{{location: "body." + fieldName(b.typ.Field(0)), rule: typeRule(b.typ.Field(0).Type)}})
	}
	// A route without parameters refuses any that is sent.
	example := fault{location: "query.unknown", rule: ruleUnknownParameter}
	if len(r.input.parameters) > 0 {
		p := r.input.parameters[len(r.input.parameters)-1]
		example = fault{location: p.in + "." + p.name, rule: typeRuleOf(p.schema)}
	}
	return append(errs, invalid{example})
}

func typeRuleOf(schema *huma.Schema) cims.FieldRule {
	switch schema.Type {
	case huma.TypeInteger:
		return ruleInteger
	case huma.TypeBoolean:
		return ruleBoolean
	default:
		return cims.RuleText
	}
}

func headersOf(status int) map[string]*huma.Param {
	headers := map[string]*huma.Param{requestIDHeader: requestIDHeaderDoc}
	switch status {
	case http.StatusUnauthorized:
		headers["WWW-Authenticate"] = challengeDoc
	case http.StatusServiceUnavailable:
		headers["Retry-After"] = retryAfterDoc
	}
	return headers
}

func (s *server) acceptLanguageDoc() *huma.Param {
	return &huma.Param{
		Name: "Accept-Language", In: "header", Description: "The language of what people read: uz, ru or en.",
		Schema: &huma.Schema{Type: huma.TypeString, Default: s.opts.DefaultLanguage, Examples: []any{"uz", "ru, en;q=0.5"}},
	}
}

var (
	sentRequestIDDoc = &huma.Param{
		Name: requestIDHeader, In: "header", Description: "Names the request in the answer and in the log; a new one is made unless it is valid.",
		Schema: &huma.Schema{
			Type: huma.TypeString, MinLength: new(1), MaxLength: new(128), Pattern: "^[A-Za-z0-9._/+=-]+$", Examples: []any{"order-form-17"},
		},
	}
	requestIDHeaderDoc = &huma.Param{
		Description: "The request's id: the client's own, if it sent a valid one (1 to 128 letters, digits, `.`, `_`, `-`, `/`, `+` and `=`).",
		Schema:      &huma.Schema{Type: huma.TypeString}, Example: "order-form-17",
	}
	challengeDoc = &huma.Param{
		Description: "How to authenticate.", Schema: &huma.Schema{Type: huma.TypeString}, Example: "Bearer",
	}
	retryAfterDoc = &huma.Param{
		Description: "Seconds to wait before another try.", Schema: &huma.Schema{Type: huma.TypeInteger}, Example: 1,
	}
)

// Tags group the routes in the document.
const (
	tagStatuses  = "Statuses"
	tagRoles     = "Roles"
	tagUsers     = "Users"
	tagLeads     = "Leads"
	tagManagers  = "Sales managers"
	tagAnalytics = "Analytics"
	tagAudit     = "Audit"
)

// documentCommons adds the parts that all routes refer to. It keeps parts of the host with
// the same name.
func (s *server) documentCommons() {
	document := s.api.OpenAPI()
	documentEntities(document.Components.Schemas)
	for _, tag := range []*huma.Tag{
		{Name: tagStatuses, Description: "The steps that customers move through."},
		{Name: tagRoles, Description: "What users are to the company, and what they may do."},
		{Name: tagUsers, Description: "Who works with the CRM."},
		{Name: tagLeads, Description: "Customers, from their arrival on."},
		{Name: tagManagers, Description: "Who takes care of which lead."},
		{Name: tagAnalytics, Description: "How well it works."},
		{Name: tagAudit, Description: "Who did what."},
	} {
		if !slices.ContainsFunc(document.Tags, func(t *huma.Tag) bool { return t.Name == tag.Name }) {
			document.Tags = append(document.Tags, tag)
		}
	}
	if document.Components.SecuritySchemes == nil {
		document.Components.SecuritySchemes = map[string]*huma.SecurityScheme{}
	}
	schemes := document.Components.SecuritySchemes
	for _, requirement := range s.opts.Security {
		if _, used := requirement[bearerAuth]; used && schemes[bearerAuth] == nil {
			schemes[bearerAuth] = &huma.SecurityScheme{
				Type: "http", Scheme: "bearer", BearerFormat: "JWT",
				Description: "A JWT whose `sub` is the user's email or id.",
			}
		}
	}
}
