package cims_test

import (
	"context"
	"fmt"

	"github.com/cimskit/cims"
)

// By default the rate is that of the last 100 leads that ever reached Project
// Started, including those that have moved on since.
func ExampleManager_ConversionRate() {
	ctx, us := context.Background(), cims.System("example")
	crm, team, end := open(nil, "Anvar", "Botir")
	defer end()
	leads := must(crm.AddCustomers(ctx, us, []cims.NewCustomer{{FullName: "Aziza"}, {FullName: "Bekzod"}, {FullName: "Dilnoza"}}, nil))
	must(crm.SetStatus(ctx, us, leads[0].ID, cims.StatusProjectStarted, ""))
	must(crm.SetStatus(ctx, us, leads[1].ID, cims.StatusProjectStarted, ""))
	must(crm.SetStatus(ctx, us, leads[1].ID, "rejected", "ran out of money"))

	rate := must(crm.ConversionRate(ctx, us, cims.ConversionQuery{}))
	fmt.Printf("reached: %d of %d, %.2f %%\n", rate.Count, rate.Total, rate.Rate())
	rate = must(crm.ConversionRate(ctx, us, cims.ConversionQuery{Mode: cims.Current}))
	fmt.Printf("are there now: %d of %d, %.2f %%\n", rate.Count, rate.Total, rate.Rate())
	rate = must(crm.ConversionRate(ctx, us, cims.ConversionQuery{SalesManagerID: &team[0].ID, Target: "rejected", Last: 10}))
	fmt.Printf("Anvar's rejected: %d of %d\n", rate.Count, rate.Total)
	// Output:
	// reached: 2 of 3, 66.67 %
	// are there now: 1 of 3, 33.33 %
	// Anvar's rejected: 0 of 2
}
