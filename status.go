package cims

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// Status is a status that customers can be in.
type Status struct {
	ID          int64     `json:"id"`
	Name        string    `json:"name"` // the key that customers refer to; never changes
	DisplayName string    `json:"display_name"`
	Description Text      `json:"description"`
	Color       Text      `json:"color"`     // #RGB or #RRGGBB
	Order       int       `json:"order"`     // position in lists; equal ones are ordered by id
	Active      bool      `json:"is_active"` // customers can be moved to active statuses only
	System      bool      `json:"is_system"` // created by Migrate; can't be deleted
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
}

// SystemStatuses returns the statuses that Storage.Migrate creates if they are
// missing. Their ids and times are zero.
func SystemStatuses() []Status {
	statuses := []Status{
		{Name: StatusContacted, DisplayName: "Contacted", Description: "Initial contact made", Color: "#3B82F6"},
		{Name: StatusProjectStarted, DisplayName: "Project Started", Description: "Project has started", Color: "#10B981"},
		{Name: "continuing", DisplayName: "Continuing", Description: "Project is continuing", Color: "#F59E0B"},
		{Name: "finished", DisplayName: "Finished", Description: "Project completed", Color: "#8B5CF6"},
		{Name: "rejected", DisplayName: "Rejected", Description: "Lead rejected", Color: "#EF4444"},
		{Name: "need_to_call", DisplayName: "Need to Call", Description: "Follow-up call needed", Color: "#F97316"},
	}
	for i := range statuses {
		statuses[i].Order, statuses[i].Active, statuses[i].System = i+1, true, true
	}
	return statuses
}

// NewStatus is the input of CreateStatus. Name and DisplayName are required.
type NewStatus struct {
	Name        string // 1 to 100 letters, digits and _; made lower case, spaces become _
	DisplayName string // 1 to 255 characters
	Description string // up to 2000 characters
	Color       string // #RGB or #RRGGBB; empty for none
	Order       int    // 0 to 1,000,000
	Inactive    bool
}

// StatusUpdate is the input of UpdateStatus. A nil field is left unchanged. A
// pointer to an empty Description or Color clears it.
type StatusUpdate struct {
	DisplayName *string
	Description *string
	Color       *string
	Order       *int
	Active      *bool
}

// StatusFilter selects statuses. A zero field matches all.
type StatusFilter struct {
	Active *bool
}

// Statuses returns the statuses that match filter, ordered by Order, then id. It
// needs statuses:read.
func (m *Manager) Statuses(ctx context.Context, actor Actor, filter StatusFilter) ([]Status, error) {
	if err := actor.need(StatusesRead); err != nil {
		return nil, err
	}
	statuses, err := m.storage.Statuses(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(statuses, byOrder)
	return slices.DeleteFunc(statuses, func(s Status) bool { return filter.Active != nil && s.Active != *filter.Active }), nil
}

func byOrder(a, b Status) int { return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.ID, b.ID)) }

// CreateStatus adds a status. It needs statuses:write. It returns ErrInvalid for
// invalid input, and ErrExists if the name is taken.
func (m *Manager) CreateStatus(ctx context.Context, actor Actor, in NewStatus) (Status, error) {
	if err := actor.need(StatusesWrite); err != nil {
		return Status{}, err
	}
	var check checks
	status := Status{
		Name:        check.name("name", in.Name),
		DisplayName: check.displayName(in.DisplayName),
		Description: Text(check.description(in.Description)),
		Color:       Text(check.color("color", in.Color)),
		Order:       check.order(in.Order),
		Active:      !in.Inactive,
	}
	if err := check.err(); err != nil {
		return Status{}, err
	}
	err := m.update(ctx, func(ctx context.Context, tx Tx) error {
		status.CreatedAt = m.now()
		status.UpdatedAt = status.CreatedAt
		var err error
		if status.ID, err = tx.InsertStatus(ctx, status); err != nil {
			return err
		}
		return m.record(ctx, tx, actor, Change{Action: ActionCreated, Entity: EntityStatus, EntityID: status.ID, After: status, At: status.CreatedAt})
	})
	return zeroOnError(status, err)
}

// UpdateStatus changes the fields that are set in update. If they all have their
// value already, it changes nothing. It needs statuses:write. It returns ErrNotFound
// for an unknown status, and ErrInvalid for invalid input. It returns ErrForbidden if
// the initial status or the target of the conversion rate would be deactivated (see
// Config).
func (m *Manager) UpdateStatus(ctx context.Context, actor Actor, id int64, update StatusUpdate) (Status, error) {
	if err := actor.need(StatusesWrite); err != nil {
		return Status{}, err
	}
	var check checks
	if update == (StatusUpdate{}) {
		check.add("body", RuleNoField)
	}
	update.DisplayName = checked(update.DisplayName, check.displayName)
	update.Description = checked(update.Description, check.description)
	update.Color = checked(update.Color, func(text string) string { return check.color("color", text) })
	update.Order = checked(update.Order, check.order)
	if err := check.err(); err != nil {
		return Status{}, err
	}
	var status Status
	err := m.update(ctx, func(ctx context.Context, tx Tx) error {
		before, err := tx.LockStatus(ctx, id)
		if err != nil {
			return err
		}
		status = before
		status.DisplayName = valueOr(update.DisplayName, status.DisplayName)
		status.Description = textOr(update.Description, status.Description)
		status.Color = textOr(update.Color, status.Color)
		status.Order = valueOr(update.Order, status.Order)
		status.Active = valueOr(update.Active, status.Active)
		switch {
		case m.relies(status) && !status.Active:
			return &Error{Kind: ErrForbidden, Reason: ReasonSystemEntry, Entity: EntityStatus, Name: status.Name}
		case status == before:
			return nil
		}
		status.UpdatedAt = m.after(before.UpdatedAt)
		if err := tx.UpdateStatus(ctx, status); err != nil {
			return err
		}
		return m.record(ctx, tx, actor, Change{Action: ActionUpdated, Entity: EntityStatus, EntityID: id, Before: before, After: status, At: status.UpdatedAt})
	})
	return zeroOnError(status, err)
}

