package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/cimskit/cims"
	"github.com/danielgtaylor/huma/v2"
)

// cimsCustomer is a customer. A new one includes its assignment.
type cimsCustomer struct {
	cims.Customer
	Assignment *orNull[cimsCustomerAssignment] `json:"assignment,omitempty" doc:"Of a customer just created: how it got its sales manager; null while it waits for one."`
}

// TransformSchema documents the fields.
func (cimsCustomer) TransformSchema(_ huma.Registry, schema *huma.Schema) *huma.Schema {
	return describe[cimsCustomer](schema, fields{
		"id":            {example: 42},
		"full_name":     {example: "Aziza Karimova"},
		"phone_number":  {example: "+998901234567"},
		"platform":      {"Where the lead came from.", "instagram"},
		"username":      {"The lead's name there.", "aziza.k"},
		"status_name":   {example: "contacted"},
		"sales_manager": {doc: "null while the lead waits for one."},
	})
}

type cimsCustomerAssignment struct {
	ID         int64     `json:"id" example:"42"`
	AssignedAt time.Time `json:"assigned_at"`
	AssignedBy *int64    `json:"assigned_by" doc:"null after automatic assignment."`
}

// newCreatedCimsCustomer returns a new customer with its assignment.
func newCreatedCimsCustomer(c cims.Customer) cimsCustomer {
	created := cimsCustomer{Customer: c, Assignment: &orNull[cimsCustomerAssignment]{}}
	if a := c.Assignment; a != nil {
		created.Assignment.value = &cimsCustomerAssignment{ID: a.ID, AssignedAt: a.AssignedAt, AssignedBy: a.AssignedBy}
	}
	return created
}

type cimsNewCustomer struct {
	FullName    string `json:"full_name" minLength:"1" maxLength:"500" pattern:"\\S"`
	PhoneNumber string `json:"phone_number,omitempty" nullable:"true" maxLength:"50"`
	Platform    string `json:"platform,omitempty" nullable:"true" maxLength:"255" doc:"Where the lead came from."`
	Username    string `json:"username,omitempty" nullable:"true" maxLength:"255" doc:"The lead's name there."`
	Notes       string `json:"notes,omitempty" nullable:"true" maxLength:"10000"`
	StatusName  string `json:"status_name,omitempty" doc:"The name of an active status; the configured initial one unless given."`

	SalesManagerID *int64 `json:"sales_manager_id,omitempty" minimum:"1" doc:"Who gets it, by hand; the rotation decides unless given. Needs leads:assign. Not in a file."`
}

func (c cimsNewCustomer) customer() cims.NewCustomer {
	return cims.NewCustomer{
		FullName: c.FullName, PhoneNumber: c.PhoneNumber, Platform: c.Platform, Username: c.Username, Notes: c.Notes, StatusName: c.StatusName,
		SalesManagerID: c.SalesManagerID,
	}
}

type cimsImported struct {
	Imported int `json:"imported" doc:"How many customers were added." example:"2"`
}

const (
	exampleNDJSON = `{"full_name": "Aziza Karimova", "phone_number": "+998901234567", "platform": "instagram"}` + "\n" +
		`{"full_name": "Bekzod Toshev", "status_name": "need_to_call"}` + "\n"
	exampleCSV = "full_name,phone_number,platform,status_name\nAziza Karimova,+998901234567,instagram,\nBekzod Toshev,,,need_to_call\n"
)

type cimsNewCustomerStatus struct {
	StatusName string `json:"status_name" minLength:"1" doc:"The name of an active status."`
	Reason     string `json:"reason,omitempty" nullable:"true" maxLength:"2000"`
}

type cimsEvent struct {
	At     time.Time `json:"at"`
	Kind   string    `json:"kind" enum:"status,assignment,note"`
	From   eventEnd  `json:"from"`
	To     eventEnd  `json:"to"`
	By     *int64    `json:"by" doc:"The id of the user who did it; null for the rotation and for trusted code."`
	Cause  string    `json:"cause" enum:"created,manual,automatic,own,redistributed,moved,migrated,external"`
	Reason cims.Text `json:"reason" doc:"Of a change of status; the text of a note."`
	Owner  *int64    `json:"owner" doc:"The id of the sales manager at that moment."`
}

// eventEnd is the status or sales manager before or after an event.
type eventEnd struct {
	status  string
	manager *int64
}

