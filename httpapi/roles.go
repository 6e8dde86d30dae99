package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/cimskit/cims"
	"github.com/danielgtaylor/huma/v2"
)

type cimsRole struct {
	ID          int64            `json:"id" example:"6"`
	Name        string           `json:"name" doc:"The key that users hold; it never changes." example:"operator"`
	DisplayName string           `json:"display_name" example:"Operator"`
	Description *string          `json:"description"`
	Permissions []cimsPermission `json:"permissions" nullable:"false"`
	IsActive    bool             `json:"is_active" doc:"Users of an inactive role can do nothing." example:"true"`
	IsSystem    bool             `json:"is_system" doc:"Made by the library: can't be deleted or deactivated." example:"false"`
	CreatedAt   time.Time        `json:"created_at"`
	UpdatedAt   time.Time        `json:"updated_at"`
}

func newCimsRole(r cims.Role) cimsRole {
	return cimsRole{
		ID: r.ID, Name: r.Name, DisplayName: r.DisplayName, Description: textOrNull(r.Description),
		Permissions: list(r.Permissions, newCimsPermission), IsActive: r.Active, IsSystem: r.System,
		CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(),
	}
}

// cimsPermission is documented with its values.
type cimsPermission string

func newCimsPermission(p cims.Permission) cimsPermission { return cimsPermission(p) }

// Schema documents it.
func (cimsPermission) Schema(registry huma.Registry) *huma.Schema {
	return named(registry, "CimsPermission", &huma.Schema{
		Type: huma.TypeString,
		Enum: list(cims.AllPermissions(), func(p cims.Permission) any { return string(p) }),
	})
}

func permissions(names []cimsPermission) []cims.Permission {
	return list(names, func(name cimsPermission) cims.Permission { return cims.Permission(name) })
}

type cimsNewRole struct {
	Name        string           `json:"name" minLength:"1" maxLength:"100" pattern:"^[\\p{L}\\p{N}_ ]+$" doc:"Letters of any script, digits and _; made lower case, spaces become _."`
	DisplayName string           `json:"display_name" minLength:"1" maxLength:"255" pattern:"\\S"`
	Description string           `json:"description,omitempty" nullable:"true" maxLength:"2000"`
	Permissions []cimsPermission `json:"permissions,omitempty" nullable:"false" doc:"None unless given. The actor must hold all of them."`
	IsActive    *bool            `json:"is_active,omitempty" default:"true"`
	IsSystem    alwaysFalse      `json:"is_system,omitempty"`
}

type cimsRoleUpdate struct {
	DisplayName *string           `json:"display_name,omitempty" minLength:"1" maxLength:"255" pattern:"\\S"`
	Description *string           `json:"description,omitempty" nullable:"true" maxLength:"2000" doc:"null clears it."`
	Permissions *[]cimsPermission `json:"permissions,omitempty" nullable:"false"`
	IsActive    *bool             `json:"is_active,omitempty"`
	IsSystem    alwaysFalse       `json:"is_system,omitempty"`
}

var exampleRole = cimsRole{
	ID: 6, Name: "operator", DisplayName: "Operator", Description: new("Qo'ng'iroqlarga javob beradi"),
	Permissions: []cimsPermission{"statuses:read", "leads:read"}, IsActive: true, CreatedAt: exampleTime, UpdatedAt: exampleTime,
}

func (s *server) roles() {
	read, write := []cims.Permission{cims.RolesRead}, []cims.Permission{cims.RolesWrite}

	type listing struct {
		Active *bool `query:"active" doc:"Only the active ones, or only the inactive ones."`
	}
	add(s, route{
		id: "list-roles", method: http.MethodGet, path: "/management/roles", tag: tagRoles, permissions: read,
		summary: "List the roles", description: "By `display_name` (code points), then `id`; active and inactive.",
		answer: []cimsRole{exampleRole},
	}, func(ctx context.Context, actor cims.Actor, in *listing) ([]cimsRole, error) {
		roles, err := s.manager.Roles(ctx, actor, cims.RoleFilter{Active: in.Active})
		return list(roles, newCimsRole), err
	})

	type creation struct{ Body cimsNewRole }
	add(s, route{
		id: "create-role", method: http.MethodPost, path: "/management/roles", tag: tagRoles, permissions: write,
		summary: "Create a role", description: "The actor must hold every permission that the role gets.",
		status: http.StatusCreated, conflict: cims.ErrExists,
		request: cimsNewRole{
			Name: "operator", DisplayName: "Operator", Description: "Qo'ng'iroqlarga javob beradi",
			Permissions: []cimsPermission{"statuses:read", "leads:read"},
		},
		answer: exampleRole,
	}, func(ctx context.Context, actor cims.Actor, in *creation) (cimsRole, error) {
		role, err := s.manager.CreateRole(ctx, actor, cims.NewRole{
			Name: in.Body.Name, DisplayName: in.Body.DisplayName, Description: in.Body.Description,
			Permissions: permissions(in.Body.Permissions), Inactive: isFalse(in.Body.IsActive),
		})
		return newCimsRole(role), err
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
	}, func(ctx context.Context, actor cims.Actor, in *update) (cimsRole, error) {
		change := cims.RoleUpdate{DisplayName: in.Body.DisplayName, Description: in.Body.Description, Active: in.Body.IsActive}
		if in.Body.Permissions != nil {
			change.Permissions = new(permissions(*in.Body.Permissions))
		}
		role, err := s.manager.UpdateRole(ctx, actor, in.ID, change)
		return newCimsRole(role), err
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
