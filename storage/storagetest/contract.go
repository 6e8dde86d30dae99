package storagetest

import (
	"context"
	"testing"
	"time"

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
	{"Contract_SaveMember", contractSaveMember},
	{"Contract_CountLeads", contractCountLeads},
	{"Contract_ChangeOwners", contractOwners},
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
	if err := tx.InsertLeads(ctx, leads); err != nil {
		return nil, err
	}
	ids := make([]int64, len(leads))
	for i, lead := range leads {
		ids[i] = lead.Customer.ID
	}
	return ids, nil
}

// insert stores customers as they are, with defaults for required fields.
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
		_, err := tx.LockRotation(ctx)
		if err != nil {
			return err
		}
		assignments, err = tx.ChangeOwners(ctx, changes)
		return err
	})
	return assignments
}
