// Package customstorage is a complete [cims.Storage] in one file. It keeps everything in
// memory. Use it as a template for a database that cims doesn't support, or in tests.
//
// It prefers simplicity to speed. One transaction runs at a time, on a copy of everything.
// A commit replaces the original by the copy, and a rollback drops the copy. Readers never
// wait, and the locks of the interface need no code. A database uses its transactions and
// row locks instead, but each method has the same results.
//
// memory_test.go runs the suite of storagetest on it.
package customstorage

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/rotation"
)

// Storage is a cims.Storage in memory. It is safe for concurrent use, and several Managers
// may share it.
type Storage struct {
	reader    // reads committed data
	committed atomic.Pointer[tables]
	writing   chan struct{} // full while a transaction runs
}

var (
	_ cims.Storage = (*Storage)(nil)
	_ cims.Tx      = (*tx)(nil)
)

// New returns an empty Storage. Call Migrate before use.
func New() *Storage {
	s := &Storage{writing: make(chan struct{}, 1)}
	s.source = s.committed.Load
	return s
}

// tables holds all data. Several copies share the rows, so rows are replaced and never
// changed. Values behind pointers are copied when they are stored and returned.
type tables struct {
	lastID    int64 // shared by all tables
	statuses  map[int64]cims.Status
	roles     map[int64]cims.Role
	users     map[int64]cims.User
	customers map[int64]customer
	history   map[int64][]cims.Event // by customer, in the order of writing
	turn      int64
	members   map[int64]rotation.Member // by user; kept when the user leaves
	keys      map[keyName]cims.Key
	audit     []cims.AuditEntry // the id of an entry is its index plus 1
}

// customer is a stored customer. Of its sales manager it holds only the assignment.
type customer struct {
	cims.Customer
	assignment *cims.Assignment // nil for none
	waiting    bool             // waits for a sales manager
}

type keyName struct{ scope, key string }

func (t *tables) clone() *tables {
	return &tables{
		lastID:    t.lastID,
		statuses:  maps.Clone(t.statuses),
		roles:     maps.Clone(t.roles),
		users:     maps.Clone(t.users),
		customers: maps.Clone(t.customers),
		history:   maps.Clone(t.history),
		turn:      t.turn,
		members:   maps.Clone(t.members),
		keys:      maps.Clone(t.keys),
		audit:     slices.Clip(t.audit), // an append to it copies it
	}
}

func (t *tables) newID() int64 {
	t.lastID++
	return t.lastID
}

// ---------------------------------------------------------------- the Storage

// Migrate implements cims.Storage.
func (s *Storage) Migrate(ctx context.Context) error {
	return s.alone(ctx, func() error {
		if s.committed.Load() != nil {
			return nil
		}
		t := &tables{
			statuses: map[int64]cims.Status{}, roles: map[int64]cims.Role{}, users: map[int64]cims.User{},
			customers: map[int64]customer{}, history: map[int64][]cims.Event{},
			members: map[int64]rotation.Member{}, keys: map[keyName]cims.Key{},
		}
		now := time.Now().UTC().Truncate(time.Microsecond)
		for _, status := range cims.SystemStatuses() {
			status.ID, status.CreatedAt, status.UpdatedAt = t.newID(), now, now
			t.statuses[status.ID] = status
		}
		for _, role := range cims.SystemRoles() {
			role.ID, role.CreatedAt, role.UpdatedAt = t.newID(), now, now
			t.roles[role.ID] = role
		}
		s.committed.Store(t)
		return nil
	})
}

// Update implements cims.Storage. Only one transaction writes at a time, so there are no
// conflicts and do runs only once.
func (s *Storage) Update(ctx context.Context, do func(ctx context.Context, tx cims.Tx) error) error {
	return s.alone(ctx, func() error {
		before, err := s.read(ctx)
		if err != nil {
			return err
		}
		after := before.clone()
		if err := do(ctx, &tx{reader{func() *tables { return after }}, after}); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return unavailable(err)
		}
		s.committed.Store(after)
		return nil
	})
}

