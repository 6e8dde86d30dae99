package cims

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Actor is who asks for something: a user with the permissions of its role, or
// trusted code. The zero value may do nothing.
type Actor struct {
	user   User
	role   Role
	system string
}

// System is an actor for trusted code, without a user behind it. It may do
// everything; what it does is recorded with no user id. Why names the code in
// up to 100 printable characters (others are left out), such as "web form", and
// keeps its idempotency keys apart from others'.
func System(why string) Actor {
	runes := []rune(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(why, "")))
	if len(runes) == 0 {
		runes = []rune("system")
	}
	return Actor{system: string(runes[:min(len(runes), 100)])}
}

// ActorByEmail finds the active user with this email, as identified by a
// token. An exact match wins over one in another case. It returns
// ErrUnauthenticated for an unknown or ambiguous email, also where letters of
// another script are the other case (the Kelvin sign that of k), and ErrForbidden
// where the user or its role is inactive.
func (m *Manager) ActorByEmail(ctx context.Context, email string) (Actor, error) {
	var check checks
	if check.email(email); check.err() != nil { // no user has such an email, and no database need be asked
		return Actor{}, &Error{Kind: ErrUnauthenticated, Entity: EntityUser, Err: check.err()}
	}
	accounts, err := m.storage.AccountsByEmail(ctx, email)
	if err != nil {
		return Actor{}, err
	}
	if len(accounts) != 1 || !sameScript(accounts[0].User.Email, email) {
		return Actor{}, &Error{Kind: ErrUnauthenticated, Entity: EntityUser, Name: email}
	}
	return actor(accounts[0])
}

// sameScript tells whether two spellings have ASCII in the same places. To most
// logins Kelvin's K and the dotted İ make another address than k and i do,
// which somebody else may have.
func sameScript(a, b string) bool {
	ascii := func(r rune) rune {
		if r < utf8.RuneSelf {
			return 'a'
		}
		return 'я'
	}
	return strings.Map(ascii, a) == strings.Map(ascii, b)
}

// ActorByID is ActorByEmail for a user's id.
func (m *Manager) ActorByID(ctx context.Context, id int64) (Actor, error) {
	account, err := m.storage.Account(ctx, id)
	if err != nil {
		return Actor{}, unknown(err, id)
	}
	return actor(account)
}

func actor(account Account) (Actor, error) {
	user, role := account.User, account.Role
	switch {
	case !user.Active:
		return Actor{}, &Error{Kind: ErrForbidden, Reason: ReasonInactiveUser, Entity: EntityUser, Name: user.Email}
	case !role.Active:
		return Actor{}, &Error{Kind: ErrForbidden, Reason: ReasonInactiveRole, Entity: EntityRole, Name: string(user.RoleName)}
	}
	return Actor{user: user, role: role}, nil
}

// unknown makes an identity without a user out of a user that was not found.
func unknown(err error, id int64) error {
	if errors.Is(err, ErrNotFound) {
		return &Error{Kind: ErrUnauthenticated, Entity: EntityUser, Name: fmt.Sprint(id)}
	}
	return err
}

// User is the acting user; the zero User for System.
func (a Actor) User() User { return a.user }

// SystemName returns the name given to System; it is empty for users.
func (a Actor) SystemName() string { return a.system }

// Permissions lists what the actor may do, in the order of AllPermissions.
func (a Actor) Permissions() []Permission {
	if a.system != "" {
		return AllPermissions()
	}
	return a.role.Permissions.list()
}

// Can tells whether the actor holds a permission. A plain permission includes
// its ":own" form.
func (a Actor) Can(p Permission) bool {
	return a.system != "" || a.role.Permissions.has(p)
}

func (a Actor) isCEO() bool { return a.system != "" || a.role.Name == RoleCEO }

// id is what history records as "by whom": nil for System.
func (a Actor) id() *int64 {
	if a.system != "" || a.user.ID == 0 {
		return nil
	}
	return new(a.user.ID)
}

// scope keeps idempotency keys of different actors apart.
func (a Actor) keyScope() string {
	if a.system != "" {
		return "system:" + a.system
	}
	return fmt.Sprintf("user:%d", a.user.ID)
}

func (a Actor) need(permissions ...Permission) error {
	for _, p := range permissions {
		if !a.Can(p) {
			return &Error{Kind: ErrForbidden, Reason: ReasonPermission, Permission: p}
		}
	}
	return nil
}

// reach says which leads an actor may touch: all, or only those of one manager.
type leadScope struct{ own *int64 }

// leads is the reach that a permission with an ":own" form gives.
func (a Actor) leadScope(all, own Permission) (leadScope, error) {
	switch {
	case a.Can(all):
		return leadScope{}, nil
	case a.Can(own):
		return leadScope{own: a.id()}, nil
	default:
		return leadScope{}, a.need(all)
	}
}

func (s leadScope) covers(c Customer) bool {
	return s.own == nil || (c.SalesManager != nil && c.SalesManager.ID == *s.own)
}

// reload reads the actor again inside a transaction under the rotation's lock, so
// that of two people who take each other's rights at the same moment one fails.
func (a Actor) reload(ctx context.Context, tx Tx) (Actor, error) {
	if a.system != "" {
		return a, nil
	}
	account, err := tx.Account(ctx, a.user.ID)
	if err != nil {
		return Actor{}, unknown(err, a.user.ID)
	}
	return actor(account)
}

// mayHandOut checks, on the actor's rights of this moment, that it has the
// permission to act and all that the touched role or user has before and after.
func (a Actor) mayHandOut(ctx context.Context, tx Tx, act Permission, touched ...Permissions) (Actor, error) {
	a, err := a.reload(ctx, tx)
	if err != nil {
		return a, err
	}
	if err := a.need(act); err != nil {
		return a, err
	}
	for _, ps := range touched {
		if !Permissions(a.Permissions()).covers(ps) {
			return a, &Error{Kind: ErrForbidden, Reason: ReasonExceedsOwn}
		}
	}
	return a, nil
}
