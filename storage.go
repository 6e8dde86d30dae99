package cims

import (
	"context"
	"time"

	"github.com/cimskit/cims/rotation"
)

// Storage stores the data of a Manager. It contains no rules; those are in Manager.
// The packages storage/sqlite and storage/postgres implement it. The package
// examples/customstorage implements it in memory. Package storage/storagetest tests
// any implementation.
//
// Storage, Reader and Tx may gain methods until version 1.0 of this module. An
// implementation should embed UnimplementedStorage, and UnimplementedTx in its Tx.
// It still compiles then, and methods that it lacks return ErrUnsupported.
//
// Methods return an error that wraps ErrNotFound, ErrExists, ErrInUse,
// ErrOutcomeUnknown or ErrIsolation only where their comment says so. Any method
// may return ErrUnavailable, if the database can't be reached in time. A failure is
// never reported as ErrNotFound or as an empty result.
//
// Times are in UTC and have a precision of microseconds. The caller may modify
// returned values; that must not affect stored data.
type Storage interface {
	Reader

	// Update runs do in a transaction and commits it if do returns nil. If do
	// returns an error or panics, Update rolls the transaction back and returns
	// the error. It returns ErrOutcomeUnknown if the connection is lost during
	// the commit.
	//
	// The isolation is read committed or stricter: a statement sees at least
	// the changes that were committed before it began.
	//
	// Update runs do again after a conflict with another transaction, so do must
	// keep nothing of a failed run. It must use only the ctx and the Tx that it
	// receives.
	Update(ctx context.Context, do func(ctx context.Context, tx Tx) error) error

	// Migrate brings the schema up to date and creates missing SystemStatuses
	// and SystemRoles. It may be interrupted at any point, repeated, and run by
	// several processes at once. It changes and drops only what it added itself.
	Migrate(ctx context.Context) error

	// Ready returns nil if the database answers and its schema is current.
	Ready(ctx context.Context) error

	// Close closes the resources that the Storage opened itself.
	Close() error
}

// Reader reads data, inside or outside of a transaction. Methods that return a list
// without a limit return all of it. Its order is unspecified unless the method
// says otherwise.
type Reader interface {
	StatusReader
	RoleReader
	UserReader
	LeadReader
	RotationReader
	AnalyticsReader
	AuditReader
}

// Tx is a transaction. Its locks last until it ends. A Manager takes them in this
// order: rights, statuses by id, the rotation, customers by id, and counts of leads
// by sales manager id.
type Tx interface {
	Reader
	StatusTx
	RoleTx
	UserTx
	LeadTx
	RotationTx
	AuditTx
	KeyTx
}

// StatusReader reads statuses.
type StatusReader interface {
	// Statuses returns all statuses.
	Statuses(ctx context.Context) ([]Status, error)
}

// StatusTx changes statuses.
type StatusTx interface {
	// LockStatus reads a status. Until the transaction ends, other transactions
	// can't change it, delete it or move customers to it. LockStatus returns
	// ErrNotFound for an unknown id.
	LockStatus(ctx context.Context, id int64) (Status, error)
	// UseStatus reads a status by name and protects it from deletion until the
	// transaction ends. Several transactions may use it at once. UseStatus
	// returns ErrNotFound for an unknown name.
	UseStatus(ctx context.Context, name string) (Status, error)
	// InsertStatus stores a new status and returns its id. It returns ErrExists
	// if the name is taken.
	InsertStatus(ctx context.Context, status Status) (int64, error)
	// UpdateStatus stores all fields of a locked status.
	UpdateStatus(ctx context.Context, status Status) error
	// DeleteStatus deletes a locked status. It returns ErrInUse if a customer is
	// in it, even one that another program put there.
	DeleteStatus(ctx context.Context, id int64) error
}

// RoleReader reads roles.
type RoleReader interface {
	// Roles returns all roles.
	Roles(ctx context.Context) ([]Role, error)
}

// RoleTx changes roles.
type RoleTx interface {
	// LockRights takes the lock that guards roles, users and the last CEO. One
	// transaction at a time holds it, until it ends. It is taken before every
	// other lock, and doesn't block the rotation.
	LockRights(ctx context.Context) error

	// LockRole reads a role. Until the transaction ends, other transactions
	// can't change it, delete it or give it to users. LockRole returns
	// ErrNotFound for an unknown id.
	LockRole(ctx context.Context, id int64) (Role, error)
	// UseRole reads a role by name and protects it from deletion until the
	// transaction ends. Several transactions may use it at once. UseRole returns
	// ErrNotFound for an unknown name.
	UseRole(ctx context.Context, name string) (Role, error)
	// InsertRole stores a new role and returns its id. It returns ErrExists if
	// the name is taken.
	InsertRole(ctx context.Context, role Role) (int64, error)
	// UpdateRole stores all fields of a locked role.
	UpdateRole(ctx context.Context, role Role) error
	// DeleteRole deletes a locked role. It returns ErrInUse if a user has it,
	// even one to which another program gave it.
	DeleteRole(ctx context.Context, id int64) error
}

