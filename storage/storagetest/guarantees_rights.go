package storagetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

// ceosRemoveEachOther at the same moment, in one way or the other: one succeeds.
func ceosRemoveEachOther(t *testing.T, d *database) {
	users := []cims.User{d.user(t, cims.RoleCEO, "First"), d.user(t, cims.RoleCEO, "Second")}
	processes := d.processes(t, 1)
	ways := []cims.UserUpdate{
		{Active: new(false)}, {RoleName: new("member")}, {Active: new(false), RoleName: new("customer")},
	}
	for round := range 50 {
		actors := []cims.Actor{d.actorOf(t, users[0].ID), d.actorOf(t, users[1].ID)}
		errs := together(2, func(i int) error {
			_, err := processes[i].UpdateUser(t.Context(), actors[i], users[1-i].ID, ways[(round/(1+2*i))%len(ways)])
			return err
		})
		require.NotEqual(t, errs[0] == nil, errs[1] == nil, "round %d: %v", round, errs)
		for i, err := range errs {
			if err != nil {
				require.True(t, errors.Is(err, cims.ErrForbidden) || errors.Is(err, cims.ErrLastCEO), "%v", err)
				continue
			}
			remaining, err := d.Users(t.Context(), cims.UserQuery{Role: cims.RoleCEO, Active: new(true), Limit: 5})
			require.NoError(t, err)
			require.Equal(t, []int64{users[i].ID}, ids(remaining, userID))
			_, err = d.crm.UpdateUser(t.Context(), actors[i], users[1-i].ID, cims.UserUpdate{Active: new(true), RoleName: new(cims.RoleCEO)})
			require.NoError(t, err)
		}
	}
}

// ceosResign, all of them at once: one has to stay.
func ceosResign(t *testing.T, d *database) {
	processes := d.processes(t, 1)
	var users []cims.User
	for i := range 5 {
		users = append(users, d.user(t, cims.RoleCEO, fmt.Sprintf("CEO %d", i)))
	}
	for range 10 {
		errs := together(len(users), func(i int) error {
			_, err := processes[i%2].UpdateUser(t.Context(), system, users[i].ID, cims.UserUpdate{Active: new(false)})
			return err
		})
		refused := 0
		for _, err := range errs {
			if err != nil {
				require.ErrorIs(t, err, cims.ErrLastCEO)
				refused++
			}
		}
		require.Equal(t, 1, refused)
		for _, user := range users {
			d.setActive(t, user.ID, true)
		}
	}
}

// meeting holds each transaction back, right before it takes a right away, until
// two have come so far, or for a moment: where the two can get that far at once,
// they do.
type meeting struct {
	cims.Storage
	arrived chan struct{}
}

type meetingTx struct {
	cims.Tx
	meeting *meeting
}

func (m *meeting) Update(ctx context.Context, do func(ctx context.Context, tx cims.Tx) error) error {
	return m.Storage.Update(ctx, func(ctx context.Context, tx cims.Tx) error { return do(ctx, meetingTx{tx, m}) })
}

func (tx meetingTx) meet() {
	select {
	case tx.meeting.arrived <- struct{}{}: // the other one is waiting
	case <-tx.meeting.arrived:
	case <-time.After(150 * time.Millisecond):
	}
}

func (tx meetingTx) UpdateRole(ctx context.Context, role cims.Role) error {
	tx.meet()
	return tx.Tx.UpdateRole(ctx, role)
}

func (tx meetingTx) UpdateUser(ctx context.Context, user cims.User) error {
	tx.meet()
	return tx.Tx.UpdateUser(ctx, user)
}

// rightsTakenAtOnce: two users who take each other's rights at the same moment can't
// both succeed, since one of them no longer had the right to.
func rightsTakenAtOnce(t *testing.T, d *database) {
	arrived := make(chan struct{})
	managers := []*cims.Manager{
		d.manager(t, &meeting{d.open(t), arrived}, nil), d.manager(t, &meeting{d.open(t), arrived}, nil),
	}
	type way func(crm *cims.Manager, actor cims.Actor, other cims.User, itsRole int64) error
	byRole := func(crm *cims.Manager, actor cims.Actor, _ cims.User, itsRole int64) error {
		_, err := crm.UpdateRole(t.Context(), actor, itsRole, cims.RoleUpdate{Permissions: &[]cims.Permission{}})
		return err
	}
	byUser := func(crm *cims.Manager, actor cims.Actor, other cims.User, _ int64) error {
		_, err := crm.UpdateUser(t.Context(), actor, other.ID, cims.UserUpdate{Active: new(false)})
		return err
	}
	for i, ways := range [][2]way{{byUser, byUser}, {byRole, byUser}, {byRole, byRole}} {
		var actors [2]cims.Actor
		var roles [2]int64
		for j := range actors {
			name := fmt.Sprintf("pair_%d_%d", i, j)
			actors[j] = d.holder(t, name, cims.RolesWrite, cims.UsersWrite)
			roles[j] = d.roleNamed(t, name).ID
		}
		errs := together(2, func(j int) error { return ways[j](managers[j], actors[j], actors[1-j].User(), roles[1-j]) })
		require.NotEqual(t, errs[0] == nil, errs[1] == nil, "pair %d, of whom one has to succeed: %v", i, errs)
		for _, err := range errs {
			if err != nil {
				require.ErrorIs(t, err, cims.ErrForbidden)
			}
		}
	}
}
