package cims_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/cimskit/cims"
)

// Leads can be moved to a status as soon as it is created.
func ExampleManager_CreateStatus() {
	ctx, us := context.Background(), cims.System("example")
	crm, _, end := open(nil, "Anvar")
	defer end()

	status := must(crm.CreateStatus(ctx, us, cims.NewStatus{
		Name: "Offer Sent", DisplayName: "Offer sent", Color: "#0EA5E9", Order: 2,
	}))
	fmt.Println("created:", status.Name)
	lead := must(crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: "Aziza"}))
	lead = must(crm.SetStatus(ctx, us, lead.ID, "offer_sent", "by mail"))
	fmt.Println(lead.FullName, "is in:", lead.StatusName)

	for _, status := range must(crm.Statuses(ctx, us, cims.StatusFilter{Active: new(true)})) {
		fmt.Println(status.Order, status.DisplayName)
	}
	// Output:
	// created: offer_sent
	// Aziza is in: offer_sent
	// 1 Contacted
	// 2 Project Started
	// 2 Offer sent
	// 3 Continuing
	// 4 Finished
	// 5 Rejected
	// 6 Need to Call
}

// UpdateStatus changes only the fields that are set. The name never changes; the
// display name may.
func ExampleManager_UpdateStatus() {
	ctx, us := context.Background(), cims.System("example")
	crm, _, end := open(nil)
	defer end()

	status := must(crm.CreateStatus(ctx, us, cims.NewStatus{Name: "offer", DisplayName: "Offer", Description: "Sent by mail"}))
	status = must(crm.UpdateStatus(ctx, us, status.ID, cims.StatusUpdate{DisplayName: new("Taklif"), Color: new("#0EA5E9")}))
	fmt.Println(status.Name, status.DisplayName, status.Color, status.Description)
	// Output: offer Taklif #0EA5E9 Sent by mail
}

// A status can't be deleted while customers are in it, unless the call moves them to
// another one. System statuses can't be deleted.
func ExampleManager_DeleteStatus() {
	ctx, us := context.Background(), cims.System("example")
	crm, _, end := open(nil, "Anvar")
	defer end()

	status := must(crm.CreateStatus(ctx, us, cims.NewStatus{Name: "offer", DisplayName: "Offer"}))
	lead := must(crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: "Aziza", StatusName: "offer"}))

	err := crm.DeleteStatus(ctx, us, status.ID, cims.Deletion{})
	if refusal, ok := errors.AsType[*cims.Error](err); ok && errors.Is(err, cims.ErrInUse) {
		fmt.Println("in use by", refusal.Count)
	}
	err = crm.DeleteStatus(ctx, us, status.ID, cims.Deletion{MoveTo: "need_to_call"})
	fmt.Println("moved and deleted:", err)
	fmt.Println(lead.FullName, "is in:", must(crm.Customer(ctx, us, lead.ID)).StatusName)

	contacted := must(crm.Statuses(ctx, us, cims.StatusFilter{}))[0]
	fmt.Println(crm.DeleteStatus(ctx, us, contacted.ID, cims.Deletion{}))
	// Output:
	// in use by 1
	// moved and deleted: <nil>
	// Aziza is in: need_to_call
	// cims: forbidden: status "contacted" (system_entry)
}
