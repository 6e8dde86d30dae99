package storagetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

// contractTests hold each method of a Storage to its comment.
var contractTests = []test{
	{"Contract_MigrateTwiceChangesNothing", migrateTwice},
	{"Contract_UpdateCommitsOrLeavesNothing", updateCommitsOrNot},
	{"Contract_UpdateReturnsTheErrorOfDo", updateReturnsError},
	{"Contract_UpdateAfterPanic", updateAfterPanic},
	{"Contract_CanceledContext", canceledContext},
	{"Contract_WhatIsReturnedIsTheCallersOwn", callersOwn},
	{"Contract_TransactionSeesItsOwnWrites", ownWrites},
	{"Contract_OthersSeeOnlyWhatIsCommitted", onlyCommitted},
	{"Contract_Statuses", contractStatuses},
	{"Contract_DeleteStatusInUse", contractStatusInUse},
	{"Contract_Roles", contractRoles},
	{"Contract_DeleteRoleInUse", contractRoleInUse},
	{"Contract_MoveUsers", contractMoveUsers},
	{"Contract_Accounts", contractAccounts},
	{"Contract_AccountsByEmail", contractAccountsByEmail},
	{"Contract_Users", contractUsers},
	{"Contract_Customers", contractCustomers},
	{"Contract_CustomersInPages", contractCustomerPages},
	{"Contract_CustomersFilter", contractCustomerFilter},
	{"Contract_Counts", contractCounts},
	{"Contract_LockCustomers", contractLockCustomers},
	{"Contract_Unassigned", contractUnassigned},
	{"Contract_Intake", contractIntake},
	{"Contract_ChangeStatuses", contractChangeStatuses},
	{"Contract_HistoryOrder", contractHistory},
	{"Contract_Rotation", contractRotation},
	{"Contract_SaveRotation", contractSaveRotation},
	{"Contract_SaveRotationOwners", contractOwners},
	{"Contract_Keys", contractKeys},
	{"Contract_ForgetKeys", contractForgetKeys},
	{"Contract_Conversion", contractConversion},
	{"Contract_Audit", contractAudit},
}

// noon is a time that no clock of these tests shows.
var noon = time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)

func insertCustomers(ctx context.Context, tx cims.Tx, customers ...cims.Customer) ([]int64, error) {
	for i := range customers {
		c := &customers[i]
		if c.FullName == "" {
			c.FullName = "Lead"
		}
		if c.StatusName == "" {
			c.StatusName = cims.StatusContacted
		}
		if c.CreatedAt.IsZero() {
			c.CreatedAt = noon
		}
		if c.UpdatedAt.IsZero() {
			c.UpdatedAt = c.CreatedAt
		}
	}
	return takeIn(ctx, tx, customers)
}

// takeIn stores customers that are left without a sales manager.
func takeIn(ctx context.Context, tx cims.Tx, customers []cims.Customer) ([]int64, error) {
	leads := make([]*cims.Lead, len(customers))
	for i, customer := range customers {
		leads[i] = &cims.Lead{Customer: customer}
	}
	if err := tx.Intake(ctx, leads); err != nil {
		return nil, err
	}
	ids := make([]int64, len(leads))
	for i, lead := range leads {
		ids[i] = lead.Customer.ID
	}
	return ids, nil
}

// insert stores customers as they are, with defaults for what has to be there.
func (d *database) insert(t *testing.T, customers ...cims.Customer) []int64 {
	t.Helper()
	var inserted []int64
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		var err error
		inserted, err = insertCustomers(ctx, tx, customers...)
		return err
	})
	return inserted
}

// changeOwners carries out changes of owners and leaves the rotation as it is.
func (d *database) changeOwners(t *testing.T, changes ...cims.OwnerChange) []cims.Assignment {
	t.Helper()
	var assignments []cims.Assignment
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		rotation, err := tx.LockRotation(ctx)
		if err != nil {
			return err
		}
		rotation.Members = nil
		assignments, err = tx.SaveRotation(ctx, rotation, nil, changes)
		return err
	})
	return assignments
}

func migrateTwice(t *testing.T, d *database) {
	require.NoError(t, d.Ready(t.Context()))
	custom := d.status(t, "custom")
	contacted := d.statusNamed(t, cims.StatusContacted)
	_, err := d.crm.UpdateStatus(t.Context(), system, contacted.ID, cims.StatusUpdate{
		DisplayName: new("Yangi mijoz"), Color: new(""), Order: new(77),
	})
	require.NoError(t, err)
	member := d.roleNamed(t, "member")
	_, err = d.crm.UpdateRole(t.Context(), system, member.ID, cims.RoleUpdate{Permissions: &[]cims.Permission{}})
	require.NoError(t, err)
	lead := d.lead(t, "Aziza")
	statuses, err := d.Statuses(t.Context())
	require.NoError(t, err)
	roles, err := d.Roles(t.Context())
	require.NoError(t, err)

	require.NoError(t, d.Migrate(t.Context()))
	again := d.open(t)
	require.NoError(t, again.Migrate(t.Context()))

	require.NoError(t, again.Ready(t.Context()))
	afterStatuses, err := again.Statuses(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, statuses, afterStatuses, "what was edited stays edited")
	afterRoles, err := again.Roles(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, roles, afterRoles)
	require.Contains(t, afterStatuses, custom)
	require.Equal(t, lead.FullName, d.customer(t, lead.ID).FullName)
}

// migrateAtOnce starts several processes on a database that is empty yet.
func migrateAtOnce(t *testing.T, open Open) {
	stores := make([]cims.Storage, 4)
	for i := range stores {
		stores[i] = open(t)
		t.Cleanup(func() { require.NoError(t, stores[i].Close()) })
	}
	require.ErrorContains(t, stores[0].Ready(t.Context()), "run Migrate", "the schema is not there yet")
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, stores[0].Migrate(canceled))
	require.Error(t, stores[0].Ready(t.Context()))

	requireAll(t, together(len(stores), func(i int) error {
		if err := stores[i].Migrate(t.Context()); err != nil {
			return err
		}
		return stores[i].Ready(t.Context()) // whoever returns finds it complete
	}))
	for _, store := range stores {
		statuses, err := store.Statuses(t.Context())
		require.NoError(t, err)
		require.Len(t, statuses, 6)
		roles, err := store.Roles(t.Context())
		require.NoError(t, err)
		require.Len(t, roles, 5)
		rotation, err := store.Rotation(t.Context())
		require.NoError(t, err)
		require.Empty(t, rotation.Members)
		require.Zero(t, rotation.Floor+rotation.Turn)
	}
}

func updateCommitsOrNot(t *testing.T, d *database) {
	seller := d.sellers(t, "Anvar")[0]
	lead := d.lead(t, "Before")
	before, err := d.Rotation(t.Context())
	require.NoError(t, err)

	failure := errors.New("no")
	everything := func(result error) func(ctx context.Context, tx cims.Tx) error {
		return func(ctx context.Context, tx cims.Tx) error {
			if _, err := tx.InsertStatus(ctx, cims.Status{Name: "s", DisplayName: "S", CreatedAt: noon, UpdatedAt: noon}); err != nil {
				return err
			}
			if _, err := tx.InsertRole(ctx, cims.Role{Name: "r", DisplayName: "R", CreatedAt: noon, UpdatedAt: noon}); err != nil {
				return err
			}
			if _, err := tx.InsertUser(ctx, cims.User{Email: "u@example.com", Name: "U", Surname: "U", RoleName: "r"}); err != nil {
				return err
			}
			rotation, err := tx.LockRotation(ctx)
			if err != nil {
				return err
			}
			inserted, err := insertCustomers(ctx, tx, cims.Customer{FullName: "Inside"})
			if err != nil {
				return err
			}
			rotation.Floor += 5
			rotation.Turn++
			rotation.Members[0].VirtualTime += 7
			if _, err := tx.SaveRotation(ctx, rotation, nil, []cims.OwnerChange{
				{CustomerID: inserted[0], CustomerCreatedAt: noon, To: &seller.ID, Cause: cims.CauseAutomatic, At: noon},
				{CustomerID: lead.ID, CustomerCreatedAt: lead.CreatedAt, From: &seller.ID, Cause: cims.CauseManual, At: d.clock.now()},
			}); err != nil {
				return err
			}
			if err := tx.ChangeStatuses(ctx, []cims.StatusChange{
				{CustomerID: lead.ID, From: cims.StatusContacted, To: "finished", Cause: cims.CauseManual, At: d.clock.now()},
			}); err != nil {
				return err
			}
			key := cims.Key{Scope: "test", Key: "k", Fingerprint: "f", Result: []byte("{}"), At: recently}
			if _, err := tx.ClaimKey(ctx, key, recently); err != nil {
				return err
			}
			if err := tx.SaveKey(ctx, key); err != nil {
				return err
			}
			return result
		}
	}
	for range 3 {
		require.ErrorIs(t, d.Update(t.Context(), everything(failure)), failure)
	}

	after, err := d.Rotation(t.Context())
	require.NoError(t, err)
	require.Equal(t, before, after)
	customers, err := d.Customers(t.Context(), cims.CustomerQuery{Limit: 10})
	require.NoError(t, err)
	require.Equal(t, []int64{lead.ID}, ids(customers, customerID))
	require.Equal(t, cims.StatusContacted, customers[0].StatusName)
	require.Equal(t, seller.ID, ownerID(customers[0]))
	require.Len(t, d.history(t, lead.ID), 2)
	statuses, err := d.Statuses(t.Context())
	require.NoError(t, err)
	require.Len(t, statuses, 6)
	roles, err := d.Roles(t.Context())
	require.NoError(t, err)
	require.Len(t, roles, 5)
	accounts, err := d.AccountsByEmail(t.Context(), "u@example.com")
	require.NoError(t, err)
	require.Empty(t, accounts)

	// The same again commits: nothing of the failed ones is in its way, not
	// even the idempotency key.
	require.NoError(t, d.Update(t.Context(), everything(nil)))
	after, err = d.Rotation(t.Context())
	require.NoError(t, err)
	require.Equal(t, before.Turn+1, after.Turn)
	require.Equal(t, before.Floor+5, after.Floor)
	require.Equal(t, before.Members[0].VirtualTime+7, after.Members[0].VirtualTime)
	require.Equal(t, 1, after.Members[0].Leads, "one more and one less")
	require.Len(t, d.history(t, lead.ID), 4)
}

