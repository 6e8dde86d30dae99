package httpapi

import (
	"context"
	"net/http"

	"github.com/cimskit/cims"
)

type cimsConversion struct {
	TotalCustomers      int     `json:"total_customers" doc:"How many leads were looked at." example:"100"`
	ProjectStartedCount int     `json:"project_started_count" doc:"How many of them reached the target status." example:"23"`
	ConversionRate      float64 `json:"conversion_rate" doc:"In percent, rounded half away from zero to two decimals; 0 when there were no leads." example:"23"`
	Period              string  `json:"period" doc:"How many leads were looked at, in words of the language asked for." example:"Oxirgi 100 ta lead"`
}

func (s *server) conversion() {
	type query struct {
		Last           int                 `query:"last" minimum:"1" maximum:"100000" default:"100" doc:"How many of the newest leads are looked at."`
		Target         string              `query:"target" minLength:"1" doc:"The name of the status to be reached; the configured one unless given, project_started by default." example:"project_started"`
		SalesManagerID *int64              `query:"sales_manager_id" minimum:"1" doc:"Only leads whose present sales manager this is." example:"3"`
		Mode           cims.ConversionMode `query:"mode" enum:"reached,current" default:"reached" doc:"Count leads that ever reached the target, or those that are in it now."`
		Own            string              `query:"own" enum:"exclude" doc:"Leave out leads that their sales manager added."`
	}
	add(s, route{
		id: "get-conversion-rate", method: http.MethodGet, path: "/crm/conversion-rate", tag: tagAnalytics,
		permissions: []cims.Permission{cims.AnalyticsRead},
		summary:     "Measure the conversion rate", description: "Of the newest leads, by time of creation, then id. Without `leads:read`: of one's own leads, or of all leads with `last` in multiples of 20 and without `own`.",
		entity: cims.EntityUser,
		answer: cimsConversion{TotalCustomers: 100, ProjectStartedCount: 23, ConversionRate: 23, Period: s.language.format("period", 100)},
	}, func(ctx context.Context, actor cims.Actor, in *query) (cimsConversion, error) {
		c, err := s.manager.ConversionRate(ctx, actor, cims.ConversionQuery{
			Last: in.Last, Target: in.Target, SalesManagerID: in.SalesManagerID, Mode: in.Mode, ExcludeOwn: in.Own != "",
		})
		return cimsConversion{
			TotalCustomers: c.Total, ProjectStartedCount: c.Count, ConversionRate: c.Rate(),
			Period: languageIn(ctx).format("period", c.Total),
		}, err
	})
}
