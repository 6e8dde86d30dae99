package storagetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

var roleTests = []test{
	{"Roles_Defaults", roleDefaults},
	{"Roles_Create", createRole},
	{"Roles_CreateRefusals", createRoleRefusals},
	{"Roles_List", listRoles},
	{"Roles_Update", updateRole},
	{"Roles_UpdateRefusals", updateRoleRefusals},
	{"Roles_CEOKeepsEveryPermission", ceoPermissions},
	{"Roles_InactiveRoleMeansNoAccess", inactiveRole},
	{"Roles_Delete", deleteRole},
	{"Roles_DeleteInUse", deleteRoleInUse},
	{"Roles_DeleteAndMove", deleteRoleAndMove},
	{"Roles_DeleteAndMoveRefusals", deleteRoleAndMoveRefusals},
}

func roleDefaults(t *testing.T, d *database) {
	read := cims.Permissions{cims.StatusesRead, cims.RolesRead, cims.LeadsRead, cims.AnalyticsRead}
	expected := map[string]cims.Permissions{
		"ceo":                cims.AllPermissions(),
		"financial_director": read,
		"member":             read,
		"sales_manager":      {cims.StatusesRead, cims.LeadsReadOwn, cims.LeadsWriteOwn, cims.AnalyticsRead},
		"customer":           {},
	}
	require.Len(t, expected["ceo"], 13)
	roles, err := d.crm.Roles(t.Context(), system, cims.RoleFilter{})
	require.NoError(t, err)
	require.Len(t, roles, len(expected))
	for _, role := range roles {
		require.Contains(t, expected, role.Name)
		require.ElementsMatch(t, expected[role.Name], role.Permissions, role.Name)
		require.True(t, role.Active)
		require.True(t, role.System)
		require.NotEmpty(t, role.DisplayName)
		require.False(t, role.CreatedAt.IsZero())
		role.ID, role.CreatedAt, role.UpdatedAt = 0, time.Time{}, time.Time{}
		require.Contains(t, cims.SystemRoles(), role)
	}
}

func createRole(t *testing.T, d *database) {
	role, err := d.crm.CreateRole(t.Context(), system, cims.NewRole{
		Name: " Катта Clerk ", DisplayName: " Clerk ", Description: "About",
		Permissions: []cims.Permission{cims.AuditRead, cims.StatusesRead, cims.AuditRead, cims.LeadsReadOwn}, Inactive: true,
	})
	require.NoError(t, err)
	require.NotZero(t, role.ID)
	require.False(t, role.CreatedAt.IsZero())
	require.Equal(t, cims.Role{
		ID: role.ID, Name: "катта_clerk", DisplayName: "Clerk", Description: "About",
		Permissions: cims.Permissions{cims.StatusesRead, cims.LeadsReadOwn, cims.AuditRead}, // in order, once
		CreatedAt:   role.CreatedAt, UpdatedAt: role.CreatedAt,
	}, role)
	require.Equal(t, role, d.roleNamed(t, "катта_clerk"))

	role, err = d.crm.CreateRole(t.Context(), system, cims.NewRole{Name: "plain", DisplayName: "Plain"})
	require.NoError(t, err)
	require.True(t, role.Active)
	require.False(t, role.System)
	require.Empty(t, role.Permissions)
	require.NotNil(t, role.Permissions)
}