type ownError struct{ text string }

func (e ownError) Error() string { return e.text }

func updateReturnsError(t *testing.T, d *database) {
	for _, failure := range []error{
		errors.New("plain"),
		fmt.Errorf("wrapped: %w", &cims.Error{Kind: cims.ErrInUse, Count: 3}),
		ownError{"own"},
	} {
		err := d.Update(t.Context(), func(context.Context, cims.Tx) error { return failure })
		require.ErrorIs(t, err, failure)
		require.Equal(t, failure.Error(), err.Error())
		require.NotErrorIs(t, err, cims.ErrUnavailable)
	}
	var own ownError
	require.ErrorAs(t, d.Update(t.Context(), func(context.Context, cims.Tx) error { return ownError{"own"} }), &own)
}

// updateAfterPanic: a program that recovers from panics, as HTTP servers do,
// must find the database usable.
func updateAfterPanic(t *testing.T, d *database) {
	require.PanicsWithValue(t, "oops", func() {
		_ = d.Update(t.Context(), func(ctx context.Context, tx cims.Tx) error {
			if _, err := tx.LockRotation(ctx); err != nil {
				return err
			}
			if _, err := insertCustomers(ctx, tx, cims.Customer{}); err != nil {
				return err
			}
			panic("oops")
		})
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, d.Update(ctx, func(ctx context.Context, tx cims.Tx) error {
		_, err := tx.LockRotation(ctx)
		return err
	}), "the rotation's lock is free again")
	count, err := d.CountCustomers(t.Context(), cims.StatusContacted, 10)
	require.NoError(t, err)
	require.Zero(t, count)
}

func canceledContext(t *testing.T, d *database) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	// A failure is never taken for an absence: each of these would be "nothing
	// there" if it were not for the context.
	reads := map[string]func(r cims.Reader) error{
		"Statuses":        func(r cims.Reader) error { _, err := r.Statuses(canceled); return err },
		"Roles":           func(r cims.Reader) error { _, err := r.Roles(canceled); return err },
		"Account":         func(r cims.Reader) error { _, err := r.Account(canceled, 987654); return err },
		"AccountsByEmail": func(r cims.Reader) error { _, err := r.AccountsByEmail(canceled, "no@example.com"); return err },
		"Users":           func(r cims.Reader) error { _, err := r.Users(canceled, cims.UserQuery{Limit: 1}); return err },
		"CountUsers":      func(r cims.Reader) error { _, err := r.CountUsers(canceled, "no", 1); return err },
		"Customer":        func(r cims.Reader) error { _, err := r.Customer(canceled, 987654); return err },
		"Customers":       func(r cims.Reader) error { _, err := r.Customers(canceled, cims.CustomerQuery{Limit: 1}); return err },
		"CountCustomers":  func(r cims.Reader) error { _, err := r.CountCustomers(canceled, "no", 1); return err },
		"Unassigned":      func(r cims.Reader) error { _, err := r.Unassigned(canceled, true, 1); return err },
		"History": func(r cims.Reader) error {
			_, err := r.History(canceled, cims.HistoryQuery{CustomerID: 987654, Limit: 1})
			return err
		},
		"Conversion": func(r cims.Reader) error {
			_, err := r.Conversion(canceled, cims.ConversionQuery{Last: 1, Target: "finished", Mode: cims.Current})
			return err
		},
		"Rotation": func(r cims.Reader) error { _, err := r.Rotation(canceled); return err },
	}
	for name, read := range reads {
		err := read(d)
		require.Error(t, err, name)
		require.NotErrorIs(t, err, cims.ErrNotFound, name)
	}
	require.Error(t, d.Ready(canceled))
	require.Error(t, d.Update(canceled, func(ctx context.Context, tx cims.Tx) error {
		_, err := insertCustomers(ctx, tx, cims.Customer{})
		return err
	}))

	// In the middle: whatever is answered is true, and the lock is free after.
	ctx, cancel := context.WithCancel(t.Context())
	err := d.Update(ctx, func(ctx context.Context, tx cims.Tx) error {
		if _, err := tx.LockRotation(ctx); err != nil {
			return err
		}
		_, err := insertCustomers(ctx, tx, cims.Customer{})
		cancel()
		return err
	})
	if !errors.Is(err, cims.ErrOutcomeUnknown) {
		count, countErr := d.CountCustomers(t.Context(), cims.StatusContacted, 10)
		require.NoError(t, countErr)
		if err == nil {
			require.Equal(t, 1, count)
		} else {
			require.Zero(t, count)
		}
	}
	ctx, cancel = context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, d.Update(ctx, func(ctx context.Context, tx cims.Tx) error {
		_, err := tx.LockRotation(ctx)
		return err
	}))
}

// callersOwn: who scribbles on what was read or written changes nothing.
func callersOwn(t *testing.T, d *database) {
	d.sellers(t, "Anvar")
	lead := d.lead(t, "Aziza")
	written := d.customer(t, lead.ID)
	lead.SalesManager.Name, lead.Assignment.SalesManagerID = "Scribble", absent
	require.Equal(t, written, d.customer(t, lead.ID))
	read := d.customer(t, lead.ID)
	read.SalesManager.Name, read.Assignment.SalesManagerID = "Scribble", absent
	require.Equal(t, written, d.customer(t, lead.ID))

	permissions := cims.Permissions{cims.StatusesRead, cims.RolesRead}
	kept := slices.Clone(permissions)
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		_, err := tx.InsertRole(ctx, cims.Role{Name: "auditor", DisplayName: "A", Permissions: permissions, CreatedAt: noon, UpdatedAt: noon})
		return err
	})
	permissions[0] = cims.RolesWrite
	role := d.roleNamed(t, "auditor")
	require.Equal(t, kept, role.Permissions)
	role.Permissions[0] = cims.RolesWrite
	user := d.user(t, "member", "Botir")
	account, err := d.Account(t.Context(), user.ID)
	require.NoError(t, err)
	before := slices.Clone(account.Role.Permissions)
	account.Role.Permissions[0] = cims.RolesWrite
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		role, err := tx.UseRole(ctx, "auditor")
		require.NoError(t, err)
		role.Permissions[0] = cims.RolesWrite
		role, err = tx.LockRole(ctx, role.ID)
		require.NoError(t, err)
		require.Equal(t, kept, role.Permissions)
		role.Permissions[0] = cims.RolesWrite
		return nil // and UpdateRole was not called
	})
	require.Equal(t, kept, d.roleNamed(t, "auditor").Permissions)
	require.Equal(t, before, d.roleNamed(t, "member").Permissions)
}

