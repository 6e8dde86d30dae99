package sqlstore

import (
	"context"
	"strings"

	"github.com/cimskit/cims"
)

const roleColumns = entryColumns + ", permissions"

type roleRow struct {
	entryRow
	Permissions string // separated by spaces
}

func (r roleRow) role() cims.Role {
	return cims.Role{
		ID: r.ID, Name: r.Name, DisplayName: r.DisplayName, Description: r.Description,
		Permissions: parsePermissions(r.Permissions), Active: r.Active, System: r.System,
		CreatedAt: utc(r.CreatedAt), UpdatedAt: utc(r.UpdatedAt),
	}
}

func parsePermissions(text string) cims.Permissions {
	return convert(strings.Fields(text), func(name string) cims.Permission { return cims.Permission(name) })
}

func formatPermissions(permissions cims.Permissions) string {
	return strings.Join(convert(permissions, func(p cims.Permission) string { return string(p) }), " ")
}

// Roles implements cims.Reader.
func (q *queries) Roles(ctx context.Context) ([]cims.Role, error) {
	list, err := queryPrepared[roleRow](ctx, q, "SELECT "+roleColumns+" FROM user_role")
	return convert(list, roleRow.role), err
}

// LockRights implements cims.Tx. The lock is the row of the CEO's role, which always
// exists. Checks of foreign keys to that row don't wait for the lock.
func (q tx) LockRights(ctx context.Context) error {
	lock := "SELECT 1 FROM user_role WHERE name = ? FOR NO KEY UPDATE"
	if q.dialect.ForUpdate == "" { // any write locks the whole database
		lock = "UPDATE user_role SET name = name WHERE name = ? AND FALSE"
	}
	_, err := q.exec(ctx, lock, cims.RoleCEO)
	return err
}

// LockRole implements cims.Tx.
func (q tx) LockRole(ctx context.Context, id int64) (cims.Role, error) {
	return q.role(ctx, id, "id = ?"+q.dialect.ForUpdate)
}

// UseRole implements cims.Tx.
func (q tx) UseRole(ctx context.Context, name string) (cims.Role, error) {
	return q.role(ctx, name, "name = ?"+q.dialect.ForKeyShare)
}

func (q *queries) role(ctx context.Context, key any, condition string) (cims.Role, error) {
	found, err := row[roleRow](ctx, q, "SELECT "+roleColumns+" FROM user_role WHERE "+condition, key)
	if err != nil {
		return cims.Role{}, err
	}
	if found == nil {
		return cims.Role{}, notFound(cims.EntityRole, key)
	}
	return found.role(), nil
}

// InsertRole implements cims.Tx.
func (q tx) InsertRole(ctx context.Context, r cims.Role) (int64, error) {
	t := table{name: "user_role", columns: []string{
		"name", "display_name", "description", "permissions", "is_active", "is_system", "created_at", "updated_at",
	}}
	t.add(r.Name, r.DisplayName, null(r.Description), formatPermissions(r.Permissions), r.Active, r.System, r.CreatedAt, r.UpdatedAt)
	return q.insertID(ctx, t, cims.EntityRole, r.Name)
}

// UpdateRole implements cims.Tx.
func (q tx) UpdateRole(ctx context.Context, r cims.Role) error {
	_, err := q.exec(ctx, "UPDATE user_role SET display_name = ?, description = ?, permissions = ?, is_active = ?, updated_at = ? WHERE id = ?",
		r.DisplayName, null(r.Description), formatPermissions(r.Permissions), r.Active, r.UpdatedAt, r.ID)
	return err
}

// DeleteRole implements cims.Tx.
func (q tx) DeleteRole(ctx context.Context, id int64) error {
	return q.delete(ctx, "DELETE FROM user_role WHERE id = ?", id, cims.EntityRole)
}
