package storagetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

var userTests = []test{
	{"Users_Create", createUser},
	{"Users_CreateRefusals", createUserRefusals},
	{"Users_EmailsAreUniqueInAnyCase", userEmails},
	{"Users_List", listUsers},
	{"Users_Update", updateUser},
	{"Users_UpdateRefusals", updateUserRefusals},
	{"Users_LastCEO", lastCEO},
	{"Users_DeactivationKeepsLeads", deactivateKeep},
	{"Users_DeactivationRedistributesLeads", deactivateRedistribute},
	{"Users_RedistributionToNobody", redistributeToNobody},
	{"Users_RedistributionOfMany", redistributeMany},
	{"Users_RedistributionAfterwards", redistributeAfterwards},
	{"Users_AnotherRoleLeavesTheRotation", roleChange},
	{"Actors", actors},
}

func createUser(t *testing.T, d *database) {
	user, err := d.crm.CreateUser(t.Context(), system, cims.NewUser{
		Email: " Aziza@Example.com ", Name: " Aziza ", Surname: " Karimova ", RoleName: " Sales Manager ", Inactive: true,
	})
	require.NoError(t, err)
	require.NotZero(t, user.ID)
	require.Equal(t, cims.User{
		ID: user.ID, Email: "Aziza@Example.com", Name: "Aziza", Surname: "Karimova", RoleName: "sales_manager",
	}, user)
	account, err := d.Account(t.Context(), user.ID)
	require.NoError(t, err)
	require.Equal(t, user, account.User)
	require.Equal(t, "sales_manager", account.Role.Name)
	require.True(t, d.user(t, "member", "Active").Active)
}

func createUserRefusals(t *testing.T, d *database) {
	good := cims.NewUser{Email: "a@b", Name: "A", Surname: "B", RoleName: "member"}
	with := func(change func(*cims.NewUser)) cims.NewUser {
		in := good
		change(&in)
		return in
	}
	for _, c := range []struct {
		in     cims.NewUser
		faults []string
	}{
		{cims.NewUser{}, []string{"email:required", "name:required", "surname:required", "role_name:required"}},
		{with(func(u *cims.NewUser) { u.Email = "nobody" }), []string{"email:email"}},
		{with(func(u *cims.NewUser) { u.Email = "@b" }), []string{"email:email"}},
		{with(func(u *cims.NewUser) { u.Email = "a@" }), []string{"email:email"}},
		{with(func(u *cims.NewUser) { u.Email = "a b@c" }), []string{"email:email"}},
		{with(func(u *cims.NewUser) { u.Email = "a\x00@c" }), []string{"email:text"}},
		{with(func(u *cims.NewUser) { u.Email = "a\u200b@c" }), []string{"email:email"}},
		{with(func(u *cims.NewUser) { u.Email = "\u202ea@c" }), []string{"email:email"}},
		{with(func(u *cims.NewUser) { u.Email = "a@c\ufe0f" }), []string{"email:email"}},
		{with(func(u *cims.NewUser) { u.Email = "a\u3164@c" }), []string{"email:email"}},
		{with(func(u *cims.NewUser) { u.Email = strings.Repeat("a", 254) + "@b" }), []string{"email:length"}},
		{with(func(u *cims.NewUser) { u.Name = " " }), []string{"name:required"}},
		{with(func(u *cims.NewUser) { u.Name = strings.Repeat("a", 256) }), []string{"name:length"}},
		{with(func(u *cims.NewUser) { u.Surname = "a\nb" }), []string{"surname:text"}},
		{with(func(u *cims.NewUser) { u.RoleName = "nobody" }), []string{"role_name:unknown"}},
		{with(func(u *cims.NewUser) { u.RoleName = "a\x00" }), []string{"role_name:unknown"}},
	} {
		_, err := d.crm.CreateUser(t.Context(), system, c.in)
		requireInvalid(t, err, c.faults...)
	}
	users, err := d.Users(t.Context(), cims.UserQuery{Limit: 5})
	require.NoError(t, err)
	require.Empty(t, users)
}

