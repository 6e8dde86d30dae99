package sqlstore

import (
	"context"
	"time"

	"github.com/cimskit/cims"
)

// Flags, orders and times in an older program's tables can be NULL. A NULL flag is off, a
// NULL order is 0 and a NULL time is the zero time.
const (
	entryColumns = `id, name, display_name, COALESCE(description, '') AS description,
		COALESCE(is_active, FALSE) AS active, COALESCE(is_system, FALSE) AS system, created_at, updated_at`
	statusColumns = entryColumns + `, COALESCE(color, '') AS color, COALESCE("order", 0) AS position`
)

type entryRow struct {
	ID          int64
	Name        string
	DisplayName string
	Description cims.Text
	Active      bool
	System      bool
	CreatedAt   *time.Time
	UpdatedAt   *time.Time
}

type statusRow struct {
	entryRow
	Color    cims.Text
	Position int
}

func (r statusRow) status() cims.Status {
	return cims.Status{
		ID: r.ID, Name: r.Name, DisplayName: r.DisplayName, Description: r.Description,
		Color: r.Color, Order: r.Position, Active: r.Active, System: r.System,
		CreatedAt: utc(r.CreatedAt), UpdatedAt: utc(r.UpdatedAt),
	}
}

func utc(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// Statuses implements cims.Reader.
func (q *queries) Statuses(ctx context.Context) ([]cims.Status, error) {
	list, err := queryPrepared[statusRow](ctx, q, "SELECT "+statusColumns+" FROM customer_status")
	return convert(list, statusRow.status), err
}

func convert[From, To any](list []From, to func(From) To) []To {
	converted := make([]To, len(list))
	for i, item := range list {
		converted[i] = to(item)
	}
	return converted
}

// LockStatus implements cims.Tx.
func (q tx) LockStatus(ctx context.Context, id int64) (cims.Status, error) {
	return q.status(ctx, id, "id = ?"+q.dialect.ForUpdate)
}

// UseStatus implements cims.Tx.
func (q tx) UseStatus(ctx context.Context, name string) (cims.Status, error) {
	return q.status(ctx, name, "name = ?"+q.dialect.ForKeyShare)
}

func (q *queries) status(ctx context.Context, key any, condition string) (cims.Status, error) {
	found, err := row[statusRow](ctx, q, "SELECT "+statusColumns+" FROM customer_status WHERE "+condition, key)
	if err != nil {
		return cims.Status{}, err
	}
	if found == nil {
		return cims.Status{}, notFound(cims.EntityStatus, key)
	}
	return found.status(), nil
}

// InsertStatus implements cims.Tx.
func (q tx) InsertStatus(ctx context.Context, s cims.Status) (int64, error) {
	t := table{name: "customer_status", columns: []string{
		"name", "display_name", "description", "color", "order", "is_active", "is_system", "created_at", "updated_at",
	}}
	t.add(s.Name, s.DisplayName, null(s.Description), null(s.Color), s.Order, s.Active, s.System, s.CreatedAt, s.UpdatedAt)
	return q.insertID(ctx, t, cims.EntityStatus, s.Name)
}

// UpdateStatus implements cims.Tx.
func (q tx) UpdateStatus(ctx context.Context, s cims.Status) error {
	_, err := q.exec(ctx, `UPDATE customer_status SET display_name = ?, description = ?, color = ?, "order" = ?,
		is_active = ?, updated_at = ? WHERE id = ?`,
		s.DisplayName, null(s.Description), null(s.Color), s.Order, s.Active, s.UpdatedAt, s.ID)
	return err
}

// DeleteStatus implements cims.Tx.
func (q tx) DeleteStatus(ctx context.Context, id int64) error {
	return q.delete(ctx, "DELETE FROM customer_status WHERE id = ?", id, cims.EntityStatus)
}

// delete deletes a row. It returns cims.ErrInUse if a row refers to it. It relies on foreign
// keys, since only these also cover rows that other programs have written.
func (q *queries) delete(ctx context.Context, query string, id int64, entity cims.Entity) error {
	err := q.guarded(ctx, func() error {
		_, err := q.exec(ctx, query, id)
		return err
	})
	if q.dialect.Classify(err) == ForeignKey {
		return &cims.Error{Kind: cims.ErrInUse, Entity: entity, Count: 1, CountIsMinimum: true, Err: err}
	}
	return err
}
