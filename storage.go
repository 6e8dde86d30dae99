package cims

import (
	"context"
	"time"

	"github.com/cimskit/cims/rotation"
)

// Storage keeps what a Manager works on. It knows no rules: those are the
// Manager's. The packages storage/sqlite and storage/postgres have one each;
// examples/customstorage is a third, in memory, and storage/storagetest proves
// any.
//
// Storage, Reader and Tx may gain methods until version 1.0 of this module. A type
// that embeds UnimplementedStorage, and whose Tx embeds UnimplementedTx, compiles
// all the same: what it lacks returns ErrUnsupported.
//
// Methods return errors that wrap ErrNotFound, ErrExists and so on exactly
// where their comment says so, ErrUnavailable where the database can't be
// reached in time, and never take a failure for an absence. Times are in UTC
// with microseconds. What methods return is the caller's own: nothing that is
// kept changes when the caller writes to it.
type Storage interface {
	Reader

	// Update runs do in a transaction and commits it when do returns nil;
	// otherwise, also when do panics, nothing of it stays, and do's error is
	// returned. Statements see what was committed before they began (read
	// committed), or more. On a conflict with another transaction that a
	// repetition can solve, do is run again from the start, so it must not keep
	// anything from a run that failed. It uses the ctx and the Tx it is given,
	// and nothing else of the Storage. ErrOutcomeUnknown: the connection died
	// in the commit.
	Update(ctx context.Context, do func(ctx context.Context, tx Tx) error) error

	// Migrate brings the schema up to date and creates those of SystemStatuses
	// and SystemRoles that are missing. It may be interrupted anywhere, run
	// again, and run by several processes at once. It changes and drops nothing
	// that it did not add.
	Migrate(ctx context.Context) error

	// Ready returns nil when the database answers and its schema is current.
	Ready(ctx context.Context) error

	// Close frees what the Storage opened itself.
	Close() error
}

// Reader reads, in and outside of a transaction. Lists of statuses, roles and
// rotation members are short and come whole, in any order but where a method says
// more.
type Reader interface {
	StatusReader
	RoleReader
	UserReader
	LeadReader
	RotationReader
	AnalyticsReader
	AuditReader
}

// Tx is a transaction.
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
	// LockStatus reads a status and keeps others from changing it, deleting it
	// and putting customers into it until the transaction ends. ErrNotFound.
	LockStatus(ctx context.Context, id int64) (Status, error)
	// UseStatus reads a status by name and keeps it from being deleted until
	// the transaction ends; others may use it too. ErrNotFound.
	UseStatus(ctx context.Context, name string) (Status, error)
	// InsertStatus stores a new status and returns its id. ErrExists.
	InsertStatus(ctx context.Context, status Status) (int64, error)
	// UpdateStatus stores all fields of a locked status.
	UpdateStatus(ctx context.Context, status Status) error
	// DeleteStatus deletes a locked status. It returns ErrInUse while a customer
	// is in it, through whichever program.
	DeleteStatus(ctx context.Context, id int64) error
}

// RoleReader reads roles.
type RoleReader interface {
	// Roles returns all roles.
	Roles(ctx context.Context) ([]Role, error)
}

// RoleTx changes roles.
type RoleTx interface {
	// LockRights takes the lock that guards roles, users and the last CEO, which
	// one transaction at a time holds, to its end. It comes before every other
	// lock, and leaves the rotation to others.
	LockRights(ctx context.Context) error

	// LockRole, UseRole, InsertRole, UpdateRole and DeleteRole are to roles
	// and users what their namesakes are to statuses and customers.
	LockRole(ctx context.Context, id int64) (Role, error)
	UseRole(ctx context.Context, name string) (Role, error)
	InsertRole(ctx context.Context, role Role) (int64, error)
	UpdateRole(ctx context.Context, role Role) error
	DeleteRole(ctx context.Context, id int64) error
}

// UserReader reads users.
type UserReader interface {
	// Account returns a user with its role; the zero Role when it has none.
	// ErrNotFound.
	Account(ctx context.Context, id int64) (Account, error)
	// AccountsByEmail returns the user whose email is exactly this, or, if
	// there is none, all whose email is this in another case. None is no error.
	AccountsByEmail(ctx context.Context, email string) ([]Account, error)
	// Users returns users by id.
	Users(ctx context.Context, query UserQuery) ([]User, error)
	// CountUsers counts the users of a role, and stops at limit.
	CountUsers(ctx context.Context, role string, limit int) (int, error)
}

