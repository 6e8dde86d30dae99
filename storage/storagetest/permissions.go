package storagetest

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

var permissionTests = []test{
	{"Permissions_EveryOperation", everyOperation},
	{"Permissions_DefaultRoles", defaultRoleOperations},
	{"Permissions_SecondPermissions", secondPermissions},
	{"Permissions_HandOut", handOut},
	{"Permissions_OnlyCEO", onlyCEO},
	{"Permissions_TakenAwayMeanwhile", takenAwayMeanwhile},
	{"Permissions_OwnLeads", ownLeads},
}

// opens lists the methods that each permission opens. A method that ranges over
// all pages, such as AllUsers, needs the permission of its list.
var opens = map[cims.Permission][]string{
	cims.StatusesRead:  {"Statuses"},
	cims.StatusesWrite: {"CreateStatus", "UpdateStatus", "DeleteStatus"},
	cims.RolesRead:     {"Roles"},
	cims.RolesWrite:    {"CreateRole", "UpdateRole", "DeleteRole"},
	cims.UsersRead:     {"Users"},
	cims.UsersWrite:    {"CreateUser", "UpdateUser"},
	cims.LeadsRead:     {"Customer", "Customers", "History", "Assignment", "SalesManagers", "NextSalesManagers"},
	cims.LeadsReadOwn:  {"Customer", "Customers", "History", "Assignment", "SalesManagers"},
	cims.LeadsWrite:    {"AddCustomer", "AddCustomers", "ImportCustomers", "SetStatus"},
	cims.LeadsWriteOwn: {"AddCustomer", "SetStatus"},
	cims.LeadsAssign:   {"Assign", "AutoAssign", "AssignBacklog", "SetSalesManager"},
	cims.AnalyticsRead: {"ConversionRate"},
	cims.AuditRead:     {"Audit"},
}

// operations returns the methods of a Manager that act for an Actor.
func operations() []reflect.Method {
	var found []reflect.Method
	for method := range reflect.TypeFor[*cims.Manager]().Methods() {
		if method.Type.NumIn() > 2 && method.Type.In(2) == reflect.TypeFor[cims.Actor]() {
			found = append(found, method)
		}
	}
	return found
}

// mayCall reports whether one of the permissions opens an operation.
func mayCall(op reflect.Method, permissions ...cims.Permission) bool {
	return slices.ContainsFunc(permissions, func(p cims.Permission) bool {
		return slices.Contains(opens[p], op.Name) || slices.Contains(opens[p], strings.TrimPrefix(op.Name, "All"))
	})
}

const absent = 1 << 40

// call calls an operation with the id of nothing and otherwise with zero values:
// permissions are checked before the arguments.
func call(ctx context.Context, crm *cims.Manager, op reflect.Method, actor cims.Actor) error {
	args := []reflect.Value{reflect.ValueOf(crm), reflect.ValueOf(ctx), reflect.ValueOf(actor)}
	for i := len(args); i < op.Type.NumIn(); i++ {
		arg := reflect.New(op.Type.In(i)).Elem()
		if arg.Kind() == reflect.Int64 {
			arg.SetInt(absent)
		}
		if arg.Kind() == reflect.Func { // an iterator that yields nothing, or a callback
			arg.Set(reflect.MakeFunc(arg.Type(), func([]reflect.Value) []reflect.Value { return nil }))
		}
		args = append(args, arg)
	}
	results := op.Func.Call(args)
	last := results[len(results)-1]
	if last.Kind() == reflect.Func {
		for _, err := range last.Seq2() {
			last = err
			break
		}
	}
	err, _ := reflect.TypeAssert[error](last)
	return err
}

// requireMay checks that an operation is refused for want of a permission, or
// for anything else but that.
func requireMay(t *testing.T, d *database, op reflect.Method, actor cims.Actor, may bool, who string) {
	t.Helper()
	err := call(t.Context(), d.crm, op, actor)
	if may {
		require.NotErrorIs(t, err, cims.ErrForbidden, "%s, %s", op.Name, who)
		return
	}
	var refusal *cims.Error
	require.ErrorAs(t, err, &refusal, "%s, %s", op.Name, who)
	require.ErrorIs(t, err, cims.ErrForbidden, "%s, %s", op.Name, who)
	require.Equal(t, cims.ReasonPermission, refusal.Reason, "%s, %s", op.Name, who)
	require.True(t, mayCall(op, refusal.Permission), "%s, %s: %s", op.Name, who, refusal.Permission)
}

