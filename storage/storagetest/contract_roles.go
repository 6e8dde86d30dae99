package storagetest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

func contractRoles(t *testing.T, d *database) {
	at := noon.Add(123_456 * time.Microsecond)
	role := cims.Role{
		Name: "clerk", DisplayName: "Clerk", Description: "Does it", Active: true,
		Permissions: cims.Permissions{cims.StatusesRead, cims.LeadsReadOwn, cims.AuditRead}, CreatedAt: at, UpdatedAt: at,
	}
	plain := cims.Role{Name: "plain", DisplayName: "Plain", Permissions: cims.Permissions{}, CreatedAt: at, UpdatedAt: at}
	var refused error
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		var err error
		if role.ID, err = tx.InsertRole(ctx, role); err != nil {
			return err
		}
		_, refused = tx.InsertRole(ctx, cims.Role{Name: "clerk", DisplayName: "Again", CreatedAt: at, UpdatedAt: at})
		plain.ID, err = tx.InsertRole(ctx, plain)
		return err
	})
	require.ErrorIs(t, refused, cims.ErrExists)
	require.NotEqual(t, role.ID, plain.ID)
	require.Equal(t, role, d.roleNamed(t, "clerk"))
	got := d.roleNamed(t, "plain")
	require.Empty(t, got.Permissions)
	got.Permissions = plain.Permissions
	require.Equal(t, plain, got)

	var locked, used cims.Role
	var noID, noName error
	changed := role
	changed.DisplayName, changed.Description, changed.Active = "Clerks", "", false
	changed.Permissions, changed.UpdatedAt = cims.Permissions{cims.RolesRead}, at.Add(time.Microsecond)
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		_, noID = tx.LockRole(ctx, plain.ID+1000)
		_, noName = tx.UseRole(ctx, "nowhere")
		var err error
		if used, err = tx.UseRole(ctx, "clerk"); err != nil {
			return err
		}
		if locked, err = tx.LockRole(ctx, role.ID); err != nil {
			return err
		}
		return tx.UpdateRole(ctx, changed)
	})
	require.ErrorIs(t, noID, cims.ErrNotFound)
	require.ErrorIs(t, noName, cims.ErrNotFound)
	require.Equal(t, role, used)
	require.Equal(t, role, locked)
	require.Equal(t, changed, d.roleNamed(t, "clerk"))

	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		if _, err := tx.LockRole(ctx, role.ID); err != nil {
			return err
		}
		return tx.DeleteRole(ctx, role.ID)
	})
	roles, err := d.Roles(t.Context())
	require.NoError(t, err)
	require.Len(t, roles, 6)
}

func contractRoleInUse(t *testing.T, d *database) {
	create := func(name string) cims.Role {
		role, err := d.crm.CreateRole(t.Context(), system, cims.NewRole{Name: name, DisplayName: name})
		require.NoError(t, err)
		return role
	}
	used, free := create("used"), create("free")
	user := d.user(t, "used", "Anvar")
	user, err := d.crm.UpdateUser(t.Context(), system, user.ID, cims.UserUpdate{Active: new(false)})
	require.NoError(t, err)
	var refused error
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		for _, role := range []cims.Role{used, free} {
			if _, err := tx.LockRole(ctx, role.ID); err != nil {
				return err
			}
		}
		refused = tx.DeleteRole(ctx, used.ID)
		return tx.DeleteRole(ctx, free.ID)
	})
	require.ErrorIs(t, refused, cims.ErrInUse, "also by an inactive user")
	account, err := d.Account(t.Context(), user.ID)
	require.NoError(t, err)
	require.Equal(t, used.ID, account.Role.ID)
	roles, err := d.Roles(t.Context())
	require.NoError(t, err)
	require.Len(t, roles, 6)
}

func contractMoveUsers(t *testing.T, d *database) {
	one, two := d.user(t, "member", "One"), d.user(t, "member", "Two")
	other := d.user(t, "customer", "Other")
	two, err := d.crm.UpdateUser(t.Context(), system, two.ID, cims.UserUpdate{Active: new(false)})
	require.NoError(t, err)
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		if _, err := tx.LockRotation(ctx); err != nil {
			return err
		}
		return tx.MoveUsers(ctx, "member", cims.RoleSalesManager)
	})
	one.RoleName, two.RoleName = cims.RoleSalesManager, cims.RoleSalesManager
	users, err := d.Users(t.Context(), cims.UserQuery{Limit: 10})
	require.NoError(t, err)
	require.Equal(t, []cims.User{one, two, other}, users, "active or not, and nobody else")
	rotation, err := d.Rotation(t.Context())
	require.NoError(t, err)
	require.Len(t, rotation.Members, 1)
}
