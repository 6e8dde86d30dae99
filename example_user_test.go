package cims_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/cimskit/cims"
)

// A user with the role sales_manager joins the rotation at once. Faults in the input
// are listed field by field.
func ExampleManager_CreateUser() {
	ctx, us := context.Background(), cims.System("example")
	crm, _, end := open(nil)
	defer end()

	anvar := must(crm.CreateUser(ctx, us, cims.NewUser{
		Email: "anvar@example.com", Name: "Anvar", Surname: "Karimov", RoleName: cims.RoleSalesManager,
	}))
	lead := must(crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: "Aziza"}))
	fmt.Println("the first lead is Anvar's:", lead.SalesManager.ID == anvar.ID)

	_, err := crm.CreateUser(ctx, us, cims.NewUser{Email: "ANVAR@example.com", Name: "Anvar", Surname: "Aliyev", RoleName: "member"})
	fmt.Println("again:", errors.Is(err, cims.ErrExists))
	_, err = crm.CreateUser(ctx, us, cims.NewUser{Email: "botir", Name: "Botir", RoleName: "member"})
	if refusal, ok := errors.AsType[*cims.Error](err); ok {
		for _, fault := range refusal.Fields {
			fmt.Println(fault)
		}
	}
	// Output:
	// the first lead is Anvar's: true
	// again: true
	// email must be an email address
	// surname is required
}

// A sales manager who leaves keeps the leads, unless the update redistributes them.
// The last active CEO can't be deactivated.
func ExampleManager_UpdateUser() {
	ctx, us := context.Background(), cims.System("example")
	crm, team, end := open(nil, "Anvar", "Botir", "Dilnoza")
	defer end()
	for i := range 6 {
		must(crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: fmt.Sprint("Lead ", i+1)}))
	}

	must(crm.UpdateUser(ctx, us, team[0].ID, cims.UserUpdate{Active: new(false), Leads: cims.RedistributeLeads}))
	for _, manager := range must(crm.SalesManagers(ctx, us)) {
		fmt.Println(manager.Name, "has", manager.AssignedLeads)
	}

	ceo := must(crm.CreateUser(ctx, us, cims.NewUser{Email: "ceo@example.com", Name: "Gulnora", Surname: "Umarova", RoleName: cims.RoleCEO}))
	_, err := crm.UpdateUser(ctx, us, ceo.ID, cims.UserUpdate{Active: new(false)})
	fmt.Println(errors.Is(err, cims.ErrLastCEO))
	// Output:
	// Botir has 3
	// Dilnoza has 3
	// true
}

// Lists are returned in pages. Next is the cursor of the next page.
func ExampleManager_Users() {
	ctx, us := context.Background(), cims.System("example")
	crm, _, end := open(nil, "Anvar", "Botir", "Dilnoza")
	defer end()

	for page := (cims.PageRequest{Limit: 2}); ; {
		users := must(crm.Users(ctx, us, cims.UserFilter{Role: cims.RoleSalesManager}, page))
		for _, user := range users.Items {
			fmt.Println(user.Name)
		}
		if page.Cursor = users.Next; page.Cursor == "" {
			break
		}
		fmt.Println("--")
	}
	// Output:
	// Anvar
	// Botir
	// --
	// Dilnoza
}

// An actor has the permissions of its role. A sales manager can't find the leads of
// others.
func ExampleManager_ActorByEmail() {
	ctx, us := context.Background(), cims.System("example")
	crm, _, end := open(nil, "Anvar", "Botir")
	defer end()
	first := must(crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: "Aziza"}))
	second := must(crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: "Bekzod"}))

	anvar := must(crm.ActorByEmail(ctx, "anvar@example.com"))
	fmt.Println(anvar.User().Name, "may assign leads:", anvar.Can(cims.LeadsAssign))
	_, err := crm.SetStatus(ctx, anvar, first.ID, "finished", "")
	fmt.Println("one's own:", err)
	_, err = crm.SetStatus(ctx, anvar, second.ID, "finished", "")
	fmt.Println("Botir's is found:", !errors.Is(err, cims.ErrNotFound))
	// Output:
	// Anvar may assign leads: false
	// one's own: <nil>
	// Botir's is found: false
}