func createRoleRefusals(t *testing.T, d *database) {
	for _, c := range []struct {
		in     cims.NewRole
		faults []string
	}{
		{cims.NewRole{}, []string{"name:required", "display_name:required"}},
		{cims.NewRole{Name: "a.b", DisplayName: "A"}, []string{"name:name"}},
		{cims.NewRole{Name: "a", DisplayName: "A", Permissions: []cims.Permission{"leads:everything"}}, []string{"permissions:choice"}},
		{cims.NewRole{Name: "a", DisplayName: "A", Permissions: []cims.Permission{cims.LeadsRead, ""}}, []string{"permissions:choice"}},
		{
			cims.NewRole{Name: strings.Repeat("a", 101), DisplayName: strings.Repeat("a", 256), Description: strings.Repeat("a", 2001)},
			[]string{"name:length", "display_name:length", "description:length"},
		},
	} {
		_, err := d.crm.CreateRole(t.Context(), system, c.in)
		requireInvalid(t, err, c.faults...)
	}
	for _, name := range []string{"ceo", " CEO", "Sales Manager"} {
		_, err := d.crm.CreateRole(t.Context(), system, cims.NewRole{Name: name, DisplayName: "A"})
		require.ErrorIs(t, err, cims.ErrExists, name)
	}
	roles, err := d.Roles(t.Context())
	require.NoError(t, err)
	require.Len(t, roles, 5)
}

// listRoles: by code points whatever the database's collation, so "Z" comes
// before "a" and both before "Ё", "А" and "я".
func listRoles(t *testing.T, d *database) {
	for _, in := range []cims.NewRole{
		{Name: "n1", DisplayName: "яна"},
		{Name: "n2", DisplayName: "a tie"},
		{Name: "n3", DisplayName: "Zet", Inactive: true},
		{Name: "n4", DisplayName: "Аня"},
		{Name: "n5", DisplayName: "Ёлка"},
		{Name: "n6", DisplayName: "a tie"},
		{Name: "n7", DisplayName: "_"},
		{Name: "n8", DisplayName: "- dash"},
	} {
		_, err := d.crm.CreateRole(t.Context(), system, in)
		require.NoError(t, err)
	}
	list := func(active *bool) (own []string) {
		roles, err := d.crm.Roles(t.Context(), system, cims.RoleFilter{Active: active})
		require.NoError(t, err)
		require.True(t, slices.IsSortedFunc(roles, func(a, b cims.Role) int { return strings.Compare(a.DisplayName, b.DisplayName) }))
		for _, role := range roles {
			if !role.System {
				own = append(own, role.Name)
			}
		}
		return own
	}
	require.Equal(t, []string{"n8", "n3", "n7", "n2", "n6", "n5", "n4", "n1"}, list(nil))
	require.Equal(t, []string{"n8", "n7", "n2", "n6", "n5", "n4", "n1"}, list(new(true)))
	require.Equal(t, []string{"n3"}, list(new(false)))
}

func updateRole(t *testing.T, d *database) {
	role, err := d.crm.CreateRole(t.Context(), system, cims.NewRole{
		Name: "a", DisplayName: "A", Description: "About", Permissions: []cims.Permission{cims.LeadsRead},
	})
	require.NoError(t, err)
	update := func(update cims.RoleUpdate) {
		t.Helper()
		before := role.UpdatedAt
		got, err := d.crm.UpdateRole(t.Context(), system, role.ID, update)
		require.NoError(t, err)
		require.True(t, got.UpdatedAt.After(before))
		role.UpdatedAt = got.UpdatedAt
		require.Equal(t, role, got)
		require.Equal(t, role, d.roleNamed(t, "a"))
	}
	role.DisplayName = "B"
	update(cims.RoleUpdate{DisplayName: new("B")})
	role.Description = ""
	update(cims.RoleUpdate{Description: new("")})
	role.Permissions = cims.Permissions{cims.StatusesRead, cims.UsersRead}
	update(cims.RoleUpdate{Permissions: &[]cims.Permission{cims.UsersRead, cims.StatusesRead, cims.UsersRead}})
	role.Active = false
	update(cims.RoleUpdate{Active: new(false)})
	role.Active, role.Permissions = true, cims.Permissions{}
	update(cims.RoleUpdate{Active: new(true), Permissions: &[]cims.Permission{}})

	same, err := d.crm.UpdateRole(t.Context(), system, role.ID, cims.RoleUpdate{
		DisplayName: new("B"), Description: new(""), Permissions: &[]cims.Permission{}, Active: new(true),
	})
	require.NoError(t, err)
	require.Equal(t, role, same)
	require.Equal(t, role, d.roleNamed(t, "a"))

	member := d.roleNamed(t, "member")
	got, err := d.crm.UpdateRole(t.Context(), system, member.ID, cims.RoleUpdate{
		DisplayName: new("Xodim"), Permissions: &[]cims.Permission{cims.AuditRead},
	})
	require.NoError(t, err, "a system role can be edited")
	require.Equal(t, cims.Permissions{cims.AuditRead}, got.Permissions)
}

