// Package cims gives a program the three things of a CRM that every company
// wants to change without a programmer, and the figure that shows whether they
// work:
//
//   - the statuses that customers move through, created, edited and deleted
//     while the program runs;
//   - the roles that its people hold, with permissions;
//   - the rotation that gives each new lead its sales manager at once, fairly;
//   - the conversion rate: of the last 100 leads, how many reached a status.
//
// A [Manager] holds all rules. It works over a [Storage]: the packages
// storage/sqlite and storage/postgres have one each. The package httpapi
// mounts the Manager's methods as routes on a router of yours.
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
// The package's example is that as a whole program, and most methods below
// have one of their own.
//
// # Who is asking
//
// Each method takes the [Actor] on whose behalf it works: a user with the
// permissions of its role ([Manager.ActorByEmail], [Manager.ActorByID]), or
// [System] for code that you trust. There is no anonymous default: the zero
// Actor may do nothing. An actor is as good as the moment in which it was
// read: make one for each request. What changes who may do what is checked
// again, on the rights of that moment, in its transaction.
//
// A [Permission] that ends in ":own", which sales managers have, reaches only
// leads whose sales manager the actor is. Nobody hands out what he doesn't
// hold ([Manager.CreateRole], [Manager.CreateUser]), and there is always an
// active CEO. Users are here for their roles and leads only: how they log in
// is the host's.
//
// # Statuses and roles
//
// A [Status] and a [Role] have a name, which customers and users hold and
// which stays, and a display name, which may change. System ones, which the
// library itself relies on, are there from the start and can't be deleted or
// deactivated ([SystemStatuses], [SystemRoles]). One that is in use can't be
// deleted either, whoever is just starting to use it; [Deletion] moves those
// in it by the same call.
//
// # Leads and the rotation
//
// [Manager.AddCustomer] stores a lead and gives it, in the same transaction,
// the sales manager whose turn it is. Sales managers are the active users with
// the role sales_manager; a weight gives more turns, a pause none
// ([Manager.SetSalesManager]). Managers of one weight who are there throughout
// never differ by more than one lead of the rotation's, at any moment that a
// reader can see, also with many programs at work on one database. A lead that
// comes when nobody is there waits, and is given out within a second of
// somebody coming: [New] starts a goroutine that sees to it. [Manager.Assign]
// reassigns by hand, without a turn; [UserUpdate].Leads says what becomes of
// the leads of somebody who leaves.
//
// Many leads go in together by [Manager.AddCustomers] and
// [Manager.ImportCustomers], all of them or none. [NewCustomer].IdempotencyKey
// makes it harmless to repeat a call of which one doesn't know how it ended.
//
// Every change of a lead's status and sales manager is in its
// [Manager.History], from the same transaction.
//
// # Who did what
//
// [Manager.Audit] lists what somebody did to a status, a role, a user, a sales
// manager or an assignment, with what it was before and after. It is written in
// the transaction of the change, and can only be added to. [WithRequestID] names
// the request that it was done in; [Config].Hooks are told of the same changes.
//
// # The conversion rate
//
// [Manager.ConversionRate] looks at the newest leads and counts those that
// ever reached a status, also if they have moved on since, or, as [Current],
// those that are in it now. It costs the same with a thousand leads and with
// ten million.
//
// # Lists
//
// [Manager.Customers], [Manager.Users], [Manager.History] and [Manager.Audit]
// return pages, for those who show them. [Manager.AllCustomers] and its like range
// over everything, a page at a time, for those who process it:
//
//	for lead, err := range crm.AllCustomers(ctx, actor, cims.CustomerFilter{Status: "need_to_call"}) {
//		…
//	}
//
// # Errors
//
// Refusals are an [*Error] and wrap one of the Err variables, such as
// [ErrInUse]. A call does everything or nothing; [ErrOutcomeUnknown] says that
// the connection died in the commit, so that it isn't known which. What is
// worth another try, such as a conflict of two transactions, has been tried
// again by then.
//
// # A storage of your own
//
// [Storage] knows no rules, and is small enough to be written in an afternoon:
// examples/customstorage is a whole one, in memory, in one file. The package
// storage/storagetest proves any: each of its methods, every rule over it, and
// the guarantees under concurrency.
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

// Names that the library itself relies on. They exist from the first
// migration, as system entries, and can't be deleted or deactivated.
const (
	StatusContacted      = "contacted"       // the initial status, unless Config says otherwise
	StatusProjectStarted = "project_started" // the target of the conversion rate, unless asked otherwise

	RoleCEO          = "ceo"
	RoleSalesManager = "sales_manager"
)

// Config has what can be different from one program to the next. The zero
// value of each field stands for its default.
type Config struct {
	// InitialStatus is the name of the status that a new customer gets when
	// its input names none. Default: "contacted". While it is inactive or
	// absent, the first active status by order is taken.
	InitialStatus string

	// ManualTakesTurn makes a manual assignment count as the manager's turn in
	// the rotation. By default it does not: who is handed a lead by hand still
	// gets the next one that is due.
	ManualTakesTurn bool

	// Hooks are run, in their order, on each change, in its transaction.
	Hooks []Hook

	// WaitingInterval is how often waiting leads are looked for: leads that
	// came while no sales manager was active. Default: half a second, so that
	// they are assigned within a second of somebody becoming active, whichever
	// program made it so.
	WaitingInterval time.Duration

	// Clock tells the time. Default: time.Now.
	Clock func() time.Time

	// Logger gets what happens in the background. Default: slog.Default().
	Logger *slog.Logger
}