func ownWrites(t *testing.T, d *database) {
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		_, err := tx.InsertStatus(ctx, cims.Status{Name: "mine", DisplayName: "Mine", Active: true, CreatedAt: noon, UpdatedAt: noon})
		if err != nil {
			return err
		}
		statuses, err := tx.Statuses(ctx)
		if err != nil || !slices.ContainsFunc(statuses, func(s cims.Status) bool { return s.Name == "mine" }) {
			return fmt.Errorf("of Statuses: %w", orMissing(err))
		}
		if _, err := tx.UseStatus(ctx, "mine"); err != nil {
			return fmt.Errorf("UseStatus: %w", err)
		}
		_, err = tx.InsertRole(ctx, cims.Role{Name: "mine", DisplayName: "Mine", Active: true, CreatedAt: noon, UpdatedAt: noon})
		if err != nil {
			return err
		}
		roles, err := tx.Roles(ctx)
		if err != nil || !slices.ContainsFunc(roles, func(r cims.Role) bool { return r.Name == "mine" }) {
			return fmt.Errorf("of Roles: %w", orMissing(err))
		}
		seller := cims.User{Email: "s@example.com", Name: "S", Surname: "S", RoleName: cims.RoleSalesManager, Active: true}
		if seller.ID, err = tx.InsertUser(ctx, seller); err != nil {
			return err
		}
		if account, err := tx.Account(ctx, seller.ID); err != nil || account.User != seller {
			return fmt.Errorf("of Account: %w", orMissing(err))
		}
		if accounts, err := tx.AccountsByEmail(ctx, seller.Email); err != nil || len(accounts) != 1 {
			return fmt.Errorf("AccountsByEmail: %w", orMissing(err))
		}
		if users, err := tx.Users(ctx, cims.UserQuery{Limit: 5}); err != nil || len(users) != 1 {
			return fmt.Errorf("of Users: %w", orMissing(err))
		}
		if n, err := tx.CountUsers(ctx, cims.RoleSalesManager, 5); err != nil || n != 1 {
			return fmt.Errorf("CountUsers: %w", orMissing(err))
		}
		rotation, err := tx.LockRotation(ctx)
		if err != nil || len(rotation.Members) != 1 {
			return fmt.Errorf("LockRotation: %w", orMissing(err))
		}
		inserted, err := insertCustomers(ctx, tx, cims.Customer{StatusName: "mine"}, cims.Customer{StatusName: "mine"})
		if err != nil {
			return err
		}
		if left, err := tx.Unassigned(ctx, false, 5); err != nil || !slices.Equal(left, inserted) {
			return fmt.Errorf("Unassigned: %w", orMissing(err))
		}
		rotation.Turn = 1
		rotation.Members[0].LastTurn = 1
		if _, err := tx.SaveRotation(ctx, rotation, nil, []cims.OwnerChange{
			{CustomerID: inserted[0], CustomerCreatedAt: noon, To: &seller.ID, Cause: cims.CauseAutomatic, At: noon},
		}); err != nil {
			return err
		}
		if rotation, err = tx.Rotation(ctx); err != nil || rotation.Turn != 1 || rotation.Members[0].Leads != 1 {
			return fmt.Errorf("of Rotation: %w", orMissing(err))
		}
		if c, err := tx.Customer(ctx, inserted[0]); err != nil || ownerID(c) != seller.ID {
			return fmt.Errorf("of Customer: %w", orMissing(err))
		}
		if list, err := tx.Customers(ctx, cims.CustomerQuery{SalesManagerID: &seller.ID, Limit: 5}); err != nil || len(list) != 1 {
			return fmt.Errorf("of Customers: %w", orMissing(err))
		}
		if list, err := tx.LockCustomers(ctx, inserted); err != nil || len(list) != 2 {
			return fmt.Errorf("LockCustomers: %w", orMissing(err))
		}
		if n, err := tx.CountCustomers(ctx, "mine", 5); err != nil || n != 2 {
			return fmt.Errorf("CountCustomers: %w", orMissing(err))
		}
		if err := tx.ChangeStatuses(ctx, []cims.StatusChange{
			{CustomerID: inserted[0], From: "mine", To: "finished", Cause: cims.CauseManual, At: noon.Add(time.Second)},
		}); err != nil {
			return err
		}
		if events, err := tx.History(ctx, cims.HistoryQuery{CustomerID: inserted[0], Limit: 5}); err != nil || len(events) != 3 {
			return fmt.Errorf("of History: %w", orMissing(err))
		}
		got, err := tx.Conversion(ctx, cims.ConversionQuery{Last: 5, Target: "finished", Mode: cims.Reached})
		if err != nil || got != (cims.Conversion{Total: 2, Count: 1}) {
			return fmt.Errorf("of Conversion: %w", orMissing(err))
		}
		return nil
	})
}

func orMissing(err error) error {
	if err != nil {
		return err
	}
	return errors.New("does not see what its transaction has written")
}

// onlyCommitted: somebody reads while a transaction is open. Whether the read
// waits for the end or not, it must not see what is not committed.
func onlyCommitted(t *testing.T, d *database) {
	other := d.open(t)
	for _, failure := range []error{nil, errors.New("no")} {
		type seen struct {
			count int
			err   error
		}
		read := make(chan seen, 1)
		var early *seen
		err := d.Update(t.Context(), func(ctx context.Context, tx cims.Tx) error {
			early = nil
			if _, err := insertCustomers(ctx, tx, cims.Customer{}); err != nil {
				return err
			}
			go func() {
				count, err := other.CountCustomers(t.Context(), cims.StatusContacted, 10)
				read <- seen{count, err}
			}()
			select {
			case s := <-read:
				early = &s
			case <-time.After(200 * time.Millisecond):
			}
			return failure
		})
		require.ErrorIs(t, err, failure)
		if early != nil {
			require.NoError(t, early.err)
			require.Zero(t, early.count, "read before the commit")
		} else {
			require.NoError(t, (<-read).err)
		}
		if failure == nil {
			count, err := other.CountCustomers(t.Context(), cims.StatusContacted, 10)
			require.NoError(t, err)
			require.Equal(t, 1, count, "read after the commit")
			return
		}
	}
}

func contractStatuses(t *testing.T, d *database) {
	at := noon.Add(123_456 * time.Microsecond)
	status := cims.Status{
		Name: "offer_sent", DisplayName: "Offer sent", Description: "Two\nlines", Color: "#A1b2C3",
		Order: 1_000_000, Active: true, CreatedAt: at, UpdatedAt: at,
	}
	plain := cims.Status{Name: "plain", DisplayName: "Plain", CreatedAt: at, UpdatedAt: at}
	var refused error
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		var err error
		if status.ID, err = tx.InsertStatus(ctx, status); err != nil {
			return err
		}
		_, refused = tx.InsertStatus(ctx, cims.Status{Name: "offer_sent", DisplayName: "Again", CreatedAt: at, UpdatedAt: at})
		// A refusal leaves the transaction usable.
		plain.ID, err = tx.InsertStatus(ctx, plain)
		return err
	})
	require.ErrorIs(t, refused, cims.ErrExists)
	require.NotZero(t, status.ID)
	require.NotEqual(t, status.ID, plain.ID)
	require.Equal(t, status, d.statusNamed(t, "offer_sent"))
	require.Equal(t, plain, d.statusNamed(t, "plain"), "false, 0 and empty texts stay what they are")

	var locked, used cims.Status
	var noID, noName error
	changed := status
	changed.DisplayName, changed.Description, changed.Color = "Sent", "", ""
	changed.Order, changed.Active, changed.UpdatedAt = 0, false, at.Add(time.Microsecond)
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		_, noID = tx.LockStatus(ctx, plain.ID+1000)
		_, noName = tx.UseStatus(ctx, "nowhere")
		var err error
		if used, err = tx.UseStatus(ctx, "offer_sent"); err != nil {
			return err
		}
		if locked, err = tx.LockStatus(ctx, status.ID); err != nil {
			return err
		}
		return tx.UpdateStatus(ctx, changed)
	})
	require.ErrorIs(t, noID, cims.ErrNotFound)
	require.ErrorIs(t, noName, cims.ErrNotFound)
	require.Equal(t, status, used)
	require.Equal(t, status, locked)
	require.Equal(t, changed, d.statusNamed(t, "offer_sent"))
	require.Equal(t, plain, d.statusNamed(t, "plain"), "another is left alone")

	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		if _, err := tx.LockStatus(ctx, status.ID); err != nil {
			return err
		}
		return tx.DeleteStatus(ctx, status.ID)
	})
	statuses, err := d.Statuses(t.Context())
	require.NoError(t, err)
	require.Len(t, statuses, 7)
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		id, err := tx.InsertStatus(ctx, status)
		if err == nil && id == 0 {
			return errors.New("no id")
		}
		return err // the name is free again
	})
}

func contractStatusInUse(t *testing.T, d *database) {
	used, free := d.status(t, "used"), d.status(t, "free")
	lead := d.insert(t, cims.Customer{StatusName: "used"})[0]
	var refused error
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		for _, status := range []cims.Status{used, free} {
			if _, err := tx.LockStatus(ctx, status.ID); err != nil {
				return err
			}
		}
		refused = tx.DeleteStatus(ctx, used.ID)
		return tx.DeleteStatus(ctx, free.ID) // the transaction is still usable
	})
	require.ErrorIs(t, refused, cims.ErrInUse)
	require.Equal(t, used, d.statusNamed(t, "used"))
	require.Equal(t, "used", d.customer(t, lead).StatusName)
	statuses, err := d.Statuses(t.Context())
	require.NoError(t, err)
	require.Len(t, statuses, 7)

	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		return tx.ChangeStatuses(ctx, []cims.StatusChange{
			{CustomerID: lead, From: "used", To: "finished", Cause: cims.CauseManual, At: noon.Add(time.Second)},
		})
	})
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		if _, err := tx.LockStatus(ctx, used.ID); err != nil {
			return err
		}
		return tx.DeleteStatus(ctx, used.ID) // history doesn't hold it
	})
}