// everyOperation: each permission alone opens its operations and no others.
func everyOperation(t *testing.T, d *database) {
	var methods []string
	for _, op := range operations() {
		require.True(t, mayCall(op, cims.AllPermissions()...), "opens does not say which permission opens %s", op.Name)
		methods = append(methods, op.Name)
	}
	for permission, names := range opens {
		require.Subset(t, methods, names, permission)
	}
	for _, permission := range cims.AllPermissions() {
		actor := d.holder(t, strings.ReplaceAll(string(permission), ":", "_"), permission)
		for _, op := range operations() {
			requireMay(t, d, op, actor, mayCall(op, permission), string(permission))
		}
	}
	var nobody cims.Actor
	for _, op := range operations() {
		requireMay(t, d, op, nobody, false, "the zero Actor")
		requireMay(t, d, op, system, true, "System")
	}
}

func defaultRoleOperations(t *testing.T, d *database) {
	for _, role := range cims.SystemRoles() {
		actor := d.actor(t, role.Name, "Some "+role.Name)
		for _, op := range operations() {
			requireMay(t, d, op, actor, mayCall(op, role.Permissions...), role.Name)
		}
	}
}

// secondPermissions: some options need a permission beyond that of the call.
func secondPermissions(t *testing.T, d *database) {
	status := d.status(t, "used")
	role, err := d.crm.CreateRole(t.Context(), system, cims.NewRole{Name: "used", DisplayName: "Used"})
	require.NoError(t, err)
	d.bulk(t, 1, "used")
	user := d.user(t, "used", "User")
	move := cims.Deletion{MoveTo: "finished"}

	one := d.holder(t, "one", cims.StatusesWrite, cims.LeadsWriteOwn)
	requireForbidden(t, d.crm.DeleteStatus(t.Context(), one, status.ID, move), cims.ReasonPermission)
	requireInUse(t, d.crm.DeleteStatus(t.Context(), one, status.ID, cims.Deletion{}), 1, false)
	two := d.holder(t, "two", cims.StatusesWrite, cims.LeadsWrite)
	require.NoError(t, d.crm.DeleteStatus(t.Context(), two, status.ID, move))

	move.MoveTo = "customer"
	one = d.holder(t, "three", cims.RolesWrite)
	requireForbidden(t, d.crm.DeleteRole(t.Context(), one, role.ID, move), cims.ReasonPermission)
	requireInUse(t, d.crm.DeleteRole(t.Context(), one, role.ID, cims.Deletion{}), 1, false)
	two = d.holder(t, "four", cims.RolesWrite, cims.UsersWrite)
	require.NoError(t, d.crm.DeleteRole(t.Context(), two, role.ID, move))

	leave := cims.UserUpdate{Active: new(false), Leads: cims.RedistributeLeads}
	one = d.holder(t, "five", cims.UsersWrite)
	_, err = d.crm.UpdateUser(t.Context(), one, user.ID, leave)
	requireForbidden(t, err, cims.ReasonPermission)
	two = d.holder(t, "six", cims.UsersWrite, cims.LeadsAssign)
	_, err = d.crm.UpdateUser(t.Context(), two, user.ID, leave)
	require.NoError(t, err)
}