// alone runs do while no other call runs.
func (s *Storage) alone(ctx context.Context, do func() error) error {
	select {
	case s.writing <- struct{}{}:
		defer func() { <-s.writing }() // after a panic too
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		return unavailable(err)
	}
	return do()
}

// Ready implements cims.Storage.
func (s *Storage) Ready(ctx context.Context) error {
	_, err := s.read(ctx)
	return err
}

// Close implements cims.Storage. It does nothing, since other Managers may share the
// Storage.
func (s *Storage) Close() error { return nil }

func unavailable(err error) error { return &cims.Error{Kind: cims.ErrUnavailable, Err: err} }

func notFound(entity cims.Entity, name string) error {
	return &cims.Error{Kind: cims.ErrNotFound, Entity: entity, Name: name}
}

func exists(entity cims.Entity, name string) error {
	return &cims.Error{Kind: cims.ErrExists, Entity: entity, Name: name}
}

func inUse(entity cims.Entity, name string) error {
	return &cims.Error{Kind: cims.ErrInUse, Entity: entity, Name: name, Count: 1, CountIsMinimum: true}
}

// ----------------------------------------------------------------- the Reader
//
// The documentation of cims.Reader describes each method.

// reader reads the committed data, or that of a transaction.
type reader struct{ source func() *tables }

// read returns the tables to read. If ctx has ended it returns an error, so that an empty
// result always means that nothing was found.
func (r reader) read(ctx context.Context) (*tables, error) {
	if err := ctx.Err(); err != nil {
		return nil, unavailable(err)
	}
	t := r.source()
	if t == nil {
		return nil, errors.New("customstorage: there are no tables yet: run Migrate")
	}
	return t, nil
}