func contractRoles(t *testing.T, d *database) {
	at := noon.Add(123_456 * time.Microsecond)
	role := cims.Role{
		Name: "clerk", DisplayName: "Clerk", Description: "Does it", Active: true,
		Permissions: cims.Permissions{cims.StatusesRead, cims.LeadsReadOwn, cims.AuditRead}, CreatedAt: at, UpdatedAt: at,
	}
	plain := cims.Role{Name: "plain", DisplayName: "Plain", Permissions: cims.Permissions{}, CreatedAt: at, UpdatedAt: at}
	var refused error
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		var err error
		if role.ID, err = tx.InsertRole(ctx, role); err != nil {
			return err
		}
		_, refused = tx.InsertRole(ctx, cims.Role{Name: "clerk", DisplayName: "Again", CreatedAt: at, UpdatedAt: at})
		plain.ID, err = tx.InsertRole(ctx, plain)
		return err
	})
	require.ErrorIs(t, refused, cims.ErrExists)
	require.NotEqual(t, role.ID, plain.ID)
	require.Equal(t, role, d.roleNamed(t, "clerk"))
	got := d.roleNamed(t, "plain")
	require.Empty(t, got.Permissions)
	got.Permissions = plain.Permissions
	require.Equal(t, plain, got)

	var locked, used cims.Role
	var noID, noName error
	changed := role
	changed.DisplayName, changed.Description, changed.Active = "Clerks", "", false
	changed.Permissions, changed.UpdatedAt = cims.Permissions{cims.RolesRead}, at.Add(time.Microsecond)
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		_, noID = tx.LockRole(ctx, plain.ID+1000)
		_, noName = tx.UseRole(ctx, "nowhere")
		var err error
		if used, err = tx.UseRole(ctx, "clerk"); err != nil {
			return err
		}
		if locked, err = tx.LockRole(ctx, role.ID); err != nil {
			return err
		}
		return tx.UpdateRole(ctx, changed)
	})
	require.ErrorIs(t, noID, cims.ErrNotFound)
	require.ErrorIs(t, noName, cims.ErrNotFound)
	require.Equal(t, role, used)
	require.Equal(t, role, locked)
	require.Equal(t, changed, d.roleNamed(t, "clerk"))

	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		if _, err := tx.LockRole(ctx, role.ID); err != nil {
			return err
		}
		return tx.DeleteRole(ctx, role.ID)
	})
	roles, err := d.Roles(t.Context())
	require.NoError(t, err)
	require.Len(t, roles, 6)
}

func contractRoleInUse(t *testing.T, d *database) {
	create := func(name string) cims.Role {
		role, err := d.crm.CreateRole(t.Context(), system, cims.NewRole{Name: name, DisplayName: name})
		require.NoError(t, err)
		return role
	}
	used, free := create("used"), create("free")
	user := d.user(t, "used", "Anvar")
	user, err := d.crm.UpdateUser(t.Context(), system, user.ID, cims.UserUpdate{Active: new(false)})
	require.NoError(t, err)
	var refused error
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		for _, role := range []cims.Role{used, free} {
			if _, err := tx.LockRole(ctx, role.ID); err != nil {
				return err
			}
		}
		refused = tx.DeleteRole(ctx, used.ID)
		return tx.DeleteRole(ctx, free.ID)
	})
	require.ErrorIs(t, refused, cims.ErrInUse, "also by an inactive user")
	account, err := d.Account(t.Context(), user.ID)
	require.NoError(t, err)
	require.Equal(t, used.ID, account.Role.ID)
	roles, err := d.Roles(t.Context())
	require.NoError(t, err)
	require.Len(t, roles, 6)
}

func contractMoveUsers(t *testing.T, d *database) {
	one, two := d.user(t, "member", "One"), d.user(t, "member", "Two")
	other := d.user(t, "customer", "Other")
	two, err := d.crm.UpdateUser(t.Context(), system, two.ID, cims.UserUpdate{Active: new(false)})
	require.NoError(t, err)
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		if _, err := tx.LockRotation(ctx); err != nil {
			return err
		}
		return tx.MoveUsers(ctx, "member", cims.RoleSalesManager)
	})
	one.RoleName, two.RoleName = cims.RoleSalesManager, cims.RoleSalesManager
	users, err := d.Users(t.Context(), cims.UserQuery{Limit: 10})
	require.NoError(t, err)
	require.Equal(t, []cims.User{one, two, other}, users, "active or not, and nobody else")
	rotation, err := d.Rotation(t.Context())
	require.NoError(t, err)
	require.Len(t, rotation.Members, 1)
}

func contractAccounts(t *testing.T, d *database) {
	user := cims.User{Email: "a@example.com", Name: "A", Surname: "Aov", RoleName: "member", Active: true}
	none := cims.User{Email: "none@example.com", Name: "N", Surname: "Nov"}
	var taken, noUser error
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		var err error
		if user.ID, err = tx.InsertUser(ctx, user); err != nil {
			return err
		}
		_, taken = tx.InsertUser(ctx, cims.User{Email: "a@example.com", Name: "B", Surname: "B", RoleName: "member"})
		none.ID, err = tx.InsertUser(ctx, none)
		return err
	})
	require.ErrorIs(t, taken, cims.ErrExists)
	require.NotEqual(t, user.ID, none.ID)
	account, err := d.Account(t.Context(), user.ID)
	require.NoError(t, err)
	require.Equal(t, cims.Account{User: user, Role: d.roleNamed(t, "member")}, account)
	account, err = d.Account(t.Context(), none.ID)
	require.NoError(t, err)
	require.Equal(t, none, account.User)
	require.Zero(t, account.Role, "a user without a role has the zero Role")
	_, noUser = d.Account(t.Context(), none.ID+1000)
	require.ErrorIs(t, noUser, cims.ErrNotFound)

	changed := cims.User{ID: user.ID, Email: "A@example.com", Name: "AA", Surname: "AAov", RoleName: "customer", Active: false}
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		stolen := none
		stolen.Email = user.Email
		taken = tx.UpdateUser(ctx, stolen)
		if err := tx.UpdateUser(ctx, changed); err != nil {
			return err
		}
		return tx.UpdateUser(ctx, changed) // its own email is not in its way
	})
	require.ErrorIs(t, taken, cims.ErrExists)
	account, err = d.Account(t.Context(), user.ID)
	require.NoError(t, err)
	require.Equal(t, cims.Account{User: changed, Role: d.roleNamed(t, "customer")}, account)
	account, err = d.Account(t.Context(), none.ID)
	require.NoError(t, err)
	require.Equal(t, none, account.User)
}