func userEmails(t *testing.T, d *database) {
	create := func(email string) (cims.User, error) {
		return d.crm.CreateUser(t.Context(), system, cims.NewUser{Email: email, Name: "A", Surname: "B", RoleName: "member"})
	}
	first, err := create("Aziza@Example.com")
	require.NoError(t, err)
	second, err := create("Олга@пример.рф")
	require.NoError(t, err)
	for _, email := range []string{"Aziza@Example.com", "aziza@example.com", " AZIZA@EXAMPLE.COM ", "ОЛГА@пример.рф"} {
		_, err := create(email)
		require.ErrorIs(t, err, cims.ErrExists, email)
	}
	_, err = d.crm.UpdateUser(t.Context(), system, second.ID, cims.UserUpdate{Email: new("AZIZA@example.com")})
	require.ErrorIs(t, err, cims.ErrExists)
	// The case of its email may change.
	got, err := d.crm.UpdateUser(t.Context(), system, first.ID, cims.UserUpdate{Email: new("aziza@example.COM")})
	require.NoError(t, err)
	require.Equal(t, "aziza@example.COM", got.Email)

	// Eight at once: one of them.
	errs := together(8, func(i int) error {
		_, err := create([]string{"same@example.com", "Same@example.com"}[i%2])
		return err
	})
	created := 0
	for _, err := range errs {
		if err == nil {
			created++
		} else {
			require.ErrorIs(t, err, cims.ErrExists)
		}
	}
	require.Equal(t, 1, created)
}

func listUsers(t *testing.T, d *database) {
	var members []int64
	for i := range 7 {
		members = append(members, d.user(t, "member", fmt.Sprintf("Member %d", i)).ID)
	}
	boss := d.user(t, cims.RoleCEO, "Boss")
	_, err := d.crm.UpdateUser(t.Context(), system, members[3], cims.UserUpdate{Active: new(false)})
	require.NoError(t, err)
	list := func(filter cims.UserFilter, limit int) (found []int64, pages int) {
		page := cims.PageRequest{Limit: limit}
		for {
			part, err := d.crm.Users(t.Context(), system, filter, page)
			require.NoError(t, err)
			found = append(found, ids(part.Items, userID)...)
			pages++
			if part.Next == "" {
				return found, pages
			}
			require.Len(t, part.Items, limit)
			page.Cursor = part.Next
		}
	}
	all := slices.Concat(members[:7], []int64{boss.ID})
	for limit, expected := range map[int]int{0: 1, 1: 8, 3: 3, 4: 2, 7: 2, 8: 1, 200: 1} {
		found, pages := list(cims.UserFilter{}, limit)
		require.Equal(t, all, found, "pages of %d", limit)
		require.Equal(t, expected, pages, "pages of %d: no empty one at the end", limit)
	}
	found, _ := list(cims.UserFilter{Role: "ceo"}, 1)
	require.Equal(t, []int64{boss.ID}, found)
	found, _ = list(cims.UserFilter{Active: new(false)}, 1)
	require.Equal(t, members[3:4], found)
	found, _ = list(cims.UserFilter{Prefix: " mEmBeR 5 "}, 1)
	require.Equal(t, members[5:6], found)
	found, _ = list(cims.UserFilter{Prefix: "member", Role: "member", Active: new(true)}, 2)
	require.Equal(t, append(members[:3:3], members[4:]...), found)

	for _, c := range []struct {
		filter cims.UserFilter
		page   cims.PageRequest
		faults []string
	}{
		{cims.UserFilter{Role: "nobody"}, cims.PageRequest{}, []string{"role:unknown"}},
		{cims.UserFilter{Prefix: strings.Repeat("a", 256)}, cims.PageRequest{}, []string{"q:length"}},
		{cims.UserFilter{Prefix: "a\x00b"}, cims.PageRequest{}, []string{"q:text"}},
		{cims.UserFilter{}, cims.PageRequest{Limit: -1}, []string{"limit:range"}},
		{cims.UserFilter{}, cims.PageRequest{Limit: 201}, []string{"limit:range"}},
		{cims.UserFilter{Prefix: "\xff"}, cims.PageRequest{Limit: 201, Cursor: "!"}, []string{"q:text", "limit:range", "cursor:format"}},
	} {
		_, err := d.crm.Users(t.Context(), system, c.filter, c.page)
		requireInvalid(t, err, c.faults...)
	}
}