// handOut: an actor can't give permissions that it lacks, nor change roles and users
// that have them.
func handOut(t *testing.T, d *database) {
	held := []cims.Permission{cims.RolesRead, cims.RolesWrite, cims.UsersRead, cims.UsersWrite, cims.LeadsRead}
	actor := d.holder(t, "hr", held...)
	within, beyond := []cims.Permission{cims.LeadsReadOwn, cims.UsersRead}, []cims.Permission{cims.LeadsRead, cims.LeadsAssign}
	ctx := t.Context()
	create := func(name string, permissions []cims.Permission) cims.Role {
		role, err := d.crm.CreateRole(ctx, system, cims.NewRole{Name: name, DisplayName: name, Permissions: permissions})
		require.NoError(t, err)
		return role
	}
	low, high := create("low", within), create("high", beyond)
	lowUser, highUser := d.user(t, "low", "Low"), d.user(t, "high", "High")
	forbidden := func(_ any, err error) {
		t.Helper()
		requireForbidden(t, err, cims.ReasonExceedsOwn)
	}
	allowed := func(_ any, err error) {
		t.Helper()
		require.NoError(t, err)
	}

	// Roles.
	allowed(d.crm.CreateRole(ctx, actor, cims.NewRole{Name: "new", DisplayName: "N", Permissions: within}))
	forbidden(d.crm.CreateRole(ctx, actor, cims.NewRole{Name: "more", DisplayName: "N", Permissions: beyond}))
	forbidden(d.crm.CreateRole(ctx, actor, cims.NewRole{Name: "all", DisplayName: "N", Permissions: cims.AllPermissions(), Inactive: true}))
	allowed(d.crm.UpdateRole(ctx, actor, low.ID, cims.RoleUpdate{DisplayName: new("Lower")}))
	forbidden(d.crm.UpdateRole(ctx, actor, low.ID, cims.RoleUpdate{Permissions: &beyond}))
	forbidden(d.crm.UpdateRole(ctx, actor, high.ID, cims.RoleUpdate{DisplayName: new("Higher")}))
	forbidden(d.crm.UpdateRole(ctx, actor, high.ID, cims.RoleUpdate{Permissions: &within}))
	forbidden(d.crm.UpdateRole(ctx, actor, high.ID, cims.RoleUpdate{Active: new(false)}))
	forbidden(d.crm.UpdateRole(ctx, actor, d.roleNamed(t, "hr").ID, cims.RoleUpdate{Permissions: new(cims.AllPermissions())}))
	forbidden(nil, d.crm.DeleteRole(ctx, actor, high.ID, cims.Deletion{}))
	forbidden(nil, d.crm.DeleteRole(ctx, actor, high.ID, cims.Deletion{MoveTo: "low"}))
	forbidden(nil, d.crm.DeleteRole(ctx, actor, low.ID, cims.Deletion{MoveTo: "high"}))

	// Users.
	allowed(d.crm.CreateUser(ctx, actor, newUser("low", "Fine")))
	forbidden(d.crm.CreateUser(ctx, actor, newUser("high", "Not fine")))
	in := newUser("high", "Inactive")
	in.Inactive = true
	forbidden(d.crm.CreateUser(ctx, actor, in))
	allowed(d.crm.UpdateUser(ctx, actor, lowUser.ID, cims.UserUpdate{Name: new("Renamed")}))
	allowed(d.crm.UpdateUser(ctx, actor, lowUser.ID, cims.UserUpdate{RoleName: new("customer")}))
	allowed(d.crm.UpdateUser(ctx, actor, lowUser.ID, cims.UserUpdate{RoleName: new("low")}))
	forbidden(d.crm.UpdateUser(ctx, actor, lowUser.ID, cims.UserUpdate{RoleName: new("high")}))
	forbidden(d.crm.UpdateUser(ctx, actor, highUser.ID, cims.UserUpdate{RoleName: new("low")}))
	forbidden(d.crm.UpdateUser(ctx, actor, highUser.ID, cims.UserUpdate{Name: new("Renamed")}))
	forbidden(d.crm.UpdateUser(ctx, actor, highUser.ID, cims.UserUpdate{Active: new(false)}))
	forbidden(d.crm.UpdateUser(ctx, actor, actor.User().ID, cims.UserUpdate{RoleName: new("high")}))

	// The refused calls have changed nothing.
	roles, err := d.Roles(ctx)
	require.NoError(t, err)
	require.Len(t, roles, 5+4)
	low.DisplayName = "Lower"
	got := d.roleNamed(t, "low")
	low.UpdatedAt = got.UpdatedAt
	require.Equal(t, low, got)
	require.Equal(t, high, d.roleNamed(t, "high"))
	account, err := d.Account(ctx, highUser.ID)
	require.NoError(t, err)
	require.Equal(t, highUser, account.User)
	account, err = d.Account(ctx, lowUser.ID)
	require.NoError(t, err)
	require.Equal(t, "low", string(account.User.RoleName))
}

