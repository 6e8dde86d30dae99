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

// open makes a Manager for an example, over an SQLite file of its own, with a
// team of sales managers. See the package's example for how to do that yourself.
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
