package cims

import (
	"context"
	"iter"
	"slices"
)

// User is a person who works with the CRM. The host logs users in and stores their
// other data.
type User struct {
	ID       int64  `json:"id"`
	Email    string `json:"email"`
	Name     string `json:"name"`
	Surname  string `json:"surname"`
	RoleName Text   `json:"role_name"` // empty if another program set none
	Active   bool   `json:"is_active"`
}

// Person is the part of a user that is shown with a lead.
type Person struct {
	ID      int64  `json:"id"`
	Email   string `json:"email"`
	Name    string `json:"name"`
	Surname string `json:"surname"`
}

// NewUser is the input of CreateUser. All fields except Inactive are required.
type NewUser struct {
	Email    string // with an @, up to 255 characters; unique regardless of case
	Name     string // 1 to 255 characters
	Surname  string // 1 to 255 characters
	RoleName string
	Inactive bool
}

// UserUpdate is the input of UpdateUser. A nil field is left unchanged.
type UserUpdate struct {
	Email    *string
	Name     *string
	Surname  *string
	RoleName *string
	Active   *bool

	// Leads decides about the leads of a user that is not an active sales
	// manager after the update. It is KeepLeads or RedistributeLeads; empty
	// means KeepLeads.
	Leads LeadsChoice
}

// LeadsChoice is the choice about the leads of a sales manager who leaves.
type LeadsChoice string

// Choices of UserUpdate.Leads.
const (
	KeepLeads         LeadsChoice = "keep"         // the user still owns them
	RedistributeLeads LeadsChoice = "redistribute" // the rotation assigns them
)

// UserFilter selects users. A zero field matches all.
type UserFilter struct {
	Role   string
	Active *bool
	Prefix string // of name, surname or email, in any case
}

// Users returns a page of users, ordered by id. It needs users:read. It returns
// ErrInvalid for a malformed page request or an unknown role.
func (m *Manager) Users(ctx context.Context, actor Actor, filter UserFilter, page PageRequest) (Page[User], error) {
	if err := actor.need(UsersRead); err != nil {
		return Page[User]{}, err
	}
	var check checks
	query := UserQuery{Role: normalName(filter.Role), Active: filter.Active, Prefix: check.line("q", filter.Prefix, 0, 255)}
	cursor := check.page(page, 'u', 1)
	if err := check.err(); err != nil {
		return Page[User]{}, err
	}
	if cursor != nil {
		query.AfterID = cursor[0]
	}
	if query.Role != "" {
		roles, err := m.storage.Roles(ctx)
		if err != nil {
			return Page[User]{}, err
		}
		if !slices.ContainsFunc(roles, func(r Role) bool { return r.Name == query.Role }) {
			return Page[User]{}, invalid(FieldError{Field: "role", Rule: RuleUnknown})
		}
	}
	return paginate(page, func(limit int) ([]User, error) {
		query.Limit = limit
		return m.storage.Users(ctx, query)
	}, func(u User) string { return encodeCursor('u', u.ID) })
}

// AllUsers returns an iterator over all users that Users lists. It works as
// AllCustomers does.
func (m *Manager) AllUsers(ctx context.Context, actor Actor, filter UserFilter) iter.Seq2[User, error] {
	return allPages(ctx, func(page PageRequest) (Page[User], error) { return m.Users(ctx, actor, filter, page) })
}

// CreateUser adds a user. It needs users:write and every permission of the user's
// role. Only a CEO can create a CEO. It returns ErrInvalid for invalid input, and
// ErrExists if the email is taken.
func (m *Manager) CreateUser(ctx context.Context, actor Actor, in NewUser) (User, error) {
	if err := actor.need(UsersWrite); err != nil {
		return User{}, err
	}
	var check checks
	user := User{
		Email:    check.email(in.Email),
		Name:     check.line("name", in.Name, 1, 255),
		Surname:  check.line("surname", in.Surname, 1, 255),
		RoleName: Text(check.roleName(in.RoleName)),
		Active:   !in.Inactive,
	}
	if err := check.err(); err != nil {
		return User{}, err
	}
	err := m.updateRights(ctx, func(ctx context.Context, tx Tx) error {
		if err := m.mayChangeUser(ctx, tx, actor, Account{}, user); err != nil {
			return err
		}
		if err := lockTeam(ctx, tx, user.RoleName); err != nil {
			return err
		}
		var err error
		if user.ID, err = tx.InsertUser(ctx, user); err != nil {
			return err
		}
		return m.record(ctx, tx, actor, Change{Action: ActionCreated, Entity: EntityUser, EntityID: user.ID, After: user})
	})
	if err != nil {
		return User{}, err
	}
	m.lookForWaiting()
	return user, nil
}

