package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cimskit/cims"
)

type cimsSalesManager cims.SalesManager

// TransformSchema documents the fields.
func (cimsSalesManager) TransformSchema(_ huma.Registry, schema *huma.Schema) *huma.Schema {
	return describe[cimsSalesManager](schema, personFields, fields{
		"assigned_leads_count": {"Customers whose present sales manager this is.", 17},
		"weight":               {"Of weight 2 gets two turns for the others' one.", 1},
		"paused":               {"Keeps the leads, gets no new ones.", false},
	})
}

type cimsSalesManagerUpdate struct {
	Weight *int  `json:"weight,omitempty" minimum:"1" maximum:"100" doc:"Of weight 2 gets two turns for the others' one."`
	Paused *bool `json:"paused,omitempty" doc:"Keeps the leads, gets no new ones."`
}

type cimsNewAssignment struct {
	CustomerID     int64 `json:"customer_id"`
	SalesManagerID int64 `json:"sales_manager_id"`
}

type cimsAssignment cims.Assignment

// TransformSchema documents the fields.
func (cimsAssignment) TransformSchema(_ huma.Registry, schema *huma.Schema) *huma.Schema {
	return describe[cimsAssignment](schema, fields{
		"id":               {example: 42},
		"customer_id":      {example: 42},
		"sales_manager_id": {example: 3},
		"assigned_by":      {"null after automatic assignment.", 1},
		"is_active":        {example: true},
	})
}

type cimsCustomersManager struct {
	AssignmentID int64       `json:"assignment_id" example:"42"`
	CustomerID   int64       `json:"customer_id" example:"42"`
	SalesManager cims.Person `json:"sales_manager"`
	AssignedAt   time.Time   `json:"assigned_at"`
	AssignedBy   *int64      `json:"assigned_by" doc:"null after automatic assignment."`
}

type cimsBacklog struct {
	Assigned int `json:"assigned" doc:"Got a sales manager." example:"120"`
	Waiting  int `json:"waiting" doc:"Could not be given to anybody, since no sales manager is active and unpaused: from now on they wait, and each is assigned once somebody is." example:"0"`
}

var exampleManager = cims.SalesManager{Person: examplePerson, AssignedLeads: 17, Weight: 1}

func (s *server) assignments() {
	read, assign := []cims.Permission{cims.LeadsRead, cims.LeadsReadOwn}, []cims.Permission{cims.LeadsAssign}

	add(s, route{
		id: "list-sales-managers", method: http.MethodGet, path: "/crm/sales-managers", tag: tagManagers, permissions: read,
		summary: "List the active sales managers", description: "Either permission shows all of them, by `name`, then `id`.",
		answer: []cims.SalesManager{exampleManager},
	}, func(ctx context.Context, actor cims.Actor, _ *none) ([]cims.SalesManager, error) {
		return list(s.manager.SalesManagers(ctx, actor))
	})

	type update struct {
		ID   int64 `path:"user_id" doc:"The sales manager's user id." example:"3"`
		Body cimsSalesManagerUpdate
	}
	add(s, route{
		id: "update-sales-manager", method: http.MethodPut, path: "/crm/sales-managers/{user_id}", tag: tagManagers, permissions: assign,
		summary: "Weigh or pause a sales manager", description: "Only the fields sent change.",
		entity: cims.EntitySalesManager, request: cimsSalesManagerUpdate{Weight: new(1), Paused: new(false)}, answer: exampleManager,
	}, func(ctx context.Context, actor cims.Actor, in *update) (cims.SalesManager, error) {
		return s.manager.SetSalesManager(ctx, actor, in.ID, cims.SalesManagerUpdate{Weight: in.Body.Weight, Paused: in.Body.Paused})
	})

	type assignment struct{ Body cimsNewAssignment }
	add(s, route{
		id: "assign-sales-manager", method: http.MethodPost, path: "/crm/assign-sales-manager", tag: tagManagers, permissions: assign,
		summary: "Assign a customer by hand", description: "Also instead of another sales manager. It takes no turn in the rotation.",
		entity: cims.EntitySalesManager, request: cimsNewAssignment{CustomerID: 42, SalesManagerID: 3},
		answer: cims.Assignment{ID: 42, CustomerID: 42, SalesManagerID: 3, AssignedAt: exampleTime, AssignedBy: new(int64(1)), Active: true},
	}, func(ctx context.Context, actor cims.Actor, in *assignment) (cims.Assignment, error) {
		return s.manager.Assign(ctx, actor, in.Body.CustomerID, in.Body.SalesManagerID)
	})

	add(s, route{
		id: "assign-backlog", method: http.MethodPost, path: "/crm/assign-backlog", tag: tagManagers, permissions: assign,
		summary:     "Assign the customers that were left without a sales manager",
		description: "Those that an older program left unassigned, oldest first. It works through them in parts: what was done before a 503 stays done, and another call goes on.",
		answer:      cimsBacklog{Assigned: 120},
	}, func(ctx context.Context, actor cims.Actor, _ *none) (cimsBacklog, error) {
		result, err := s.manager.AssignBacklog(ctx, actor)
		return cimsBacklog{Assigned: result.Assigned, Waiting: result.Waiting}, err
	})

	type ofCustomer struct {
		ID int64 `path:"customer_id" doc:"The customer's id." example:"42"`
	}
	add(s, route{
		id: "get-customer-sales-manager", method: http.MethodGet, path: "/crm/customer/{customer_id}/sales-manager", tag: tagManagers, permissions: read,
		summary: "Read who takes care of a customer", entity: cims.EntityAssignment,
		answer: cimsCustomersManager{AssignmentID: 42, CustomerID: 42, SalesManager: examplePerson, AssignedAt: exampleTime},
	}, func(ctx context.Context, actor cims.Actor, in *ofCustomer) (cimsCustomersManager, error) {
		a, person, err := s.manager.Assignment(ctx, actor, in.ID)
		return cimsCustomersManager{
			AssignmentID: a.ID, CustomerID: a.CustomerID, SalesManager: person,
			AssignedAt: a.AssignedAt, AssignedBy: a.AssignedBy,
		}, err
	})
}
