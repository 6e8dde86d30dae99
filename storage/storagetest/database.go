package storagetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

// patience is how long a test waits for an event. It is far longer than anything
// takes: a test fails only where the event never happens.
const patience = 30 * time.Second

var system = cims.System("storagetest")

// database is the database of one test, with a Storage on it and a Manager over that.
type database struct {
	cims.Storage
	crm   *cims.Manager
	clock *clock
	open  func(t *testing.T) cims.Storage
}

// newDatabase migrates a fresh database. If quiet, its Manager does nothing by
// itself: waiting leads keep waiting.
func newDatabase(t *testing.T, factory Factory, quiet bool) *database {
	t.Helper()
	open := factory(t)
	d := &database{clock: newClock(), open: func(t *testing.T) cims.Storage {
		t.Helper()
		store := open(t)
		t.Cleanup(func() { require.NoError(t, store.Close()) })
		return store
	}}
	d.Storage = d.open(t)
	require.NoError(t, d.Migrate(t.Context()))
	if quiet {
		d.crm = d.manager(t, nobodyWaits{d.Storage}, nil)
	} else {
		d.crm = d.manager(t, d.Storage, nil)
	}
	return d
}

// nobodyWaits hides waiting leads from a Manager that looks for them.
type nobodyWaits struct{ cims.Storage }

func (nobodyWaits) Unassigned(context.Context, cims.UnassignedQuery) ([]int64, error) {
	return nil, nil
}

// manager makes another Manager, on the test's clock if config has none.
func (d *database) manager(t *testing.T, store cims.Storage, config *cims.Config) *cims.Manager {
	t.Helper()
	if config == nil {
		config = &cims.Config{}
	}
	if config.Clock == nil {
		config.Clock = d.clock.now
	}
	if config.Logger == nil { // seen where a test fails
		config.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	crm, err := cims.New(store, config)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, crm.Close(ctx))
	})
	return crm
}

// update runs a transaction that has to succeed.
func (d *database) update(t *testing.T, do func(ctx context.Context, tx cims.Tx) error) {
	t.Helper()
	require.NoError(t, d.Update(t.Context(), do))
}

// user makes a user by the name, with a surname and an email made from it.
func (d *database) user(t *testing.T, role, name string) cims.User {
	t.Helper()
	user, err := d.crm.CreateUser(t.Context(), system, newUser(role, name))
	require.NoError(t, err)
	return user
}

func newUser(role, name string) cims.NewUser {
	email := strings.ReplaceAll(strings.ToLower(name), " ", ".") + "@example.com"
	return cims.NewUser{Email: email, Name: name, Surname: name + "ov", RoleName: role}
}

// sellers makes active sales managers.
func (d *database) sellers(t *testing.T, names ...string) []cims.User {
	t.Helper()
	users := make([]cims.User, len(names))
	for i, name := range names {
		users[i] = d.user(t, cims.RoleSalesManager, name)
	}
	return users
}

// actor is somebody with a new user of this role behind it.
func (d *database) actor(t *testing.T, role, name string) cims.Actor {
	t.Helper()
	return d.actorOf(t, d.user(t, role, name).ID)
}

func (d *database) actorOf(t *testing.T, userID int64) cims.Actor {
	t.Helper()
	actor, err := d.crm.ActorByID(t.Context(), userID)
	require.NoError(t, err)
	return actor
}

// holder returns an Actor with these permissions, in a role of this name.
func (d *database) holder(t *testing.T, name string, permissions ...cims.Permission) cims.Actor {
	t.Helper()
	role, err := d.crm.CreateRole(t.Context(), system, cims.NewRole{
		Name: name, DisplayName: name, Permissions: permissions,
	})
	require.NoError(t, err)
	return d.actor(t, role.Name, name)
}

func (d *database) status(t *testing.T, name string) cims.Status {
	t.Helper()
	status, err := d.crm.CreateStatus(t.Context(), system, cims.NewStatus{Name: name, DisplayName: name})
	require.NoError(t, err)
	return status
}

func (d *database) statusNamed(t *testing.T, name string) cims.Status {
	t.Helper()
	statuses, err := d.Statuses(t.Context())
	require.NoError(t, err)
	i := slices.IndexFunc(statuses, func(s cims.Status) bool { return s.Name == name })
	require.GreaterOrEqual(t, i, 0, "there is no status %q", name)
	return statuses[i]
}

func (d *database) roleNamed(t *testing.T, name string) cims.Role {
	t.Helper()
	roles, err := d.Roles(t.Context())
	require.NoError(t, err)
	i := slices.IndexFunc(roles, func(r cims.Role) bool { return r.Name == name })
	require.GreaterOrEqual(t, i, 0, "there is no role %q", name)
	return roles[i]
}

// lead adds a customer by the rotation.
func (d *database) lead(t *testing.T, name string) cims.Customer {
	t.Helper()
	return d.leadIn(t, name, "")
}

func (d *database) leadIn(t *testing.T, name, status string) cims.Customer {
	t.Helper()
	customer, err := d.crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: name, StatusName: status})
	require.NoError(t, err)
	return customer
}

func (d *database) customer(t *testing.T, id int64) cims.Customer {
	t.Helper()
	customer, err := d.Customer(t.Context(), id)
	require.NoError(t, err)
	return customer
}

