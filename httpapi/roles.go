package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cimskit/cims"
)

type cimsRole cims.Role

// TransformSchema documents the fields.
func (cimsRole) TransformSchema(_ huma.Registry, schema *huma.Schema) *huma.Schema {
	return describe[cimsRole](schema, fields{
		"id":           {example: 6},
		"name":         {"The key that users hold; it never changes.", "operator"},
		"display_name": {example: "Operator"},
		"is_active":    {"Users of an inactive role can do nothing.", true},
		"is_system":    {"Made by the library: can't be deleted or deactivated.", false},
	})
}

type cimsPermission cims.Permission

// Schema documents a permission with its values.
func (cimsPermission) Schema(registry huma.Registry) *huma.Schema {
	return named(registry, "CimsPermission", &huma.Schema{
		Type: huma.TypeString,
		Enum: convertAll(cims.AllPermissions(), func(p cims.Permission) any { return string(p) }),
	})
}

type cimsNewRole struct {
	Name        string            `json:"name" minLength:"1" maxLength:"100" doc:"Letters of any script, digits and _; made lower case, spaces become _."`
	DisplayName string            `json:"display_name" minLength:"1" maxLength:"255" pattern:"\\S"`
	Description string            `json:"description,omitempty" nullable:"true" maxLength:"2000"`
	Permissions []cims.Permission `json:"permissions,omitempty" nullable:"false" doc:"None unless given. The actor must hold all of them."`
	IsActive    *bool             `json:"is_active,omitempty" default:"true"`
	IsSystem    alwaysFalse       `json:"is_system,omitempty"`
}

type cimsRoleUpdate struct {
	DisplayName *string            `json:"display_name,omitempty" minLength:"1" maxLength:"255" pattern:"\\S"`
	Description *string            `json:"description,omitempty" nullable:"true" maxLength:"2000" doc:"null clears it."`
	Permissions *[]cims.Permission `json:"permissions,omitempty" nullable:"false"`
	IsActive    *bool              `json:"is_active,omitempty"`
	IsSystem    alwaysFalse        `json:"is_system,omitempty"`
}

var exampleRole = cims.Role{
	ID: 6, Name: "operator", DisplayName: "Operator", Description: "Qo'ng'iroqlarga javob beradi",
	Permissions: cims.Permissions{cims.StatusesRead, cims.LeadsRead}, Active: true, CreatedAt: exampleTime, UpdatedAt: exampleTime,
}

func (s *server) roles() {
	read, write := []cims.Permission{cims.RolesRead}, []cims.Permission{cims.RolesWrite}

	type listing struct {
		Active *bool `query:"active" doc:"Only the active ones, or only the inactive ones."`
	}
	add(s, route{
		id: "list-roles", method: http.MethodGet, path: "/management/roles", tag: tagRoles, permissions: read,
		summary: "List the roles", description: "By `display_name` (code points), then `id`; active and inactive.",
		answer: []cims.Role{exampleRole},
	}, func(ctx context.Context, actor cims.Actor, in *listing) ([]cims.Role, error) {
		return list(s.manager.Roles(ctx, actor, cims.RoleFilter{Active: in.Active}))
	})

	type creation struct{ Body cimsNewRole }
	add(s, route{
		id: "create-role", method: http.MethodPost, path: "/management/roles", tag: tagRoles, permissions: write,
		summary: "Create a role", description: "The actor must hold every permission that the role gets.",
		status: http.StatusCreated, conflict: cims.ErrExists,
		request: cimsNewRole{
			Name: "operator", DisplayName: "Operator", Description: "Qo'ng'iroqlarga javob beradi",
			Permissions: []cims.Permission{cims.StatusesRead, cims.LeadsRead},
		},
		answer: exampleRole,
	}, func(ctx context.Context, actor cims.Actor, in *creation) (cims.Role, error) {
		return s.manager.CreateRole(ctx, actor, cims.NewRole{
			Name: in.Body.Name, DisplayName: in.Body.DisplayName, Description: in.Body.Description,
			Permissions: in.Body.Permissions, Inactive: isFalse(in.Body.IsActive),
		})
	})

	type update struct {
		ID   int64 `path:"role_id" doc:"The role's id." example:"6"`
		Body cimsRoleUpdate
	}
	add(s, route{
		id: "update-role", method: http.MethodPut, path: "/management/roles/{role_id}", tag: tagRoles, permissions: write,
		summary:     "Change a role",
		description: "Only the fields sent change. The actor must hold every permission that the role has before and after. A system role can't be deactivated, the CEO's role keeps every permission.",
		entity:      cims.EntityRole, request: cimsRoleUpdate{DisplayName: new("Operator")}, answer: exampleRole,
	}, func(ctx context.Context, actor cims.Actor, in *update) (cims.Role, error) {
		return s.manager.UpdateRole(ctx, actor, in.ID, cims.RoleUpdate{
			DisplayName: in.Body.DisplayName, Description: in.Body.Description,
			Permissions: in.Body.Permissions, Active: in.Body.IsActive,
		})
	})

	type deletion struct {
		ID     int64  `path:"role_id" doc:"The role's id." example:"6"`
		MoveTo string `query:"move_to" minLength:"1" doc:"The name of the active role that its users get, in the same transaction. Needs users:write and every permission of that role as well." example:"member"`
	}
	add(s, route{
		id: "delete-role", method: http.MethodDelete, path: "/management/roles/{role_id}", tag: tagRoles, permissions: write,
		summary: "Delete a role", description: "While users have it nothing is deleted, unless `move_to` names another for them. A system role can't be deleted.",
		entity: cims.EntityRole, conflict: cims.ErrInUse, status: http.StatusNoContent,
	}, func(ctx context.Context, actor cims.Actor, in *deletion) (none, error) {
		return none{}, s.manager.DeleteRole(ctx, actor, in.ID, cims.Deletion{MoveTo: in.MoveTo})
	})
}
