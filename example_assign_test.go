package cims_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cimskit/cims"
)

// A sales manager of weight 2 gets twice as many leads as one of weight 1.
func ExampleManager_SetSalesManager() {
	ctx, us := context.Background(), cims.System("example")
	crm, team, end := open(nil, "Anvar", "Botir", "Dilnoza")
	defer end()

	must(crm.SetSalesManager(ctx, us, team[0].ID, cims.SalesManagerUpdate{Weight: new(2)}))
	for i := range 8 {
		must(crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: fmt.Sprint("Lead ", i+1)}))
	}
	for _, manager := range must(crm.SalesManagers(ctx, us)) {
		fmt.Println(manager.Name, "has", manager.AssignedLeads)
	}
	// Output:
	// Anvar has 4
	// Botir has 2
	// Dilnoza has 2
}

// A paused sales manager keeps its leads and gets no new ones. After the pause it
// doesn't get the leads that it missed.
func ExampleManager_SetSalesManager_pause() {
	ctx, us := context.Background(), cims.System("example")
	crm, team, end := open(nil, "Anvar", "Botir")
	defer end()
	add := func(n int) {
		var names []string
		for range n {
			names = append(names, must(crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: "Lead"})).SalesManager.Name)
		}
		fmt.Println(names)
	}

	add(2)
	must(crm.SetSalesManager(ctx, us, team[0].ID, cims.SalesManagerUpdate{Paused: new(true)}))
	add(3)
	must(crm.SetSalesManager(ctx, us, team[0].ID, cims.SalesManagerUpdate{Paused: new(false)}))
	add(4)
	// Output:
	// [Anvar Botir]
	// [Botir Botir Botir]
	// [Anvar Botir Anvar Botir]
}

// NextSalesManagers shows the next turns without taking them.
func ExampleManager_NextSalesManagers() {
	ctx, us := context.Background(), cims.System("example")
	crm, _, end := open(nil, "Anvar", "Botir")
	defer end()
	must(crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: "Aziza"})) // goes to Anvar

	for _, manager := range must(crm.NextSalesManagers(ctx, us, 3)) {
		fmt.Println(manager.Name)
	}
	// Output:
	// Botir
	// Anvar
	// Botir
}

// Reassigning a lead by hand takes no turn in the rotation. The history keeps both
// owners.
func ExampleManager_Assign() {
	ctx, us := context.Background(), cims.System("example")
	crm, team, end := open(nil, "Anvar", "Botir", "Dilnoza")
	defer end()
	names := map[int64]string{team[0].ID: "Anvar", team[1].ID: "Botir", team[2].ID: "Dilnoza"}

	lead := must(crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: "Aziza"}))
	must(crm.Assign(ctx, us, lead.ID, team[1].ID))
	_, manager, err := crm.Assignment(ctx, us, lead.ID)
	fmt.Println(lead.FullName, "is now with", manager.Name, err)
	for _, event := range must(crm.History(ctx, us, lead.ID, cims.PageRequest{})).Items {
		if event.Kind == cims.AssignmentEvent {
			fmt.Println(event.Cause, "to", names[*event.ToManager])
		}
	}
	fmt.Println("next:", must(crm.NextSalesManagers(ctx, us, 1))[0].Name)

	_, err = crm.Assign(ctx, us, lead.ID, 999)
	fmt.Println(errors.Is(err, cims.ErrNotFound))
	// Output:
	// Aziza is now with Botir <nil>
	// automatic to Anvar
	// manual to Botir
	// next: Botir
	// true
}

// A lead waits while there is no sales manager. It is assigned within a second after
// one is created.
func ExampleManager_AddCustomer_nobodyThere() {
	ctx, us := context.Background(), cims.System("example")
	crm, _, end := open(nil)
	defer end()

	lead := must(crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: "Aziza"}))
	fmt.Println("at first:", lead.SalesManager)
	must(crm.CreateUser(ctx, us, cims.NewUser{Email: "anvar@example.com", Name: "Anvar", Surname: "Karimov", RoleName: cims.RoleSalesManager}))
	for lead.SalesManager == nil {
		time.Sleep(time.Millisecond)
		lead = must(crm.Customer(ctx, us, lead.ID))
	}
	fmt.Println("then:", lead.SalesManager.Name)
	// Output:
	// at first: <nil>
	// then: Anvar
}

// With ManualTakesTurn, a manual assignment takes a turn.
func ExampleConfig() {
	ctx, us := context.Background(), cims.System("example")
	crm, team, end := open(&cims.Config{ManualTakesTurn: true}, "Anvar", "Botir")
	defer end()

	lead := must(crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: "Aziza"})) // takes Anvar's turn
	must(crm.Assign(ctx, us, lead.ID, team[1].ID))                              // takes Botir's turn
	fmt.Println("next:", must(crm.NextSalesManagers(ctx, us, 1))[0].Name)
	// Output: next: Anvar
}