// UpdateUser changes the fields that are set in update. If they all have their value
// already, it changes nothing. After UpdateUser returns, a user that is no longer an
// active sales manager gets no leads from the rotation.
//
// UpdateUser needs users:write and every permission that the user's role has before
// and after. RedistributeLeads also needs leads:assign. Only a CEO can change a CEO
// or an email.
//
// UpdateUser returns ErrNotFound for an unknown user, ErrInvalid for invalid input,
// and ErrExists if the email is taken. It returns ErrLastCEO if no active CEO would
// remain.
func (m *Manager) UpdateUser(ctx context.Context, actor Actor, id int64, update UserUpdate) (User, error) {
	if err := actor.need(UsersWrite); err != nil {
		return User{}, err
	}
	if update.Leads == RedistributeLeads {
		if err := actor.need(LeadsAssign); err != nil {
			return User{}, err
		}
	}
	var check checks
	if update == (UserUpdate{Leads: update.Leads}) {
		check.add("body", RuleNoField)
	}
	if !slices.Contains([]LeadsChoice{"", KeepLeads, RedistributeLeads}, update.Leads) {
		check.add("leads", RuleChoice)
	}
	update.Email = checked(update.Email, check.email)
	update.Name = checked(update.Name, func(text string) string { return check.line("name", text, 1, 255) })
	update.Surname = checked(update.Surname, func(text string) string { return check.line("surname", text, 1, 255) })
	update.RoleName = checked(update.RoleName, check.roleName)
	if err := check.err(); err != nil {
		return User{}, err
	}
	var user User
	err := m.updateRights(ctx, func(ctx context.Context, tx Tx) error {
		before, err := tx.Account(ctx, id)
		if err != nil {
			return err
		}
		user = before.User
		user.Email = valueOr(update.Email, user.Email)
		user.Name = valueOr(update.Name, user.Name)
		user.Surname = valueOr(update.Surname, user.Surname)
		user.RoleName = textOr(update.RoleName, user.RoleName)
		user.Active = valueOr(update.Active, user.Active)
		if err := m.mayChangeUser(ctx, tx, actor, before, user); err != nil {
			return err
		}
		team := []Text{before.User.RoleName, user.RoleName}
		if update.Leads == RedistributeLeads {
			team = append(team, RoleSalesManager)
		}
		if err := lockTeam(ctx, tx, team...); err != nil {
			return err
		}
		if user != before.User {
			if err := tx.UpdateUser(ctx, user); err != nil {
				return err
			}
			if err := m.record(ctx, tx, actor, Change{Action: ActionUpdated, Entity: EntityUser, EntityID: id, Before: before.User, After: user}); err != nil {
				return err
			}
		}
		if update.Leads != RedistributeLeads {
			return nil
		}
		return m.redistributeLeadsOf(ctx, tx, actor, user)
	})
	if err != nil {
		return User{}, err
	}
	m.lookForWaiting()
	return user, nil
}

// mayChangeUser contains all rules for creating and changing users. For a new user,
// before is zero.
func (m *Manager) mayChangeUser(ctx context.Context, tx Tx, actor Actor, before Account, after User) error {
	role := before.Role
	if after.RoleName != before.User.RoleName {
		var err error
		if role, err = m.useRole(ctx, tx, string(after.RoleName), "role_name"); err != nil {
			return err
		}
	}
	actor, err := actor.mayHandOut(ctx, tx, UsersWrite, before.Role.Permissions, role.Permissions)
	if err != nil {
		return err
	}
	wasCEO, isCEO := before.User.RoleName == RoleCEO, after.RoleName == RoleCEO
	newEmail := after.Email != before.User.Email
	if (wasCEO || isCEO || (newEmail && before.User.ID != 0)) && !actor.isCEO() {
		return &Error{Kind: ErrForbidden, Reason: ReasonOnlyCEO, Entity: EntityUser, Name: before.User.Email}
	}
	if newEmail {
		if err := emailIsFree(ctx, tx, after); err != nil {
			return err
		}
	}
	if wasCEO && before.User.Active && !(isCEO && after.Active) {
		return anotherCEO(ctx, tx, before.User)
	}
	return nil
}

func emailIsFree(ctx context.Context, tx Tx, user User) error {
	taken, err := tx.AccountsByEmail(ctx, user.Email)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(taken, func(a Account) bool { return a.User.ID != user.ID }) {
		return &Error{Kind: ErrExists, Entity: EntityUser, Name: user.Email}
	}
	return nil
}

// anotherCEO checks that there is another active CEO.
func anotherCEO(ctx context.Context, tx Tx, user User) error {
	ceos, err := tx.Users(ctx, UserQuery{Role: RoleCEO, Active: new(true), Limit: 2})
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(ceos, func(u User) bool { return u.ID != user.ID }) {
		return &Error{Kind: ErrLastCEO, Entity: EntityUser, Name: user.Email}
	}
	return nil
}
