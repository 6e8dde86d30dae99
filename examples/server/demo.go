package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cimskit/cims"
)

const (
	demoLeads = 320
	demoSpan  = 6 * 7 * 24 * time.Hour
)

var (
	demoNames     = []string{"Aziza", "Bekzod", "Dilnoza", "Feruza", "Gulnora", "Ivan", "Jasur", "Kamola", "Lola", "Malika", "Nilufar", "Olga", "Otabek", "Rustam", "Sardor", "Sevara", "Temur", "Ulugbek", "Zarina", "Shoxrux"}
	demoSurnames  = []string{"Aliyev", "Ergashev", "Ismoilov", "Karimov", "Nazarov", "Petrov", "Qodirov", "Rahimov", "Saidov", "Sobirov", "Toshev", "Umarov", "Xolmatov", "Yusupov"}
	demoPlatforms = []string{"telegram", "instagram", "facebook", "website", "referral", "linkedin"}
	demoTeam      = []cims.NewUser{
		{Email: "dilnoza@example.com", Name: "Dilnoza", Surname: "Karimova", RoleName: cims.RoleSalesManager},
		{Email: "jasur@example.com", Name: "Jasur", Surname: "Toshev", RoleName: cims.RoleSalesManager},
		{Email: "olga@example.com", Name: "Olga", Surname: "Petrova", RoleName: cims.RoleSalesManager},
		{Email: "temur@example.com", Name: "Temur", Surname: "Saidov", RoleName: cims.RoleSalesManager},
		{Email: "finance@example.com", Name: "Rustam", Surname: "Umarov", RoleName: "financial_director"},
		{Email: "member@example.com", Name: "Sevara", Surname: "Nazarova", RoleName: "member"},
	}
	// demoPaths are the paths of leads through the statuses. Likely paths are listed more often.
	demoPaths = []string{
		"", "", "need_to_call", "need_to_call rejected", "rejected", "meeting_set", "meeting_set rejected",
		"meeting_set project_started", "meeting_set project_started continuing", "project_started continuing finished",
	}
)

// step is a past event of a lead.
type step struct {
	at     time.Time
	lead   int
	status string // empty for a new lead
}

// fillDemo plays six made-up weeks on a simulated clock, so that times, owners and histories
// look real.
func fillDemo(ctx context.Context, store cims.Storage, log *slog.Logger) error {
	var clock atomic.Int64 // microseconds; the Manager reads it in the background too
	crm, err := cims.New(store, &cims.Config{Clock: func() time.Time { return time.UnixMicro(clock.Load()) }, Logger: log})
	if err != nil {
		return err
	}
	defer closing(log, "demo", func() error { return crm.Close(context.WithoutCancel(ctx)) })
	demo := cims.System("demo")
	present, err := crm.Customers(ctx, demo, cims.CustomerFilter{}, cims.PageRequest{Limit: 1})
	if err != nil {
		return err
	}
	if len(present.Items) > 0 {
		log.Info("demo: the database has leads already, nothing is added")
		return nil
	}
	end := time.Now()
	begin := end.Add(-demoSpan)
	clock.Store(begin.UnixMicro())
	err = hireDemoTeam(ctx, crm, demo)
	if errors.Is(err, cims.ErrExists) {
		log.Info("demo: another process fills the database, or began to: nothing is added")
		return nil
	}
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(2026, 100)) //nolint:gosec // names, not secrets
	ids := make([]int64, demoLeads)
	for _, s := range demoSteps(random, begin, end) {
		clock.Store(s.at.UnixMicro())
		if s.status != "" {
			if _, err := crm.SetStatus(ctx, demo, ids[s.lead], s.status, ""); err != nil {
				return err
			}
			continue
		}
		lead, err := crm.AddCustomer(ctx, demo, demoLead(random, s.lead))
		if err != nil {
			return err
		}
		ids[s.lead] = lead.ID
	}
	log.Info("demo: made-up leads added", "leads", demoLeads)
	return nil
}

func hireDemoTeam(ctx context.Context, crm *cims.Manager, demo cims.Actor) error {
	_, err := crm.CreateStatus(ctx, demo, cims.NewStatus{
		Name: "meeting_set", DisplayName: "Meeting Set", Description: "A meeting is agreed on", Color: "#FF6B6B", Order: 7,
	})
	if err != nil {
		return err
	}
	for _, user := range demoTeam {
		if _, err := crm.CreateUser(ctx, demo, user); err != nil {
			return err
		}
	}
	return nil
}

func demoSteps(random *rand.Rand, begin, end time.Time) []step {
	var steps []step
	for lead := range demoLeads {
		at := begin.Add(upTo(random, end.Sub(begin)))
		steps = append(steps, step{at: at, lead: lead})
		for status := range strings.FieldsSeq(demoPaths[random.IntN(len(demoPaths))]) {
			if at = at.Add(time.Hour + upTo(random, 5*24*time.Hour)); at.Before(end) {
				steps = append(steps, step{at: at, lead: lead, status: status})
			}
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int { return a.at.Compare(b.at) })
	return steps
}

func upTo(random *rand.Rand, limit time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(limit)))
}

func demoLead(random *rand.Rand, i int) cims.NewCustomer {
	lead := cims.NewCustomer{
		FullName:    pick(random, demoNames) + " " + pick(random, demoSurnames),
		PhoneNumber: fmt.Sprintf("+99890%07d", random.IntN(10_000_000)),
		Platform:    pick(random, demoPlatforms),
	}
	if random.IntN(2) == 0 {
		lead.Username = fmt.Sprintf("@lead%d", i)
	}
	return lead
}

func pick(random *rand.Rand, from []string) string { return from[random.IntN(len(from))] }
