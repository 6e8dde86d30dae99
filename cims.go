// Package cims adds the parts of a CRM that companies change most often to a Go
// program:
//
//   - statuses that customers move through, which can be created, edited and
//     deleted while the program runs;
//   - roles with permissions for the people who work with customers;
//   - a rotation that gives each new lead a sales manager at once, and fairly;
//   - a conversion rate: how many of the last 100 leads reached a status.
//
// A [Manager] holds all rules. It works over a [Storage], which the packages
// storage/sqlite and storage/postgres implement. Package httpapi serves the
// methods of a Manager as routes on a router of the program.
//
//	store, err := sqlite.Open(ctx, "crm.db")
//	…
//	err = store.Migrate(ctx)
//	…
//	crm, err := cims.New(store, nil)
//	…
//	lead, err := crm.AddCustomer(ctx, cims.System("web form"), cims.NewCustomer{FullName: "Aziza Karimova"})
//	fmt.Println(lead.SalesManager.Name)
//
// The package example is a whole program. Most methods have an example too.
//
// # Terms
//
//   - A customer is a row of the customer table: a [Customer]. A lead is a
//     customer on its way through the statuses.
//   - A sales manager is an active user with the role sales_manager.
//   - The owner of a lead is its present sales manager. An [Assignment] records
//     the owner.
//   - A member is the place of a sales manager in the rotation.
//   - A turn is one lead that the rotation gives to a member.
//   - A credit is the number of leads that a member is owed. It is negative
//     after a member got more than its share.
//   - The host is the program that embeds cims.
//
// # Actors
//
// Each method takes the [Actor] on whose behalf it works. An actor is a user
// with the permissions of its role ([Manager.ActorByEmail],
// [Manager.ActorByID]), or [System] for trusted code. The zero Actor has no
// permissions.
//
// An actor holds the permissions of the time at which it was read, so read one
// for each request. Methods that change roles or users read the permissions
// again in their transaction.
//
// A [Permission] that ends in ":own" is limited to the leads that the actor
// owns. An actor can't grant a permission that it doesn't hold
// ([Manager.CreateRole], [Manager.CreateUser]). There is always an active CEO.
// The host logs users in; cims knows only their roles and leads.
//
// # Statuses and roles
//
// A [Status] and a [Role] have a name, which never changes, and a display name,
// which may. Customers and users refer to them by name. The system ones
// ([SystemStatuses], [SystemRoles]) exist from the start and can't be deleted. The
// library relies on the initial status, the target of the conversion rate and the
// roles ceo and sales_manager: they can't be deactivated. Others can't be deleted while they are
// in use, also not under concurrent use. A [Deletion] can move the customers or
// users to another one first.
//
// # Leads and the rotation
//
// [Manager.AddCustomer] stores a lead and gives it to the sales manager whose
// turn it is, in one transaction. Package rotation decides the turn by a ledger
// of credits. For each lead, the credit of every candidate rises by its share,
// which follows its weight. The member that gets the lead pays one. A paused
// member gets no leads ([Manager.SetSalesManager]).
//
// In a team that starts without credits and doesn't change, every member stays
// within one lead of its share. Two members of equal weight that are present
// throughout never differ by more than one lead, even while others join, leave
// or pause. Leads assigned by hand don't count. This holds at any time and for
// any number of processes on one database.
//
// If no sales manager is present, the lead waits. It is assigned within a
// second after one becomes present, by a goroutine that [New] starts.
// [Manager.Assign] assigns a lead by hand and takes no turn.
// [UserUpdate].Leads decides about the leads of a sales manager who leaves.
//
// Two locks guard decisions: one the rights of users, one the rotation. Editing
// a role takes only the first, so it never delays the intake of leads.
//
// [Manager.AddCustomers] and [Manager.ImportCustomers] store many leads, all of
// them or none. With a [NewCustomer].IdempotencyKey, a call whose outcome is
// unknown can safely be repeated.
//
// [Manager.History] lists every change of a lead's status and owner. It is
// written in the transaction of the change.
//
// # Audit log
//
// [Manager.Audit] lists the changes of statuses, roles, users, sales managers
// and assignments, with the actor and the state before and after. Entries are
// written in the transaction of the change and never change. [WithRequestID]
// adds the id of the request. [Config].Hooks receive the same changes.
//
// # Conversion rate
//
// [Manager.ConversionRate] looks at the newest leads. It counts those that ever
// reached a status, or, in mode [Current], those that are in it now. Its cost
// doesn't grow with the number of all leads.
//
// # Lists
//
// [Manager.Customers], [Manager.Users], [Manager.History] and [Manager.Audit]
// return one page. [Manager.AllCustomers], [Manager.AllUsers],
// [Manager.AllHistory] and [Manager.AllAudit] return an iterator over all pages:
//
//	for lead, err := range crm.AllCustomers(ctx, actor, cims.CustomerFilter{Status: "need_to_call"}) {
//		…
//	}
//
// # Optional texts
//
// A [Text] is an optional text. The empty Text stands for none, and its JSON
// form is null.
//
// # Errors
//
// An expected error is an [*Error] that wraps one of the Err variables, such as
// [ErrInUse]. A call that fails changes nothing, with two exceptions. After
// [ErrOutcomeUnknown] it is unknown: the connection was lost during the commit.
// [Manager.AssignBacklog] works in batches. Transient conflicts have already been
// retried.
//
// # Other storages
//
// [Storage] contains no rules. The package examples/customstorage implements
// one in memory, and package storage/storagetest tests any implementation.
// Until version 1.0 the interface may gain methods. A Storage that embeds
// [UnimplementedStorage] still compiles then.
package cims

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"slices"
	"sync"
	"time"
)

