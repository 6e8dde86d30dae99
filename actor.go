package cims

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Actor is the party on whose behalf a method works: a user with the permissions
// of its role, or trusted code. The zero value has no permissions.
type Actor struct {
	user   User
	role   Role
	system string
}

// System returns an actor for trusted code. It has every permission, and its
// changes are recorded without a user id.
//
// The name, such as "web form", is recorded instead. Characters that can't be
// printed and those after the first 100 are dropped. Each name has idempotency
// keys of its own.
func System(name string) Actor {
	runes := []rune(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(name, "")))
	if len(runes) == 0 {
		runes = []rune("system")
	}
	return Actor{system: string(runes[:min(len(runes), 100)])}
}

// ActorByEmail returns the actor for the active user with this email. An exact
// match takes precedence over a match in another case.
//
// It returns ErrUnauthenticated for an unknown or ambiguous email, and
// ErrForbidden if the user or its role is inactive. A match that relies on
// another script, such as the Kelvin sign for k, counts as unknown.
func (m *Manager) ActorByEmail(ctx context.Context, email string) (Actor, error) {
	var check checks
	if check.email(email); len(check) > 0 { // spares the database a look-up that can find nobody
		return Actor{}, &Error{Kind: ErrUnauthenticated, Entity: EntityUser, Name: email}
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

// sameScript reports whether two spellings have ASCII in the same places. Most
// login services take an address with the Kelvin sign or a dotted İ for another
// one than with k or i, so it may belong to another person.
func sameScript(a, b string) bool {
	ascii := func(r rune) rune {
		if r < utf8.RuneSelf {
			return 'a'
		}
		return 'я'
	}
	return strings.Map(ascii, a) == strings.Map(ascii, b)
}

// ActorByID returns the actor for the active user with this id. It returns
// ErrUnauthenticated for an unknown id, and ErrForbidden if the user or its role
// is inactive.
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

// unknown turns ErrNotFound for the acting user into ErrUnauthenticated.
func unknown(err error, id int64) error {
	if errors.Is(err, ErrNotFound) {
		return &Error{Kind: ErrUnauthenticated, Entity: EntityUser, Name: fmt.Sprint(id)}
	}
	return err
}

// User returns the acting user. It is the zero User for System.
func (a Actor) User() User { return a.user }

// SystemName returns the name given to System; it is empty for users.
func (a Actor) SystemName() string { return a.system }

// Permissions returns the actor's permissions, in the order of AllPermissions.
func (a Actor) Permissions() []Permission {
	if a.system != "" {
		return AllPermissions()
	}
	return a.role.Permissions.list()
}

// Can reports whether the actor holds a permission. A plain permission includes
// its ":own" form.
func (a Actor) Can(p Permission) bool {
	return a.system != "" || a.role.Permissions.has(p)
}

func (a Actor) isCEO() bool { return a.system != "" || a.role.Name == RoleCEO }

// id returns the user id that histories record; nil for System.
func (a Actor) id() *int64 {
	if a.system != "" || a.user.ID == 0 {
		return nil
	}
	return new(a.user.ID)
}

// keyScope keeps the idempotency keys of different actors apart.
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

// leadScope is the set of leads that an actor may access: all, or, if own is set,
// those that this user owns.
type leadScope struct{ own *int64 }

// leadScope returns the scope that a permission with an ":own" form gives.
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

// reload reads the actor again under the lock on rights. So if two users take
// each other's rights at the same moment, one of them fails.
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

// mayHandOut checks the actor's present rights: it needs the permission to act,
// and every permission that the changed role or user has before and after.
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
