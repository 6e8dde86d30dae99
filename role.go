package cims

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"
)

// Permission is a right that a role can have. A permission that ends in ":own" is
// limited to the leads that the acting user owns. The plain form includes it.
type Permission string

// All permissions.
const (
	StatusesRead  Permission = "statuses:read"
	StatusesWrite Permission = "statuses:write"
	RolesRead     Permission = "roles:read"
	RolesWrite    Permission = "roles:write"
	UsersRead     Permission = "users:read"
	UsersWrite    Permission = "users:write"
	LeadsRead     Permission = "leads:read"
	LeadsReadOwn  Permission = "leads:read:own"
	LeadsWrite    Permission = "leads:write"
	LeadsWriteOwn Permission = "leads:write:own"
	LeadsAssign   Permission = "leads:assign"
	AnalyticsRead Permission = "analytics:read"
	AuditRead     Permission = "audit:read"
)

var allPermissions = Permissions{
	StatusesRead, StatusesWrite, RolesRead, RolesWrite, UsersRead, UsersWrite,
	LeadsRead, LeadsReadOwn, LeadsWrite, LeadsWriteOwn, LeadsAssign, AnalyticsRead, AuditRead,
}

// AllPermissions returns all permissions.
func AllPermissions() []Permission { return slices.Clone(allPermissions) }

// Permissions is a set of permissions. A Manager stores it in the order of
// AllPermissions, without duplicates.
type Permissions []Permission

func (ps Permissions) list() []Permission { return append([]Permission{}, ps...) }

// MarshalJSON returns a JSON array, which is empty for nil.
func (ps Permissions) MarshalJSON() ([]byte, error) { return json.Marshal(ps.list()) }

func (ps Permissions) has(p Permission) bool {
	return slices.Contains(ps, p) ||
		(p == LeadsReadOwn && slices.Contains(ps, LeadsRead)) ||
		(p == LeadsWriteOwn && slices.Contains(ps, LeadsWrite))
}

// covers reports whether ps includes all of others.
func (ps Permissions) covers(others Permissions) bool {
	return !slices.ContainsFunc(others, func(p Permission) bool { return !ps.has(p) })
}

func (ps Permissions) normal() Permissions {
	sorted := Permissions{}
	for _, p := range allPermissions {
		if slices.Contains(ps, p) {
			sorted = append(sorted, p)
		}
	}
	return sorted
}

// Role is the function of a user in the company, with its permissions.
type Role struct {
	ID          int64       `json:"id"`
	Name        string      `json:"name"` // the key that users refer to; never changes
	DisplayName string      `json:"display_name"`
	Description Text        `json:"description"`
	Permissions Permissions `json:"permissions"`
	Active      bool        `json:"is_active"` // users with an inactive role can do nothing
	System      bool        `json:"is_system"` // created by Migrate; can't be deleted
	CreatedAt   time.Time   `json:"created_at"`
	UpdatedAt   time.Time   `json:"updated_at"`
}

// SystemRoles returns the roles that Storage.Migrate creates if they are missing,
// with their initial permissions. Their ids and times are zero.
func SystemRoles() []Role {
	read := Permissions{StatusesRead, RolesRead, LeadsRead, AnalyticsRead}
	roles := []Role{
		{Name: RoleCEO, DisplayName: "CEO", Description: "Chief Executive Officer", Permissions: AllPermissions()},
		{Name: "financial_director", DisplayName: "Financial Director", Description: "Financial Director", Permissions: read},
		{
			Name: RoleSalesManager, DisplayName: "Sales Manager", Description: "Sales Manager for CRM",
			Permissions: Permissions{StatusesRead, LeadsReadOwn, LeadsWriteOwn, AnalyticsRead},
		},
		{Name: "member", DisplayName: "Member", Description: "Team Member", Permissions: slices.Clone(read)},
		{Name: "customer", DisplayName: "Customer", Description: "Customer/Client", Permissions: Permissions{}},
	}
	for i := range roles {
		roles[i].Active, roles[i].System = true, true
	}
	return roles
}

// NewRole is the input of CreateRole. Name and DisplayName are required.
type NewRole struct {
	Name        string // 1 to 100 letters, digits and _; made lower case, spaces become _
	DisplayName string // 1 to 255 characters
	Description string // up to 2000 characters
	Permissions []Permission
	Inactive    bool
}

// RoleUpdate is the input of UpdateRole. A nil field is left unchanged. A pointer to
// an empty Description clears it.
type RoleUpdate struct {
	DisplayName *string
	Description *string
	Permissions *[]Permission
	Active      *bool
}

// RoleFilter selects roles. A zero field matches all.
type RoleFilter struct {
	Active *bool
}