// Names of the statuses and roles that the library relies on. The first migration
// creates them, and they can't be deleted. The roles can't be deactivated, and nor can
// the statuses while Config names them.
const (
	StatusContacted      = "contacted"       // the default of Config.InitialStatus
	StatusProjectStarted = "project_started" // the default of Config.ConversionTarget

	RoleCEO          = "ceo"
	RoleSalesManager = "sales_manager"
)

// Config configures a Manager. The zero value of each field selects its default.
type Config struct {
	// InitialStatus is the name of the status of a new customer whose input
	// names none. Default: "contacted". This Manager neither deactivates nor
	// deletes it. While it is inactive or absent nevertheless, the first active
	// status by order is used, of which the first use logs a warning. While it
	// is absent, Ready returns an error.
	InitialStatus string

	// ConversionTarget is the name of the status that a ConversionQuery without a
	// target asks for. Default: "project_started". This Manager neither
	// deactivates nor deletes it.
	ConversionTarget string

	// ManualTakesTurn makes a manual assignment take a turn of the sales
	// manager in the rotation. By default it takes none.
	ManualTakesTurn bool

	// OwnLeads decides who gets a lead that a sales manager adds under
	// leads:write:own. Default: RotateOwnLeads.
	OwnLeads OwnLeads

	// Hooks are called in order for each change, inside its transaction.
	Hooks []Hook

	// WaitingInterval is the time between two searches for waiting leads, which
	// arrived while no sales manager was present. Default: half a second.
	// Another process may make a sales manager present, so the Manager polls.
	WaitingInterval time.Duration

	// Clock returns the current time. Default: time.Now.
	Clock func() time.Time

	// Logger receives the events of background work. Default: slog.Default().
	Logger *slog.Logger
}

// OwnLeads is a choice of Config.OwnLeads.
type OwnLeads string

// Choices of Config.OwnLeads.
const (
	// RotateOwnLeads leaves the decision to the rotation, as for any lead. A
	// sales manager who adds leads so changes who gets the next ones.
	RotateOwnLeads OwnLeads = "rotate"
	// KeepOwnLeads makes the lead the sales manager's own. It takes no turn.
	KeepOwnLeads OwnLeads = "keep"
)

func (c *Config) withDefaults() (Config, error) {
	var filled Config
	if c != nil {
		filled = *c
	}
	if filled.InitialStatus == "" {
		filled.InitialStatus = StatusContacted
	}
	if filled.ConversionTarget == "" {
		filled.ConversionTarget = StatusProjectStarted
	}
	if filled.OwnLeads == "" {
		filled.OwnLeads = RotateOwnLeads
	}
	if filled.WaitingInterval == 0 {
		filled.WaitingInterval = time.Second / 2
	}
	if filled.Clock == nil {
		filled.Clock = time.Now
	}
	if filled.Logger == nil {
		filled.Logger = slog.Default()
	}
	var check checks
	filled.InitialStatus = check.name("InitialStatus", filled.InitialStatus)
	filled.ConversionTarget = check.name("ConversionTarget", filled.ConversionTarget)
	check.between("WaitingInterval", int(filled.WaitingInterval), 0, math.MaxInt)
	if !slices.Contains([]OwnLeads{RotateOwnLeads, KeepOwnLeads}, filled.OwnLeads) {
		check.add("OwnLeads", RuleChoice)
	}
	if slices.ContainsFunc(filled.Hooks, func(hook Hook) bool { return hook == nil }) {
		check.add("Hooks", RuleRequired)
	}
	return filled, check.err()
}

// Manager provides all operations of the library and enforces its rules. It is
// safe for concurrent use. Any number of Managers, in one process or in several,
// may share a database. The guarantees hold across all of them.
type Manager struct {
	storage Storage
	config  Config

	intakes     gatherer[leadRequest]
	assignments gatherer[autoAssignment]

	wake   chan struct{} // signals that a member may have become eligible
	stop   context.CancelFunc
	closed chan struct{}
	once   sync.Once
	warned *sync.Once // that the initial status is no active one
}