func contractAccountsByEmail(t *testing.T, d *database) {
	insert := func(emails ...string) {
		d.update(t, func(ctx context.Context, tx cims.Tx) error {
			for _, email := range emails {
				if _, err := tx.InsertUser(ctx, cims.User{Email: email, Name: "A", Surname: "A", RoleName: "member"}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	insert("Aziza@Example.com", "aziza@example.com", "one@example.com", "Ольга@пример.рф", "a_b@example.com", "axb@example.com")
	for email, found := range map[string][]string{
		"aziza@example.com":  {"aziza@example.com"}, // exact wins
		"Aziza@Example.com":  {"Aziza@Example.com"},
		"AZIZA@example.com":  {"Aziza@Example.com", "aziza@example.com"}, // ambiguous
		"ONE@Example.Com":    {"one@example.com"},
		"ОЛЬГА@ПРИМЕР.РФ":    {"Ольга@пример.рф"},
		"A_B@example.com":    {"a_b@example.com"}, // no pattern
		"%@example.com":      {},
		"nobody@example.com": {},
		"\tone@example.com":  {},
		"":                   {},
	} {
		accounts, err := d.AccountsByEmail(t.Context(), email)
		require.NoError(t, err, email)
		emails := []string{}
		for _, account := range accounts {
			emails = append(emails, account.User.Email)
			require.Equal(t, "member", account.Role.Name)
			require.NotZero(t, account.Role.ID)
		}
		require.ElementsMatch(t, found, emails, email)
	}
}

func contractUsers(t *testing.T, d *database) {
	var users []cims.User
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		users = []cims.User{
			{Email: "anvar@example.com", Name: "Anvar", Surname: "Karimov", RoleName: "member", Active: true},
			{Email: "botir@mail.uz", Name: "Botir", Surname: "Anvarov", RoleName: "member"},
			{Email: "olga@example.com", Name: "Олга", Surname: "Иванова", RoleName: "ceo", Active: true},
			{Email: "x_y@example.com", Name: "100%", Surname: "O'Neil", RoleName: "ceo", Active: true},
		}
		for i := range users {
			var err error
			if users[i].ID, err = tx.InsertUser(ctx, users[i]); err != nil {
				return err
			}
		}
		return nil
	})
	for _, c := range []struct {
		why   string
		query cims.UserQuery
		found []int // places in users
	}{
		{"all, by id", cims.UserQuery{}, []int{0, 1, 2, 3}},
		{"limit", cims.UserQuery{Limit: 2}, []int{0, 1}},
		{"after", cims.UserQuery{AfterID: users[1].ID}, []int{2, 3}},
		{"after, limit", cims.UserQuery{AfterID: users[0].ID, Limit: 1}, []int{1}},
		{"after the last", cims.UserQuery{AfterID: users[3].ID}, nil},
		{"role", cims.UserQuery{Role: "ceo"}, []int{2, 3}},
		{"unknown role", cims.UserQuery{Role: "nobody"}, nil},
		{"active", cims.UserQuery{Active: new(true)}, []int{0, 2, 3}},
		{"inactive", cims.UserQuery{Active: new(false)}, []int{1}},
		{"role and inactive", cims.UserQuery{Role: "ceo", Active: new(false)}, nil},
		{"start of name or surname", cims.UserQuery{Prefix: "anVAR"}, []int{0, 1}},
		{"start of email", cims.UserQuery{Prefix: "botir@M"}, []int{1}},
		{"not the middle", cims.UserQuery{Prefix: "nvar"}, nil},
		{"Cyrillic in another case", cims.UserQuery{Prefix: "ол"}, []int{2}},
		{"Cyrillic surname in another case", cims.UserQuery{Prefix: "иВАН"}, []int{2}},
		{"% is a letter", cims.UserQuery{Prefix: "%"}, nil},
		{"% is found", cims.UserQuery{Prefix: "100%"}, []int{3}},
		{"_ is a letter", cims.UserQuery{Prefix: "x_"}, []int{3}},
		{"_ stands for nothing else", cims.UserQuery{Prefix: "_nvar"}, nil},
		{"a quote", cims.UserQuery{Prefix: "o'n"}, []int{3}},
		{"all together", cims.UserQuery{Prefix: "a", Role: "member", Active: new(true), AfterID: users[0].ID - 1}, []int{0}},
		{"all together, after", cims.UserQuery{Prefix: "a", Role: "member", AfterID: users[0].ID}, []int{1}},
	} {
		if c.query.Limit == 0 {
			c.query.Limit = 100
		}
		expected := []cims.User{}
		for _, i := range c.found {
			expected = append(expected, users[i])
		}
		got, err := d.Users(t.Context(), c.query)
		require.NoError(t, err, c.why)
		require.Equal(t, expected, append([]cims.User{}, got...), c.why)
	}
}

func contractCustomers(t *testing.T, d *database) {
	at := noon.Add(999_999 * time.Microsecond)
	tashkent := time.FixedZone("Asia/Tashkent", 5*60*60)
	full := cims.Customer{
		FullName: "Aziza Karimova", PhoneNumber: "+998 90 123-45-67", Platform: "Instagram", Username: "@aziza",
		Notes: "Line\nline\ttab", StatusName: "rejected", CreatedAt: at, UpdatedAt: at,
	}
	elsewhere := cims.Customer{FullName: "Zone", CreatedAt: at.In(tashkent)}
	old := cims.Customer{FullName: "Old", CreatedAt: time.Date(1970, 1, 1, 0, 0, 0, 1000, time.UTC)}
	late := cims.Customer{FullName: "Late", CreatedAt: time.Date(2099, 12, 31, 23, 59, 59, 999_999_000, time.UTC)}
	inserted := d.insert(t, full, elsewhere, old, late)
	require.Len(t, inserted, 4)
	require.IsIncreasing(t, inserted)

	full.ID = inserted[0]
	require.Equal(t, full, d.customer(t, full.ID))
	got := d.customer(t, inserted[1])
	require.Equal(t, at, got.CreatedAt, "in UTC")
	require.Equal(t, at, got.UpdatedAt)
	require.Equal(t, old.CreatedAt, d.customer(t, inserted[2]).CreatedAt)
	require.Equal(t, late.CreatedAt, d.customer(t, inserted[3]).CreatedAt)
	require.Len(t, d.history(t, full.ID), 1, "its creation")

	_, err := d.Customer(t.Context(), inserted[3]+1000)
	require.ErrorIs(t, err, cims.ErrNotFound)

	seller := d.sellers(t, "Anvar")[0]
	assigned := d.changeOwners(t, cims.OwnerChange{
		CustomerID: full.ID, CustomerCreatedAt: at, To: &seller.ID, Cause: cims.CauseManual, At: at.Add(2 * time.Hour),
	})
	got = d.customer(t, full.ID)
	person := &cims.Person{ID: seller.ID, Email: seller.Email, Name: seller.Name, Surname: seller.Surname}
	require.Equal(t, person, got.SalesManager)
	require.Equal(t, &assigned[0], got.Assignment)
	list, err := d.Customers(t.Context(), cims.CustomerQuery{Status: "rejected", Limit: 5})
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, got, list[0])
}

// contractCustomerPages: pages follow each other without a gap or a double, also
// where many customers were created at the same moment, and ids don't rise with
// the time of creation.
func contractCustomerPages(t *testing.T, d *database) {
	var customers []cims.Customer
	for i := range 23 {
		at := noon.Add(-time.Duration(i/7) * time.Microsecond) // the first are the newest
		customers = append(customers, cims.Customer{FullName: fmt.Sprint(i), CreatedAt: at})
	}
	inserted := d.insert(t, customers...)
	for i := range customers {
		customers[i].ID = inserted[i]
	}
	slices.SortFunc(customers, func(a, b cims.Customer) int {
		if order := b.CreatedAt.Compare(a.CreatedAt); order != 0 {
			return order
		}
		return int(b.ID - a.ID)
	})
	for _, limit := range []int{1, 2, 5, 7, 23, 100} {
		var got []cims.Customer
		query := cims.CustomerQuery{Limit: limit}
		for {
			part, err := d.Customers(t.Context(), query)
			require.NoError(t, err)
			require.LessOrEqual(t, len(part), limit)
			got = append(got, part...)
			if len(part) < limit {
				break
			}
			last := part[limit-1]
			query.After = &cims.CustomerPosition{CreatedAt: last.CreatedAt, ID: last.ID}
		}
		require.Equal(t, ids(customers, customerID), ids(got, customerID), "pages of %d", limit)
	}
	// A place need not be that of a customer who exists.
	part, err := d.Customers(t.Context(), cims.CustomerQuery{
		Limit: 100, After: &cims.CustomerPosition{CreatedAt: noon.Add(-time.Microsecond), ID: math.MaxInt64},
	})
	require.NoError(t, err)
	require.Equal(t, ids(customers[7:], customerID), ids(part, customerID))
}

func contractCustomerFilter(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	inserted := d.insert(t,
		cims.Customer{FullName: "Олга Иванова", PhoneNumber: "+998901", StatusName: "finished"},
		cims.Customer{FullName: "Aziza Karimova", PhoneNumber: "998902"},
		cims.Customer{FullName: "AZIZ", PhoneNumber: "+998903", StatusName: "finished"},
		cims.Customer{FullName: "50% off_er", PhoneNumber: "_1"},
		cims.Customer{FullName: `back\slash 'quote' "two"`},
		cims.Customer{FullName: "Ўткир", StatusName: "finished"},
	)
	d.changeOwners(t,
		cims.OwnerChange{CustomerID: inserted[0], CustomerCreatedAt: noon, To: &sellers[0].ID, Cause: cims.CauseManual, At: noon},
		cims.OwnerChange{CustomerID: inserted[1], CustomerCreatedAt: noon, To: &sellers[1].ID, Cause: cims.CauseManual, At: noon},
		cims.OwnerChange{CustomerID: inserted[2], CustomerCreatedAt: noon, To: &sellers[0].ID, Cause: cims.CauseManual, At: noon},
		cims.OwnerChange{CustomerID: inserted[3], CustomerCreatedAt: noon, Cause: cims.CauseAutomatic, At: noon},
	)
	for _, c := range []struct {
		why   string
		query cims.CustomerQuery
		found []int // places in inserted, newest first
	}{
		{"all", cims.CustomerQuery{}, []int{5, 4, 3, 2, 1, 0}},
		{"limit", cims.CustomerQuery{Limit: 2}, []int{5, 4}},
		{"status", cims.CustomerQuery{Status: "finished"}, []int{5, 2, 0}},
		{"unknown status", cims.CustomerQuery{Status: "nothing"}, nil},
		{"owner", cims.CustomerQuery{SalesManagerID: &sellers[0].ID}, []int{2, 0}},
		{"unknown owner", cims.CustomerQuery{SalesManagerID: new(sellers[1].ID + 1000)}, nil},
		{"unassigned, waiting or not", cims.CustomerQuery{Unassigned: true}, []int{5, 4, 3}},
		{"unassigned and an owner", cims.CustomerQuery{Unassigned: true, SalesManagerID: &sellers[0].ID}, nil},
		{"Cyrillic in another case", cims.CustomerQuery{Prefix: "ол"}, []int{0}},
		{"Cyrillic, all capitals", cims.CustomerQuery{Prefix: "ОЛГА ИВ"}, []int{0}},
		{"Uzbek Cyrillic in another case", cims.CustomerQuery{Prefix: "ўт"}, []int{5}},
		{"any case", cims.CustomerQuery{Prefix: "aZiZ"}, []int{2, 1}},
		{"not the middle of a name", cims.CustomerQuery{Prefix: "Karimova"}, nil},
		{"phone number", cims.CustomerQuery{Prefix: "+99890"}, []int{2, 0}},
		{"not the middle of a number", cims.CustomerQuery{Prefix: "903"}, nil},
		{"% is a letter", cims.CustomerQuery{Prefix: "%"}, nil},
		{"% is found", cims.CustomerQuery{Prefix: "50%"}, []int{3}},
		{"% does not stand for more", cims.CustomerQuery{Prefix: "5%"}, nil},
		{"_ is a letter", cims.CustomerQuery{Prefix: "_"}, []int{3}},
		{"_ does not stand for more", cims.CustomerQuery{Prefix: "_ziz"}, nil},
		{"backslash", cims.CustomerQuery{Prefix: `back\s`}, []int{4}},
		{"quotes", cims.CustomerQuery{Prefix: `BACK\SLASH 'quote' "t`}, []int{4}},
		{"the whole name", cims.CustomerQuery{Prefix: "aziza karimova"}, []int{1}},
		{"more than the name", cims.CustomerQuery{Prefix: "aziza karimova1"}, nil},
		{"all together", cims.CustomerQuery{Prefix: "a", Status: "finished", SalesManagerID: &sellers[0].ID}, []int{2}},
		{"all together, after", cims.CustomerQuery{
			Status: "finished", SalesManagerID: &sellers[0].ID, Limit: 1,
			After: &cims.CustomerPosition{CreatedAt: noon, ID: inserted[2]},
		}, []int{0}},
		{"prefix, after", cims.CustomerQuery{Prefix: "+99890", After: &cims.CustomerPosition{CreatedAt: noon, ID: inserted[2]}}, []int{0}},
	} {
		if c.query.Limit == 0 {
			c.query.Limit = 100
		}
		expected := []int64{}
		for _, i := range c.found {
			expected = append(expected, inserted[i])
		}
		got, err := d.Customers(t.Context(), c.query)
		require.NoError(t, err, c.why)
		require.Equal(t, expected, ids(got, customerID), c.why)
	}
}

func contractCounts(t *testing.T, d *database) {
	d.bulk(t, 7, "finished")
	d.user(t, "member", "One")
	d.user(t, "member", "Two")
	for _, c := range []struct{ limit, customers, users int }{{100, 7, 2}, {7, 7, 2}, {6, 6, 2}, {1, 1, 1}} {
		customers, err := d.CountCustomers(t.Context(), "finished", c.limit)
		require.NoError(t, err)
		require.Equal(t, c.customers, customers)
		users, err := d.CountUsers(t.Context(), "member", c.limit)
		require.NoError(t, err)
		require.Equal(t, c.users, users)
	}
	customers, err := d.CountCustomers(t.Context(), "contacted", 5)
	require.NoError(t, err)
	require.Zero(t, customers)
	users, err := d.CountUsers(t.Context(), "nobody", 5)
	require.NoError(t, err)
	require.Zero(t, users)
}

func contractLockCustomers(t *testing.T, d *database) {
	seller := d.sellers(t, "Anvar")[0]
	inserted := d.insert(t, cims.Customer{FullName: "1"}, cims.Customer{FullName: "2"}, cims.Customer{FullName: "3"})
	assigned := d.changeOwners(t, cims.OwnerChange{
		CustomerID: inserted[0], CustomerCreatedAt: noon, To: &seller.ID, Cause: cims.CauseManual, At: noon,
	})
	var locked, none []cims.Customer
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		var err error
		if none, err = tx.LockCustomers(ctx, []int64{inserted[2] + 1000}); err != nil {
			return err
		}
		locked, err = tx.LockCustomers(ctx, []int64{inserted[2], inserted[2] + 1000, inserted[0]})
		return err
	})
	require.Empty(t, none)
	require.Equal(t, []int64{inserted[0], inserted[2]}, ids(locked, customerID), "those that exist, by id")
	require.Equal(t, seller.ID, ownerID(locked[0]))
	require.Equal(t, &assigned[0], locked[0].Assignment)
	require.Nil(t, locked[1].SalesManager)
	require.Nil(t, locked[1].Assignment)
	require.Equal(t, "3", locked[1].FullName)
	require.Equal(t, noon, locked[1].CreatedAt)
}

