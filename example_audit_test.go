package cims_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cimskit/cims"
)

// The audit log records changes with the actor and the state before and after. A
// refused change is not in it.
func ExampleManager_Audit() {
	ctx, us := context.Background(), cims.System("example")
	crm, team, end := open(nil, "Anvar", "Botir")
	defer end()
	ceo := must(crm.CreateUser(ctx, us, cims.NewUser{Email: "ceo@example.com", Name: "Gulnora", Surname: "Umarova", RoleName: cims.RoleCEO}))
	actor := must(crm.ActorByID(ctx, ceo.ID))

	ctx = cims.WithRequestID(ctx, "import-2026-11-27") // httpapi does this for its routes
	must(crm.SetSalesManager(ctx, actor, team[0].ID, cims.SalesManagerUpdate{Weight: new(2)}))
	lead := must(crm.AddCustomer(ctx, actor, cims.NewCustomer{FullName: "Aziza"}))
	must(crm.Assign(ctx, actor, lead.ID, team[1].ID))
	_, err := crm.UpdateUser(ctx, actor, ceo.ID, cims.UserUpdate{Active: new(false)})
	fmt.Println("refused:", errors.Is(err, cims.ErrLastCEO))

	for _, entry := range must(crm.Audit(ctx, actor, cims.AuditFilter{By: &ceo.ID}, cims.PageRequest{})).Items {
		var before, after struct {
			Weight       int
			SalesManager struct{ Name string } `json:"sales_manager"`
		}
		must(0, errors.Join(json.Unmarshal(entry.Before, &before), json.Unmarshal(entry.After, &after)))
		fmt.Println(entry.RequestID, entry.By.Name, entry.Action, entry.Entity, before, after)
	}
	// Output:
	// refused: true
	// import-2026-11-27 Gulnora assigned customer {0 {Anvar}} {0 {Botir}}
	// import-2026-11-27 Gulnora updated sales_manager {1 {}} {2 {}}
}