// MarshalJSON returns the status's name, the manager's id, or null.
func (e eventEnd) MarshalJSON() ([]byte, error) {
	if e.status != "" {
		return json.Marshal(e.status)
	}
	return json.Marshal(e.manager)
}

// Schema documents a name, an id or null.
func (eventEnd) Schema(registry huma.Registry) *huma.Schema {
	return named(registry, "CimsEventEnd", &huma.Schema{
		Description: "A status's name or a sales manager's id, as the kind says; null for none.",
		OneOf:       []*huma.Schema{{Type: huma.TypeString}, {Type: huma.TypeInteger, Format: "int64", Nullable: true}},
	})
}

func newCimsEvent(e cims.Event) cimsEvent {
	return cimsEvent{
		At: e.At.UTC(), Kind: string(e.Kind), By: e.By, Cause: string(e.Cause), Reason: cims.Text(e.Reason), Owner: e.Owner,
		From: eventEnd{e.FromStatus, e.FromManager}, To: eventEnd{e.ToStatus, e.ToManager},
	}
}

var (
	exampleCustomer = cims.Customer{
		ID: 42, FullName: "Aziza Karimova", PhoneNumber: "+998901234567", Platform: "instagram", Username: "aziza.k",
		StatusName: cims.StatusContacted, CreatedAt: exampleTime, UpdatedAt: exampleTime,
		SalesManager: &examplePerson,
	}
	exampleCreatedCustomer = cimsCustomer{
		Customer:   exampleCustomer,
		Assignment: &orNull[cimsCustomerAssignment]{&cimsCustomerAssignment{ID: 42, AssignedAt: exampleTime}},
	}
)