// Roles returns the roles that match filter, ordered by display name (code points),
// then id. It needs roles:read.
func (m *Manager) Roles(ctx context.Context, actor Actor, filter RoleFilter) ([]Role, error) {
	if err := actor.need(RolesRead); err != nil {
		return nil, err
	}
	roles, err := m.storage.Roles(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(roles, func(a, b Role) int {
		return cmp.Or(cmp.Compare(a.DisplayName, b.DisplayName), cmp.Compare(a.ID, b.ID))
	})
	return slices.DeleteFunc(roles, func(r Role) bool { return filter.Active != nil && r.Active != *filter.Active }), nil
}

// CreateRole adds a role. It needs roles:write and every permission of the new role.
// It returns ErrInvalid for invalid input, and ErrExists if the name is taken.
func (m *Manager) CreateRole(ctx context.Context, actor Actor, in NewRole) (Role, error) {
	if err := actor.need(RolesWrite); err != nil {
		return Role{}, err
	}
	var check checks
	role := Role{
		Name:        check.name("name", in.Name),
		DisplayName: check.displayName(in.DisplayName),
		Description: Text(check.description(in.Description)),
		Permissions: check.permissions("permissions", in.Permissions),
		Active:      !in.Inactive,
	}
	if err := check.err(); err != nil {
		return Role{}, err
	}
	err := m.updateRights(ctx, func(ctx context.Context, tx Tx) error {
		if _, err := actor.mayHandOut(ctx, tx, RolesWrite, role.Permissions); err != nil {
			return err
		}
		role.CreatedAt = m.now()
		role.UpdatedAt = role.CreatedAt
		var err error
		if role.ID, err = tx.InsertRole(ctx, role); err != nil {
			return err
		}
		return m.record(ctx, tx, actor, Change{Action: ActionCreated, Entity: EntityRole, EntityID: role.ID, After: role, At: role.CreatedAt})
	})
	return zeroOnError(role, err)
}

// updateRights runs a transaction that changes roles or users. It takes the lock on
// rights first, so that the roles, the users and the permissions of the actor that
// it reads stay the same until the commit.
func (m *Manager) updateRights(ctx context.Context, do func(ctx context.Context, tx Tx) error) error {
	return m.update(ctx, func(ctx context.Context, tx Tx) error {
		if err := tx.LockRights(ctx); err != nil {
			return err
		}
		return do(ctx, tx)
	})
}

// lockTeam also takes the rotation's lock if one of the roles is sales_manager, since
// the members must not change during a decision.
func lockTeam(ctx context.Context, tx Tx, roles ...Text) error {
	if !slices.Contains(roles, RoleSalesManager) {
		return nil
	}
	_, err := tx.LockRotation(ctx)
	return err
}

// UpdateRole changes the fields that are set in update. If they all have their value
// already, it changes nothing. It needs roles:write and every permission that the
// role has before and after.
//
// UpdateRole returns ErrNotFound for an unknown role, and ErrInvalid for invalid
// input. It returns ErrForbidden if ceo or sales_manager would be deactivated, or if the
// permissions of the CEO would change.
func (m *Manager) UpdateRole(ctx context.Context, actor Actor, id int64, update RoleUpdate) (Role, error) {
	if err := actor.need(RolesWrite); err != nil {
		return Role{}, err
	}
	var check checks
	if update == (RoleUpdate{}) {
		check.add("body", RuleNoField)
	}
	update.DisplayName = checked(update.DisplayName, check.displayName)
	update.Description = checked(update.Description, check.description)
	update.Permissions = checked(update.Permissions, func(ps []Permission) []Permission { return check.permissions("permissions", ps) })
	if err := check.err(); err != nil {
		return Role{}, err
	}
	var role Role
	err := m.updateRights(ctx, func(ctx context.Context, tx Tx) error {
		before, err := tx.LockRole(ctx, id)
		if err != nil {
			return err
		}
		role = before
		role.DisplayName = valueOr(update.DisplayName, role.DisplayName)
		role.Description = textOr(update.Description, role.Description)
		role.Permissions = valueOr((*Permissions)(update.Permissions), role.Permissions)
		role.Active = valueOr(update.Active, role.Active)
		if _, err := actor.mayHandOut(ctx, tx, RolesWrite, before.Permissions, role.Permissions); err != nil {
			return err
		}
		switch {
		case (role.Name == RoleCEO || role.Name == RoleSalesManager) && !role.Active:
			return &Error{Kind: ErrForbidden, Reason: ReasonSystemEntry, Entity: EntityRole, Name: role.Name}
		case role.Name == RoleCEO && !slices.Equal(role.Permissions, before.Permissions):
			return &Error{Kind: ErrForbidden, Reason: ReasonCEOPermissions, Entity: EntityRole, Name: role.Name}
		case role.equal(before):
			return nil
		}
		role.UpdatedAt = m.after(before.UpdatedAt)
		if err := tx.UpdateRole(ctx, role); err != nil {
			return err
		}
		return m.record(ctx, tx, actor, Change{Action: ActionUpdated, Entity: EntityRole, EntityID: id, Before: before, After: role, At: role.UpdatedAt})
	})
	return zeroOnError(role, err)
}

func (r Role) equal(other Role) bool {
	permissions := slices.Equal(r.Permissions, other.Permissions)
	return permissions && r.DisplayName == other.DisplayName && r.Description == other.Description && r.Active == other.Active
}

// DeleteRole deletes a role that no user has. With Deletion.MoveTo it first gives the
// users of the role another one. It needs roles:write and every permission of the
// role. A move also needs users:write and every permission of the target.
//
// DeleteRole returns ErrNotFound for an unknown role, ErrForbidden for a system role,
// and ErrInUse with the number of users. It returns ErrInvalid for an unknown or
// inactive target. Only a CEO can move users to the role ceo.
func (m *Manager) DeleteRole(ctx context.Context, actor Actor, id int64, how Deletion) error {
	if err := actor.need(RolesWrite); err != nil {
		return err
	}
	if how.MoveTo != "" {
		if err := actor.need(UsersWrite); err != nil {
			return err
		}
	}
	return m.updateRights(ctx, func(ctx context.Context, tx Tx) error {
		role, err := tx.LockRole(ctx, id)
		if err != nil {
			return err
		}
		if _, err := actor.mayHandOut(ctx, tx, RolesWrite, role.Permissions); err != nil {
			return err
		}
		if role.System {
			return &Error{Kind: ErrForbidden, Reason: ReasonSystemEntry, Entity: EntityRole, Name: role.Name}
		}
		if how.MoveTo != "" {
			if err := m.moveUsers(ctx, tx, actor, role, normalName(how.MoveTo)); err != nil {
				return err
			}
		}
		count, err := tx.CountUsers(ctx, role.Name, countLimit+1)
		if err != nil {
			return err
		}
		if err := inUse(EntityRole, role.Name, count); err != nil {
			return err
		}
		if err := tx.DeleteRole(ctx, id); err != nil {
			return err
		}
		return m.record(ctx, tx, actor, Change{Action: ActionDeleted, Entity: EntityRole, EntityID: id, Before: role, MoveTo: normalName(how.MoveTo)})
	})
}

func (m *Manager) moveUsers(ctx context.Context, tx Tx, actor Actor, role Role, to string) error {
	target, err := m.useRole(ctx, tx, to, "move_to")
	if err != nil {
		return err
	}
	if target.ID == role.ID {
		return invalid(FieldError{Field: "move_to", Rule: RuleChoice})
	}
	actor, err = actor.mayHandOut(ctx, tx, UsersWrite, target.Permissions)
	if err != nil {
		return err
	}
	if target.Name == RoleCEO && !actor.isCEO() {
		return &Error{Kind: ErrForbidden, Reason: ReasonOnlyCEO, Entity: EntityRole, Name: target.Name}
	}
	if err := lockTeam(ctx, tx, Text(target.Name)); err != nil {
		return err
	}
	moved, err := usersWith(ctx, tx, role.Name)
	if err != nil {
		return err
	}
	if err := tx.MoveUsers(ctx, role.Name, target.Name); err != nil {
		return err
	}
	changes := make([]Change, len(moved))
	for i, user := range moved {
		after := user
		after.RoleName = Text(target.Name)
		changes[i] = Change{Action: ActionUpdated, Entity: EntityUser, EntityID: user.ID, Before: user, After: after}
	}
	return m.record(ctx, tx, actor, changes...)
}

// usersWith returns all users that have a role, which is locked.
func usersWith(ctx context.Context, tx Tx, role string) (users []User, err error) {
	for query := (UserQuery{Role: role, Limit: batchSize}); ; query.AfterID = users[len(users)-1].ID {
		part, err := tx.Users(ctx, query)
		if users = append(users, part...); err != nil || len(part) < batchSize {
			return users, err
		}
	}
}

// useRole reads an active role and protects it from deletion until the transaction
// ends. It returns ErrInvalid for the field if the role is unknown or inactive.
func (m *Manager) useRole(ctx context.Context, tx Tx, name, field string) (Role, error) {
	if !possibleName(name) {
		return Role{}, invalid(FieldError{Field: field, Rule: RuleUnknown})
	}
	role, err := tx.UseRole(ctx, name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Role{}, err
	}
	if err != nil || !role.Active {
		return Role{}, invalid(FieldError{Field: field, Rule: RuleUnknown})
	}
	return role, nil
}