// UserReader reads users.
type UserReader interface {
	// Account returns a user with its role, which is zero if the user has none.
	// It returns ErrNotFound for an unknown user.
	Account(ctx context.Context, id int64) (Account, error)
	// AccountsByEmail returns the user with exactly this email. If there is
	// none, it returns all users whose email differs in case only. An empty
	// result is not an error.
	AccountsByEmail(ctx context.Context, email string) ([]Account, error)
	// Users returns users in the order of their ids.
	Users(ctx context.Context, query UserQuery) ([]User, error)
	// CountUsers returns the number of users that have a role, or limit if
	// there are more.
	CountUsers(ctx context.Context, role string, limit int) (int, error)
}

// UserTx changes users.
type UserTx interface {
	// InsertUser stores a new user and returns its id. It returns ErrExists if
	// another user has exactly this email.
	InsertUser(ctx context.Context, user User) (int64, error)
	// UpdateUser stores all fields of a user. It returns ErrExists if another
	// user has exactly this email.
	UpdateUser(ctx context.Context, user User) error
	// MoveUsers gives all users of one role another role.
	MoveUsers(ctx context.Context, from, to string) error
}

// LeadReader reads leads and their histories.
type LeadReader interface {
	// Customer returns a customer with its sales manager and assignment. It
	// returns ErrNotFound for an unknown id.
	Customer(ctx context.Context, id int64) (Customer, error)
	// Customers returns customers with their sales managers and assignments,
	// newest first: by time of creation, then id.
	Customers(ctx context.Context, query CustomerQuery) ([]Customer, error)
	// CountCustomers returns the number of customers in a status, or limit if
	// there are more.
	CountCustomers(ctx context.Context, status string, limit int) (int, error)
	// Unassigned returns the ids of customers without a sales manager, oldest first.
	Unassigned(ctx context.Context, query UnassignedQuery) ([]int64, error)
	// History returns events of a customer, oldest first: by time, with statuses
	// before assignments, then by id. Events of a kind keep the order in which
	// they happened. If a clock was set back, an event has the time of the event
	// before it.
	History(ctx context.Context, query HistoryQuery) ([]Event, error)
}

// LeadTx stores leads and changes their statuses.
type LeadTx interface {
	// InsertLeads stores new customers with their assignments and their first
	// history rows. A first row has the cause CauseCreated and names the owner.
	// The UpdatedAt of a customer is its CreatedAt.
	//
	// InsertLeads fills in the ids, which ascend. It doesn't change the rotation
	// or counts of leads; see SaveRotation and CountLeads. It returns a
	// *LeadError for a lead that the database can't store.
	InsertLeads(ctx context.Context, leads []*Lead) error
	// LockCustomers reads customers, in the order of their ids, and skips
	// unknown ids. Until the transaction ends, other transactions can't change
	// their status or owner.
	LockCustomers(ctx context.Context, ids []int64) ([]Customer, error)
	// ChangeStatuses makes changes, at most one for each customer, and records
	// them in the histories.
	ChangeStatuses(ctx context.Context, changes []StatusChange) error
}

// RotationReader reads the rotation.
type RotationReader interface {
	// Rotation returns the state of the rotation, with the members in the order
	// of their ids. Members are all active users whose role is the active role
	// sales_manager, including paused ones. They are read from the users, never
	// from a copy.
	Rotation(ctx context.Context) (Rotation, error)
}

// RotationTx changes the rotation and the owners of leads. A transaction calls
// LockRotation before the other methods.
type RotationTx interface {
	// LockRotation takes the lock on the rotation, then reads the state as
	// Rotation does. One transaction at a time holds the lock, until it ends.
	LockRotation(ctx context.Context) (Rotation, error)
	// SaveRotation stores the turn, and the credit, latest turn and presence of
	// each member. It discards those of users that are no longer members.
	SaveRotation(ctx context.Context, state Rotation) error
	// SaveMember stores the weight of a member and whether it is paused.
	SaveMember(ctx context.Context, member rotation.Member) error
	// CountLeads adds to the numbers of leads that sales managers own, by id.
	CountLeads(ctx context.Context, gained map[int64]int) error
	// ChangeOwners makes changes of owners, at most one for each customer. It
	// stores the assignment, the numbers of leads, and whether the customer
	// waits. If the owner differs, it also adds a history row and sets UpdatedAt.
	//
	// ChangeOwners returns the assignments in the order of the changes. It
	// returns the zero Assignment for a customer without an owner. Only one made
	// by hand or of somebody's own lead names the user.
	ChangeOwners(ctx context.Context, changes []OwnerChange) ([]Assignment, error)
}

// AnalyticsReader computes figures.
type AnalyticsReader interface {
	// Conversion counts the leads of a query and those that converted. The
	// query is valid, and its defaults are filled in.
	Conversion(ctx context.Context, query ConversionQuery) (Conversion, error)
}