func updateUser(t *testing.T, d *database) {
	user := d.user(t, "member", "Aziza")
	update := func(update cims.UserUpdate) {
		t.Helper()
		got, err := d.crm.UpdateUser(t.Context(), system, user.ID, update)
		require.NoError(t, err)
		require.Equal(t, user, got)
		account, err := d.Account(t.Context(), user.ID)
		require.NoError(t, err)
		require.Equal(t, user, account.User)
		require.Equal(t, string(user.RoleName), account.Role.Name)
	}
	user.Name = "Nargiza"
	update(cims.UserUpdate{Name: new(" Nargiza ")})
	user.Surname = "Umarova"
	update(cims.UserUpdate{Surname: new("Umarova")})
	user.Email = "new@example.com"
	update(cims.UserUpdate{Email: new("new@example.com")})
	user.RoleName = "financial_director"
	update(cims.UserUpdate{RoleName: new("Financial Director")})
	user.Active = false
	update(cims.UserUpdate{Active: new(false)})
	update(cims.UserUpdate{ // the same again
		Name: new("Nargiza"), Surname: new("Umarova"), Email: new("new@example.com"), RoleName: new("financial_director"), Active: new(false),
	})
	user.Active = true
	update(cims.UserUpdate{Active: new(true), Leads: cims.KeepLeads})
}

func updateUserRefusals(t *testing.T, d *database) {
	user := d.user(t, "member", "Aziza")
	for _, c := range []struct {
		in     cims.UserUpdate
		faults []string
	}{
		{cims.UserUpdate{}, []string{"body:no_field"}},
		{cims.UserUpdate{Leads: cims.KeepLeads}, []string{"body:no_field"}},
		{cims.UserUpdate{Name: new(""), Surname: new("\x00"), Email: new("a"), RoleName: new(" ")}, []string{
			"name:required", "surname:text", "email:email", "role_name:required",
		}},
		{cims.UserUpdate{Email: new("aziza@example.com\u2060")}, []string{"email:email"}},
		{cims.UserUpdate{Active: new(false), Leads: "sell"}, []string{"leads:choice"}},
		{cims.UserUpdate{RoleName: new("nobody")}, []string{"role_name:unknown"}},
	} {
		_, err := d.crm.UpdateUser(t.Context(), system, user.ID, c.in)
		requireInvalid(t, err, c.faults...)
	}
	_, err := d.crm.UpdateUser(t.Context(), system, user.ID+1000, cims.UserUpdate{Name: new("A")})
	require.ErrorIs(t, err, cims.ErrNotFound)
	account, err := d.Account(t.Context(), user.ID)
	require.NoError(t, err)
	require.Equal(t, user, account.User)

	seller := d.sellers(t, "Anvar")[0]
	_, err = d.crm.UpdateUser(t.Context(), system, seller.ID, cims.UserUpdate{Name: new("A"), Leads: cims.RedistributeLeads})
	requireInvalid(t, err, "leads:choice") // it is a sales manager still
	account, err = d.Account(t.Context(), seller.ID)
	require.NoError(t, err)
	require.Equal(t, seller, account.User, "nothing of it is done")
}