// onlyCEO: all permissions don't make a CEO.
func onlyCEO(t *testing.T, d *database) {
	ctx := t.Context()
	boss := d.user(t, cims.RoleCEO, "Boss")
	actor := d.holder(t, "almost", cims.AllPermissions()...)
	role, err := d.crm.CreateRole(ctx, system, cims.NewRole{Name: "movable", DisplayName: "M"})
	require.NoError(t, err)
	member := d.user(t, "member", "Member")
	d.user(t, "movable", "Movable")
	refused := func(err error) {
		t.Helper()
		requireForbidden(t, err, cims.ReasonOnlyCEO)
	}
	_, err = d.crm.CreateUser(ctx, actor, newUser(cims.RoleCEO, "New boss"))
	refused(err)
	for _, update := range []cims.UserUpdate{{Name: new("A")}, {Active: new(false)}, {RoleName: new("member")}, {Email: new("a@b")}} {
		_, err = d.crm.UpdateUser(ctx, actor, boss.ID, update)
		refused(err)
	}
	_, err = d.crm.UpdateUser(ctx, actor, member.ID, cims.UserUpdate{RoleName: new(cims.RoleCEO)})
	refused(err)
	_, err = d.crm.UpdateUser(ctx, actor, actor.User().ID, cims.UserUpdate{RoleName: new(cims.RoleCEO)})
	refused(err)
	_, err = d.crm.UpdateUser(ctx, actor, member.ID, cims.UserUpdate{Email: new("stolen@example.com")})
	refused(err)
	_, err = d.crm.UpdateUser(ctx, actor, actor.User().ID, cims.UserUpdate{Email: new(boss.Email + ".x")})
	refused(err)
	refused(d.crm.DeleteRole(ctx, actor, role.ID, cims.Deletion{MoveTo: cims.RoleCEO}))

	_, err = d.crm.UpdateUser(ctx, actor, member.ID, cims.UserUpdate{Email: &member.Email, Name: new("Renamed")})
	require.NoError(t, err, "the present email is no change of it")
	ceo := d.actorOf(t, boss.ID)
	_, err = d.crm.UpdateUser(ctx, ceo, member.ID, cims.UserUpdate{Email: new("new@example.com"), RoleName: new(cims.RoleCEO)})
	require.NoError(t, err)
	require.NoError(t, d.crm.DeleteRole(ctx, ceo, role.ID, cims.Deletion{MoveTo: cims.RoleCEO}))
}

// takenAwayMeanwhile: an Actor that was found before its rights were taken away
// can't change roles or users any more.
func takenAwayMeanwhile(t *testing.T, d *database) {
	ctx := t.Context()
	member := d.user(t, "member", "Member")
	try := func(actor cims.Actor) map[string]error {
		_, createRole := d.crm.CreateRole(ctx, actor, cims.NewRole{Name: "stale", DisplayName: "S"})
		_, updateRole := d.crm.UpdateRole(ctx, actor, d.roleNamed(t, "customer").ID, cims.RoleUpdate{DisplayName: new("S")})
		_, createUser := d.crm.CreateUser(ctx, actor, newUser("customer", "Stale"))
		_, updateUser := d.crm.UpdateUser(ctx, actor, member.ID, cims.UserUpdate{Name: new("Stale")})
		role, err := d.crm.CreateRole(ctx, system, cims.NewRole{Name: "doomed", DisplayName: "D"})
		require.NoError(t, err)
		deleteRole := d.crm.DeleteRole(ctx, actor, role.ID, cims.Deletion{})
		require.NoError(t, d.crm.DeleteRole(ctx, system, role.ID, cims.Deletion{}))
		return map[string]error{
			"CreateRole": createRole, "UpdateRole": updateRole, "DeleteRole": deleteRole, "CreateUser": createUser, "UpdateUser": updateUser,
		}
	}
	for reason, take := range map[cims.Reason]func(actor cims.Actor) error{
		cims.ReasonInactiveUser: func(actor cims.Actor) error {
			_, err := d.crm.UpdateUser(ctx, system, actor.User().ID, cims.UserUpdate{Active: new(false)})
			return err
		},
		cims.ReasonPermission: func(actor cims.Actor) error {
			_, err := d.crm.UpdateUser(ctx, system, actor.User().ID, cims.UserUpdate{RoleName: new("customer")})
			return err
		},
		cims.ReasonInactiveRole: func(actor cims.Actor) error {
			role := d.roleNamed(t, string(actor.User().RoleName))
			_, err := d.crm.UpdateRole(ctx, system, role.ID, cims.RoleUpdate{Active: new(false)})
			return err
		},
	} {
		actor := d.holder(t, string(reason), cims.AllPermissions()...)
		require.NoError(t, take(actor))
		for name, err := range try(actor) {
			var refusal *cims.Error
			require.ErrorAs(t, err, &refusal, name)
			require.ErrorIs(t, err, cims.ErrForbidden, name)
			require.Equal(t, reason, refusal.Reason, name)
		}
	}
	account, err := d.Account(ctx, member.ID)
	require.NoError(t, err)
	require.Equal(t, member, account.User)
}

