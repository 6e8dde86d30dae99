package cims_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/cimskit/cims"
)

// A user has the permissions of its role and no others.
func ExampleManager_CreateRole() {
	ctx, us := context.Background(), cims.System("example")
	crm, _, end := open(nil)
	defer end()

	must(crm.CreateRole(ctx, us, cims.NewRole{
		Name: "marketing", DisplayName: "Marketing", Permissions: []cims.Permission{cims.LeadsRead, cims.AnalyticsRead},
	}))
	must(crm.CreateUser(ctx, us, cims.NewUser{Email: "olim@example.com", Name: "Olim", Surname: "Rashidov", RoleName: "marketing"}))

	olim := must(crm.ActorByEmail(ctx, "olim@example.com"))
	fmt.Println("may:", olim.Permissions())
	_, err := crm.AddCustomer(ctx, olim, cims.NewCustomer{FullName: "Aziza"})
	fmt.Println(err)
	// Output:
	// may: [leads:read analytics:read]
	// cims: forbidden (permission): leads:write is needed
}

// An actor can't grant a permission that it doesn't hold.
func ExampleManager_UpdateRole() {
	ctx, us := context.Background(), cims.System("example")
	crm, _, end := open(nil)
	defer end()

	office := must(crm.CreateRole(ctx, us, cims.NewRole{
		Name: "office", DisplayName: "Office", Permissions: []cims.Permission{cims.RolesRead, cims.RolesWrite},
	}))
	must(crm.CreateUser(ctx, us, cims.NewUser{Email: "olim@example.com", Name: "Olim", Surname: "Rashidov", RoleName: "office"}))
	olim := must(crm.ActorByEmail(ctx, "olim@example.com"))

	_, err := crm.UpdateRole(ctx, olim, office.ID, cims.RoleUpdate{
		Permissions: &[]cims.Permission{cims.RolesRead, cims.RolesWrite, cims.LeadsRead},
	})
	if refusal, ok := errors.AsType[*cims.Error](err); ok {
		fmt.Println(refusal.Reason)
	}
	office = must(crm.UpdateRole(ctx, us, office.ID, cims.RoleUpdate{DisplayName: new("Back office")}))
	fmt.Println(office.DisplayName, office.Permissions)
	// Output:
	// exceeds_own
	// Back office [roles:read roles:write]
}

// A role can't be deleted while users have it, unless the call gives them another
// one.
func ExampleManager_DeleteRole() {
	ctx, us := context.Background(), cims.System("example")
	crm, _, end := open(nil)
	defer end()

	trainee := must(crm.CreateRole(ctx, us, cims.NewRole{Name: "trainee", DisplayName: "Trainee"}))
	must(crm.CreateUser(ctx, us, cims.NewUser{Email: "olim@example.com", Name: "Olim", Surname: "Rashidov", RoleName: "trainee"}))

	fmt.Println(crm.DeleteRole(ctx, us, trainee.ID, cims.Deletion{}))
	fmt.Println(crm.DeleteRole(ctx, us, trainee.ID, cims.Deletion{MoveTo: "member"}))
	fmt.Println("Olim is now:", must(crm.ActorByEmail(ctx, "olim@example.com")).User().RoleName)
	// Output:
	// cims: in use: role "trainee": by 1
	// <nil>
	// Olim is now: member
}
