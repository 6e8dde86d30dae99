package cims

import (
	"context"
	"time"

	"github.com/cimskit/cims/rotation"
)

// UnimplementedStorage is a Storage whose methods all return ErrUnsupported. A type
// that embeds it still compiles after Storage gains methods.
type UnimplementedStorage struct{ UnimplementedReader }

// UnimplementedTx is a Tx whose methods all return ErrUnsupported. A type that embeds
// it still compiles after Tx gains methods.
type UnimplementedTx struct{ UnimplementedReader }

// UnimplementedReader is a Reader whose methods all return ErrUnsupported. A type that
// embeds it still compiles after Reader gains methods.
type UnimplementedReader struct{}

var (
	_ Storage = UnimplementedStorage{}
	_ Tx      = UnimplementedTx{}
)

// Update implements Storage.
func (UnimplementedStorage) Update(context.Context, func(ctx context.Context, tx Tx) error) error {
	return ErrUnsupported
}

// Migrate implements Storage.
func (UnimplementedStorage) Migrate(context.Context) error {
	return ErrUnsupported
}

// Ready implements Storage.
func (UnimplementedStorage) Ready(context.Context) error {
	return ErrUnsupported
}

// Close implements Storage.
func (UnimplementedStorage) Close() error {
	return ErrUnsupported
}

// Statuses implements Reader.
func (UnimplementedReader) Statuses(context.Context) ([]Status, error) {
	return nil, ErrUnsupported
}

// Roles implements Reader.
func (UnimplementedReader) Roles(context.Context) ([]Role, error) {
	return nil, ErrUnsupported
}

// Account implements Reader.
func (UnimplementedReader) Account(context.Context, int64) (Account, error) {
	return Account{}, ErrUnsupported
}

// AccountsByEmail implements Reader.
func (UnimplementedReader) AccountsByEmail(context.Context, string) ([]Account, error) {
	return nil, ErrUnsupported
}

// Users implements Reader.
func (UnimplementedReader) Users(context.Context, UserQuery) ([]User, error) {
	return nil, ErrUnsupported
}

// CountUsers implements Reader.
func (UnimplementedReader) CountUsers(context.Context, string, int) (int, error) {
	return 0, ErrUnsupported
}

// Customer implements Reader.
func (UnimplementedReader) Customer(context.Context, int64) (Customer, error) {
	return Customer{}, ErrUnsupported
}

// Customers implements Reader.
func (UnimplementedReader) Customers(context.Context, CustomerQuery) ([]Customer, error) {
	return nil, ErrUnsupported
}

// CountCustomers implements Reader.
func (UnimplementedReader) CountCustomers(context.Context, string, int) (int, error) {
	return 0, ErrUnsupported
}

// Unassigned implements Reader.
func (UnimplementedReader) Unassigned(context.Context, UnassignedQuery) ([]int64, error) {
	return nil, ErrUnsupported
}

// History implements Reader.
func (UnimplementedReader) History(context.Context, HistoryQuery) ([]Event, error) {
	return nil, ErrUnsupported
}

// Rotation implements Reader.
func (UnimplementedReader) Rotation(context.Context) (Rotation, error) {
	return Rotation{}, ErrUnsupported
}

// Conversion implements Reader.
func (UnimplementedReader) Conversion(context.Context, ConversionQuery) (Conversion, error) {
	return Conversion{}, ErrUnsupported
}

// Audit implements Reader.
func (UnimplementedReader) Audit(context.Context, AuditQuery) ([]AuditEntry, error) {
	return nil, ErrUnsupported
}

// LockStatus implements Tx.
func (UnimplementedTx) LockStatus(context.Context, int64) (Status, error) {
	return Status{}, ErrUnsupported
}

// UseStatus implements Tx.
func (UnimplementedTx) UseStatus(context.Context, string) (Status, error) {
	return Status{}, ErrUnsupported
}

// InsertStatus implements Tx.
func (UnimplementedTx) InsertStatus(context.Context, Status) (int64, error) {
	return 0, ErrUnsupported
}

// UpdateStatus implements Tx.
func (UnimplementedTx) UpdateStatus(context.Context, Status) error {
	return ErrUnsupported
}

// DeleteStatus implements Tx.
func (UnimplementedTx) DeleteStatus(context.Context, int64) error {
	return ErrUnsupported
}

// LockRights implements Tx.
func (UnimplementedTx) LockRights(context.Context) error {
	return ErrUnsupported
}

// LockRole implements Tx.
func (UnimplementedTx) LockRole(context.Context, int64) (Role, error) {
	return Role{}, ErrUnsupported
}

// UseRole implements Tx.
func (UnimplementedTx) UseRole(context.Context, string) (Role, error) {
	return Role{}, ErrUnsupported
}

// InsertRole implements Tx.
func (UnimplementedTx) InsertRole(context.Context, Role) (int64, error) {
	return 0, ErrUnsupported
}

// UpdateRole implements Tx.
func (UnimplementedTx) UpdateRole(context.Context, Role) error {
	return ErrUnsupported
}

// DeleteRole implements Tx.
func (UnimplementedTx) DeleteRole(context.Context, int64) error {
	return ErrUnsupported
}

// InsertUser implements Tx.
func (UnimplementedTx) InsertUser(context.Context, User) (int64, error) {
	return 0, ErrUnsupported
}

// UpdateUser implements Tx.
func (UnimplementedTx) UpdateUser(context.Context, User) error {
	return ErrUnsupported
}

// MoveUsers implements Tx.
func (UnimplementedTx) MoveUsers(context.Context, string, string) error {
	return ErrUnsupported
}

// InsertLeads implements Tx.
func (UnimplementedTx) InsertLeads(context.Context, []*Lead) error {
	return ErrUnsupported
}

// LockCustomers implements Tx.
func (UnimplementedTx) LockCustomers(context.Context, []int64) ([]Customer, error) {
	return nil, ErrUnsupported
}

// ChangeStatuses implements Tx.
func (UnimplementedTx) ChangeStatuses(context.Context, []StatusChange) error {
	return ErrUnsupported
}

// LockRotation implements Tx.
func (UnimplementedTx) LockRotation(context.Context) (Rotation, error) {
	return Rotation{}, ErrUnsupported
}

// SaveRotation implements Tx.
func (UnimplementedTx) SaveRotation(context.Context, Rotation) error {
	return ErrUnsupported
}

// SaveMember implements Tx.
func (UnimplementedTx) SaveMember(context.Context, rotation.Member) error {
	return ErrUnsupported
}

// CountLeads implements Tx.
func (UnimplementedTx) CountLeads(context.Context, map[int64]int) error {
	return ErrUnsupported
}

// ChangeOwners implements Tx.
func (UnimplementedTx) ChangeOwners(context.Context, []OwnerChange) ([]Assignment, error) {
	return nil, ErrUnsupported
}

// AppendAudit implements Tx.
func (UnimplementedTx) AppendAudit(context.Context, []AuditEntry) error {
	return ErrUnsupported
}

// ClaimKey implements Tx.
func (UnimplementedTx) ClaimKey(context.Context, Key, time.Time) (*Key, error) {
	return nil, ErrUnsupported
}

// SaveKey implements Tx.
func (UnimplementedTx) SaveKey(context.Context, Key) error {
	return ErrUnsupported
}

// ForgetKeys implements Tx.
func (UnimplementedTx) ForgetKeys(context.Context, time.Time, int) (int, error) {
	return 0, ErrUnsupported
}