func (c *Config) withDefaults() (Config, error) {
	var filled Config
	if c != nil {
		filled = *c
	}
	if filled.InitialStatus == "" {
		filled.InitialStatus = StatusContacted
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
	check.between("WaitingInterval", int(filled.WaitingInterval), 0, math.MaxInt)
	if slices.ContainsFunc(filled.Hooks, func(hook Hook) bool { return hook == nil }) {
		check.add("Hooks", RuleRequired)
	}
	return filled, check.err()
}

// Manager does everything that the library offers, under its rules. It is safe
// for concurrent use. Several Managers, in one process or in many, may work on
// one database: the guarantees hold across them.
type Manager struct {
	storage Storage
	config  Config

	intakes     gatherer[leadRequest]
	assignments gatherer[autoAssignment]

	wake   chan struct{} // somebody has become eligible: look for waiting leads now
	stop   context.CancelFunc
	closed chan struct{}
	once   sync.Once
}

// New makes a Manager over storage, whose tables have to be there already (see
// Storage.Migrate). It does no I/O but starts one goroutine, which assigns
// waiting leads; Close ends it. It returns ErrInvalid for a config that makes
// no sense.
func New(storage Storage, config *Config) (*Manager, error) {
	if v := reflect.ValueOf(storage); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() { // what is left of an overlooked error
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
	}
	m.intakes.run, m.assignments.run = m.addLeads, m.autoAssign
	var ctx context.Context
	ctx, m.stop = context.WithCancel(context.Background()) //nolint:gosec // Close calls it
	go m.work(ctx)
	return m, nil
}

// Close ends the Manager's background work, lets the leads that are under way
// be stored and assigned, and waits for that, at most until ctx ends, whose
// error it then returns. It leaves the Storage open. A closed Manager takes no
// new leads in and assigns none automatically (ErrClosed), waiting ones
// neither; Close may be called again.
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

// WithTx returns a Manager that works inside the host's own transaction: what it
// does is committed with the host's rows, or is not, and the host sees it at once.
// A bun.Tx has the *sql.Tx in it; for a pgx.Tx see postgres.WithTx.
//
// The host commits. Until it does, the lock on the rotation is held, and no other
// lead gets its sales manager: so let the calls that assign or that change sales
// managers come last, and keep the transaction short. A refusal (ErrNotFound,
// ErrInUse and so on) leaves the transaction as it was before the call, and
// usable; any other error means that the host should roll it back. Nothing is
// repeated on a conflict with another transaction, which is ErrUnavailable: only
// the host can begin again. Like the transaction, the Manager is for one goroutine
// at a time. It needs no Close.
//
// On PostgreSQL the transaction has to be read committed, PostgreSQL's default:
// under an older snapshot the rotation would pick wrongly, so the Manager's methods
// return ErrIsolation. On SQLite any transaction will do, on a connection that
// checks foreign keys; one that reads before it writes should be begun as
// immediate (_txlock=immediate), as ever on SQLite.
//
// It panics where the Storage is not a Joiner. The library's own are.
func (m *Manager) WithTx(tx *sql.Tx) *Manager { return m.Join(tx) }

// Join is WithTx for any kind of transaction that the Storage can join. It is for
// those who write a Storage; on one of the wrong kind the Manager's methods return
// an error.
func (m *Manager) Join(tx any) *Manager {
	joiner, ok := m.storage.(Joiner)
	if !ok {
		panic(fmt.Sprintf("cims: a %T can't join a transaction of the host's", m.storage))
	}
	joined := &Manager{storage: joiner.Join(tx), config: m.config, stop: func() {}, closed: make(chan struct{})}
	close(joined.closed)
	joined.intakes = gatherer[leadRequest]{run: joined.addLeads, alone: true, closed: !m.intakes.open()}
	joined.assignments = gatherer[autoAssignment]{run: joined.autoAssign, alone: true, closed: !m.assignments.open()}
	return joined
}

// Ready tells whether the database answers and its schema is current. It
// returns ErrUnavailable or what else is wrong.
func (m *Manager) Ready(ctx context.Context) error { return m.storage.Ready(ctx) }

// update is the storage's Update for one caller.
func (m *Manager) update(ctx context.Context, do func(ctx context.Context, tx Tx) error) error {
	return hostCause(m.storage.Update(ctx, do))
}

// now is the time in the precision that both databases keep, so that what is
// returned equals what is read later.
func (m *Manager) now() time.Time { return m.config.Clock().UTC().Truncate(time.Microsecond) }

// after is the time now, and later than what is recorded already, so that the
// order of events stays true when the clock is set back.
func (m *Manager) after(recorded time.Time) time.Time {
	now := m.now()
	if !now.After(recorded) {
		now = recorded.UTC().Add(time.Microsecond)
	}
	return now
}
