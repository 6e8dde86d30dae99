// Command client does a sales department's day with the client that oapi-codegen
// makes of the API's OpenAPI document:
//
//	curl -o openapi.json http://127.0.0.1:8000/openapi.json
//	go generate && TOKEN=… go run . http://127.0.0.1:8000
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"

	"client/cims"
)

//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config oapi-codegen.yaml openapi.json

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: TOKEN=… client URL")
	}
	summary, err := day(context.Background(), os.Args[1], os.Getenv("TOKEN"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(summary)
}

func day(ctx context.Context, url, token string) (string, error) {
	api, err := cims.NewClientWithResponses(url, cims.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+token)
		return nil
	}))
	if err != nil {
		return "", err
	}

	color := "#0EA5E9"
	status, err := api.CimsCreateStatusWithResponse(ctx, nil, cims.CimsNewStatus{Name: "Contract signed", DisplayName: "Signed", Color: &color})
	if err != nil || status.JSON201 == nil {
		return "", refused(status, status.ApplicationproblemJSON422, err)
	}
	signed := status.JSON201.Name

	for _, name := range []string{"Aziza", "Bekzod", "Dilnoza"} {
		user, err := api.CimsCreateUserWithResponse(ctx, nil, cims.CimsNewUser{
			Email: name + "@example.com", Name: name, Surname: "Karimov", RoleName: "sales_manager",
		})
		if err != nil || user.JSON201 == nil {
			return "", refused(user, user.ApplicationproblemJSON409, err)
		}
	}

	var leads []cims.CimsCustomer
	for i := range 9 {
		key := fmt.Sprint("order-", i)
		lead, err := api.CimsCreateCustomerWithResponse(ctx, &cims.CimsCreateCustomerParams{IdempotencyKey: &key},
			cims.CimsNewCustomer{FullName: fmt.Sprint("Lead ", i+1)})
		if err != nil || lead.JSON201 == nil {
			return "", refused(lead, lead.ApplicationproblemJSON422, err)
		}
		leads = append(leads, *lead.JSON201)
	}

	assigned, err := api.CimsAssignSalesManagerWithResponse(ctx, nil,
		cims.CimsNewAssignment{CustomerId: leads[0].Id, SalesManagerId: leads[2].SalesManager.Id})
	if err != nil || assigned.JSON200 == nil {
		return "", refused(assigned, assigned.ApplicationproblemJSON404, err)
	}
	moved, err := api.CimsSetCustomerStatusWithResponse(ctx, leads[0].Id, nil, cims.CimsNewCustomerStatus{StatusName: signed})
	if err != nil || moved.JSON200 == nil {
		return "", refused(moved, moved.ApplicationproblemJSON404, err)
	}

	managers, err := api.CimsListSalesManagersWithResponse(ctx, nil)
	if err != nil || managers.JSON200 == nil {
		return "", refused(managers, managers.ApplicationproblemJSON403, err)
	}
	summary := ""
	for _, manager := range *managers.JSON200 {
		summary += fmt.Sprintf("%s %d, ", manager.Name, manager.AssignedLeadsCount)
	}

	rate, err := api.CimsGetConversionRateWithResponse(ctx, &cims.CimsGetConversionRateParams{Target: &signed})
	if err != nil || rate.JSON200 == nil {
		return "", refused(rate, rate.ApplicationproblemJSON422, err)
	}
	summary += fmt.Sprintf("%d of %d %s: %.2f %%", rate.JSON200.ProjectStartedCount, rate.JSON200.TotalCustomers, signed, rate.JSON200.ConversionRate)

	history, err := api.CimsListCustomerHistoryWithResponse(ctx, leads[0].Id, nil)
	if err != nil || history.JSON200 == nil {
		return "", refused(history, history.ApplicationproblemJSON404, err)
	}
	for _, event := range history.JSON200.Items {
		to, err := event.To.AsCimsEventEnd0() // a status's name, or it is a manager's id
		if event.Kind == "status" && err == nil {
			summary += ", " + to
		}
	}

	deleted, err := api.CimsDeleteStatusWithResponse(ctx, status.JSON201.Id, nil)
	if err != nil || deleted.ApplicationproblemJSON409 == nil || deleted.ApplicationproblemJSON409.Count == nil {
		return "", refused(deleted, deleted.ApplicationproblemJSON404, err)
	}
	return fmt.Sprintf("%s, in use: %d", summary, *deleted.ApplicationproblemJSON409.Count), nil
}

// refused makes an error of an answer that was not hoped for.
func refused(answer interface{ Status() string }, problem *cims.CimsProblem, err error) error {
	switch {
	case err != nil:
		return err
	case problem != nil:
		return fmt.Errorf("%s: %s", problem.Title, problem.Detail)
	default:
		return fmt.Errorf("unexpected: %s", answer.Status())
	}
}