// UserTx changes users.
type UserTx interface {
	// InsertUser stores a new user and returns its id. ErrExists for an email
	// that is taken exactly.
	InsertUser(ctx context.Context, user User) (int64, error)
	// UpdateUser stores all fields of a user. ErrExists as InsertUser.
	UpdateUser(ctx context.Context, user User) error
	// MoveUsers gives all users of one role another.
	MoveUsers(ctx context.Context, from, to string) error
}

// LeadReader reads leads and what happened to them.
type LeadReader interface {
	// Customer returns a customer with its present sales manager and
	// assignment. ErrNotFound.
	Customer(ctx context.Context, id int64) (Customer, error)
	// Customers returns customers as Customer does, newest first (by time of
	// creation, then id).
	Customers(ctx context.Context, query CustomerQuery) ([]Customer, error)
	// CountCustomers counts the customers in a status, and stops at limit.
	CountCustomers(ctx context.Context, status string, limit int) (int, error)
	// Unassigned returns the ids of customers without a sales manager, oldest first.
	Unassigned(ctx context.Context, query UnassignedQuery) ([]int64, error)
	// History returns what happened to a customer, oldest first (by time, a
	// status before an assignment, then id). Events of a kind are in the order in
	// which they happened; where a clock was set back, an event has the time of the
	// one before it.
	History(ctx context.Context, query HistoryQuery) ([]Event, error)
}

// LeadTx stores leads and moves them through the statuses.
type LeadTx interface {
	// InsertLeads stores new customers with their sales managers and their first
	// history row, whose cause is CauseCreated and which says who the first
	// sales manager is; their UpdatedAt is their CreatedAt. It fills in each
	// lead's ids; they ascend. It changes nothing of the rotation, and counts
	// nothing: SaveRotation and CountLeads do. A *LeadError says which lead the
	// database has no room for.
	InsertLeads(ctx context.Context, leads []*Lead) error
	// LockCustomers reads those of the customers that exist, by id, and keeps
	// others from changing their status and owner until the transaction ends.
	LockCustomers(ctx context.Context, ids []int64) ([]Customer, error)
	// ChangeStatuses carries out changes and records them in the history: one
	// for each customer at most.
	ChangeStatuses(ctx context.Context, changes []StatusChange) error
}

// RotationReader reads the rotation.
type RotationReader interface {
	// Rotation returns the rotation's state, its members in the order of their
	// ids: all active users whose role is the active role sales_manager, paused
	// ones too. They are read from the users themselves, never from a copy.
	Rotation(ctx context.Context) (Rotation, error)
}

// RotationTx changes the rotation and the owners of leads. LockRotation comes
// first.
type RotationTx interface {
	// LockRotation takes the rotation's lock, which one transaction at a time
	// holds, to its end, and returns the state as Rotation does, read after
	// the lock was taken.
	LockRotation(ctx context.Context) (Rotation, error)
	// SaveRotation stores the turn, and each member's credit, latest turn and
	// presence. A sales manager that is no member now loses its own.
	SaveRotation(ctx context.Context, state Rotation) error
	// SaveMember stores a member's weight and whether it is paused.
	SaveMember(ctx context.Context, member rotation.Member) error
	// CountLeads adds to the number of leads that each sales manager has.
	CountLeads(ctx context.Context, gained map[int64]int) error
	// ChangeOwners carries out changes of owners, one for each customer at most:
	// the assignment, the managers' numbers of leads, whether the customer waits,
	// and, where the owner differs, its history row and the time of its update. It
	// returns each change's assignment, in order; the zero Assignment where nobody
	// owns the customer now.
	ChangeOwners(ctx context.Context, changes []OwnerChange) ([]Assignment, error)
}

// AnalyticsReader counts.
type AnalyticsReader interface {
	// Conversion measures; the query is complete and valid.
	Conversion(ctx context.Context, query ConversionQuery) (Conversion, error)
}

// AuditReader reads the audit log.
type AuditReader interface {
	// Audit returns entries of the audit log, newest (highest id) first.
	Audit(ctx context.Context, query AuditQuery) ([]AuditEntry, error)
}