// bulk stores n customers in a status as a program beside the library would:
// without an owner, and without waiting for one.
func (d *database) bulk(t *testing.T, n int, status string) []int64 {
	t.Helper()
	const atOnce = 500
	var all []int64
	for len(all) < n {
		customers := make([]cims.Customer, min(atOnce, n-len(all)))
		for i := range customers {
			at := d.clock.now()
			customers[i] = cims.Customer{
				FullName: fmt.Sprintf("Bulk %05d", len(all)+i), StatusName: status, CreatedAt: at, UpdatedAt: at,
			}
		}
		var ids []int64
		d.update(t, func(ctx context.Context, tx cims.Tx) error {
			var err error
			ids, err = takeIn(ctx, tx, customers)
			return err
		})
		require.Len(t, ids, len(customers))
		all = append(all, ids...)
	}
	return all
}

// own makes somebody the owner of customers, by hand.
func (d *database) own(t *testing.T, owner int64, customers ...int64) {
	t.Helper()
	for _, id := range customers {
		_, err := d.crm.Assign(t.Context(), system, id, owner)
		require.NoError(t, err)
	}
}

// customers lists all customers that a filter selects, through pages.
func (d *database) customers(t *testing.T, filter cims.CustomerFilter) []cims.Customer {
	t.Helper()
	return all(t, func(page cims.PageRequest) (cims.Page[cims.Customer], error) {
		return d.crm.Customers(t.Context(), system, filter, page)
	})
}

func (d *database) history(t *testing.T, customer int64) []cims.Event {
	t.Helper()
	return all(t, func(page cims.PageRequest) (cims.Page[cims.Event], error) {
		return d.crm.History(t.Context(), system, customer, page)
	})
}

// all follows a list's pages to its end.
func all[T any](t *testing.T, list func(cims.PageRequest) (cims.Page[T], error)) []T {
	t.Helper()
	var items []T
	page := cims.PageRequest{Limit: 200}
	for {
		part, err := list(page)
		require.NoError(t, err)
		items = append(items, part.Items...)
		if part.Next == "" {
			return items
		}
		require.Len(t, part.Items, page.Limit, "a page that is not the last is full")
		page.Cursor = part.Next
	}
}

// leadsOf returns the number of leads of each sales manager, as SalesManagers has it.
func (d *database) leadsOf(t *testing.T) map[int64]int {
	t.Helper()
	managers, err := d.crm.SalesManagers(t.Context(), system)
	require.NoError(t, err)
	leads := map[int64]int{}
	for _, manager := range managers {
		leads[manager.ID] = manager.AssignedLeads
	}
	return leads
}

func ids[T any](items []T, id func(T) int64) []int64 {
	list := make([]int64, len(items))
	for i, item := range items {
		list[i] = id(item)
	}
	return list
}

func customerID(c cims.Customer) int64 { return c.ID }

func userID(u cims.User) int64 { return u.ID }

// ownerID is 0 for nobody.
func ownerID(c cims.Customer) int64 {
	if c.SalesManager == nil {
		return 0
	}
	return c.SalesManager.ID
}

func value(id *int64) int64 {
	if id == nil {
		return 0
	}
	return *id
}

// clock is a time that only tests move, by a millisecond with each look at it.
type clock struct {
	mu   sync.Mutex
	time time.Time
	step time.Duration
}

func newClock() *clock {
	return &clock{time: recently.Add(time.Hour), step: time.Millisecond}
}

// recently is an hour before the clock begins: too young to be forgotten.
var recently = time.Date(2025, 12, 15, 9, 30, 0, 123_456_000, time.UTC)

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.time
	c.time = c.time.Add(c.step)
	return now
}

// add moves the clock, also back.
func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.time = c.time.Add(d)
}

// stop makes the clock stand still, as a coarse one does.
func (c *clock) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.step = 0
}

// together runs n calls at once, as nearly as can be, and returns their errors.
func together(n int, call func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			<-start
			errs[i] = call(i)
		})
	}
	close(start)
	group.Wait()
	return errs
}

// requireAll fails on any error of several calls.
func requireAll(t *testing.T, errs []error) {
	t.Helper()
	require.NoError(t, errors.Join(errs...))
}

// requireInvalid checks that an input is refused for these faults, given as
// "field:rule", and no others.
func requireInvalid(t *testing.T, err error, faults ...string) {
	t.Helper()
	require.ErrorIs(t, err, cims.ErrInvalid)
	var refusal *cims.Error
	require.ErrorAs(t, err, &refusal)
	found := make([]string, len(refusal.Fields))
	for i, field := range refusal.Fields {
		found[i] = field.Field + ":" + string(field.Rule)
	}
	require.ElementsMatch(t, faults, found)
}

func requireForbidden(t *testing.T, err error, reason cims.Reason) {
	t.Helper()
	require.ErrorIs(t, err, cims.ErrForbidden)
	var refusal *cims.Error
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, reason, refusal.Reason)
}

func requireInUse(t *testing.T, err error, count int, isMinimum bool) {
	t.Helper()
	require.ErrorIs(t, err, cims.ErrInUse)
	var refusal *cims.Error
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, count, refusal.Count)
	require.Equal(t, isMinimum, refusal.CountIsMinimum)
}

// eventually waits until something is so.
func eventually(t *testing.T, why string, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !so() {
		require.True(t, time.Now().Before(deadline), "still not after %v: %s", patience, why)
		time.Sleep(5 * time.Millisecond)
	}
}
