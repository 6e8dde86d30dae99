package storagetest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

// statusDeletionRace: a status is deleted while customers are put into it in
// every way there is.
func statusDeletionRace(t *testing.T, d *database) {
	processes := d.processes(t, 1)
	lead, other := d.lead(t, "Aziza"), d.lead(t, "Botir")
	for round := range 30 {
		name := fmt.Sprintf("race_%d", round)
		status := d.status(t, name)
		if round%3 == 1 {
			d.set(t, other.ID, name)
		}
		var how cims.Deletion
		if round%3 != 0 {
			how.MoveTo = "finished"
		}
		errs := together(6, func(i int) error {
			crm := processes[i%2]
			var err error
			switch i {
			case 0, 1:
				err = crm.DeleteStatus(t.Context(), system, status.ID, how)
			case 2, 3:
				_, err = crm.AddCustomer(t.Context(), system, cims.NewCustomer{FullName: "New", StatusName: name})
			default:
				_, err = crm.SetStatus(t.Context(), system, lead.ID, name, "")
			}
			return err
		})
		deleted := 0
		for i, err := range errs {
			switch {
			case i > 1 && err != nil:
				requireInvalid(t, err, "status_name:unknown")
			case err == nil && i <= 1:
				deleted++
			case i <= 1:
				require.True(t, errors.Is(err, cims.ErrInUse) || errors.Is(err, cims.ErrNotFound), "%v", err)
			}
		}
		statuses, err := d.Statuses(t.Context())
		require.NoError(t, err)
		require.LessOrEqual(t, deleted, 1)
		require.Len(t, statuses, 7-deleted)
		if how.MoveTo != "" {
			require.Equal(t, 1, deleted, "nobody can come in between the move and the deletion")
		}
		in, err := d.CountCustomers(t.Context(), name, 100)
		require.NoError(t, err)
		if deleted == 1 {
			require.Zero(t, in, "somebody is left in a status that is gone")
		} else {
			require.Positive(t, in, "nobody was in it, and yet it stayed")
			require.NoError(t, d.crm.DeleteStatus(t.Context(), system, status.ID, cims.Deletion{MoveTo: "contacted"}))
		}
	}
	d.requireConsistent(t)
}

func roleDeletionRace(t *testing.T, d *database) {
	processes := d.processes(t, 1)
	user := d.user(t, "member", "User")
	for round := range 20 {
		name := fmt.Sprintf("race_%d", round)
		role, err := d.crm.CreateRole(t.Context(), system, cims.NewRole{Name: name, DisplayName: name})
		require.NoError(t, err)
		var how cims.Deletion
		if round%2 == 1 {
			how.MoveTo = "customer"
		}
		errs := together(4, func(i int) error {
			var err error
			switch i {
			case 0, 1:
				err = processes[i].DeleteRole(t.Context(), system, role.ID, how)
			case 2:
				_, err = processes[0].CreateUser(t.Context(), system, newUser(name, fmt.Sprintf("New %d", round)))
			default:
				_, err = processes[1].UpdateUser(t.Context(), system, user.ID, cims.UserUpdate{RoleName: &name})
			}
			return err
		})
		deleted := 0
		for i, err := range errs {
			switch {
			case i > 1 && err != nil:
				requireInvalid(t, err, "role_name:unknown")
			case err == nil && i <= 1:
				deleted++
			case i <= 1:
				require.True(t, errors.Is(err, cims.ErrInUse) || errors.Is(err, cims.ErrNotFound), "%v", err)
			}
		}
		held, err := d.CountUsers(t.Context(), name, 100)
		require.NoError(t, err)
		roles, err := d.Roles(t.Context())
		require.NoError(t, err)
		require.Len(t, roles, 6-deleted)
		if how.MoveTo != "" {
			require.Equal(t, 1, deleted, "nobody can come in between the move and the deletion")
		}
		if deleted == 1 {
			require.Zero(t, held, "somebody is left with a role that is gone")
		} else {
			require.Positive(t, held)
			require.NoError(t, d.crm.DeleteRole(t.Context(), system, role.ID, cims.Deletion{MoveTo: "customer"}))
		}
	}
}