// AuditReader reads the audit log.
type AuditReader interface {
	// Audit returns entries of the audit log, highest id first.
	Audit(ctx context.Context, query AuditQuery) ([]AuditEntry, error)
}

// AuditTx writes the audit log.
type AuditTx interface {
	// AppendAudit adds entries to the audit log and assigns ascending ids to
	// them. No method changes or deletes entries.
	AppendAudit(ctx context.Context, entries []AuditEntry) error
}

// KeyTx stores idempotency keys.
type KeyTx interface {
	// ClaimKey claims an idempotency key. If the key is new, or was stored before
	// expired, ClaimKey returns nil. The transaction then owns the key until it
	// ends, and stores it when it commits. Otherwise ClaimKey returns the stored
	// key. If another transaction owns the key, ClaimKey waits for its end.
	ClaimKey(ctx context.Context, key Key, expired time.Time) (*Key, error)
	// SaveKey stores the result of a claimed key.
	SaveKey(ctx context.Context, key Key) error
	// ForgetKeys deletes at most limit keys that were stored before expired, and
	// returns the number of deleted keys.
	ForgetKeys(ctx context.Context, expired time.Time, limit int) (int, error)
}

// Intaker is an optional interface of a Storage that stores new leads faster than
// Update does.
type Intaker interface {
	// Intake stores new leads in a separate transaction, under the lock on the
	// rotation, as InsertLeads, CountLeads and SaveRotation do.
	//
	// The function decide receives the state of the rotation under the lock. It
	// sets the owner of each lead and returns the new state. Intake may call it
	// more than once.
	//
	// Intake may decline, for example if a status is not active. It then stores
	// nothing and returns false, and the Manager uses Update.
	Intake(ctx context.Context, leads []*Lead, decide func(Rotation) Rotation) (bool, error)
}

// Joiner is an optional interface of a Storage that can work inside a transaction of
// the host.
type Joiner interface {
	// Join returns a Storage whose methods work inside tx, such as an *sql.Tx.
	// It never commits tx. Update runs do once and, if do fails, undoes only the
	// changes of do. Then tx stays usable, unless the database failed. Migrate
	// and Close do nothing.
	//
	// Join doesn't use tx. The methods return an error if tx can't be joined, and
	// ErrIsolation if its isolation could hide changes that others committed.
	// Join of a joined Storage joins its tx again.
	Join(tx any) Storage
}

// Executor is an optional interface of a Tx that runs statements of hooks. Without
// it, hooks can't write in the transaction.
type Executor interface {
	// Exec runs a statement and returns the number of affected rows.
	// Placeholders have the form of the driver: $1 on PostgreSQL, ? on SQLite.
	Exec(ctx context.Context, query string, args ...any) (int64, error)
}

// Lead is a new customer to be stored.
type Lead struct {
	Customer Customer // with its SalesManager, if it has one
	Waiting  bool     // waits for a sales manager
	By       *int64   // id of the acting user; nil for System
}

// Account is a user with its role.
type Account struct {
	User User
	Role Role
}

// UserQuery selects users. A zero field matches all.
type UserQuery struct {
	Role    string
	Active  *bool
	Prefix  string // of name, surname or email, in any case
	AfterID int64
	Limit   int
}

// CustomerQuery selects customers. A zero field matches all.
type CustomerQuery struct {
	Status         string
	SalesManagerID *int64
	Unassigned     bool   // only customers without a sales manager
	Prefix         string // of the name or phone number, in any case; digits also find a number that begins with + and them
	After          *CustomerPosition
	Limit          int
}

// UnassignedQuery selects customers without a sales manager.
type UnassignedQuery struct {
	// Waiting selects customers that wait for a sales manager. Otherwise those
	// are selected that had none before cims was installed.
	Waiting bool
	Limit   int
}

// CustomerPosition is the position of a customer in a list.
type CustomerPosition struct {
	CreatedAt time.Time
	ID        int64
}

// HistoryQuery selects events of a customer.
type HistoryQuery struct {
	CustomerID int64
	After      *EventPosition
	Limit      int
}

// EventPosition is the position of an event in a history.
type EventPosition struct {
	At   time.Time
	Kind EventKind
	ID   int64
}

// AuditQuery selects entries of the audit log.
type AuditQuery struct {
	AuditFilter
	BeforeID *int64
	Limit    int
}

// StatusChange is a change of a customer's status. If From equals To, it only adds the
// reason to the history.
type StatusChange struct {
	CustomerID int64
	From, To   string
	Cause      Cause
	By         *int64
	Reason     string
	Owner      *int64 // the owner at that time
	At         time.Time
}

// OwnerChange is a change of a customer's owner.
type OwnerChange struct {
	CustomerID        int64
	CustomerCreatedAt time.Time
	From, To          *int64 // nil for none; a customer waits if To is nil
	Cause             Cause
	By                *int64
	At                time.Time // later than the customer's UpdatedAt
}

// Key is an idempotency key with its stored result.
type Key struct {
	Scope       string // the actor and the kind of call
	Key         string
	Fingerprint string // of the input
	Result      []byte
	At          time.Time
}
