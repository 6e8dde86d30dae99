package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cimskit/cims"
)

type cimsUser cims.User

// TransformSchema documents the fields.
func (cimsUser) TransformSchema(_ huma.Registry, schema *huma.Schema) *huma.Schema {
	return describe[cimsUser](schema, personFields, fields{
		"role_name": {"null where an older program left none.", "sales_manager"},
		"is_active": {example: true},
	})
}

type cimsPerson cims.Person

// TransformSchema documents the fields.
func (cimsPerson) TransformSchema(_ huma.Registry, schema *huma.Schema) *huma.Schema {
	return describe[cimsPerson](schema, personFields)
}

var personFields = fields{
	"id":      {example: 3},
	"email":   {example: "dilshod@example.com"},
	"name":    {example: "Dilshod"},
	"surname": {example: "Rahimov"},
}

type cimsNewUser struct {
	Email    string `json:"email" minLength:"3" maxLength:"255" pattern:"@" doc:"Unique without regard to case."`
	Name     string `json:"name" minLength:"1" maxLength:"255" pattern:"\\S"`
	Surname  string `json:"surname" minLength:"1" maxLength:"255" pattern:"\\S"`
	RoleName string `json:"role_name" minLength:"1" doc:"The name of an active role."`
	IsActive *bool  `json:"is_active,omitempty" default:"true"`
}

type cimsUserUpdate struct {
	Email    *string `json:"email,omitempty" minLength:"3" maxLength:"255" pattern:"@" doc:"Only a CEO changes it."`
	Name     *string `json:"name,omitempty" minLength:"1" maxLength:"255" pattern:"\\S"`
	Surname  *string `json:"surname,omitempty" minLength:"1" maxLength:"255" pattern:"\\S"`
	RoleName *string `json:"role_name,omitempty" minLength:"1" doc:"The name of an active role."`
	IsActive *bool   `json:"is_active,omitempty"`
}

var (
	examplePerson = cims.Person{ID: 3, Email: "dilshod@example.com", Name: "Dilshod", Surname: "Rahimov"}
	exampleUser   = cims.User{ID: 3, Email: "dilshod@example.com", Name: "Dilshod", Surname: "Rahimov", RoleName: cims.RoleSalesManager, Active: true}
)

func (s *server) users() {
	write := []cims.Permission{cims.UsersWrite}

	type listing struct {
		Role   string `query:"role" minLength:"1" doc:"Only those with the role of this name." example:"sales_manager"`
		Active *bool  `query:"active" doc:"Only the active ones, or only the inactive ones."`
		Q      string `query:"q" maxLength:"255" doc:"Start of the name, surname or email, in any case." example:"dil"`
		Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many at most."`
		Cursor string `query:"cursor" minLength:"1" doc:"The next of the part before."`
	}
	add(s, route{
		id: "list-users", method: http.MethodGet, path: "/management/users", tag: tagUsers,
		permissions: []cims.Permission{cims.UsersRead},
		summary:     "List the users", description: "By `id`.",
		answer: cimsPage[cims.User]{Items: []cims.User{exampleUser}},
	}, func(ctx context.Context, actor cims.Actor, in *listing) (cimsPage[cims.User], error) {
		return page(s.manager.Users(ctx, actor, cims.UserFilter{Role: in.Role, Active: in.Active, Prefix: in.Q},
			cims.PageRequest{Limit: in.Limit, Cursor: in.Cursor}))
	})

	type creation struct{ Body cimsNewUser }
	add(s, route{
		id: "create-user", method: http.MethodPost, path: "/management/users", tag: tagUsers, permissions: write,
		summary: "Create a user", description: "The actor must hold every permission of the role; only a CEO makes a CEO. How users log in is the host's.",
		status: http.StatusCreated, conflict: cims.ErrExists,
		request: cimsNewUser{Email: "dilshod@example.com", Name: "Dilshod", Surname: "Rahimov", RoleName: "sales_manager"},
		answer:  exampleUser,
	}, func(ctx context.Context, actor cims.Actor, in *creation) (cims.User, error) {
		return s.manager.CreateUser(ctx, actor, cims.NewUser{
			Email: in.Body.Email, Name: in.Body.Name, Surname: in.Body.Surname,
			RoleName: in.Body.RoleName, Inactive: isFalse(in.Body.IsActive),
		})
	})

	type update struct {
		ID    int64            `path:"user_id" doc:"The user's id." example:"3"`
		Leads cims.LeadsChoice `query:"leads" enum:"keep,redistribute" default:"keep" doc:"What becomes of the leads of somebody who, after this, is no active sales manager. To redistribute needs leads:assign as well."`
		Body  cimsUserUpdate
	}
	add(s, route{
		id: "update-user", method: http.MethodPut, path: "/management/users/{user_id}", tag: tagUsers, permissions: write,
		summary:     "Change a user",
		description: "Only the fields sent change. The actor must hold every permission that the user has before and after; only a CEO changes a CEO, or anyone's email. There is always an active CEO.",
		entity:      cims.EntityUser, conflict: cims.ErrLastCEO, request: cimsUserUpdate{IsActive: new(true), Surname: new("Rahimov")},
		answer: exampleUser,
	}, func(ctx context.Context, actor cims.Actor, in *update) (cims.User, error) {
		return s.manager.UpdateUser(ctx, actor, in.ID, cims.UserUpdate{
			Email: in.Body.Email, Name: in.Body.Name, Surname: in.Body.Surname,
			RoleName: in.Body.RoleName, Active: in.Body.IsActive, Leads: in.Leads,
		})
	})
}
