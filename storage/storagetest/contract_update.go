package storagetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

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
			rotation.Turn++
			rotation.Members[0].Credit += 7
			if err := tx.SaveRotation(ctx, rotation); err != nil {
				return err
			}
			rotation.Members[0].Weight = 9
			if err := tx.SaveMember(ctx, rotation.Members[0]); err != nil {
				return err
			}
			if _, err := tx.ChangeOwners(ctx, []cims.OwnerChange{
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
	require.Equal(t, before.Members[0].Credit+7, after.Members[0].Credit)
	require.Equal(t, 9, after.Members[0].Weight)
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
		"Unassigned": func(r cims.Reader) error {
			_, err := r.Unassigned(canceled, cims.UnassignedQuery{Waiting: true, Limit: 1})
			return err
		},
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

	// In the middle: the answer is true, and the lock is free after.
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

// callersOwn: values that were read or written are the caller's to change.
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
		if left, err := tx.Unassigned(ctx, cims.UnassignedQuery{Limit: 5}); err != nil || !slices.Equal(left, inserted) {
			return fmt.Errorf("Unassigned: %w", orMissing(err))
		}
		rotation.Turn = 1
		rotation.Members[0].LastTurn = 1
		if err := tx.SaveRotation(ctx, rotation); err != nil {
			return err
		}
		if _, err := tx.ChangeOwners(ctx, []cims.OwnerChange{
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

// onlyCommitted: a read during a transaction may wait for its end or not. It must not
// see uncommitted changes.
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
