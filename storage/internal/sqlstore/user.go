package sqlstore

import (
	"context"
	"strings"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/internal/work"
)

// A NULL is_active counts as inactive, since access must be granted explicitly.
const userColumns = `u.id, u.email, u.name, u.surname, COALESCE(u.role_name, '') AS role_name, COALESCE(u.is_active, FALSE) AS active`

type userRow struct {
	ID       int64
	Email    string
	Name     string
	Surname  string
	RoleName cims.Text
	Active   bool
}

func (r userRow) user() cims.User { return cims.User(r) }

type accountRow struct {
	userRow
	RoleID      *int64
	DisplayName string
	Description cims.Text
	Permissions string
	RoleActive  bool
	System      bool
	CreatedAt   *time.Time
	UpdatedAt   *time.Time
}

func (r accountRow) account() cims.Account {
	account := cims.Account{User: r.user()}
	if r.RoleID != nil {
		account.Role = cims.Role{
			ID: *r.RoleID, Name: string(r.RoleName), DisplayName: r.DisplayName, Description: r.Description,
			Permissions: parsePermissions(r.Permissions), Active: r.RoleActive, System: r.System,
			CreatedAt: utc(r.CreatedAt), UpdatedAt: utc(r.UpdatedAt),
		}
	}
	return account
}

func (q *queries) accounts() string {
	return "SELECT " + userColumns + `, r.id AS role_id, COALESCE(r.display_name, '') AS display_name,
	COALESCE(r.description, '') AS description, COALESCE(r.permissions, '') AS permissions,
	COALESCE(r.is_active, FALSE) AS role_active, COALESCE(r.is_system, FALSE) AS system, r.created_at, r.updated_at
	FROM ` + q.user + ` AS u LEFT JOIN user_role AS r ON r.name = u.role_name WHERE `
}

// Account implements cims.Reader.
func (q *queries) Account(ctx context.Context, id int64) (cims.Account, error) {
	found, err := queryPreparedOne[accountRow](work.With(ctx, work.SignIn), q, q.accounts()+"u.id = CAST(? AS BIGINT)", id)
	if err != nil {
		return cims.Account{}, err
	}
	if found == nil {
		return cims.Account{}, notFound(cims.EntityUser, id)
	}
	return found.account(), nil
}

// AccountsByEmail implements cims.Reader.
func (q *queries) AccountsByEmail(ctx context.Context, email string) ([]cims.Account, error) {
	ctx = work.With(ctx, work.SignIn)
	list, err := queryPrepared[accountRow](ctx, q, q.accounts()+"u.email = ?", email)
	if err == nil && len(list) == 0 {
		lower := bun.Safe(q.dialect.Lower)
		list, err = rows[accountRow](ctx, q, q.accounts()+"?(u.email) = ?(?) ORDER BY u.id", lower, lower, email)
	}
	return convert(list, accountRow.account), err
}

// Users implements cims.Reader.
func (q *queries) Users(ctx context.Context, query cims.UserQuery) ([]cims.User, error) {
	where := new(conditions)
	where.add("u.id > ?", query.AfterID)
	if query.Role != "" {
		where.add("u.role_name = ?", query.Role)
	}
	if query.Active != nil {
		where.add("COALESCE(u.is_active, FALSE) = ?", *query.Active)
	}
	if query.Prefix != "" {
		starts := func(column string) schema.QueryWithArgs { return q.dialect.StartsWith(column, query.Prefix) }
		where.add("(? OR ? OR ?)", starts("u.name"), starts("u.surname"), starts("u.email"))
	}
	list, err := rows[userRow](ctx, q, "SELECT "+userColumns+" FROM "+q.user+" AS u"+where.text()+" ORDER BY u.id LIMIT ?", append(where.args, query.Limit)...)
	return convert(list, userRow.user), err
}

// CountUsers implements cims.Reader.
func (q *queries) CountUsers(ctx context.Context, role string, limit int) (int, error) {
	return q.count(ctx, q.user, "role_name", role, limit)
}

// MoveUsers implements cims.Tx.
func (q tx) MoveUsers(ctx context.Context, from, to string) error {
	_, err := q.exec(ctx, q.dialect.Names.SQL("UPDATE {user} SET {user.role_name} = ? WHERE {user.role_name} = ?"), to, from)
	return err
}

// InsertUser implements cims.Tx.
func (q tx) InsertUser(ctx context.Context, u cims.User) (int64, error) {
	extra, err := q.userDefaults(ctx, u)
	if err != nil {
		return 0, err
	}
	t := table{name: "user", columns: append([]string{"email", "name", "surname", "role_name", "is_active"}, extra.Columns...)}
	t.add(append([]any{u.Email, u.Name, u.Surname, null(u.RoleName), u.Active}, extra.Values...)...)
	return q.insertID(ctx, t, cims.EntityUser, u.Email)
}

// UpdateUser implements cims.Tx.
func (q tx) UpdateUser(ctx context.Context, u cims.User) error {
	// Only changed columns are written. Triggers of a host and of the older program's
	// enum act on every column that a statement sets.
	before, err := q.Account(ctx, u.ID)
	if err != nil {
		return err
	}
	var sets []string
	var args []any
	set := func(column string, value any, changed bool) {
		if changed {
			sets, args = append(sets, "? = ?"), append(args, q.column("user", column), value)
		}
	}
	set("email", u.Email, u.Email != before.User.Email)
	set("name", u.Name, u.Name != before.User.Name)
	set("surname", u.Surname, u.Surname != before.User.Surname)
	set("role_name", null(u.RoleName), u.RoleName != before.User.RoleName)
	set("is_active", u.Active, u.Active != before.User.Active)
	if u == before.User {
		return nil
	}
	if _, err := q.userDefaults(ctx, u); err != nil {
		return err
	}
	err = q.guarded(ctx, func() error {
		_, err := q.exec(ctx, q.dialect.Names.SQL("UPDATE {user} SET "+strings.Join(sets, ", ")+" WHERE {user.id} = ?"), append(args, u.ID)...)
		return err
	})
	if q.dialect.Classify(err) == Unique {
		return &cims.Error{Kind: cims.ErrExists, Entity: cims.EntityUser, Name: u.Email, Err: err}
	}
	return q.explain(err)
}