// New returns a Manager that works over storage. A nil config selects all
// defaults. New does no I/O, so the storage must have its tables before the first
// call of a method (see Storage.Migrate).
//
// New starts one goroutine, which assigns waiting leads and removes expired
// idempotency keys. Close stops it. New returns ErrInvalid for an invalid config.
func New(storage Storage, config *Config) (*Manager, error) {
	if v := reflect.ValueOf(storage); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() { // as after an error that was ignored
		return nil, errors.New("cims: New needs a storage")
	}
	filled, err := config.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	m := &Manager{
		storage: storage,
		config:  filled,
		wake:    make(chan struct{}, 1),
		closed:  make(chan struct{}),
		warned:  new(sync.Once),
	}
	m.intakes.run, m.assignments.run = m.addLeads, m.autoAssign
	var ctx context.Context
	ctx, m.stop = context.WithCancel(context.Background()) //nolint:gosec // Close calls it
	go m.work(ctx)
	return m, nil
}

// Close stops the background work and waits until the leads in progress are
// stored and assigned. If ctx ends first, Close returns its error. Close doesn't
// close the Storage. It may be called again.
//
// A closed Manager assigns no waiting leads. Its AddCustomer, AddCustomers,
// ImportCustomers and AutoAssign return ErrClosed.
func (m *Manager) Close(ctx context.Context) error {
	m.once.Do(m.stop)
	if err := errors.Join(m.intakes.close(ctx), m.assignments.close(ctx)); err != nil {
		return err
	}
	select {
	case <-m.closed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// WithTx returns a Manager that works inside a transaction of the host. The host
// commits its rows and the Manager's changes together, or rolls both back. A
// bun.Tx contains the *sql.Tx. For a pgx.Tx see postgres.WithTx.
//
// The Manager is for one goroutine at a time, like the transaction. It needs no
// Close. WithTx panics if the Storage is not a Joiner; those of this module are.
//
// # Errors
//
// A refusal, such as ErrNotFound or ErrInUse, undoes the call only, and the
// transaction stays usable. After any other error the host must roll back. A
// conflict with another transaction is not retried but returns ErrUnavailable:
// only the host can begin again.
//
// # Order of locks
//
// Methods take locks in this order: rights, statuses by id, the rotation,
// customers by id, and counts of leads by sales manager id. The locks are held
// until the host commits. To avoid deadlocks, the host takes its own locks before
// it calls the Manager, and calls methods in this order too. Calls that assign
// leads or change sales managers come last: until the commit, no other lead gets
// a sales manager. Keep the transaction short.
//
// # Isolation
//
// On PostgreSQL the transaction must be read committed, which is the default.
// Otherwise the rotation could read an old state, so methods return ErrIsolation.
//
// On SQLite the connection must enforce foreign keys. A transaction that reads
// before it writes should begin as immediate (_txlock=immediate).
func (m *Manager) WithTx(tx *sql.Tx) *Manager { return m.Join(tx) }

// Join is like WithTx for any kind of transaction that the Storage can join. It is
// meant for packages that implement a Storage. Methods of the Manager return an
// error if the Storage can't join tx.
func (m *Manager) Join(tx any) *Manager {
	joiner, ok := m.storage.(Joiner)
	if !ok {
		panic(fmt.Sprintf("cims: %T can't join a transaction of the host", m.storage))
	}
	joined := &Manager{storage: joiner.Join(tx), config: m.config, stop: func() {}, closed: make(chan struct{}), warned: m.warned}
	close(joined.closed)
	joined.intakes = gatherer[leadRequest]{run: joined.addLeads, alone: true, closed: !m.intakes.open()}
	joined.assignments = gatherer[autoAssignment]{run: joined.autoAssign, alone: true, closed: !m.assignments.open()}
	return joined
}

// Ready returns nil if the database answers and its schema is current. It returns
// ErrUnavailable if the database doesn't answer. It returns an error with
// ErrNotFound if the configured initial status doesn't exist.
func (m *Manager) Ready(ctx context.Context) error {
	if err := m.storage.Ready(ctx); err != nil {
		return err
	}
	known, err := m.knownStatus(ctx, m.config.InitialStatus)
	if err == nil && !known {
		err = fmt.Errorf("cims: Config.InitialStatus: %w", &Error{Kind: ErrNotFound, Entity: EntityStatus, Name: m.config.InitialStatus})
	}
	return err
}

// update runs do in a transaction and returns errors of host code unwrapped.
func (m *Manager) update(ctx context.Context, do func(ctx context.Context, tx Tx) error) error {
	return hostCause(m.storage.Update(ctx, do))
}

// now returns the current time in the precision of the databases, so that a time
// equals the one that is read back.
func (m *Manager) now() time.Time { return m.config.Clock().UTC().Truncate(time.Microsecond) }

// after returns the current time, or, if the clock was set back, a time just after
// the recorded one. So events keep their order.
func (m *Manager) after(recorded time.Time) time.Time {
	now := m.now()
	if !now.After(recorded) {
		now = recorded.UTC().Add(time.Microsecond)
	}
	return now
}