func (s *server) customers() {
	read := []cims.Permission{cims.LeadsRead, cims.LeadsReadOwn}
	write := []cims.Permission{cims.LeadsWrite, cims.LeadsWriteOwn}

	type creation struct {
		IdempotencyKey string `header:"Idempotency-Key" minLength:"1" maxLength:"255" doc:"Visible characters. Within 24 hours the same key and body again get the first answer and create nothing." example:"web-form-8c1f"`
		Body           cimsNewCustomer
	}
	add(s, route{
		id: "create-customer", method: http.MethodPost, path: "/crm/customers", tag: tagLeads, permissions: write,
		summary:     "Add a customer",
		description: "It gets its sales manager at once, by the rotation, whoever adds it, unless the program is configured to leave sales managers the leads that they add. While no sales manager is active it waits. Under `leads:write:own` it starts in the initial status.",
		status:      http.StatusCreated, entity: cims.EntitySalesManager,
		request: cimsNewCustomer{FullName: "Aziza Karimova", PhoneNumber: "+998901234567", Platform: "instagram", Username: "aziza.k"},
		answer:  exampleCreatedCustomer,
	}, func(ctx context.Context, actor cims.Actor, in *creation) (cimsCustomer, error) {
		lead := in.Body.customer()
		lead.IdempotencyKey = in.IdempotencyKey
		customer, err := s.manager.AddCustomer(ctx, actor, lead)
		return newCreatedCimsCustomer(customer), err
	})

	importers := []cims.Permission{cims.LeadsWrite}
	type importing struct{ Upload upload }
	add(s, route{
		id: "import-customers", method: http.MethodPost, path: "/crm/customers/import", tag: tagLeads,
		permissions: importers,
		summary:     "Import customers",
		description: "All or none, in the order of the lines: NDJSON, or CSV whose first row names the columns (" + csvColumns() + "). Each gets its sales manager as a single new customer does. Up to 1,000,000 rows and 256 MiB. In CSV a line break inside quotes is stored as \\n. There is no Idempotency-Key: after a 503, look whether they are there before you repeat it.",
		status:      http.StatusCreated, timeout: s.opts.ImportTimeout,
		uploads: map[string]any{NDJSON: exampleNDJSON, CSV: exampleCSV}, answer: cimsImported{Imported: 2},
	}, func(ctx context.Context, actor cims.Actor, in *importing) (cimsImported, error) {
		select {
		case s.imports <- struct{}{}:
			defer func() { <-s.imports }()
		default:
			return cimsImported{}, &cims.Error{Kind: cims.ErrUnavailable, Reason: cims.ReasonOverloaded}
		}
		file, err := ReadLeads(in.Upload.body, in.Upload.contentType)
		if err != nil {
			return cimsImported{}, err
		}
		n := 0
		if actor, err = s.stillMay(ctx, actor, importers); err == nil {
			n, err = file.AddTo(ctx, s.manager, actor, nil)
		}
		if closing := file.Close(); closing != nil {
			s.opts.Logger.WarnContext(ctx, "httpapi: a temporary file stays", "error", closing)
		}
		return cimsImported{Imported: n}, err
	})

	type listing struct {
		Status         string `query:"status" minLength:"1" doc:"Only those in the status of this name." example:"contacted"`
		SalesManagerID *int64 `query:"sales_manager_id" minimum:"1" doc:"Only those whose sales manager this is." example:"3"`
		Unassigned     bool   `query:"unassigned" default:"false" doc:"Only those without a sales manager."`
		Q              string `query:"q" maxLength:"255" doc:"Start of the name, in any case, or of the phone number, with its plus sign or without." example:"azi"`
		Limit          int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many at most."`
		Cursor         string `query:"cursor" minLength:"1" doc:"The next of the part before."`
	}
	add(s, route{
		id: "list-customers", method: http.MethodGet, path: "/crm/customers", tag: tagLeads, permissions: read,
		summary: "List the customers", description: "Newest first.", entity: cims.EntityUser,
		answer: cimsPage[cims.Customer]{Items: []cims.Customer{exampleCustomer}, Next: "Yy4xNzY1Nzk0NjAwMDAwMDAwLjQy"},
	}, func(ctx context.Context, actor cims.Actor, in *listing) (cimsPage[cims.Customer], error) {
		filter := cims.CustomerFilter{Status: in.Status, SalesManagerID: in.SalesManagerID, Unassigned: in.Unassigned, Prefix: in.Q}
		return page(s.manager.Customers(ctx, actor, filter, cims.PageRequest{Limit: in.Limit, Cursor: in.Cursor}))
	})

	type one struct {
		ID int64 `path:"customer_id" doc:"The customer's id." example:"42"`
	}
	add(s, route{
		id: "get-customer", method: http.MethodGet, path: "/crm/customers/{customer_id}", tag: tagLeads, permissions: read,
		summary: "Read a customer", entity: cims.EntityCustomer, answer: exampleCustomer,
	}, func(ctx context.Context, actor cims.Actor, in *one) (cims.Customer, error) {
		return s.manager.Customer(ctx, actor, in.ID)
	})

	type status struct {
		ID   int64 `path:"customer_id" doc:"The customer's id." example:"42"`
		Body cimsNewCustomerStatus
	}
	add(s, route{
		id: "set-customer-status", method: http.MethodPut, path: "/crm/customers/{customer_id}/status", tag: tagLeads, permissions: write,
		summary: "Put a customer into a status", description: "With history. With the status that it is in already, a reason is kept as a note in the history, and without one nothing changes.",
		entity: cims.EntityCustomer, request: cimsNewCustomerStatus{StatusName: cims.StatusProjectStarted, Reason: "Shartnoma imzolandi"},
		answer: exampleCustomer,
	}, func(ctx context.Context, actor cims.Actor, in *status) (cims.Customer, error) {
		return s.manager.SetStatus(ctx, actor, in.ID, in.Body.StatusName, in.Body.Reason)
	})

	type history struct {
		ID     int64  `path:"customer_id" doc:"The customer's id." example:"42"`
		Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many at most."`
		Cursor string `query:"cursor" minLength:"1" doc:"The next of the part before."`
	}
	add(s, route{
		id: "list-customer-history", method: http.MethodGet, path: "/crm/customers/{customer_id}/history", tag: tagLeads, permissions: read,
		summary: "List what happened to a customer", description: "Changes of status and of sales manager, and notes, oldest first.",
		entity: cims.EntityCustomer,
		answer: cimsPage[cimsEvent]{Items: []cimsEvent{
			{At: exampleTime, Kind: "status", To: eventEnd{status: cims.StatusContacted}, By: new(int64(1)), Cause: "created", Owner: new(int64(3))},
			{At: exampleTime, Kind: "assignment", To: eventEnd{manager: new(int64(3))}, Cause: "automatic", Owner: new(int64(3))},
		}},
	}, func(ctx context.Context, actor cims.Actor, in *history) (cimsPage[cimsEvent], error) {
		part, err := s.manager.History(ctx, actor, in.ID, cims.PageRequest{Limit: in.Limit, Cursor: in.Cursor})
		return convertPage(part, err, newCimsEvent)
	})
}
