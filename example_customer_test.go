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

// An idempotency key makes a call safe to repeat, for instance after a timeout. The
// second call returns the result of the first and stores nothing.
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

// The history lists the changes of a lead, with the acting user and the reason.
func ExampleManager_History() {
	ctx, us := context.Background(), cims.System("example")
	crm, team, end := open(nil, "Anvar")
	defer end()
	anvar := must(crm.ActorByID(ctx, team[0].ID))

	lead := must(crm.AddCustomer(ctx, us, cims.NewCustomer{FullName: "Aziza"}))
	must(crm.SetStatus(ctx, anvar, lead.ID, "rejected", "too dear"))
	for _, event := range must(crm.History(ctx, us, lead.ID, cims.PageRequest{})).Items {
		switch event.Kind {
		case cims.StatusEvent, cims.NoteEvent:
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

// AllCustomers reads any number of leads page by page. A loop that ends early reads
// no further pages.
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

// AddCustomers stores all leads or none. A LeadError has the index of the first
// invalid lead.
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

// ImportCustomers reads leads from a source that can be read again, such as a file.
// See httpapi.ReadLeads for the CSV and NDJSON formats of the API.
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

// linesOf returns an iterator over the leads of a file. Each loop reads the file from
// its start.
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
