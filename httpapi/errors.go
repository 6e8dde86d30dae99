package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/cimskit/cims"
	"github.com/danielgtaylor/huma/v2"
)

// httpError is a refusal whose text depends on its status and reason alone.
type httpError struct {
	status int
	reason string // the end of the text's key, as in 415.encoding; may be empty
}

func (e httpError) Error() string { return english.say(e.keys()) }

func (e httpError) keys() []string {
	status := strconv.Itoa(e.status)
	return []string{status + "." + e.reason, status}
}

// fault names a part of a request and the rule that it breaks.
type fault struct {
	location string // such as "body.name" or "query.limit"
	rule     cims.FieldRule
	min, max int
}

// invalid lists the faults of a request.
type invalid []fault

// Error returns an English text for logs and developers.
func (f invalid) Error() string {
	var all []string
	for _, detail := range english.details(f) {
		all = append(all, strings.TrimSpace(strings.TrimPrefix(detail.Location, "body.")+" "+detail.Message))
	}
	return strings.Join(all, "; ")
}

func (f invalid) err() error {
	if len(f) == 0 {
		return nil
	}
	return f
}

// unavailable reports whether the cause of an error is likely to be temporary.
func unavailable(err error) bool {
	return is(err, cims.ErrUnavailable, cims.ErrOutcomeUnknown, cims.ErrClosed, context.DeadlineExceeded, context.Canceled)
}