// ownLeads: an actor with :own reaches the leads that it owns now. Others' leads are
// as if they were not there.
func ownLeads(t *testing.T, d *database) {
	ctx := t.Context()
	sellers := d.sellers(t, "Anvar", "Botir")
	me := d.actorOf(t, sellers[0].ID)
	mine, theirs := d.lead(t, "Mine"), d.lead(t, "Theirs")
	require.Equal(t, sellers[0].ID, ownerID(mine))
	require.Equal(t, sellers[1].ID, ownerID(theirs))
	nobodys := d.bulk(t, 1, "contacted")[0]

	reach := func(id int64) []error {
		_, customer := d.crm.Customer(ctx, me, id)
		_, history := d.crm.History(ctx, me, id, cims.PageRequest{})
		_, _, assignment := d.crm.Assignment(ctx, me, id)
		_, status := d.crm.SetStatus(ctx, me, id, "continuing", "")
		return []error{customer, history, assignment, status}
	}
	list := func(filter cims.CustomerFilter) []int64 {
		page, err := d.crm.Customers(ctx, me, filter, cims.PageRequest{})
		require.NoError(t, err)
		return ids(page.Items, customerID)
	}
	requireAll(t, reach(mine.ID))
	for _, id := range []int64{theirs.ID, nobodys, absent} {
		for _, err := range reach(id) {
			var refusal *cims.Error
			require.ErrorAs(t, err, &refusal)
			require.ErrorIs(t, err, cims.ErrNotFound)
			require.Empty(t, refusal.Reason, "the same for another's lead as for an absent one")
		}
	}
	require.Equal(t, "contacted", d.customer(t, theirs.ID).StatusName)
	// Nor does a refusal of the input show that the lead is there.
	_, err := d.crm.SetStatus(ctx, me, theirs.ID, "nowhere", "")
	require.ErrorIs(t, err, cims.ErrNotFound)

	require.Equal(t, []int64{mine.ID}, list(cims.CustomerFilter{}))
	require.Equal(t, []int64{mine.ID}, list(cims.CustomerFilter{SalesManagerID: &sellers[0].ID}))
	require.Empty(t, list(cims.CustomerFilter{SalesManagerID: &sellers[1].ID}))
	require.Empty(t, list(cims.CustomerFilter{SalesManagerID: new(int64(absent))}))
	require.Empty(t, list(cims.CustomerFilter{Unassigned: true}))
	require.Empty(t, list(cims.CustomerFilter{Prefix: "their"}))
	managers, err := d.crm.SalesManagers(ctx, me)
	require.NoError(t, err)
	require.Len(t, managers, 2, "everybody sees who there is")

	// A lead that goes to another is out of reach at once, and the other way round.
	d.own(t, sellers[1].ID, mine.ID)
	d.own(t, sellers[0].ID, theirs.ID)
	for _, err := range reach(mine.ID) {
		require.ErrorIs(t, err, cims.ErrNotFound)
	}
	requireAll(t, reach(theirs.ID))
	require.Equal(t, []int64{theirs.ID}, list(cims.CustomerFilter{}))

	// Reading own leads does not include writing them.
	reader := d.holder(t, "reader", cims.LeadsReadOwn)
	_, err = d.crm.SetStatus(ctx, reader, theirs.ID, "finished", "")
	requireForbidden(t, err, cims.ReasonPermission)
	// The rotation chooses the owner, also of leads that a sales manager adds.
	added, err := d.crm.AddCustomer(ctx, me, cims.NewCustomer{FullName: "New"})
	require.NoError(t, err)
	require.Equal(t, sellers[0].ID, ownerID(added))
	added, err = d.crm.AddCustomer(ctx, me, cims.NewCustomer{FullName: "New"})
	require.NoError(t, err)
	require.Equal(t, sellers[1].ID, ownerID(added))
	require.Equal(t, sellers[0].ID, value(d.history(t, added.ID)[0].By))
}
