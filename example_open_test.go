package cims_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/sqlite"
)

// open returns a Manager with a team of sales managers, over a new SQLite file. The
// package example shows the steps.
func open(config *cims.Config, names ...string) (crm *cims.Manager, team []cims.User, end func()) {
	ctx := context.Background()
	folder := must(os.MkdirTemp("", "cims"))
	store := must(sqlite.Open(ctx, filepath.Join(folder, "crm.db"), sqlite.SynchronousNormal))
	must(store, store.Migrate(ctx))
	crm = must(cims.New(store, config))
	for _, name := range names {
		team = append(team, must(crm.CreateUser(ctx, cims.System("example"), cims.NewUser{
			Email: strings.ToLower(name) + "@example.com", Name: name, Surname: "Karimov", RoleName: cims.RoleSalesManager,
		})))
	}
	return crm, team, func() { must(crm, errors.Join(crm.Close(ctx), store.Close(), os.RemoveAll(folder))) }
}