func updateRoleRefusals(t *testing.T, d *database) {
	role, err := d.crm.CreateRole(t.Context(), system, cims.NewRole{Name: "a", DisplayName: "A"})
	require.NoError(t, err)
	_, err = d.crm.UpdateRole(t.Context(), system, role.ID, cims.RoleUpdate{})
	requireInvalid(t, err, "body:no_field")
	_, err = d.crm.UpdateRole(t.Context(), system, role.ID, cims.RoleUpdate{DisplayName: new(""), Permissions: &[]cims.Permission{"x"}})
	requireInvalid(t, err, "display_name:required", "permissions:choice")
	_, err = d.crm.UpdateRole(t.Context(), system, role.ID+1000, cims.RoleUpdate{DisplayName: new("B")})
	require.ErrorIs(t, err, cims.ErrNotFound)
	for _, name := range []string{"ceo", "sales_manager"} {
		entry := d.roleNamed(t, name)
		_, err := d.crm.UpdateRole(t.Context(), system, entry.ID, cims.RoleUpdate{Active: new(false), DisplayName: new("X")})
		requireForbidden(t, err, cims.ReasonSystemEntry)
		require.Equal(t, entry, d.roleNamed(t, name))
	}
	for _, name := range []string{"financial_director", "member", "customer"} {
		got, err := d.crm.UpdateRole(t.Context(), system, d.roleNamed(t, name).ID, cims.RoleUpdate{Active: new(false)})
		require.NoError(t, err)
		require.Equal(t, got, d.roleNamed(t, name))
		_, err = d.crm.CreateUser(t.Context(), system, newUser(name, "Somebody"))
		requireInvalid(t, err, "role_name:unknown")
		requireForbidden(t, d.crm.DeleteRole(t.Context(), system, got.ID, cims.Deletion{}), cims.ReasonSystemEntry)
	}
}

func ceoPermissions(t *testing.T, d *database) {
	boss := d.actor(t, cims.RoleCEO, "Boss")
	ceo := d.roleNamed(t, cims.RoleCEO)
	for _, actor := range []cims.Actor{boss, system} {
		for _, permissions := range [][]cims.Permission{{}, cims.AllPermissions()[1:], {cims.RolesWrite}} {
			_, err := d.crm.UpdateRole(t.Context(), actor, ceo.ID, cims.RoleUpdate{Permissions: &permissions})
			requireForbidden(t, err, cims.ReasonCEOPermissions)
		}
	}
	shuffled := cims.AllPermissions()
	slices.Reverse(shuffled)
	got, err := d.crm.UpdateRole(t.Context(), boss, ceo.ID, cims.RoleUpdate{Permissions: &shuffled, DisplayName: new("Rahbar")})
	require.NoError(t, err, "the same ones in another order take nothing away")
	require.Equal(t, "Rahbar", got.DisplayName)
	require.Equal(t, cims.Permissions(cims.AllPermissions()), d.roleNamed(t, cims.RoleCEO).Permissions)
}

func inactiveRole(t *testing.T, d *database) {
	actor := d.holder(t, "clerk", cims.StatusesRead)
	role := d.roleNamed(t, "clerk")
	_, err := d.crm.UpdateRole(t.Context(), system, role.ID, cims.RoleUpdate{Active: new(false)})
	require.NoError(t, err)
	_, err = d.crm.ActorByID(t.Context(), actor.User().ID)
	requireForbidden(t, err, cims.ReasonInactiveRole)
	_, err = d.crm.CreateUser(t.Context(), system, newUser("clerk", "New"))
	requireInvalid(t, err, "role_name:unknown")
	// Users in it keep it and can be edited.
	_, err = d.crm.UpdateUser(t.Context(), system, actor.User().ID, cims.UserUpdate{Name: new("Renamed")})
	require.NoError(t, err)
	_, err = d.crm.UpdateRole(t.Context(), system, role.ID, cims.RoleUpdate{Active: new(true)})
	require.NoError(t, err)
	_, err = d.crm.ActorByID(t.Context(), actor.User().ID)
	require.NoError(t, err)
}

