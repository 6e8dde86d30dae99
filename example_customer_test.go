package cims_test

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/cimskit/cims"
)

// With an idempotency key a form can be sent twice, or a request repeated after a
// timeout: the second call answers as the first did, and stores nothing.
func ExampleManager_AddCustomer_idempotencyKey() {
	ctx, us := context.Background(), cims.System("web form")
	crm, _, end := open(nil, "Anvar", "Botir")
	defer end()

	in := cims.NewCustomer{FullName: "Aziza", IdempotencyKey: "form-4711"}
	first := must(crm.AddCustomer(ctx, us, in))
	again := must(crm.AddCustomer(ctx, us, in))
	fmt.Println("the same:", first.ID == again.ID, again.SalesManager.Name)

	in.FullName = "Bekzod"
	_, err := crm.AddCustomer(ctx, us, in)
	fmt.Println("with other input:", errors.Is(err, cims.ErrKeyReused))
	// Output:
	// the same: true Anvar
	// with other input: true
}

// The history says what became of a lead, by whom and why.
func ExampleManager_History() {
	ctx, us := context.Background(), cims.System("example")
	crm, team, end := open(nil, "Anvar")
	defer end()
	anvar := must(crm.ActorByID(ctx, team[0].ID))

	lead := must(crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: "Aziza"}))
	must(crm.SetStatus(ctx, anvar, lead.ID, "rejected", "too dear"))
	for _, event := range must(crm.History(ctx, us, lead.ID, cims.PageRequest{})).Items {
		switch event.Kind {
		case cims.StatusEvent:
			fmt.Printf("%s: %q to %q, %q, by Anvar: %t\n", event.Cause, event.FromStatus, event.ToStatus, event.Reason, event.By != nil)
		case cims.AssignmentEvent:
			fmt.Printf("%s: to Anvar: %t\n", event.Cause, *event.ToManager == team[0].ID)
		}
	}
	// Output:
	// created: "" to "contacted", "", by Anvar: false
	// automatic: to Anvar: true
	// manual: "contacted" to "rejected", "too dear", by Anvar: true
}

// All leads of a filter, however many: they are read a page at a time, and a
// loop that ends early reads no further.
func ExampleManager_AllCustomers() {
	ctx, us := context.Background(), cims.System("example")
	crm, _, end := open(nil, "Anvar", "Botir")
	defer end()
	for _, name := range []string{"Aziza", "Bekzod", "Dilnoza"} {
		must(crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: name}))
	}

	for lead, err := range crm.AllCustomers(ctx, us, cims.CustomerFilter{Status: cims.StatusContacted}) {
		if err != nil {
			fmt.Println("stopped:", err)
			break
		}
		fmt.Println(lead.FullName, lead.SalesManager.Name)
	}
	// Output:
	// Dilnoza Anvar
	// Bekzod Botir
	// Aziza Anvar
}

// Many leads go in at once: all of them, or none and the place of the first that
// is refused.
func ExampleManager_AddCustomers() {
	ctx, us := context.Background(), cims.System("example")
	crm, _, end := open(nil, "Anvar", "Botir")
	defer end()

	leads := must(crm.AddCustomers(ctx, us, []cims.NewCustomer{{FullName: "Aziza"}, {FullName: "Bekzod"}}, nil))
	fmt.Println(len(leads), "stored, the second with", leads[1].SalesManager.Name)

	_, err := crm.AddCustomers(ctx, us, []cims.NewCustomer{{FullName: "Dilnoza"}, {}}, nil)
	if refusal, ok := errors.AsType[*cims.LeadError](err); ok {
		fmt.Println("none stored: number", refusal.Index, "is refused:", refusal.Err)
	}
	// Output:
	// 2 stored, the second with Botir
	// none stored: number 1 is refused: cims: invalid input: full_name is required
}

// More leads than fit in memory come from wherever they can be read a second
// time, such as a file. (httpapi.ReadLeads reads CSV and NDJSON as the API does.)
func ExampleManager_ImportCustomers() {
	ctx, us := context.Background(), cims.System("example")
	crm, _, end := open(nil, "Anvar", "Botir", "Dilnoza")
	defer end()
	file := strings.NewReader("Aziza,+998901234567\nBekzod,+998907654321\n")

	imported := must(crm.ImportCustomers(ctx, us, linesOf(file), nil))
	fmt.Println(imported, "imported")
	for _, manager := range must(crm.SalesManagers(ctx, us)) {
		fmt.Println(manager.Name, "has", manager.AssignedLeads)
	}
	// Output:
	// 2 imported
	// Anvar has 1
	// Botir has 1
	// Dilnoza has 0
}

// linesOf reads leads out of a file, from its start each time.
func linesOf(file io.ReadSeeker) iter.Seq2[cims.NewCustomer, error] {
	return func(yield func(cims.NewCustomer, error) bool) {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			yield(cims.NewCustomer{}, err)
			return
		}
		for lines := csv.NewReader(file); ; {
			line, err := lines.Read()
			switch {
			case errors.Is(err, io.EOF):
				return
			case err != nil:
				yield(cims.NewCustomer{}, err)
				return
			case !yield(cims.NewCustomer{FullName: line[0], PhoneNumber: line[1]}, nil):
				return
			}
		}
	}
}
