package storagetest

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

// textTests put texts into every field that a database might take for
// something else, or return otherwise.
var textTests = []test{
	{"Texts_ComeBackAsTheyWere", textsComeBack},
	{"Texts_AreFoundByTheirStart", textsAreFound},
	{"Texts_OfFullLength", longTexts},
}

var texts = []string{
	"Ҳалима Ўткирова", "Ольга", "شركة", "顧客", "👩🏽‍💼 lead 🎉", "e\u0301 é", "ı İ ß ẞ Ǆ",
	`'; DROP TABLE customer; --`, `"quoted"`, "`ticks`", `back\slash`, `\' \" \\ \n \x00`, `E'\\x41'`,
	"?", "??", "a ? b ?0 ?1", "$1", "$1 $2 $$x$$", "@p1 :name ::text", "%", "100%", "%s %d %!", "_", "__x_",
	"{0} {{x}}", "NULL", "0", "-1", "true", "1e400", "0x1F", "\\N", "2024-02-29", "<b>&amp;</b>", "[]", "{}", "x'ff'",
}

func textsComeBack(t *testing.T, d *database) {
	for i, text := range texts {
		status := cims.Status{
			Name: text, DisplayName: text, Description: cims.Text(text), Color: "#fff", CreatedAt: noon, UpdatedAt: noon, Active: true,
		}
		role := cims.Role{
			Name: text, DisplayName: text, Description: cims.Text(text), Permissions: cims.Permissions{}, CreatedAt: noon, UpdatedAt: noon, Active: true,
		}
		user := cims.User{Email: text, Name: text, Surname: text, RoleName: cims.Text(text)}
		customer := cims.Customer{
			FullName: text, PhoneNumber: cims.Text(text), Platform: cims.Text(text), Username: cims.Text(text), Notes: cims.Text(text), StatusName: text,
			CreatedAt: noon, UpdatedAt: noon,
		}
		key := cims.Key{Scope: text, Key: text, Fingerprint: text, Result: []byte(text), At: recently}
		d.update(t, func(ctx context.Context, tx cims.Tx) error {
			var err error
			if status.ID, err = tx.InsertStatus(ctx, status); err != nil {
				return err
			}
			if role.ID, err = tx.InsertRole(ctx, role); err != nil {
				return err
			}
			if user.ID, err = tx.InsertUser(ctx, user); err != nil {
				return err
			}
			inserted, err := takeIn(ctx, tx, []cims.Customer{customer})
			if err != nil {
				return err
			}
			customer.ID = inserted[0]
			return tx.ChangeStatuses(ctx, []cims.StatusChange{{CustomerID: customer.ID, From: text, To: text, Cause: cims.CauseManual, Reason: text, At: customer.UpdatedAt}})
		})
		require.Nil(t, d.claim(t, key, recently))

		require.Equal(t, status, d.statusNamed(t, text))
		account, err := d.Account(t.Context(), user.ID)
		require.NoError(t, err)
		if len(account.Role.Permissions) == 0 {
			account.Role.Permissions = role.Permissions
		}
		require.Equal(t, cims.Account{User: user, Role: role}, account)
		byEmail, err := d.AccountsByEmail(t.Context(), text)
		require.NoError(t, err)
		require.Len(t, byEmail, 1, text)
		require.Equal(t, user, byEmail[0].User)
		require.Equal(t, customer, d.customer(t, customer.ID))
		events := d.history(t, customer.ID)
		require.Len(t, events, 2)
		require.Equal(t, text, events[0].ToStatus)
		require.Equal(t, text, events[1].Reason)
		require.Equal(t, &key, d.claim(t, key, recently))

		for _, filter := range []cims.CustomerQuery{{Status: text, Limit: 9}} {
			list, err := d.Customers(t.Context(), filter)
			require.NoError(t, err)
			require.Equal(t, []cims.Customer{customer}, list, text)
		}
		users, err := d.Users(t.Context(), cims.UserQuery{Role: text, Limit: 9})
		require.NoError(t, err)
		require.Equal(t, []cims.User{user}, users, text)
		count, err := d.CountCustomers(t.Context(), text, 9)
		require.NoError(t, err)
		require.Equal(t, 1, count)
		count, err = d.CountUsers(t.Context(), text, 9)
		require.NoError(t, err)
		require.Equal(t, 1, count)
		got, err := d.Conversion(t.Context(), cims.ConversionQuery{Last: 1000, Target: text, Mode: cims.Reached})
		require.NoError(t, err)
		require.Equal(t, cims.Conversion{Total: i + 1, Count: 1}, got)

		// To another and back, by name.
		d.update(t, func(ctx context.Context, tx cims.Tx) error {
			if _, err := tx.UseStatus(ctx, text); err != nil {
				return err
			}
			if _, err := tx.UseRole(ctx, text); err != nil {
				return err
			}
			if err := tx.MoveUsers(ctx, text, "member"); err != nil {
				return err
			}
			if err := tx.ChangeStatuses(ctx, []cims.StatusChange{{
				CustomerID: customer.ID, From: text, To: "finished", Cause: cims.CauseMoved, Reason: text, At: noon,
			}}); err != nil {
				return err
			}
			if _, err := tx.LockStatus(ctx, status.ID); err != nil {
				return err
			}
			if err := tx.DeleteStatus(ctx, status.ID); err != nil {
				return err
			}
			if _, err := tx.LockRole(ctx, role.ID); err != nil {
				return err
			}
			return tx.DeleteRole(ctx, role.ID)
		})
		require.Equal(t, "finished", d.customer(t, customer.ID).StatusName)
	}
}