func lastCEO(t *testing.T, d *database) {
	// Before there is any active one, an inactive one can be edited, and made active.
	retired, err := d.crm.CreateUser(t.Context(), system, cims.NewUser{
		Email: "retired@example.com", Name: "R", Surname: "R", RoleName: cims.RoleCEO, Inactive: true,
	})
	require.NoError(t, err)
	_, err = d.crm.UpdateUser(t.Context(), system, retired.ID, cims.UserUpdate{Name: new("Retired"), RoleName: new("member")})
	require.NoError(t, err)

	first := d.user(t, cims.RoleCEO, "First")
	actor := d.actorOf(t, first.ID)
	for _, update := range []cims.UserUpdate{
		{Active: new(false)}, {RoleName: new("member")}, {Active: new(false), RoleName: new("sales_manager")},
	} {
		for _, by := range []cims.Actor{actor, system} {
			_, err := d.crm.UpdateUser(t.Context(), by, first.ID, update)
			require.ErrorIs(t, err, cims.ErrLastCEO)
		}
	}
	_, err = d.crm.UpdateUser(t.Context(), actor, first.ID, cims.UserUpdate{Name: new("Renamed"), Active: new(true)})
	require.NoError(t, err, "the last one can be edited otherwise")

	// An inactive one is no help.
	second, err := d.crm.CreateUser(t.Context(), actor, cims.NewUser{
		Email: "second@example.com", Name: "S", Surname: "S", RoleName: cims.RoleCEO, Inactive: true,
	})
	require.NoError(t, err)
	_, err = d.crm.UpdateUser(t.Context(), actor, first.ID, cims.UserUpdate{Active: new(false)})
	require.ErrorIs(t, err, cims.ErrLastCEO)
	// An inactive one is none that could be missed.
	_, err = d.crm.UpdateUser(t.Context(), actor, second.ID, cims.UserUpdate{RoleName: new("member")})
	require.NoError(t, err)
	_, err = d.crm.UpdateUser(t.Context(), actor, second.ID, cims.UserUpdate{RoleName: new(cims.RoleCEO), Active: new(true)})
	require.NoError(t, err)
	_, err = d.crm.UpdateUser(t.Context(), actor, first.ID, cims.UserUpdate{Active: new(false)})
	require.NoError(t, err, "there is another one")
	_, err = d.crm.UpdateUser(t.Context(), system, second.ID, cims.UserUpdate{RoleName: new("member")})
	require.ErrorIs(t, err, cims.ErrLastCEO)
}

func deactivateKeep(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	leads := []cims.Customer{d.lead(t, "1"), d.lead(t, "2"), d.lead(t, "3")}
	for _, choice := range []cims.LeadsChoice{"", cims.KeepLeads} {
		_, err := d.crm.UpdateUser(t.Context(), system, sellers[0].ID, cims.UserUpdate{Active: new(false), Leads: choice})
		require.NoError(t, err)
		for _, lead := range leads {
			require.Equal(t, lead, d.customer(t, lead.ID))
			require.Len(t, d.history(t, lead.ID), 2)
		}
	}
	require.Equal(t, map[int64]int{sellers[1].ID: 1}, d.leadsOf(t))
	for range 3 {
		require.Equal(t, sellers[1].ID, ownerID(d.lead(t, "More")))
	}
	require.Len(t, d.customers(t, cims.CustomerFilter{SalesManagerID: &sellers[0].ID}), 2, "they are still to be found")
}

func deactivateRedistribute(t *testing.T, d *database) {
	boss := d.actor(t, cims.RoleCEO, "Boss")
	sellers := d.sellers(t, "Anvar", "Botir", "Vali")
	gone := sellers[0].ID
	for range 12 {
		d.lead(t, "Lead")
	}
	extra := d.bulk(t, 2, "contacted")
	d.own(t, gone, extra...)
	lost := d.customers(t, cims.CustomerFilter{SalesManagerID: &gone})
	require.Len(t, lost, 6)

	_, err := d.crm.UpdateUser(t.Context(), boss, gone, cims.UserUpdate{Active: new(false), Leads: cims.RedistributeLeads})
	require.NoError(t, err)

	require.Equal(t, map[int64]int{sellers[1].ID: 7, sellers[2].ID: 7}, d.leadsOf(t))
	require.Empty(t, d.customers(t, cims.CustomerFilter{SalesManagerID: &gone}))
	for _, lead := range lost {
		now := d.customer(t, lead.ID)
		require.NotNil(t, now.SalesManager)
		require.Equal(t, now.SalesManager.ID, now.Assignment.SalesManagerID)
		require.Nil(t, now.Assignment.AssignedBy, "the rotation did it")
		require.True(t, now.UpdatedAt.After(lead.UpdatedAt))
		events := d.history(t, lead.ID)
		last := events[len(events)-1]
		require.Equal(t, cims.Event{
			ID: last.ID, At: now.UpdatedAt, Kind: cims.AssignmentEvent, FromManager: &gone, ToManager: &now.SalesManager.ID,
			By: new(boss.User().ID), Cause: cims.CauseRedistributed, Owner: last.Owner,
		}, last)
	}
	// A redistributed lead takes a turn: the next two go to one each.
	next := []int64{ownerID(d.lead(t, "Next")), ownerID(d.lead(t, "Next"))}
	require.ElementsMatch(t, []int64{sellers[1].ID, sellers[2].ID}, next)
}

