package storagetest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

func contractAccounts(t *testing.T, d *database) {
	user := cims.User{Email: "a@example.com", Name: "A", Surname: "Aov", RoleName: "member", Active: true}
	none := cims.User{Email: "none@example.com", Name: "N", Surname: "Nov"}
	var taken, noUser error
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		var err error
		if user.ID, err = tx.InsertUser(ctx, user); err != nil {
			return err
		}
		_, taken = tx.InsertUser(ctx, cims.User{Email: "a@example.com", Name: "B", Surname: "B", RoleName: "member"})
		none.ID, err = tx.InsertUser(ctx, none)
		return err
	})
	require.ErrorIs(t, taken, cims.ErrExists)
	require.NotEqual(t, user.ID, none.ID)
	account, err := d.Account(t.Context(), user.ID)
	require.NoError(t, err)
	require.Equal(t, cims.Account{User: user, Role: d.roleNamed(t, "member")}, account)
	account, err = d.Account(t.Context(), none.ID)
	require.NoError(t, err)
	require.Equal(t, none, account.User)
	require.Zero(t, account.Role, "a user without a role has the zero Role")
	_, noUser = d.Account(t.Context(), none.ID+1000)
	require.ErrorIs(t, noUser, cims.ErrNotFound)

	changed := cims.User{ID: user.ID, Email: "A@example.com", Name: "AA", Surname: "AAov", RoleName: "customer", Active: false}
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		stolen := none
		stolen.Email = user.Email
		taken = tx.UpdateUser(ctx, stolen)
		if err := tx.UpdateUser(ctx, changed); err != nil {
			return err
		}
		return tx.UpdateUser(ctx, changed) // its own email is not in its way
	})
	require.ErrorIs(t, taken, cims.ErrExists)
	account, err = d.Account(t.Context(), user.ID)
	require.NoError(t, err)
	require.Equal(t, cims.Account{User: changed, Role: d.roleNamed(t, "customer")}, account)
	account, err = d.Account(t.Context(), none.ID)
	require.NoError(t, err)
	require.Equal(t, none, account.User)
}

func contractAccountsByEmail(t *testing.T, d *database) {
	insert := func(emails ...string) {
		d.update(t, func(ctx context.Context, tx cims.Tx) error {
			for _, email := range emails {
				if _, err := tx.InsertUser(ctx, cims.User{Email: email, Name: "A", Surname: "A", RoleName: "member"}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	insert("Aziza@Example.com", "aziza@example.com", "one@example.com", "Ольга@пример.рф", "a_b@example.com", "axb@example.com")
	for email, found := range map[string][]string{
		"aziza@example.com":  {"aziza@example.com"}, // exact wins
		"Aziza@Example.com":  {"Aziza@Example.com"},
		"AZIZA@example.com":  {"Aziza@Example.com", "aziza@example.com"}, // ambiguous
		"ONE@Example.Com":    {"one@example.com"},
		"ОЛЬГА@ПРИМЕР.РФ":    {"Ольга@пример.рф"},
		"A_B@example.com":    {"a_b@example.com"}, // no pattern
		"%@example.com":      {},
		"nobody@example.com": {},
		"\tone@example.com":  {},
		"":                   {},
	} {
		accounts, err := d.AccountsByEmail(t.Context(), email)
		require.NoError(t, err, email)
		emails := []string{}
		for _, account := range accounts {
			emails = append(emails, account.User.Email)
			require.Equal(t, "member", account.Role.Name)
			require.NotZero(t, account.Role.ID)
		}
		require.ElementsMatch(t, found, emails, email)
	}
}

func contractUsers(t *testing.T, d *database) {
	var users []cims.User
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		users = []cims.User{
			{Email: "anvar@example.com", Name: "Anvar", Surname: "Karimov", RoleName: "member", Active: true},
			{Email: "botir@mail.uz", Name: "Botir", Surname: "Anvarov", RoleName: "member"},
			{Email: "olga@example.com", Name: "Олга", Surname: "Иванова", RoleName: "ceo", Active: true},
			{Email: "x_y@example.com", Name: "100%", Surname: "O'Neil", RoleName: "ceo", Active: true},
		}
		for i := range users {
			var err error
			if users[i].ID, err = tx.InsertUser(ctx, users[i]); err != nil {
				return err
			}
		}
		return nil
	})
	for _, c := range []struct {
		why   string
		query cims.UserQuery
		found []int // places in users
	}{
		{"all, by id", cims.UserQuery{}, []int{0, 1, 2, 3}},
		{"limit", cims.UserQuery{Limit: 2}, []int{0, 1}},
		{"after", cims.UserQuery{AfterID: users[1].ID}, []int{2, 3}},
		{"after, limit", cims.UserQuery{AfterID: users[0].ID, Limit: 1}, []int{1}},
		{"after the last", cims.UserQuery{AfterID: users[3].ID}, nil},
		{"role", cims.UserQuery{Role: "ceo"}, []int{2, 3}},
		{"unknown role", cims.UserQuery{Role: "nobody"}, nil},
		{"active", cims.UserQuery{Active: new(true)}, []int{0, 2, 3}},
		{"inactive", cims.UserQuery{Active: new(false)}, []int{1}},
		{"role and inactive", cims.UserQuery{Role: "ceo", Active: new(false)}, nil},
		{"start of name or surname", cims.UserQuery{Prefix: "anVAR"}, []int{0, 1}},
		{"start of email", cims.UserQuery{Prefix: "botir@M"}, []int{1}},
		{"not the middle", cims.UserQuery{Prefix: "nvar"}, nil},
		{"Cyrillic in another case", cims.UserQuery{Prefix: "ол"}, []int{2}},
		{"Cyrillic surname in another case", cims.UserQuery{Prefix: "иВАН"}, []int{2}},
		{"% is a letter", cims.UserQuery{Prefix: "%"}, nil},
		{"% is found", cims.UserQuery{Prefix: "100%"}, []int{3}},
		{"_ is a letter", cims.UserQuery{Prefix: "x_"}, []int{3}},
		{"_ stands for nothing else", cims.UserQuery{Prefix: "_nvar"}, nil},
		{"a quote", cims.UserQuery{Prefix: "o'n"}, []int{3}},
		{"all together", cims.UserQuery{Prefix: "a", Role: "member", Active: new(true), AfterID: users[0].ID - 1}, []int{0}},
		{"all together, after", cims.UserQuery{Prefix: "a", Role: "member", AfterID: users[0].ID}, []int{1}},
	} {
		if c.query.Limit == 0 {
			c.query.Limit = 100
		}
		expected := []cims.User{}
		for _, i := range c.found {
			expected = append(expected, users[i])
		}
		got, err := d.Users(t.Context(), c.query)
		require.NoError(t, err, c.why)
		require.Equal(t, expected, append([]cims.User{}, got...), c.why)
	}
}