// Deletion holds the options of DeleteStatus and DeleteRole.
type Deletion struct {
	// MoveTo, if not empty, is the name of an active status or role. The
	// customers or users of the deleted one move to it, in the same transaction.
	MoveTo string
}

// DeleteStatus deletes a status that no customer is in. With Deletion.MoveTo it
// first moves the customers in it to another one and records that in their history.
// It needs statuses:write. A move also needs leads:write.
//
// DeleteStatus returns ErrNotFound for an unknown status, ErrForbidden for a system
// status and one that Config names, and ErrInUse with the number of customers. It returns ErrInvalid for an
// unknown or inactive target.
func (m *Manager) DeleteStatus(ctx context.Context, actor Actor, id int64, how Deletion) error {
	if err := actor.need(StatusesWrite); err != nil {
		return err
	}
	if how.MoveTo != "" {
		if err := actor.need(LeadsWrite); err != nil {
			return err
		}
	}
	return m.update(ctx, func(ctx context.Context, tx Tx) error {
		status, err := tx.LockStatus(ctx, id)
		if err != nil {
			return err
		}
		if status.System || m.relies(status) {
			return &Error{Kind: ErrForbidden, Reason: ReasonSystemEntry, Entity: EntityStatus, Name: status.Name}
		}
		if how.MoveTo != "" {
			target, err := m.useStatus(ctx, tx, normalName(how.MoveTo), "move_to")
			if err != nil {
				return err
			}
			if target.ID == status.ID {
				return invalid(FieldError{Field: "move_to", Rule: RuleChoice})
			}
			if err := m.moveCustomers(ctx, tx, actor, status.Name, target.Name); err != nil {
				return err
			}
		}
		count, err := tx.CountCustomers(ctx, status.Name, countLimit+1)
		if err != nil {
			return err
		}
		if err := inUse(EntityStatus, status.Name, count); err != nil {
			return err
		}
		if err := tx.DeleteStatus(ctx, id); err != nil {
			return err
		}
		return m.record(ctx, tx, actor, Change{Action: ActionDeleted, Entity: EntityStatus, EntityID: id, Before: status, MoveTo: normalName(how.MoveTo)})
	})
}

// relies reports whether the Manager needs a status to be active.
func (m *Manager) relies(status Status) bool {
	return status.Name == m.config.InitialStatus || status.Name == m.config.ConversionTarget
}

// moveCustomers moves all customers of one status to another. The first one is
// locked, so no customer can enter it.
func (m *Manager) moveCustomers(ctx context.Context, tx Tx, actor Actor, from, to string) error {
	for {
		listed, err := tx.Customers(ctx, CustomerQuery{Status: from, Limit: batchSize})
		if err != nil || len(listed) == 0 {
			return err
		}
		customers, err := tx.LockCustomers(ctx, customerIDs(listed))
		if err != nil {
			return err
		}
		var changes []StatusChange
		var recorded []Change
		for _, c := range customers {
			if c.StatusName == from { // may have moved on before it was locked
				change := StatusChange{
					CustomerID: c.ID, From: from, To: to, Cause: CauseMoved, By: actor.id(), Owner: c.owner(), At: m.after(c.UpdatedAt),
				}
				changes, recorded = append(changes, change), append(recorded, change.asChange(c))
			}
		}
		if err := tx.ChangeStatuses(ctx, changes); err != nil {
			return err
		}
		if err := m.record(ctx, tx, actor, recorded...); err != nil {
			return err
		}
	}
}

// useStatus reads an active status and protects it from deletion until the
// transaction ends. It returns ErrInvalid for the field if the status is unknown or
// inactive.
func (m *Manager) useStatus(ctx context.Context, tx Tx, name, field string) (Status, error) {
	if !possibleName(name) {
		return Status{}, invalid(FieldError{Field: field, Rule: RuleUnknown})
	}
	status, err := tx.UseStatus(ctx, name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Status{}, err
	}
	if err != nil || !status.Active {
		return Status{}, invalid(FieldError{Field: field, Rule: RuleUnknown})
	}
	return status, nil
}

// initialStatus returns the status of a customer whose input names none: the
// configured one if it is active, or else the first active one.
func (m *Manager) initialStatus(ctx context.Context, tx Tx) (Status, error) {
	status, err := m.useStatus(ctx, tx, m.config.InitialStatus, "status_name")
	if !errors.Is(err, ErrInvalid) {
		return status, err
	}
	statuses, err := tx.Statuses(ctx)
	if err != nil {
		return Status{}, err
	}
	slices.SortFunc(statuses, byOrder)
	first := slices.IndexFunc(statuses, func(s Status) bool { return s.Active })
	if first < 0 {
		return Status{}, invalid(FieldError{Field: "status_name", Rule: RuleUnknown})
	}
	m.warned.Do(func() {
		m.config.Logger.WarnContext(ctx, "cims: Config.InitialStatus is no active status: new leads get another", "configured", m.config.InitialStatus, "used", statuses[first].Name)
	})
	return m.useStatus(ctx, tx, statuses[first].Name, "status_name")
}

func (m *Manager) knownStatus(ctx context.Context, name string) (bool, error) {
	statuses, err := m.storage.Statuses(ctx)
	return slices.ContainsFunc(statuses, func(s Status) bool { return s.Name == name }), err
}