func redistributeToNobody(t *testing.T, d *database) {
	seller := d.sellers(t, "Anvar")[0]
	leads := []cims.Customer{d.lead(t, "1"), d.lead(t, "2")}
	_, err := d.crm.UpdateUser(t.Context(), system, seller.ID, cims.UserUpdate{RoleName: new("member"), Leads: cims.RedistributeLeads})
	require.NoError(t, err)
	for _, lead := range leads {
		now := d.customer(t, lead.ID)
		require.Nil(t, now.SalesManager)
		require.Nil(t, now.Assignment)
		events := d.history(t, lead.ID)
		last := events[len(events)-1]
		require.Equal(t, cims.CauseRedistributed, last.Cause)
		require.Equal(t, seller.ID, value(last.FromManager))
		require.Nil(t, last.ToManager)
	}
	other := d.sellers(t, "Botir")[0]
	eventually(t, "the leads that lost their manager wait, and get the next one", func() bool { return d.leadsOf(t)[other.ID] == 2 })
}

// redistributeMany: more than are handed out under one statement, to managers
// of different weight.
func redistributeMany(t *testing.T, d *database) {
	sellers := d.sellers(t, "Leaver", "Botir", "Vali")
	gone := sellers[0].ID
	_, err := d.crm.SetSalesManager(t.Context(), system, sellers[2].ID, cims.SalesManagerUpdate{Weight: new(2)})
	require.NoError(t, err)
	const n = 1203
	d.bulk(t, n, "contacted")
	for part := range slices.Chunk(d.customers(t, cims.CustomerFilter{Unassigned: true}), 500) {
		changes := make([]cims.OwnerChange, len(part))
		for i, lead := range part {
			changes[i] = cims.OwnerChange{
				CustomerID: lead.ID, CustomerCreatedAt: lead.CreatedAt, To: &gone, Cause: cims.CauseManual, At: d.clock.now(),
			}
		}
		d.changeOwners(t, changes...)
	}
	_, err = d.crm.UpdateUser(t.Context(), system, gone, cims.UserUpdate{Active: new(false), Leads: cims.RedistributeLeads})
	require.NoError(t, err)
	require.Equal(t, map[int64]int{sellers[1].ID: n / 3, sellers[2].ID: 2 * n / 3}, d.leadsOf(t))
	require.Empty(t, d.customers(t, cims.CustomerFilter{SalesManagerID: &gone}))
	require.Len(t, d.customers(t, cims.CustomerFilter{SalesManagerID: &sellers[2].ID}), 2*n/3)
}

// redistributeAfterwards: leads that were kept at first can be handed out later.
func redistributeAfterwards(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	for range 4 {
		d.lead(t, "Lead")
	}
	_, err := d.crm.UpdateUser(t.Context(), system, sellers[0].ID, cims.UserUpdate{Active: new(false)})
	require.NoError(t, err)
	require.Equal(t, map[int64]int{sellers[1].ID: 2}, d.leadsOf(t))
	_, err = d.crm.UpdateUser(t.Context(), system, sellers[0].ID, cims.UserUpdate{Active: new(false), Leads: cims.RedistributeLeads})
	require.NoError(t, err)
	require.Equal(t, map[int64]int{sellers[1].ID: 4}, d.leadsOf(t))
}

