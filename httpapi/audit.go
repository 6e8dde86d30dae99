package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cimskit/cims"
)

type cimsAuditEntry struct {
	ID        int64               `json:"id" doc:"Later ones are higher." example:"812"`
	At        time.Time           `json:"at"`
	RequestID cims.Text           `json:"request_id" doc:"The X-Request-ID of the request that did it; null outside of one." example:"order-form-17"`
	By        orNull[cims.Person] `json:"by" doc:"Who did it; null for the system."`
	System    cims.Text           `json:"system" doc:"Which part of the system did it; null for a user." example:"web form"`
	Action    cims.Action         `json:"action" enum:"created,updated,deleted,assigned" example:"updated"`
	Entity    cims.Entity         `json:"entity" enum:"status,role,user,sales_manager,customer" example:"status"`
	EntityID  int64               `json:"entity_id" example:"7"`
	Cause     cims.Text           `json:"cause" doc:"Of an assignment: manual, automatic or redistributed." example:"manual"`
	MoveTo    cims.Text           `json:"move_to" doc:"Where those went who had the deleted status or role." example:"contacted"`
	Before    auditState          `json:"before"`
	After     auditState          `json:"after"`
}

// auditState is an entity as JSON from the audit log.
type auditState json.RawMessage

// MarshalJSON returns the object, or null.
func (s auditState) MarshalJSON() ([]byte, error) {
	if len(s) == 0 {
		return []byte("null"), nil
	}
	return s, nil
}

// Schema documents an object with any fields, or null.
func (auditState) Schema(registry huma.Registry) *huma.Schema {
	return named(registry, "CimsAuditState", &huma.Schema{
		Type: huma.TypeObject, Nullable: true,
		Description: "What it was, with the fields that its own route shows; of a customer the sales manager only. null where there was none before, or is none after.",
	})
}

func newCimsAuditEntry(e cims.AuditEntry) cimsAuditEntry {
	return cimsAuditEntry{
		ID: e.ID, At: e.At.UTC(), RequestID: cims.Text(e.RequestID), By: orNull[cims.Person]{e.By}, System: cims.Text(e.System),
		Action: e.Action, Entity: e.Entity, EntityID: e.EntityID, Cause: cims.Text(e.Cause), MoveTo: cims.Text(e.MoveTo),
		Before: auditState(e.Before), After: auditState(e.After),
	}
}

func (s *server) audit() {
	type listing struct {
		Entity    cims.Entity `query:"entity" enum:"status,role,user,sales_manager,customer" doc:"Only what was done to these." example:"status"`
		EntityID  *int64      `query:"entity_id" minimum:"1" doc:"Only what was done to the one with this id." example:"7"`
		By        *int64      `query:"by" minimum:"1" doc:"Only what the user with this id did." example:"1"`
		Action    cims.Action `query:"action" enum:"created,updated,deleted,assigned" doc:"Only these actions." example:"updated"`
		RequestID string      `query:"request_id" minLength:"1" maxLength:"128" pattern:"^[A-Za-z0-9._/+=-]+$" doc:"Only what this request did." example:"order-form-17"`
		Since     time.Time   `query:"since" doc:"Not before this." example:"2025-12-15T10:30:00Z"`
		Until     time.Time   `query:"until" doc:"Before this." example:"2025-12-16T10:30:00Z"`
		Limit     int         `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many at most."`
		Cursor    string      `query:"cursor" minLength:"1" doc:"The next of the part before."`
	}
	add(s, route{
		id: "list-audit", method: http.MethodGet, path: "/management/audit", tag: tagAudit,
		permissions: []cims.Permission{cims.AuditRead},
		summary:     "List what was done",
		description: "To statuses, roles, users, sales managers and assignments, newest first. What a customer's own history has is not repeated here. Nothing in it can be changed.",
		answer: cimsPage[cimsAuditEntry]{Items: []cimsAuditEntry{{
			ID: 812, At: exampleTime, RequestID: "order-form-17", By: orNull[cims.Person]{&examplePerson},
			Action: cims.ActionUpdated, Entity: cims.EntitySalesManager, EntityID: 3,
			Before: auditState(`{"id": 3, "email": "dilshod@example.com", "name": "Dilshod", "surname": "Rahimov", "assigned_leads_count": 12, "weight": 1, "paused": false}`),
			After:  auditState(`{"id": 3, "email": "dilshod@example.com", "name": "Dilshod", "surname": "Rahimov", "assigned_leads_count": 12, "weight": 2, "paused": false}`),
		}}},
	}, func(ctx context.Context, actor cims.Actor, in *listing) (cimsPage[cimsAuditEntry], error) {
		part, err := s.manager.Audit(ctx, actor, cims.AuditFilter{
			Entity: in.Entity, EntityID: in.EntityID, By: in.By, Action: in.Action, RequestID: in.RequestID, Since: in.Since, Until: in.Until,
		}, cims.PageRequest{Limit: in.Limit, Cursor: in.Cursor})
		return convertPage(part, err, newCimsAuditEntry)
	})
}
