package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cimskit/cims"
)

type cimsMe struct {
	cims.Person
	RoleName    string           `json:"role_name"`
	Permissions cims.Permissions `json:"permissions"`
}

// TransformSchema documents the fields.
func (cimsMe) TransformSchema(_ huma.Registry, schema *huma.Schema) *huma.Schema {
	return describe[cimsMe](schema, personFields, fields{"role_name": {example: "sales_manager"}})
}

func (s *server) me() {
	add(s, route{
		id: "get-me", method: http.MethodGet, path: "/me", tag: tagUsers, summary: "Read who I am and what I may do",
		answer: cimsMe{
			Person: examplePerson, RoleName: cims.RoleSalesManager,
			Permissions: cims.Permissions{cims.StatusesRead, cims.LeadsReadOwn, cims.LeadsWriteOwn, cims.AnalyticsRead},
		},
	}, func(_ context.Context, actor cims.Actor, _ *none) (cimsMe, error) {
		user := actor.User()
		return cimsMe{
			Person:   cims.Person{ID: user.ID, Email: user.Email, Name: user.Name, Surname: user.Surname},
			RoleName: string(user.RoleName), Permissions: actor.Permissions(),
		}, nil
	})
}
