package httpapi

import (
	"context"
	"net/http"

	"github.com/cimskit/cims"
)

type cimsMe struct {
	ID          int64            `json:"id" example:"3"`
	Email       string           `json:"email" example:"dilshod@example.com"`
	Name        string           `json:"name" example:"Dilshod"`
	Surname     string           `json:"surname" example:"Rahimov"`
	RoleName    string           `json:"role_name" example:"sales_manager"`
	Permissions []cimsPermission `json:"permissions" nullable:"false"`
}

func (s *server) me() {
	add(s, route{
		id: "get-me", method: http.MethodGet, path: "/me", tag: tagUsers, summary: "Read who I am and what I may do",
		answer: cimsMe{
			ID: 3, Email: "dilshod@example.com", Name: "Dilshod", Surname: "Rahimov", RoleName: cims.RoleSalesManager,
			Permissions: []cimsPermission{"statuses:read", "leads:read:own", "leads:write:own", "analytics:read"},
		},
	}, func(_ context.Context, actor cims.Actor, _ *none) (cimsMe, error) {
		user := actor.User()
		return cimsMe{
			ID: user.ID, Email: user.Email, Name: user.Name, Surname: user.Surname, RoleName: user.RoleName,
			Permissions: list(actor.Permissions(), newCimsPermission),
		}, nil
	})
}