func textsAreFound(t *testing.T, d *database) {
	for _, text := range texts {
		name := d.insert(t, cims.Customer{FullName: text + " name"})[0]
		number := d.insert(t, cims.Customer{FullName: "-", PhoneNumber: cims.Text(text + " number")})[0]
		var user int64
		d.update(t, func(ctx context.Context, tx cims.Tx) error {
			var err error
			user, err = tx.InsertUser(ctx, cims.User{Email: text, Name: "-", Surname: text + " surname", RoleName: "member"})
			return err
		})
		find := func(prefix string) []int64 {
			customers, err := d.Customers(t.Context(), cims.CustomerQuery{Prefix: prefix, Limit: 100})
			require.NoError(t, err)
			return ids(customers, customerID)
		}
		require.Equal(t, []int64{name}, find(text+" name"), "%q", text)
		require.Equal(t, []int64{number}, find(text+" num"), "%q", text)
		users, err := d.Users(t.Context(), cims.UserQuery{Prefix: text + " sur", Limit: 100})
		require.NoError(t, err)
		require.Equal(t, []int64{user}, ids(users, userID), "%q", text)
	}
	// Any case, of every script that has one.
	for stored, sought := range map[string]string{
		"Ҳалима А": "ҳАЛИМА а", "Ольга Я": "оЛЬГА я", "Σοφία": "σΟΦ", "Élodie": "éL", "Łukasz": "łU", "Ömer": "öM",
	} {
		lead := d.insert(t, cims.Customer{FullName: stored})[0]
		customers, err := d.Customers(t.Context(), cims.CustomerQuery{Prefix: sought, Limit: 100})
		require.NoError(t, err)
		require.Equal(t, []int64{lead}, ids(customers, customerID), "%q by %q", stored, sought)
	}
}

// longTexts: the longest allowed texts fit, in letters that take four bytes.
func longTexts(t *testing.T, d *database) {
	long := func(n int) string { return strings.Repeat("𐐀", n) }
	status, err := d.crm.CreateStatus(t.Context(), system, cims.NewStatus{
		Name: strings.Repeat("ў", 100), DisplayName: long(255), Description: long(2000),
	})
	require.NoError(t, err)
	require.Equal(t, status, d.statusNamed(t, status.Name))
	role, err := d.crm.CreateRole(t.Context(), system, cims.NewRole{
		Name: strings.Repeat("ў", 100), DisplayName: long(255), Description: long(2000), Permissions: cims.AllPermissions(),
	})
	require.NoError(t, err)
	require.Equal(t, role, d.roleNamed(t, role.Name))
	user, err := d.crm.CreateUser(t.Context(), system, cims.NewUser{
		Email: long(250) + "@a.uz", Name: long(255), Surname: long(255), RoleName: role.Name,
	})
	require.NoError(t, err)
	account, err := d.Account(t.Context(), user.ID)
	require.NoError(t, err)
	require.Equal(t, user, account.User)
	customer, err := d.crm.AddCustomer(t.Context(), system, cims.NewCustomer{
		FullName: long(500), PhoneNumber: long(50), Platform: long(255), Username: long(255), Notes: long(10_000),
		StatusName: status.Name, IdempotencyKey: strings.Repeat("k", 255),
	})
	require.NoError(t, err)
	require.Equal(t, customer, d.customer(t, customer.ID))
	_, err = d.crm.SetStatus(t.Context(), system, customer.ID, "finished", long(2000))
	require.NoError(t, err)
	events := d.history(t, customer.ID)
	require.Equal(t, long(2000), events[len(events)-1].Reason)
	require.Equal(t, status.Name, events[0].ToStatus)
	found, err := d.Customers(t.Context(), cims.CustomerQuery{Prefix: long(255), Limit: 5})
	require.NoError(t, err)
	require.Len(t, found, 1)
}