func deleteRole(t *testing.T, d *database) {
	role, err := d.crm.CreateRole(t.Context(), system, cims.NewRole{Name: "a", DisplayName: "A"})
	require.NoError(t, err)
	require.NoError(t, d.crm.DeleteRole(t.Context(), system, role.ID, cims.Deletion{}))
	roles, err := d.Roles(t.Context())
	require.NoError(t, err)
	require.Len(t, roles, 5)
	require.ErrorIs(t, d.crm.DeleteRole(t.Context(), system, role.ID, cims.Deletion{}), cims.ErrNotFound)
	for _, entry := range roles {
		for _, how := range []cims.Deletion{{}, {MoveTo: "member"}} {
			requireForbidden(t, d.crm.DeleteRole(t.Context(), system, entry.ID, how), cims.ReasonSystemEntry)
		}
	}
}

func deleteRoleInUse(t *testing.T, d *database) {
	role, err := d.crm.CreateRole(t.Context(), system, cims.NewRole{Name: "used", DisplayName: "Used"})
	require.NoError(t, err)
	d.user(t, "used", "Active")
	inactive := d.user(t, "used", "Inactive")
	_, err = d.crm.UpdateUser(t.Context(), system, inactive.ID, cims.UserUpdate{Active: new(false)})
	require.NoError(t, err)
	requireInUse(t, d.crm.DeleteRole(t.Context(), system, role.ID, cims.Deletion{}), 2, false)
	require.Equal(t, role, d.roleNamed(t, "used"))
	account, err := d.Account(t.Context(), inactive.ID)
	require.NoError(t, err)
	require.Equal(t, "used", string(account.User.RoleName))
}

func deleteRoleAndMove(t *testing.T, d *database) {
	role, err := d.crm.CreateRole(t.Context(), system, cims.NewRole{Name: "leaving", DisplayName: "Leaving"})
	require.NoError(t, err)
	first, other := d.user(t, "leaving", "First"), d.user(t, "member", "Other")
	require.NoError(t, d.crm.DeleteRole(t.Context(), system, role.ID, cims.Deletion{MoveTo: " Sales Manager"}))
	for id, name := range map[int64]string{first.ID: "sales_manager", other.ID: "member"} {
		account, err := d.Account(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, name, string(account.User.RoleName))
		require.Equal(t, name, account.Role.Name)
	}
	require.Equal(t, first.ID, ownerID(d.lead(t, "Aziza")), "who was moved to it is in the rotation")
	roles, err := d.Roles(t.Context())
	require.NoError(t, err)
	require.Len(t, roles, 5)
}

func deleteRoleAndMoveRefusals(t *testing.T, d *database) {
	role, err := d.crm.CreateRole(t.Context(), system, cims.NewRole{Name: "leaving", DisplayName: "Leaving"})
	require.NoError(t, err)
	_, err = d.crm.CreateRole(t.Context(), system, cims.NewRole{Name: "inactive", DisplayName: "I", Inactive: true})
	require.NoError(t, err)
	user := d.user(t, "leaving", "User")
	for target, fault := range map[string]string{
		"inactive": "move_to:unknown", "nowhere": "move_to:unknown", "leaving": "move_to:choice", "a\x00": "move_to:unknown",
	} {
		requireInvalid(t, d.crm.DeleteRole(t.Context(), system, role.ID, cims.Deletion{MoveTo: target}), fault)
	}
	account, err := d.Account(t.Context(), user.ID)
	require.NoError(t, err)
	require.Equal(t, "leaving", string(account.User.RoleName))
}