// list returns the first wanted rows in an order.
func list[T any](table map[int64]T, wanted func(T) bool, order func(a, b T) int, limit int) []T {
	rows := []T{}
	for _, row := range table {
		if wanted(row) {
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, order)
	return rows[:min(limit, len(rows))]
}

// find returns a wanted row, if there is one.
func find[T any](table map[int64]T, wanted func(T) bool) (row T, found bool) {
	for _, row := range table {
		if wanted(row) {
			return row, true
		}
	}
	return row, false
}

// byID returns a row, or ErrNotFound.
func byID[T any](table map[int64]T, id int64, entity cims.Entity) (T, error) {
	row, found := table[id]
	if !found {
		return row, notFound(entity, strconv.FormatInt(id, 10))
	}
	return row, nil
}

// count counts the wanted rows, up to a limit.
func count[T any](table map[int64]T, wanted func(T) bool, limit int) int {
	n := 0
	for _, row := range table {
		if n < limit && wanted(row) {
			n++
		}
	}
	return n
}

// startsWith reports whether one of the texts starts with prefix, ignoring case.
func startsWith(prefix string, texts ...string) bool {
	prefix = strings.ToLower(prefix)
	return slices.ContainsFunc(texts, func(text string) bool { return strings.HasPrefix(strings.ToLower(text), prefix) })
}

func (r reader) Statuses(ctx context.Context) ([]cims.Status, error) {
	t, err := r.read(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Collect(maps.Values(t.statuses)), nil
}

func (r reader) Roles(ctx context.Context) ([]cims.Role, error) {
	t, err := r.read(ctx)
	if err != nil {
		return nil, err
	}
	roles := []cims.Role{}
	for _, role := range t.roles {
		roles = append(roles, copyRole(role))
	}
	return roles, nil
}

func copyRole(role cims.Role) cims.Role {
	role.Permissions = slices.Clone(role.Permissions)
	return role
}

func (t *tables) account(user cims.User) cims.Account {
	role, _ := find(t.roles, func(role cims.Role) bool { return role.Name == string(user.RoleName) })
	return cims.Account{User: user, Role: copyRole(role)}
}

func (r reader) Account(ctx context.Context, id int64) (cims.Account, error) {
	t, err := r.read(ctx)
	if err != nil {
		return cims.Account{}, err
	}
	user, err := byID(t.users, id, cims.EntityUser)
	if err != nil {
		return cims.Account{}, err
	}
	return t.account(user), nil
}

func (r reader) AccountsByEmail(ctx context.Context, email string) ([]cims.Account, error) {
	t, err := r.read(ctx)
	if err != nil {
		return nil, err
	}
	if user, found := find(t.users, func(user cims.User) bool { return user.Email == email }); found {
		return []cims.Account{t.account(user)}, nil
	}
	var accounts []cims.Account
	for _, user := range t.users {
		if strings.EqualFold(user.Email, email) {
			accounts = append(accounts, t.account(user))
		}
	}
	return accounts, nil
}

func (r reader) Users(ctx context.Context, query cims.UserQuery) ([]cims.User, error) {
	t, err := r.read(ctx)
	if err != nil {
		return nil, err
	}
	wanted := func(user cims.User) bool {
		return user.ID > query.AfterID &&
			(query.Role == "" || string(user.RoleName) == query.Role) &&
			(query.Active == nil || user.Active == *query.Active) &&
			startsWith(query.Prefix, user.Name, user.Surname, user.Email)
	}
	return list(t.users, wanted, func(a, b cims.User) int { return cmp.Compare(a.ID, b.ID) }, query.Limit), nil
}

func (r reader) CountUsers(ctx context.Context, role string, limit int) (int, error) {
	t, err := r.read(ctx)
	if err != nil {
		return 0, err
	}
	return count(t.users, func(user cims.User) bool { return string(user.RoleName) == role }, limit), nil
}

// withManager returns a customer with its sales manager.
func (t *tables) withManager(c customer) cims.Customer {
	if c.assignment != nil {
		c.Assignment = copyAssignment(*c.assignment)
		c.SalesManager = new(person(t.users[c.assignment.SalesManagerID]))
	}
	return c.Customer
}

func copyAssignment(a cims.Assignment) *cims.Assignment {
	a.AssignedBy = copyOf(a.AssignedBy)
	return &a
}

// copyOf returns a pointer to a copy.
func copyOf[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

func person(user cims.User) cims.Person {
	return cims.Person{ID: user.ID, Email: user.Email, Name: user.Name, Surname: user.Surname}
}

func (c customer) ownedBy(id int64) bool {
	return c.assignment != nil && c.assignment.SalesManagerID == id
}

// addedByOwner reports whether an event is the creation by the present owner.
func (c customer) addedByOwner(e cims.Event) bool {
	return e.Cause == cims.CauseCreated && e.By != nil && c.ownedBy(*e.By)
}

// newestFirst compares customers in the order of their list.
func newestFirst(a, b customer) int {
	return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.ID, a.ID))
}

func (r reader) Customer(ctx context.Context, id int64) (cims.Customer, error) {
	t, err := r.read(ctx)
	if err != nil {
		return cims.Customer{}, err
	}
	c, err := byID(t.customers, id, cims.EntityCustomer)
	if err != nil {
		return cims.Customer{}, err
	}
	return t.withManager(c), nil
}

func (r reader) Customers(ctx context.Context, query cims.CustomerQuery) ([]cims.Customer, error) {
	t, err := r.read(ctx)
	if err != nil {
		return nil, err
	}
	after := func(customer) bool { return true }
	if query.After != nil {
		place := customer{Customer: cims.Customer{ID: query.After.ID, CreatedAt: query.After.CreatedAt}}
		after = func(c customer) bool { return newestFirst(c, place) > 0 }
	}
	wanted := func(c customer) bool {
		return after(c) &&
			(query.Status == "" || c.StatusName == query.Status) &&
			(query.SalesManagerID == nil || c.ownedBy(*query.SalesManagerID)) &&
			(!query.Unassigned || c.assignment == nil) &&
			startsWith(query.Prefix, c.FullName, string(c.PhoneNumber), strings.TrimPrefix(string(c.PhoneNumber), "+"))
	}
	customers := []cims.Customer{}
	for _, c := range list(t.customers, wanted, newestFirst, query.Limit) {
		customers = append(customers, t.withManager(c))
	}
	return customers, nil
}

func (r reader) CountCustomers(ctx context.Context, status string, limit int) (int, error) {
	t, err := r.read(ctx)
	if err != nil {
		return 0, err
	}
	return count(t.customers, func(c customer) bool { return c.StatusName == status }, limit), nil
}

func (r reader) Unassigned(ctx context.Context, query cims.UnassignedQuery) ([]int64, error) {
	t, err := r.read(ctx)
	if err != nil {
		return nil, err
	}
	wanted := func(c customer) bool { return c.assignment == nil && c.waiting == query.Waiting }
	oldestFirst := func(a, b customer) int { return newestFirst(b, a) }
	ids := []int64{}
	for _, c := range list(t.customers, wanted, oldestFirst, query.Limit) {
		ids = append(ids, c.ID)
	}
	return ids, nil
}

// inTime compares events in the order of a customer's history. At the same time, a status
// comes before an assignment.
func inTime(a, b cims.Event) int {
	kind := func(e cims.Event) int {
		return slices.Index([]cims.EventKind{cims.StatusEvent, cims.AssignmentEvent}, e.Kind)
	}
	return cmp.Or(a.At.Compare(b.At), cmp.Compare(kind(a), kind(b)), cmp.Compare(a.ID, b.ID))
}

func (r reader) History(ctx context.Context, query cims.HistoryQuery) ([]cims.Event, error) {
	t, err := r.read(ctx)
	if err != nil {
		return nil, err
	}
	events := slices.Clone(t.history[query.CustomerID])
	latest := map[cims.EventKind]time.Time{}
	for i, event := range events { // in the order of writing
		if event.At.Before(latest[event.Kind]) {
			events[i].At = latest[event.Kind]
		}
		latest[event.Kind] = events[i].At
	}
	slices.SortFunc(events, inTime)
	if after := query.After; after != nil {
		place := cims.Event{At: after.At, Kind: after.Kind, ID: after.ID}
		events = slices.DeleteFunc(events, func(e cims.Event) bool { return inTime(e, place) <= 0 })
	}
	events = events[:min(query.Limit, len(events))]
	for i, event := range events {
		events[i] = copyEvent(event)
	}
	return events, nil
}

func copyEvent(e cims.Event) cims.Event {
	e.FromManager, e.ToManager = copyOf(e.FromManager), copyOf(e.ToManager)
	e.By, e.Owner = copyOf(e.By), copyOf(e.Owner)
	return e
}

func (r reader) Conversion(ctx context.Context, query cims.ConversionQuery) (cims.Conversion, error) {
	t, err := r.read(ctx)
	if err != nil {
		return cims.Conversion{}, err
	}
	wanted := func(c customer) bool {
		return (query.SalesManagerID == nil || c.ownedBy(*query.SalesManagerID)) && !(query.ExcludeOwn && slices.ContainsFunc(t.history[c.ID], c.addedByOwner))
	}
	there := func(e cims.Event) bool { return e.Kind == cims.StatusEvent && e.ToStatus == query.Target }
	result := cims.Conversion{}
	for _, c := range list(t.customers, wanted, newestFirst, query.Last) {
		result.Total++
		if c.StatusName == query.Target || query.Mode == cims.Reached && slices.ContainsFunc(t.history[c.ID], there) {
			result.Count++
		}
	}
	return result, nil
}

func (r reader) Audit(ctx context.Context, query cims.AuditQuery) ([]cims.AuditEntry, error) {
	t, err := r.read(ctx)
	if err != nil {
		return nil, err
	}
	wanted := func(e cims.AuditEntry) bool {
		return (query.BeforeID == nil || e.ID < *query.BeforeID) &&
			(query.Entity == "" || e.Entity == query.Entity) &&
			(query.EntityID == nil || e.EntityID == *query.EntityID) &&
			(query.By == nil || e.By != nil && e.By.ID == *query.By) &&
			(query.Action == "" || e.Action == query.Action) &&
			(query.RequestID == "" || e.RequestID == query.RequestID) &&
			(query.Since.IsZero() || !e.At.Before(query.Since)) &&
			(query.Until.IsZero() || e.At.Before(query.Until))
	}
	entries := []cims.AuditEntry{}
	for _, entry := range slices.Backward(t.audit) {
		if len(entries) < query.Limit && wanted(entry) {
			entries = append(entries, copyEntry(entry))
		}
	}
	return entries, nil
}

func copyEntry(e cims.AuditEntry) cims.AuditEntry {
	e.By, e.Before, e.After = copyOf(e.By), slices.Clone(e.Before), slices.Clone(e.After)
	return e
}

func (r reader) Rotation(ctx context.Context) (cims.Rotation, error) {
	t, err := r.read(ctx)
	if err != nil {
		return cims.Rotation{}, err
	}
	state := cims.Rotation{State: rotation.State{Turn: t.turn}, People: map[int64]cims.Person{}}
	for _, id := range slices.Sorted(maps.Keys(t.users)) {
		user := t.users[id]
		if user.Active && user.RoleName == cims.RoleSalesManager && t.account(user).Role.Active {
			state.Members = append(state.Members, t.member(id))
			state.People[id] = person(user)
		}
	}
	return state, nil
}

// member returns a user's member of the rotation.
func (t *tables) member(id int64) rotation.Member {
	member, found := t.members[id]
	if !found {
		member = rotation.Member{ID: id, Weight: 1}
	}
	return member
}

// --------------------------------------------------------------------- the Tx
//
// The documentation of cims.Tx describes each method.

// tx is a transaction. It writes to a copy of the tables until it commits. No other
// transaction runs meanwhile, so that it holds all locks.
type tx struct {
	reader
	*tables
}

func (x *tx) LockStatus(_ context.Context, id int64) (cims.Status, error) {
	return byID(x.statuses, id, cims.EntityStatus)
}

func (x *tx) UseStatus(_ context.Context, name string) (cims.Status, error) {
	status, found := find(x.statuses, func(status cims.Status) bool { return status.Name == name })
	if !found {
		return cims.Status{}, notFound(cims.EntityStatus, name)
	}
	return status, nil
}

func (x *tx) InsertStatus(ctx context.Context, status cims.Status) (int64, error) {
	if _, err := x.UseStatus(ctx, status.Name); err == nil {
		return 0, exists(cims.EntityStatus, status.Name)
	}
	status.ID = x.newID()
	return status.ID, x.UpdateStatus(ctx, status)
}

func (x *tx) UpdateStatus(_ context.Context, status cims.Status) error {
	x.statuses[status.ID] = status
	return nil
}

func (x *tx) DeleteStatus(ctx context.Context, id int64) error {
	name := x.statuses[id].Name
	if n, err := x.CountCustomers(ctx, name, 1); n > 0 || err != nil {
		return cmp.Or(err, inUse(cims.EntityStatus, name))
	}
	delete(x.statuses, id)
	return nil
}

// LockRights implements cims.Tx. It does nothing, since no other transaction runs.
func (x *tx) LockRights(context.Context) error { return nil }

func (x *tx) LockRole(_ context.Context, id int64) (cims.Role, error) {
	role, err := byID(x.roles, id, cims.EntityRole)
	return copyRole(role), err
}

func (x *tx) UseRole(_ context.Context, name string) (cims.Role, error) {
	role, found := find(x.roles, func(role cims.Role) bool { return role.Name == name })
	if !found {
		return cims.Role{}, notFound(cims.EntityRole, name)
	}
	return copyRole(role), nil
}

func (x *tx) InsertRole(ctx context.Context, role cims.Role) (int64, error) {
	if _, err := x.UseRole(ctx, role.Name); err == nil {
		return 0, exists(cims.EntityRole, role.Name)
	}
	role.ID = x.newID()
	return role.ID, x.UpdateRole(ctx, role)
}

func (x *tx) UpdateRole(_ context.Context, role cims.Role) error {
	x.roles[role.ID] = copyRole(role)
	return nil
}

func (x *tx) DeleteRole(ctx context.Context, id int64) error {
	name := x.roles[id].Name
	if n, err := x.CountUsers(ctx, name, 1); n > 0 || err != nil {
		return cmp.Or(err, inUse(cims.EntityRole, name))
	}
	delete(x.roles, id)
	return nil
}

func (x *tx) MoveUsers(_ context.Context, from, to string) error {
	for id, user := range x.users {
		if string(user.RoleName) == from {
			user.RoleName = cims.Text(to)
			x.users[id] = user
		}
	}
	return nil
}

func (x *tx) InsertUser(ctx context.Context, user cims.User) (int64, error) {
	user.ID = x.newID()
	return user.ID, x.UpdateUser(ctx, user)
}

func (x *tx) UpdateUser(_ context.Context, user cims.User) error {
	taken := func(other cims.User) bool { return other.Email == user.Email && other.ID != user.ID }
	if _, found := find(x.users, taken); found {
		return exists(cims.EntityUser, user.Email)
	}
	x.users[user.ID] = user
	return nil
}

func (x *tx) AppendAudit(_ context.Context, entries []cims.AuditEntry) error {
	for _, entry := range entries {
		entry = copyEntry(entry)
		entry.ID = int64(len(x.audit)) + 1
		x.audit = append(x.audit, entry)
	}
	return nil
}

func (x *tx) LockRotation(ctx context.Context) (cims.Rotation, error) { return x.Rotation(ctx) }

func (x *tx) SaveRotation(_ context.Context, state cims.Rotation) error {
	x.turn = state.Turn
	for id, member := range x.members {
		member.Credit, member.LastTurn, member.Present = 0, 0, 0
		x.members[id] = member
	}
	for _, m := range state.Members {
		member := x.member(m.ID)
		member.Credit, member.LastTurn, member.Present = m.Credit, m.LastTurn, m.Present
		x.members[m.ID] = member
	}
	return nil
}

func (x *tx) SaveMember(_ context.Context, m rotation.Member) error {
	member := x.member(m.ID)
	member.Weight, member.Paused = m.Weight, m.Paused
	x.members[m.ID] = member
	return nil
}

func (x *tx) CountLeads(_ context.Context, gained map[int64]int) error {
	for id, leads := range gained {
		member := x.member(id)
		member.Leads += leads
		x.members[id] = member
	}
	return nil
}

func (x *tx) ChangeOwners(ctx context.Context, changes []cims.OwnerChange) ([]cims.Assignment, error) {
	gained := map[int64]int{}
	assignments := make([]cims.Assignment, len(changes))
	for i, change := range changes {
		if change.From != nil {
			gained[*change.From]--
		}
		if change.To != nil {
			gained[*change.To]++
		}
		assignments[i] = x.changeOwner(change)
	}
	return assignments, x.CountLeads(ctx, gained)
}

func (x *tx) changeOwner(change cims.OwnerChange) (assignment cims.Assignment) {
	c := x.customers[change.CustomerID]
	c.assignment, c.waiting = nil, change.To == nil
	if change.To != nil {
		assignment = cims.Assignment{ID: x.newID(), CustomerID: c.ID, SalesManagerID: *change.To, AssignedAt: change.At, Active: true}
		if change.Cause == cims.CauseManual || change.Cause == cims.CauseOwn { // otherwise the rotation decided
			assignment.AssignedBy = change.By
		}
		c.assignment = copyAssignment(assignment)
	}
	if !same(change.From, change.To) {
		c.UpdatedAt = change.At
		x.record(c.ID, cims.Event{
			Kind: cims.AssignmentEvent, At: change.At, FromManager: change.From, ToManager: change.To,
			Cause: change.Cause, By: change.By, Owner: change.To,
		})
	}
	x.customers[c.ID] = c
	return assignment
}

func same(a, b *int64) bool { return a == b || (a != nil && b != nil && *a == *b) }

// record adds to a customer's history.
func (x *tx) record(customerID int64, event cims.Event) {
	event.ID = x.newID()
	before := x.history[customerID]
	x.history[customerID] = append(slices.Clip(before), copyEvent(event)) // before is shared
}

func (x *tx) InsertLeads(_ context.Context, leads []*cims.Lead) error {
	for _, lead := range leads {
		c := &lead.Customer
		c.ID, c.CreatedAt = x.newID(), c.CreatedAt.UTC()
		c.UpdatedAt = c.CreatedAt
		stored := customer{Customer: *c, waiting: lead.Waiting}
		stored.SalesManager = nil
		var owner *int64
		if c.SalesManager != nil {
			owner = &c.SalesManager.ID
			c.Assignment = &cims.Assignment{ID: x.newID(), CustomerID: c.ID, SalesManagerID: *owner, AssignedAt: c.CreatedAt, Active: true}
			stored.assignment = copyAssignment(*c.Assignment)
		}
		x.record(c.ID, cims.Event{
			Kind: cims.StatusEvent, At: c.CreatedAt, ToStatus: c.StatusName, Cause: cims.CauseCreated, By: lead.By, Owner: owner,
		})
		if owner != nil {
			x.record(c.ID, cims.Event{
				Kind: cims.AssignmentEvent, At: c.CreatedAt, ToManager: owner, Cause: cims.CauseAutomatic, Owner: owner,
			})
		}
		x.customers[c.ID] = stored
	}
	return nil
}

func (x *tx) LockCustomers(_ context.Context, ids []int64) ([]cims.Customer, error) {
	customers := []cims.Customer{}
	for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) {
		if c, found := x.customers[id]; found {
			customers = append(customers, x.withManager(c))
		}
	}
	return customers, nil
}