func contractUnassigned(t *testing.T, d *database) {
	seller := d.sellers(t, "Anvar")[0]
	early := noon.Add(-time.Hour)
	inserted := d.insert(t, // alternately old and new, so that ids and times disagree
		cims.Customer{}, cims.Customer{CreatedAt: early}, cims.Customer{}, cims.Customer{CreatedAt: early},
		cims.Customer{}, cims.Customer{CreatedAt: early},
	)
	list := func(waiting bool, limit int) []int64 {
		got, err := d.Unassigned(t.Context(), waiting, limit)
		require.NoError(t, err)
		return got
	}
	pick := func(places ...int) []int64 {
		picked := []int64{}
		for _, i := range places {
			picked = append(picked, inserted[i])
		}
		return picked
	}
	require.Equal(t, pick(1, 3, 5, 0, 2, 4), list(false, 10))
	require.Equal(t, pick(1, 3), list(false, 2))
	require.Empty(t, list(true, 10))

	change := func(i int, from, to *int64) cims.OwnerChange {
		return cims.OwnerChange{
			CustomerID: inserted[i], CustomerCreatedAt: d.customer(t, inserted[i]).CreatedAt,
			From: from, To: to, Cause: cims.CauseAutomatic, At: noon.Add(time.Hour),
		}
	}
	d.changeOwners(t, change(0, nil, nil), change(3, nil, nil), change(4, nil, &seller.ID))
	require.Equal(t, pick(3, 0), list(true, 10), "these wait")
	require.Equal(t, pick(3), list(true, 1))
	require.Equal(t, pick(1, 5, 2), list(false, 10), "these were left without")
	require.Len(t, d.history(t, inserted[0]), 1, "to wait is no change of the owner")

	d.changeOwners(t, change(0, nil, &seller.ID), change(4, &seller.ID, nil))
	require.Equal(t, pick(3, 4), list(true, 10), "who loses an owner waits, who gets one doesn't")
	require.Equal(t, pick(1, 5, 2), list(false, 10))
}

// contractIntake: new leads with a sales manager, waiting for one, and without.
func contractIntake(t *testing.T, d *database) {
	seller := d.sellers(t, "Anvar")[0]
	owner := cims.Person{ID: seller.ID, Email: seller.Email, Name: seller.Name, Surname: seller.Surname}
	lead := func(name string) *cims.Lead {
		return &cims.Lead{Customer: cims.Customer{FullName: name, StatusName: "rejected", CreatedAt: noon, UpdatedAt: noon}}
	}
	owned, waiting, left := lead("Owned"), lead("Waiting"), lead("Left")
	owned.Customer.SalesManager, owned.By, waiting.Waiting = &owner, &seller.ID, true
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		rotation, err := tx.LockRotation(ctx)
		if err != nil {
			return err
		}
		rotation.Floor, rotation.Turn = 7, 1
		rotation.Members[0].VirtualTime, rotation.Members[0].LastTurn = 9, 1
		if err := tx.Intake(ctx, []*cims.Lead{owned, waiting, left}); err != nil {
			return err
		}
		_, err = tx.SaveRotation(ctx, rotation, map[int64]int{seller.ID: 1}, nil)
		return err
	})
	require.Less(t, owned.Customer.ID, waiting.Customer.ID)
	require.Less(t, waiting.Customer.ID, left.Customer.ID)
	require.Equal(t, &cims.Assignment{
		ID: owned.Customer.Assignment.ID, CustomerID: owned.Customer.ID, SalesManagerID: seller.ID, AssignedAt: noon, Active: true,
	}, owned.Customer.Assignment)
	for _, l := range []*cims.Lead{owned, waiting, left} {
		require.Equal(t, l.Customer, d.customer(t, l.Customer.ID))
	}
	rotation, err := d.Rotation(t.Context())
	require.NoError(t, err)
	require.Equal(t, cims.Rotation{Floor: 7, Turn: 1, Members: []cims.Member{
		{Person: owner, VirtualTime: 9, LastTurn: 1, Weight: 1, Leads: 1},
	}}, rotation)
	for _, waits := range []bool{true, false} {
		got, err := d.Unassigned(t.Context(), waits, 5)
		require.NoError(t, err)
		require.Equal(t, []int64{map[bool]int64{true: waiting.Customer.ID, false: left.Customer.ID}[waits]}, got)
	}

	events := d.history(t, owned.Customer.ID)
	require.Equal(t, []cims.Event{
		{ID: events[0].ID, At: noon, Kind: cims.StatusEvent, ToStatus: "rejected", By: &seller.ID, Cause: cims.CauseCreated, Owner: &seller.ID},
		{ID: events[1].ID, At: noon, Kind: cims.AssignmentEvent, ToManager: &seller.ID, Cause: cims.CauseAutomatic, Owner: &seller.ID},
	}, events)
	require.Len(t, d.history(t, waiting.Customer.ID), 1)
}

func contractChangeStatuses(t *testing.T, d *database) {
	seller := d.sellers(t, "Anvar")[0]
	inserted := d.insert(t, cims.Customer{}, cims.Customer{}, cims.Customer{StatusName: "rejected"}, cims.Customer{})
	at := noon.Add(time.Minute)
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		return tx.ChangeStatuses(ctx, []cims.StatusChange{ // to different ones, at different times
			{CustomerID: inserted[1], From: "contacted", To: "finished", Cause: cims.CauseManual, Reason: "why", Owner: &seller.ID, At: at},
			{CustomerID: inserted[0], From: "contacted", To: "rejected", Cause: cims.CauseManual, At: at.Add(time.Second)},
		})
	})
	first := d.customer(t, inserted[0])
	require.Equal(t, "rejected", first.StatusName)
	require.Equal(t, at.Add(time.Second), first.UpdatedAt)
	require.Equal(t, noon, first.CreatedAt)
	second := d.customer(t, inserted[1])
	require.Equal(t, "finished", second.StatusName)
	require.Equal(t, at, second.UpdatedAt)
	require.Equal(t, noon, d.customer(t, inserted[3]).UpdatedAt)
	require.Equal(t, noon, d.customer(t, inserted[2]).UpdatedAt)
	require.Len(t, d.history(t, inserted[2]), 1)

	events := d.history(t, inserted[0])
	require.Len(t, events, 2)
	require.NotEqual(t, events[0].ID, events[1].ID)
	require.Equal(t, cims.Event{
		ID: events[0].ID, At: noon, Kind: cims.StatusEvent, ToStatus: "contacted", Cause: cims.CauseCreated,
	}, events[0])
	require.Equal(t, cims.Event{
		ID: events[1].ID, At: at.Add(time.Second), Kind: cims.StatusEvent,
		FromStatus: "contacted", ToStatus: "rejected", Cause: cims.CauseManual,
	}, events[1])
	events = d.history(t, inserted[1])
	require.Len(t, events, 2)
	require.Equal(t, cims.Event{
		ID: events[1].ID, At: at, Kind: cims.StatusEvent, FromStatus: "contacted", ToStatus: "finished",
		Cause: cims.CauseManual, Reason: "why", Owner: &seller.ID,
	}, events[1])
}