func is(err error, kinds ...error) bool {
	for _, kind := range kinds {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// problem is a refusal in the client's language.
type problem struct {
	status         int
	detail         string
	details        []*huma.ErrorDetail
	count          int
	countIsMinimum bool
}

// problem returns the refusal that answers an error. An unknown error becomes a 500
// that reveals nothing.
func (r *route) problem(lang language, err error) problem {
	var (
		refused cims.Error
		known   *cims.Error
		status  httpError
		faults  invalid
		line    *LineError
	)
	if errors.As(err, &known) {
		refused = *known
	}
	say := func(status int, keys ...string) problem {
		return problem{status: status, detail: lang.say(append(keys, strconv.Itoa(status)))}
	}
	switch {
	case errors.Is(err, cims.ErrOutcomeUnknown) && r.input.location("idempotency_key") == "header."+idempotencyKey:
		return say(http.StatusServiceUnavailable, "outcome_unknown.key")
	case errors.Is(err, cims.ErrOutcomeUnknown):
		return say(http.StatusServiceUnavailable, "outcome_unknown")
	case unavailable(err):
		return say(http.StatusServiceUnavailable)
	case errors.Is(err, cims.ErrUnauthenticated): // even if its cause wraps another one
		return say(http.StatusUnauthorized)
	case errors.As(err, &line):
		return lang.line(line)
	case errors.As(err, &status):
		if status.reason == "" && r.uploads != nil {
			status.reason = "file"
		}
		return say(status.status, status.keys()...)
	case errors.As(err, &faults):
		p := say(http.StatusUnprocessableEntity)
		p.details = lang.details(faults)
		return p
	case errors.Is(err, cims.ErrInvalid):
		for _, f := range refused.Fields {
			faults = append(faults, fault{location: r.input.location(f.Field), rule: r.rule(f), min: f.Min, max: f.Max})
		}
		return r.problem(lang, faults)
	case errors.Is(err, cims.ErrKeyReused):
		p := say(http.StatusUnprocessableEntity, "key_reused")
		p.details = []*huma.ErrorDetail{{Location: r.input.location("idempotency_key"), Message: p.detail}}
		return p
	case errors.Is(err, cims.ErrForbidden):
		if refused.Permission != "" {
			return problem{status: http.StatusForbidden, detail: lang.format("permission", refused.Permission)}
		}
		reason := string(refused.Reason)
		return say(http.StatusForbidden, reason+"."+string(refused.Entity), reason)
	case errors.Is(err, cims.ErrNotFound):
		return say(http.StatusNotFound, "not_found."+string(refused.Entity))
	case errors.Is(err, cims.ErrExists):
		p := say(http.StatusConflict, "exists."+string(refused.Entity), "exists")
		taken := "name"
		if refused.Entity == cims.EntityUser {
			taken = "email"
		}
		p.details = []*huma.ErrorDetail{{Location: r.input.location(taken), Message: p.detail}}
		return p
	case errors.Is(err, cims.ErrLastCEO):
		return say(http.StatusConflict, "last_ceo")
	case errors.Is(err, cims.ErrInUse):
		return inUse(lang, refused)
	default:
		return say(http.StatusInternalServerError)
	}
}

// rule returns the Manager's rule, or the rule that replaces it in this route.
func (r *route) rule(f cims.FieldError) cims.FieldRule {
	switch {
	case f.Rule == cims.RuleUnknown && r.method == http.MethodGet: // a filter may name an inactive entry
		return ruleUnknownEntry
	case f.Rule == cims.RuleText && f.Field == "idempotency_key":
		return ruleVisible
	default:
		return f.Rule
	}
}

// line returns the refusal for a line of a file.
func (l language) line(refused *LineError) problem {
	var faults, located invalid
	var known *cims.Error
	switch {
	case errors.As(refused.Err, &faults):
	case errors.As(refused.Err, &known):
		for _, f := range known.Fields {
			faults = append(faults, fault{location: f.Field, rule: f.Rule, min: f.Min, max: f.Max})
		}
	default: // not JSON
		faults = invalid{{rule: cims.RuleFormat}}
	}
	location := fmt.Sprintf("line[%d]", refused.Line)
	first := ""
	for i, f := range faults {
		field := strings.TrimPrefix(strings.TrimPrefix(f.location, "body"), ".") // "" for the line as a whole
		if i == 0 {
			first = field
		}
		f.location = strings.TrimSuffix(location+"."+field, ".")
		located = append(located, f)
	}
	p := problem{status: http.StatusUnprocessableEntity, details: l.details(located)}
	switch {
	case len(p.details) == 0: // the line is too long
		p.detail = l["422"]
	case first == "":
		p.detail = l.format("line.whole", refused.Line, p.details[0].Message)
	default:
		p.detail = l.format("line", refused.Line, first, p.details[0].Message)
	}
	return p
}

func inUse(lang language, refused cims.Error) problem {
	p := problem{status: http.StatusConflict, count: refused.Count, countIsMinimum: refused.CountIsMinimum}
	key := "in_use." + string(refused.Entity)
	switch {
	case p.count == 0: // the database reports no count
		p.detail = lang.say([]string{"in_use"})
	case p.countIsMinimum:
		p.detail = lang.format(key+".at_least", p.count)
	default:
		p.detail = lang.format(key, p.count)
	}
	return p
}

// These limit the faults in an answer, so that a hostile request doesn't get an answer much
// longer than itself.
const (
	maxFaults     = 10
	maxFaultBytes = 1500
)

func (l language) details(faults invalid) []*huma.ErrorDetail {
	var details []*huma.ErrorDetail
	size := 0
	for _, f := range faults {
		detail := &huma.ErrorDetail{Location: f.location, Message: l.rule(f)}
		text, err := json.Marshal(detail)
		size += len(text)
		if err != nil || len(details) == maxFaults || size > maxFaultBytes {
			break
		}
		details = append(details, detail)
	}
	return details
}

func (p problem) errors() []error {
	errs := make([]error, len(p.details))
	for i, detail := range p.details {
		errs[i] = detail
	}
	return errs
}

// document returns a problem in the error model that huma uses: this package's,
// unless the host has set another.
func (p problem) document(model huma.StatusError) huma.StatusError {
	if standard, ok := model.(*huma.ErrorModel); ok {
		return &cimsProblem{ErrorModel: *standard, Count: p.count, CountIsMinimum: p.countIsMinimum}
	}
	return model
}

// cimsProblem extends huma's error model. Like all types in the document it has a prefix,
// since huma names schemas after types without their packages.
type cimsProblem struct { //nolint:errname // it names the schema, which clients see
	huma.ErrorModel
	Count          int  `json:"count,omitempty" doc:"Of an entry in use: how many customers or users have it; exact up to 1,000." example:"12"`
	CountIsMinimum bool `json:"count_is_minimum,omitempty" doc:"There are more than count says."`
}

// TransformSchema states which fields of huma's model are always there.
func (cimsProblem) TransformSchema(_ huma.Registry, schema *huma.Schema) *huma.Schema {
	schema.Required = []string{"title", "status", "detail"}
	schema.Properties["errors"].Nullable = false
	return schema
}