// AuditTx writes the audit log.
type AuditTx interface {
	// AppendAudit adds entries to the audit log, and gives them their ids: they
	// ascend. Nothing else ever changes it.
	AppendAudit(ctx context.Context, entries []AuditEntry) error
}

// KeyTx keeps idempotency keys.
type KeyTx interface {
	// ClaimKey claims an idempotency key. It returns nil if the key is new, or
	// older than expired: then it is claimed until the transaction ends, and
	// kept if that commits. Otherwise it returns what was kept; while another
	// transaction is about to keep it, it waits for that.
	ClaimKey(ctx context.Context, key Key, expired time.Time) (*Key, error)
	// SaveKey keeps a claimed key's result.
	SaveKey(ctx context.Context, key Key) error
	// ForgetKeys deletes at most limit keys older than expired and returns how
	// many it deleted.
	ForgetKeys(ctx context.Context, expired time.Time, limit int) (int, error)
}

// Intaker is a Storage that takes in new customers faster than through Update. A
// Storage need not be one.
type Intaker interface {
	// Intake stores new leads in a transaction of its own, under the rotation's
	// lock, as InsertLeads, CountLeads and SaveRotation do. Decide gets the
	// rotation's state under the lock, sets the owner of each lead, and returns the
	// state after; it may be called more than once. Intake stores nothing and
	// returns false where it can't do it this way, for instance when a status is
	// not active: Update can, or finds out why not.
	Intake(ctx context.Context, leads []*Lead, decide func(Rotation) Rotation) (bool, error)
}

// Joiner is a Storage that can work inside a transaction of the host's. A Storage
// need not be one.
type Joiner interface {
	// Join returns a Storage all of whose methods work inside tx, such as an
	// *sql.Tx. Its Update runs do once; if do fails, only what it has done is
	// undone, and tx stays usable unless the database itself has failed. Nothing is
	// committed, and tx is not used before one of the methods is called: they return
	// an error where it can't be joined, ErrIsolation for one whose isolation would
	// hide what others have committed. Migrate and Close do nothing; a Storage that
	// is inside one already joins the same.
	Join(tx any) Storage
}

// Executor runs statements of a host's inside a transaction: with arguments in the
// form of its driver ($1 on PostgreSQL, ? on SQLite). It returns how many rows were
// touched. A Tx need not be one, but then Config.Hooks can't write with it.
type Executor interface {
	Exec(ctx context.Context, query string, args ...any) (int64, error)
}

// Lead is a customer on its way in.
type Lead struct {
	Customer Customer // with its SalesManager, if it has one already
	Waiting  bool     // without one: it waits, rather than being left without
	By       *int64
}

// Account is a user with its role.
type Account struct {
	User User
	Role Role
}

// UserQuery selects users. Zero fields select nothing away.
type UserQuery struct {
	Role    string
	Active  *bool
	Prefix  string // of name, surname or email, in any case
	AfterID int64
	Limit   int
}

// CustomerQuery selects customers. Zero fields select nothing away.
type CustomerQuery struct {
	Status         string
	SalesManagerID *int64
	Unassigned     bool
	Prefix         string // of the name or phone number, in any case
	After          *CustomerPosition
	Limit          int
}

// UnassignedQuery selects customers without a sales manager.
type UnassignedQuery struct {
	// Waiting selects those that wait for one; else those that were left without
	// one before this library came.
	Waiting bool
	Limit   int
}

// CustomerPosition is a customer's place in a list.
type CustomerPosition struct {
	CreatedAt time.Time
	ID        int64
}

// HistoryQuery selects events of one customer.
type HistoryQuery struct {
	CustomerID int64
	After      *EventPosition
	Limit      int
}

// EventPosition is an event's place in a history.
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

// StatusChange is a change of a customer's status.
type StatusChange struct {
	CustomerID int64
	From, To   string
	Cause      Cause
	By         *int64
	Reason     string
	Owner      *int64 // the sales manager at that moment
	At         time.Time
}

// OwnerChange is a change of a customer's sales manager.
type OwnerChange struct {
	CustomerID        int64
	CustomerCreatedAt time.Time
	From, To          *int64 // nil for none; a customer without a To waits for one
	Cause             Cause
	By                *int64
	At                time.Time // later than what happened to the customer before
}

// Key is an idempotency key with what is kept under it.
type Key struct {
	Scope       string // who used it and for what
	Key         string
	Fingerprint string // of the input
	Result      []byte
	At          time.Time
}