func contractHistory(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	inserted := d.insert(t, cims.Customer{}, cims.Customer{})
	lead := inserted[0] // the other one's creation is of the same moment
	at := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Microsecond) }
	// Written neither by time nor by kind: an assignment before the status of
	// the same moment, and a later moment before an earlier one of another clock's.
	owner := func(n int, from, to *int64) {
		d.changeOwners(t, cims.OwnerChange{
			CustomerID: lead, CustomerCreatedAt: noon, From: from, To: to, Cause: cims.CauseManual, At: at(n),
		})
	}
	status := func(n int, from, to string) {
		d.update(t, func(ctx context.Context, tx cims.Tx) error {
			return tx.ChangeStatuses(ctx, []cims.StatusChange{{CustomerID: lead, From: from, To: to, Cause: cims.CauseManual, At: at(n)}})
		})
	}
	owner(2, nil, &sellers[0].ID)
	status(2, "contacted", "contacted")
	owner(5, &sellers[0].ID, &sellers[1].ID)
	status(1, "contacted", "finished")
	status(5, "finished", "rejected")
	status(5, "rejected", "continuing")
	owner(5, &sellers[1].ID, &sellers[0].ID)
	short := func(e cims.Event) string {
		if e.Kind == cims.StatusEvent {
			return fmt.Sprintf("%d %s>%s", e.At.Sub(noon)/time.Microsecond, e.FromStatus, e.ToStatus)
		}
		return fmt.Sprintf("%d %d>%d", e.At.Sub(noon)/time.Microsecond, value(e.FromManager), value(e.ToManager))
	}
	a, b := sellers[0].ID, sellers[1].ID
	expected := []string{
		"0 >contacted", "2 contacted>contacted", "2 contacted>finished", fmt.Sprintf("2 0>%d", a),
		"5 finished>rejected", "5 rejected>continuing", fmt.Sprintf("5 %d>%d", a, b), fmt.Sprintf("5 %d>%d", b, a),
	}
	for limit := 1; limit <= len(expected)+1; limit++ {
		var got []string
		query := cims.HistoryQuery{CustomerID: lead, Limit: limit}
		for {
			part, err := d.History(t.Context(), query)
			require.NoError(t, err)
			require.LessOrEqual(t, len(part), limit)
			for _, event := range part {
				got = append(got, short(event))
			}
			if len(part) < limit {
				break
			}
			last := part[limit-1]
			query.After = &cims.EventPosition{At: last.At, Kind: last.Kind, ID: last.ID}
		}
		require.Equal(t, expected, got, "pages of %d", limit)
	}
	none, err := d.History(t.Context(), cims.HistoryQuery{CustomerID: lead + 1000, Limit: 5})
	require.NoError(t, err)
	require.Empty(t, none)
}

func contractRotation(t *testing.T, d *database) {
	rotation, err := d.Rotation(t.Context())
	require.NoError(t, err)
	require.Empty(t, rotation.Members)
	require.Zero(t, rotation.Turn)
	require.Zero(t, rotation.Floor)

	sellers := d.sellers(t, "Anvar", "Botir", "Paused", "Inactive")
	d.user(t, cims.RoleCEO, "Boss")
	d.user(t, "member", "Member")
	_, err = d.crm.SetSalesManager(t.Context(), system, sellers[2].ID, cims.SalesManagerUpdate{Paused: new(true), Weight: new(3)})
	require.NoError(t, err)
	_, err = d.crm.UpdateUser(t.Context(), system, sellers[3].ID, cims.UserUpdate{Active: new(false)})
	require.NoError(t, err)
	member := func(user cims.User) cims.Member {
		return cims.Member{
			Person: cims.Person{ID: user.ID, Email: user.Email, Name: user.Name, Surname: user.Surname}, Weight: 1,
		}
	}
	expected := []cims.Member{member(sellers[0]), member(sellers[1]), member(sellers[2])}
	expected[2].Weight, expected[2].Paused = 3, true
	rotation, err = d.Rotation(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, expected, rotation.Members)
	var locked cims.Rotation
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		var err error
		locked, err = tx.LockRotation(ctx)
		return err
	})
	require.ElementsMatch(t, expected, locked.Members)

	// It is read from the users, whoever changed them.
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		renamed := sellers[0]
		renamed.Surname, renamed.Email = "Renamed", "renamed@example.com"
		if err := tx.UpdateUser(ctx, renamed); err != nil {
			return err
		}
		expected[0] = member(renamed)
		left := sellers[1]
		left.RoleName = "member"
		return tx.UpdateUser(ctx, left)
	})
	rotation, err = d.Rotation(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, []cims.Member{expected[0], expected[2]}, rotation.Members)

	// Nobody is in it whose role is inactive.
	role := d.roleNamed(t, cims.RoleSalesManager)
	role.Active = false
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		if _, err := tx.LockRole(ctx, role.ID); err != nil {
			return err
		}
		return tx.UpdateRole(ctx, role)
	})
	rotation, err = d.Rotation(t.Context())
	require.NoError(t, err)
	require.Empty(t, rotation.Members)
}

func contractSaveRotation(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir", "Vali")
	state := cims.Rotation{Floor: 1 << 60, Turn: math.MaxInt64 - 1}
	saved := cims.Member{
		Person:      cims.Person{ID: sellers[1].ID, Email: sellers[1].Email, Name: sellers[1].Name, Surname: sellers[1].Surname},
		VirtualTime: 1<<60 + 7, LastTurn: math.MaxInt64 - 2, Weight: 100, Paused: true,
	}
	state.Members = []cims.Member{saved}
	save := func(state cims.Rotation) {
		d.update(t, func(ctx context.Context, tx cims.Tx) error {
			if _, err := tx.LockRotation(ctx); err != nil {
				return err
			}
			assignments, err := tx.SaveRotation(ctx, state, nil, nil)
			if err == nil && len(assignments) != 0 {
				return errors.New("assignments of nobody")
			}
			return err
		})
	}
	byID := func() map[int64]cims.Member {
		rotation, err := d.Rotation(t.Context())
		require.NoError(t, err)
		require.Equal(t, state.Floor, rotation.Floor)
		require.Equal(t, state.Turn, rotation.Turn)
		members := map[int64]cims.Member{}
		for _, member := range rotation.Members {
			members[member.ID] = member
		}
		return members
	}
	save(state)
	members := byID()
	require.Len(t, members, 3)
	require.Equal(t, saved, members[saved.ID])
	require.Zero(t, members[sellers[0].ID].VirtualTime, "who is not listed stays as it is")
	require.Equal(t, 1, members[sellers[0].ID].Weight)

	other := members[sellers[2].ID]
	other.VirtualTime, other.LastTurn = 720_720_000, 1
	state.Members = []cims.Member{other}
	save(state)
	members = byID()
	require.Equal(t, saved, members[saved.ID])
	require.Equal(t, other, members[other.ID])

	// Whoever leaves and comes back has its place again.
	for _, active := range []bool{false, true} {
		_, err := d.crm.UpdateUser(t.Context(), system, saved.ID, cims.UserUpdate{Active: &active})
		require.NoError(t, err)
	}
	require.Equal(t, saved, byID()[saved.ID])
}

