package cims_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"

	"github.com/cimskit/cims"
)

// prepare adds the statuses and roles of a company. It runs at each start, after
// Migrate.
func prepare(ctx context.Context, crm *cims.Manager) error {
	us := cims.System("prepare")
	_, err := crm.CreateStatus(ctx, us, cims.NewStatus{Name: "offer_sent", DisplayName: "Offer sent", Color: "#0EA5E9", Order: 2})
	if err != nil && !errors.Is(err, cims.ErrExists) {
		return err
	}
	_, err = crm.CreateRole(ctx, us, cims.NewRole{
		Name: "marketing", DisplayName: "Marketing", Permissions: []cims.Permission{cims.LeadsRead, cims.AnalyticsRead},
	})
	if err != nil && !errors.Is(err, cims.ErrExists) {
		return err
	}
	return nil
}

// A program can add the statuses and roles of its company at each start.
func ExampleNewStatus() {
	ctx := context.Background()
	crm, _, end := open(nil)
	defer end()
	fmt.Println(prepare(ctx, crm), prepare(ctx, crm))
	fmt.Println(must(crm.Statuses(ctx, cims.System("example"), cims.StatusFilter{}))[2].Name)
	// Output:
	// <nil> <nil>
	// offer_sent
}

// form accepts two fields from a visitor and no others.
func form(crm *cims.Manager) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, err := crm.AddCustomer(r.Context(), cims.System("web form"), cims.NewCustomer{
			FullName: r.PostFormValue("name"), PhoneNumber: r.PostFormValue("phone"), Platform: "web",
		})
		switch {
		case errors.Is(err, cims.ErrInvalid):
			http.Error(w, "Please check your name and phone number.", http.StatusUnprocessableEntity)
		case err != nil:
			http.Error(w, "Please try again.", http.StatusServiceUnavailable)
		default:
			fmt.Fprintln(w, "Thank you, we will call you.")
		}
	}
}

// A public form adds leads as trusted code. The visitor chooses only the values of
// fields.
func ExampleSystem() {
	crm, _, end := open(nil, "Anvar")
	defer end()
	send := func(name string) {
		body := strings.NewReader(url.Values{"name": {name}, "phone": {"+998901234567"}}.Encode())
		request := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/", body)
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		answer := httptest.NewRecorder()
		form(crm)(answer, request)
		fmt.Print(answer.Code, " ", answer.Body)
	}
	send("Aziza Karimova")
	send("")
	// Output:
	// 200 Thank you, we will call you.
	// 422 Please check your name and phone number.
}