func roleChange(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	d.lead(t, "1")
	_, err := d.crm.UpdateUser(t.Context(), system, sellers[0].ID, cims.UserUpdate{RoleName: new("member")})
	require.NoError(t, err)
	for range 3 {
		require.Equal(t, sellers[1].ID, ownerID(d.lead(t, "Lead")))
	}
	require.Len(t, d.leadsOf(t), 1)
	_, err = d.crm.UpdateUser(t.Context(), system, sellers[0].ID, cims.UserUpdate{RoleName: new(cims.RoleSalesManager)})
	require.NoError(t, err)
	require.Equal(t, map[int64]int{sellers[0].ID: 1, sellers[1].ID: 3}, d.leadsOf(t), "it has its lead still")
	require.Equal(t, sellers[0].ID, ownerID(d.lead(t, "Lead")))
	require.Equal(t, sellers[1].ID, ownerID(d.lead(t, "Lead")), "what it missed is not made up for")
}

func actors(t *testing.T, d *database) {
	insert := func(user cims.User) cims.User {
		d.update(t, func(ctx context.Context, tx cims.Tx) error {
			var err error
			user.ID, err = tx.InsertUser(ctx, user)
			return err
		})
		return user
	}
	member := d.user(t, "member", "Member")
	exact := insert(cims.User{Email: "two@example.com", Name: "T", Surname: "T", RoleName: cims.RoleCEO, Active: true})
	insert(cims.User{Email: "TWO@example.com", Name: "T", Surname: "T", RoleName: "member", Active: true})
	inactive := insert(cims.User{Email: "inactive@example.com", Name: "I", Surname: "I", RoleName: "member"})
	noRole := insert(cims.User{Email: "norole@example.com", Name: "N", Surname: "N", Active: true})

	for email, user := range map[string]cims.User{
		member.Email: member, "MEMBER@Example.com": member, "two@example.com": exact,
	} {
		actor, err := d.crm.ActorByEmail(t.Context(), email)
		require.NoError(t, err, email)
		require.Equal(t, user, actor.User())
	}
	for _, email := range []string{"", "nobody@example.com", "Two@example.com", "%", "a\x00b", "a\xffb"} {
		_, err := d.crm.ActorByEmail(t.Context(), email)
		require.ErrorIs(t, err, cims.ErrUnauthenticated, "%q", email)
	}
	for user, reason := range map[cims.User]cims.Reason{inactive: cims.ReasonInactiveUser, noRole: cims.ReasonInactiveRole} {
		_, err := d.crm.ActorByEmail(t.Context(), user.Email)
		requireForbidden(t, err, reason)
		_, err = d.crm.ActorByID(t.Context(), user.ID)
		requireForbidden(t, err, reason)
	}
	_, err := d.crm.ActorByID(t.Context(), noRole.ID+1000)
	require.ErrorIs(t, err, cims.ErrUnauthenticated)

	actor := d.actorOf(t, member.ID)
	require.Equal(t, member, actor.User())
	require.Equal(t, []cims.Permission{cims.StatusesRead, cims.RolesRead, cims.LeadsRead, cims.AnalyticsRead}, actor.Permissions())
	require.True(t, actor.Can(cims.LeadsRead))
	require.True(t, actor.Can(cims.LeadsReadOwn), "the plain one includes its own")
	require.False(t, actor.Can(cims.LeadsWriteOwn))
	require.Equal(t, cims.AllPermissions(), d.actorOf(t, exact.ID).Permissions())
	require.Equal(t, cims.AllPermissions(), system.Permissions())
	require.Zero(t, system.User())
	var nobody cims.Actor
	require.Empty(t, nobody.Permissions())
	for _, permission := range cims.AllPermissions() {
		require.True(t, system.Can(permission))
		require.False(t, nobody.Can(permission))
	}
}
