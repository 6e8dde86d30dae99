package httpapi_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi"
	"github.com/cimskit/cims/internal/contract"
)

func document(t *testing.T) *huma.OpenAPI {
	t.Helper()
	api := humago.New(http.NewServeMux(), huma.DefaultConfig("CRM", "1.0.0"))
	require.NoError(t, httpapi.Register(api, newManager(t), asCEO))
	return api.OpenAPI()
}

// TestRoutesAndWhatOpensThem states the permissions of each tag, for reading and for all
// else. api/openapi.json lists the permissions of each route.
func TestRoutesAndWhatOpensThem(t *testing.T) {
	leads := []cims.Permission{cims.LeadsRead, cims.LeadsReadOwn}
	opens := map[string]struct{ read, write []cims.Permission }{
		"Statuses":       {[]cims.Permission{cims.StatusesRead}, []cims.Permission{cims.StatusesWrite}},
		"Roles":          {[]cims.Permission{cims.RolesRead}, []cims.Permission{cims.RolesWrite}},
		"Users":          {[]cims.Permission{cims.UsersRead}, []cims.Permission{cims.UsersWrite}},
		"Leads":          {leads, []cims.Permission{cims.LeadsWrite, cims.LeadsWriteOwn}},
		"Sales managers": {leads, []cims.Permission{cims.LeadsAssign}},
		"Analytics":      {read: []cims.Permission{cims.AnalyticsRead}},
		"Audit":          {read: []cims.Permission{cims.AuditRead}},
	}
	exceptions := map[string][]cims.Permission{
		"GET /me":                    {}, // open to any known user
		"POST /crm/customers/import": {cims.LeadsWrite},
	}
	operations := contract.Operations(document(t))
	require.Subset(t, slices.Collect(maps.Keys(operations)), slices.Collect(maps.Keys(exceptions)))
	for route, op := range operations {
		want := opens[op.Tags[0]].write
		if op.Method == http.MethodGet {
			want = opens[op.Tags[0]].read
		}
		if exception, ok := exceptions[route]; ok {
			want = exception
		} else {
			require.NotEmpty(t, want, route)
		}
		require.Equal(t, want, op.Extensions["x-cims-permission"], route)
	}
}

func TestDocumentIsComplete(t *testing.T) {
	document := document(t)
	ids := map[string]bool{}
	for route, op := range contract.Operations(document) {
		t.Run(route, func(t *testing.T) {
			require.True(t, strings.HasPrefix(op.OperationID, "cims-"))
			require.False(t, ids[op.OperationID])
			ids[op.OperationID] = true
			require.NotEmpty(t, op.Summary)
			require.NotEmpty(t, op.Description)
			require.Equal(t, []map[string][]string{{"bearerAuth": {}}}, op.Security)
			require.Len(t, op.Tags, 1)
			require.True(t, slices.ContainsFunc(document.Tags, func(tag *huma.Tag) bool { return tag.Name == op.Tags[0] && tag.Description != "" }))

			want := []string{"401", "403", "406", "422", "500", "503"}
			if op.RequestBody != nil {
				want = append(want, "400", "408", "413", "415")
			}
			if strings.Contains(op.Path, "{") {
				want = append(want, "404")
			}
			require.Subset(t, slices.Collect(maps.Keys(op.Responses)), want)
			successes := 0
			for status, response := range op.Responses {
				checkResponse(t, document, status, response)
				if status < "300" {
					successes++
				}
			}
			require.Equal(t, 1, successes)
			checkParameters(t, op)
			if op.RequestBody != nil {
				require.True(t, op.RequestBody.Required)
				types := []string{"application/json"}
				if op.OperationID == "cims-import-customers" {
					types = []string{httpapi.NDJSON, httpapi.CSV}
				}
				require.Len(t, op.RequestBody.Content, len(types))
				for _, contentType := range types {
					checkContent(t, document, op.RequestBody.Content[contentType])
				}
			}
		})
	}
	require.NotEmpty(t, ids)
	require.Equal(t, "bearer", document.Components.SecuritySchemes["bearerAuth"].Scheme)
}

func checkResponse(t *testing.T, document *huma.OpenAPI, status string, response *huma.Response) {
	t.Helper()
	require.NotEmpty(t, response.Description)
	require.NotEmpty(t, response.Headers["X-Request-ID"].Description)
	require.Equal(t, status == "503", response.Headers["Retry-After"] != nil)
	require.Equal(t, status == "401", response.Headers["WWW-Authenticate"] != nil)
	contentType := "application/json"
	if status >= "400" {
		contentType = "application/problem+json"
		require.Equal(t, "#/components/schemas/CimsProblem", response.Content[contentType].Schema.Ref)
	}
	if status == "204" {
		require.Empty(t, response.Content)
		return
	}
	require.Len(t, response.Content, 1)
	checkContent(t, document, response.Content[contentType])
}

// checkContent checks the example against the schema.
func checkContent(t *testing.T, document *huma.OpenAPI, content *huma.MediaType) {
	t.Helper()
	require.NotNil(t, content)
	require.NotNil(t, content.Example)
	text, err := json.Marshal(content.Example)
	require.NoError(t, err)
	var value any
	require.NoError(t, json.Unmarshal(text, &value))
	result := &huma.ValidateResult{}
	huma.Validate(document.Components.Schemas, content.Schema, huma.NewPathBuffer(nil, 0), huma.ModeReadFromServer, value, result)
	require.Empty(t, result.Errors, string(text))
}

func checkParameters(t *testing.T, op *huma.Operation) {
	t.Helper()
	var names, inPath []string
	for _, p := range op.Parameters {
		names = append(names, p.In+" "+p.Name)
		require.NotEmpty(t, p.Description, p.Name)
		require.Equal(t, p.In == "path", p.Required)
		if p.In == "path" {
			inPath = append(inPath, "{"+p.Name+"}")
		}
		schema := p.Schema
		bounded := schema.Minimum != nil || schema.MinLength != nil || schema.MaxLength != nil || len(schema.Enum) > 0
		require.True(t, bounded || schema.Default != nil || len(schema.Examples) > 0 || schema.Type == "boolean", p.Name)
	}
	require.Equal(t, regexp.MustCompile(`{\w+}`).FindAllString(op.Path, -1), inPath)
	require.Subset(t, names, []string{"header Accept-Language", "header X-Request-ID"})
	require.Equal(t, op.OperationID == "cims-create-customer", slices.Contains(names, "header Idempotency-Key"))
}

func TestDocumentNamesNothingWithoutItsPrefix(t *testing.T) {
	for name := range document(t).Components.Schemas.Map() {
		require.True(t, strings.HasPrefix(name, "Cims") || name == "ErrorDetail", name) // ErrorDetail is huma's
	}
}

func TestDocumentCanBeWrittenInEveryForm(t *testing.T) {
	document := document(t)
	text, err := json.Marshal(document)
	require.NoError(t, err)
	require.False(t, bytes.Contains(text, []byte("$schema")))
	_, err = document.YAML()
	require.NoError(t, err)
	_, err = document.Downgrade()
	require.NoError(t, err)
}
