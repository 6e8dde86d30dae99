package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cimskit/cims"
)

type cimsStatus cims.Status

// TransformSchema documents the fields.
func (cimsStatus) TransformSchema(_ huma.Registry, schema *huma.Schema) *huma.Schema {
	return describe[cimsStatus](schema, fields{
		"id":           {example: 1},
		"name":         {"The key that customers hold; it never changes.", "contacted"},
		"display_name": {example: "Bog'lanildi"},
		"description":  {example: "Mijoz bilan gaplashildi"},
		"color":        {"#RGB or #RRGGBB.", "#3B82F6"},
		"order":        {"Statuses are listed by order, then id.", 1},
		"is_active":    {"Customers can be put into active statuses only.", true},
		"is_system":    {"Made by the library: can't be deleted or deactivated.", true},
	})
}

type cimsNewStatus struct {
	Name        string      `json:"name" minLength:"1" maxLength:"100" doc:"Letters of any script, digits and _; made lower case, spaces become _."`
	DisplayName string      `json:"display_name" minLength:"1" maxLength:"255" pattern:"\\S"`
	Description string      `json:"description,omitempty" nullable:"true" maxLength:"2000"`
	Color       string      `json:"color,omitempty" nullable:"true" pattern:"^(#([0-9a-fA-F]{3}|[0-9a-fA-F]{6}))?$"`
	Order       int         `json:"order,omitempty" minimum:"0" maximum:"1000000" default:"0"`
	IsActive    *bool       `json:"is_active,omitempty" default:"true"`
	IsSystem    alwaysFalse `json:"is_system,omitempty"`
}

type cimsStatusUpdate struct {
	DisplayName *string     `json:"display_name,omitempty" minLength:"1" maxLength:"255" pattern:"\\S"`
	Description *string     `json:"description,omitempty" nullable:"true" maxLength:"2000" doc:"null clears it."`
	Color       *string     `json:"color,omitempty" nullable:"true" pattern:"^(#([0-9a-fA-F]{3}|[0-9a-fA-F]{6}))?$" doc:"null clears it."`
	Order       *int        `json:"order,omitempty" minimum:"0" maximum:"1000000"`
	IsActive    *bool       `json:"is_active,omitempty"`
	IsSystem    alwaysFalse `json:"is_system,omitempty"`
}

var exampleStatus = cims.Status{
	ID: 7, Name: "meeting_set", DisplayName: "Uchrashuv belgilandi", Description: "Uchrashuv kuni kelishildi",
	Color: "#0EA5E9", Order: 7, Active: true, CreatedAt: exampleTime, UpdatedAt: exampleTime,
}

func (s *server) statuses() {
	read, write := []cims.Permission{cims.StatusesRead}, []cims.Permission{cims.StatusesWrite}

	type listing struct {
		Active *bool `query:"active" doc:"Only the active ones, or only the inactive ones."`
	}
	add(s, route{
		id: "list-statuses", method: http.MethodGet, path: "/management/statuses", tag: tagStatuses, permissions: read,
		summary: "List the statuses", description: "By `order`, then `id`; active and inactive.",
		answer: []cims.Status{exampleStatus},
	}, func(ctx context.Context, actor cims.Actor, in *listing) ([]cims.Status, error) {
		return list(s.manager.Statuses(ctx, actor, cims.StatusFilter{Active: in.Active}))
	})

	type creation struct{ Body cimsNewStatus }
	add(s, route{
		id: "create-status", method: http.MethodPost, path: "/management/statuses", tag: tagStatuses, permissions: write,
		summary: "Create a status", status: http.StatusCreated, conflict: cims.ErrExists,
		request: cimsNewStatus{Name: "meeting_set", DisplayName: "Uchrashuv belgilandi", Description: "Uchrashuv kuni kelishildi", Color: "#0EA5E9", Order: 7},
		answer:  exampleStatus,
	}, func(ctx context.Context, actor cims.Actor, in *creation) (cims.Status, error) {
		return s.manager.CreateStatus(ctx, actor, cims.NewStatus{
			Name: in.Body.Name, DisplayName: in.Body.DisplayName, Description: in.Body.Description,
			Color: in.Body.Color, Order: in.Body.Order, Inactive: isFalse(in.Body.IsActive),
		})
	})

	type update struct {
		ID   int64 `path:"status_id" doc:"The status's id." example:"7"`
		Body cimsStatusUpdate
	}
	add(s, route{
		id: "update-status", method: http.MethodPut, path: "/management/statuses/{status_id}", tag: tagStatuses, permissions: write,
		summary: "Change a status", description: "Only the fields sent change. A system status can't be deactivated.",
		entity: cims.EntityStatus, request: cimsStatusUpdate{DisplayName: new("Uchrashuv belgilandi"), Color: new("#0EA5E9")},
		answer: exampleStatus,
	}, func(ctx context.Context, actor cims.Actor, in *update) (cims.Status, error) {
		return s.manager.UpdateStatus(ctx, actor, in.ID, cims.StatusUpdate{
			DisplayName: in.Body.DisplayName, Description: in.Body.Description, Color: in.Body.Color,
			Order: in.Body.Order, Active: in.Body.IsActive,
		})
	})

	type deletion struct {
		ID     int64  `path:"status_id" doc:"The status's id." example:"7"`
		MoveTo string `query:"move_to" minLength:"1" doc:"The name of the active status that its customers are moved to, with history, in the same transaction. Needs leads:write as well." example:"contacted"`
	}
	add(s, route{
		id: "delete-status", method: http.MethodDelete, path: "/management/statuses/{status_id}", tag: tagStatuses, permissions: write,
		summary: "Delete a status", description: "While customers are in it nothing is deleted, unless `move_to` says where to. A system status can't be deleted. One that is made again under the same name goes on with the history of the first.",
		entity: cims.EntityStatus, conflict: cims.ErrInUse, status: http.StatusNoContent,
	}, func(ctx context.Context, actor cims.Actor, in *deletion) (none, error) {
		return none{}, s.manager.DeleteStatus(ctx, actor, in.ID, cims.Deletion{MoveTo: in.MoveTo})
	})
}

// isFalse reports whether a field that is true by default was sent as false.
func isFalse(sent *bool) bool { return sent != nil && !*sent }