func contractOwners(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	a, b := sellers[0].ID, sellers[1].ID
	boss := d.user(t, cims.RoleCEO, "Boss").ID
	leads := d.insert(t, cims.Customer{}, cims.Customer{}, cims.Customer{})
	at := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Minute) }
	change := func(lead int, from, to *int64, cause cims.Cause, by *int64, n int) cims.OwnerChange {
		return cims.OwnerChange{
			CustomerID: leads[lead], CustomerCreatedAt: noon, From: from, To: to, Cause: cause, By: by, At: at(n),
		}
	}
	// In the order of the changes, which is not that of the customers.
	first := d.changeOwners(t,
		change(2, nil, &b, cims.CauseAutomatic, nil, 0),
		change(1, nil, nil, cims.CauseAutomatic, nil, 0),
		change(0, nil, &a, cims.CauseManual, &boss, 1),
	)
	require.Len(t, first, 3)
	require.Equal(t, cims.Assignment{
		ID: first[0].ID, CustomerID: leads[2], SalesManagerID: b, AssignedAt: at(0), Active: true,
	}, first[0])
	require.Zero(t, first[1])
	require.Equal(t, cims.Assignment{
		ID: first[2].ID, CustomerID: leads[0], SalesManagerID: a, AssignedAt: at(1), AssignedBy: &boss, Active: true,
	}, first[2])
	require.NotZero(t, first[0].ID)
	require.NotZero(t, first[2].ID)
	require.Equal(t, &first[0], d.customer(t, leads[2]).Assignment)
	require.Equal(t, &first[2], d.customer(t, leads[0]).Assignment)
	require.Equal(t, noon, d.customer(t, leads[2]).UpdatedAt, "created at that moment")
	require.Equal(t, at(1), d.customer(t, leads[0]).UpdatedAt)
	require.Equal(t, map[int64]int{a: 1, b: 1}, d.leadsOf(t))

	second := d.changeOwners(t,
		change(0, &a, &b, cims.CauseRedistributed, &boss, 2),
		change(1, nil, &b, cims.CauseAutomatic, nil, 2),
	)
	require.Equal(t, b, second[0].SalesManagerID)
	require.Nil(t, second[0].AssignedBy, "the rotation did it, whoever had it done")
	require.Equal(t, map[int64]int{a: 0, b: 3}, d.leadsOf(t))

	third := d.changeOwners(t,
		change(0, &b, nil, cims.CauseRedistributed, nil, 3),
		change(2, &b, &b, cims.CauseManual, &boss, 3), // the same one
	)
	require.Zero(t, third[0])
	require.Equal(t, b, third[1].SalesManagerID)
	customer := d.customer(t, leads[0])
	require.Nil(t, customer.SalesManager)
	require.Nil(t, customer.Assignment)
	require.Equal(t, map[int64]int{a: 0, b: 2}, d.leadsOf(t))
	events := d.history(t, leads[0])
	require.Len(t, events, 4)
	events = events[1:] // without its creation
	for i, expected := range []cims.Event{
		{At: at(1), ToManager: &a, By: &boss, Cause: cims.CauseManual},
		{At: at(2), FromManager: &a, ToManager: &b, By: &boss, Cause: cims.CauseRedistributed},
		{At: at(3), FromManager: &b, Cause: cims.CauseRedistributed},
	} {
		expected.ID, expected.Kind, expected.Owner = events[i].ID, cims.AssignmentEvent, events[i].Owner
		require.Equal(t, expected, events[i])
	}
	require.Len(t, d.history(t, leads[2]), 2, "no event where the owner stays")

	// Who had nobody for a while can get somebody again.
	fourth := d.changeOwners(t, change(0, nil, &a, cims.CauseAutomatic, nil, 4))
	require.Equal(t, &fourth[0], d.customer(t, leads[0]).Assignment)
	require.Nil(t, fourth[0].AssignedBy)
	require.Equal(t, at(4), d.customer(t, leads[0]).UpdatedAt)
	list, err := d.Customers(t.Context(), cims.CustomerQuery{SalesManagerID: &a, Limit: 5})
	require.NoError(t, err)
	require.Equal(t, leads[:1], ids(list, customerID))

	// The number of leads stays with who leaves the rotation.
	_, err = d.crm.UpdateUser(t.Context(), system, b, cims.UserUpdate{Active: new(false)})
	require.NoError(t, err)
	d.changeOwners(t, change(1, &b, &a, cims.CauseManual, nil, 5))
	_, err = d.crm.UpdateUser(t.Context(), system, b, cims.UserUpdate{Active: new(true)})
	require.NoError(t, err)
	require.Equal(t, map[int64]int{a: 2, b: 1}, d.leadsOf(t))
}

func (d *database) claim(t *testing.T, key cims.Key, expired time.Time) *cims.Key {
	t.Helper()
	var kept *cims.Key
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		var err error
		if kept, err = tx.ClaimKey(ctx, key, expired); err != nil || kept != nil {
			return err
		}
		return tx.SaveKey(ctx, key)
	})
	return kept
}

func contractKeys(t *testing.T, d *database) {
	at := recently.Add(7 * time.Microsecond)
	key := cims.Key{Scope: "user:1 customers", Key: "k-1", Fingerprint: "f", Result: []byte(`{"a":"Ў \\ ' \u0000"}`), At: at}
	require.Nil(t, d.claim(t, key, at.Add(-time.Hour)))

	again := key
	again.Fingerprint, again.Result, again.At = "other", nil, at.Add(time.Minute)
	require.Equal(t, &key, d.claim(t, again, at.Add(-time.Hour)))
	require.Equal(t, &key, d.claim(t, again, at), "as old as that, but not older")

	for _, other := range []cims.Key{
		{Scope: "user:2 customers", Key: "k-1", Fingerprint: "x", Result: []byte("2"), At: at},
		{Scope: "user:1 customers", Key: "K-1", Fingerprint: "x", Result: []byte("3"), At: at},
		{Scope: "user:1 customers ", Key: "k-1", Fingerprint: "x", Result: []byte("4"), At: at},
	} {
		require.Nil(t, d.claim(t, other, at.Add(-time.Hour)), "%q %q is another key", other.Scope, other.Key)
		require.Equal(t, &other, d.claim(t, other, at.Add(-time.Hour)))
	}

	again.Result = []byte("again")
	require.Nil(t, d.claim(t, again, at.Add(time.Microsecond)), "older than that: new")
	require.Equal(t, &again, d.claim(t, key, at))

	// A claim that is rolled back was none.
	failure := errors.New("no")
	fresh := cims.Key{Scope: "s", Key: "fresh", Fingerprint: "f", Result: []byte("r"), At: at}
	require.ErrorIs(t, d.Update(t.Context(), func(ctx context.Context, tx cims.Tx) error {
		if _, err := tx.ClaimKey(ctx, fresh, at); err != nil {
			return err
		}
		if err := tx.SaveKey(ctx, fresh); err != nil {
			return err
		}
		return failure
	}), failure)
	require.Nil(t, d.claim(t, fresh, at))
}

func contractForgetKeys(t *testing.T, d *database) {
	for i := range 10 {
		key := cims.Key{Scope: "s", Key: fmt.Sprint(i), Fingerprint: "f", Result: []byte("r"), At: recently.Add(time.Duration(i) * time.Second)}
		require.Nil(t, d.claim(t, key, recently.Add(-time.Hour)))
	}
	forget := func(limit int) int {
		var forgotten int
		d.update(t, func(ctx context.Context, tx cims.Tx) error {
			var err error
			forgotten, err = tx.ForgetKeys(ctx, recently.Add(7*time.Second), limit)
			return err
		})
		return forgotten
	}
	require.Equal(t, 4, forget(4))
	require.Equal(t, 3, forget(4))
	require.Zero(t, forget(4))
	for i := range 10 {
		kept := d.claim(t, cims.Key{Scope: "s", Key: fmt.Sprint(i), Fingerprint: "new", At: recently}, recently.Add(-time.Hour))
		require.Equal(t, i >= 7, kept != nil, "key %d", i)
	}
}

func contractConversion(t *testing.T, d *database) {
	sellers := d.sellers(t, "Anvar", "Botir")
	a, b := sellers[0].ID, sellers[1].ID
	leads := d.insert(t,
		cims.Customer{CreatedAt: noon.Add(2 * time.Second)},                         // the newest
		cims.Customer{CreatedAt: noon},                                              // of the two oldest, the older
		cims.Customer{CreatedAt: noon},                                              //
		cims.Customer{CreatedAt: noon.Add(time.Second), StatusName: "finished"},     // created there
		cims.Customer{CreatedAt: noon.Add(time.Second), StatusName: "need_to_call"}, //
	)
	d.changeOwners(t,
		cims.OwnerChange{CustomerID: leads[0], CustomerCreatedAt: noon.Add(2 * time.Second), To: &a, Cause: cims.CauseAutomatic, At: noon.Add(2 * time.Second)},
		cims.OwnerChange{CustomerID: leads[1], CustomerCreatedAt: noon, To: &a, Cause: cims.CauseAutomatic, At: noon},
		cims.OwnerChange{CustomerID: leads[2], CustomerCreatedAt: noon, To: &b, Cause: cims.CauseAutomatic, At: noon},
	)
	d.update(t, func(ctx context.Context, tx cims.Tx) error {
		at := noon
		change := func(lead int, from, to string) cims.StatusChange {
			at = at.Add(time.Minute)
			return cims.StatusChange{CustomerID: leads[lead], From: from, To: to, Cause: cims.CauseManual, At: at}
		}
		for _, changes := range [][]cims.StatusChange{
			{change(3, "", "finished"), change(4, "", "need_to_call"), change(2, "contacted", "finished"), change(0, "contacted", "rejected")},
			// There, back, and there again counts once.
			{change(1, "contacted", "finished")},
			{change(1, "finished", "rejected")},
			{change(1, "rejected", "finished")},
			{change(1, "finished", "continuing")},
		} {
			if err := tx.ChangeStatuses(ctx, changes); err != nil {
				return err
			}
		}
		return nil
	})
	for _, c := range []struct {
		why          string
		last         int
		target       string
		owner        *int64
		total        int
		reached, now int
	}{
		{"all", 100, "finished", nil, 5, 3, 2},
		{"as many as there are", 5, "finished", nil, 5, 3, 2},
		{"all but the oldest", 4, "finished", nil, 4, 2, 2},
		{"the newest three", 3, "finished", nil, 3, 1, 1},
		{"the newest", 1, "finished", nil, 1, 0, 0},
		{"one who was there for a while", 100, "continuing", nil, 5, 1, 1},
		{"one who has left", 100, "rejected", nil, 5, 2, 1},
		{"nobody", 100, "project_started", nil, 5, 0, 0},
		{"of one manager", 100, "finished", &a, 2, 1, 0},
		{"of one manager, the newest", 1, "finished", &a, 1, 0, 0},
		{"of another", 100, "finished", &b, 1, 1, 1},
		{"of nobody", 100, "finished", new(b + 1000), 0, 0, 0},
	} {
		for mode, count := range map[cims.ConversionMode]int{cims.Reached: c.reached, cims.Current: c.now} {
			got, err := d.Conversion(t.Context(), cims.ConversionQuery{Last: c.last, Target: c.target, SalesManagerID: c.owner, Mode: mode})
			require.NoError(t, err, c.why)
			require.Equal(t, cims.Conversion{Total: c.total, Count: count}, got, "%s, %s", c.why, mode)
		}
	}
}