func (x *tx) ChangeStatuses(_ context.Context, changes []cims.StatusChange) error {
	for _, change := range changes {
		c := x.customers[change.CustomerID]
		c.StatusName, c.UpdatedAt = change.To, change.At
		x.customers[c.ID] = c
		x.record(c.ID, cims.Event{
			Kind: cims.StatusEvent, At: change.At, FromStatus: change.From, ToStatus: change.To,
			Cause: change.Cause, By: change.By, Reason: change.Reason, Owner: change.Owner,
		})
	}
	return nil
}

func (x *tx) ClaimKey(ctx context.Context, key cims.Key, expired time.Time) (*cims.Key, error) {
	name := keyName{key.Scope, key.Key}
	if kept, found := x.keys[name]; found && !kept.At.Before(expired) {
		kept.Result = bytes.Clone(kept.Result)
		return &kept, nil
	}
	return nil, x.SaveKey(ctx, key)
}

func (x *tx) SaveKey(_ context.Context, key cims.Key) error {
	key.Result = bytes.Clone(key.Result)
	x.keys[keyName{key.Scope, key.Key}] = key
	return nil
}

func (x *tx) ForgetKeys(_ context.Context, expired time.Time, limit int) (int, error) {
	forgotten := 0
	for name, key := range x.keys {
		if forgotten < limit && key.At.Before(expired) {
			delete(x.keys, name)
			forgotten++
		}
	}
	return forgotten, nil
}
