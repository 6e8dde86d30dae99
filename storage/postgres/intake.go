package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/internal/sqlstore"
)

var _ cims.Intaker = (*Storage)(nil)

// Intake implements cims.Intaker. It takes one statement if the cached rotation is current.
// Otherwise it reads the rotation under the lock first, which takes a second round trip.
func (s *Storage) Intake(ctx context.Context, leads []*cims.Lead, decide func(cims.Rotation) cims.Rotation) (stored bool, err error) {
	statement, err := s.guardedStatement(ctx)
	if err != nil {
		return false, s.store.Explain(err)
	}
	if unfit, err := s.store.Unfit(ctx, leads); err != nil || unfit != nil {
		return false, err // Update returns the error of the lead
	}
	err = s.store.Retry(ctx, func() error {
		stored = false
		return s.onConn(ctx, func(conn *pgx.Conn) error {
			var err error
			if before, ok := s.rotation.Get(); ok {
				if stored, err = s.tryIntake(ctx, conn, statement, before, decide(before.Rotation), leads); stored || err != nil {
					return err
				}
				s.rotation.Invalidate()
			}
			before, err := lockAndRead(ctx, conn, leads)
			if err != nil {
				return err
			}
			s.rotation.Observe(before)
			stored, err = s.tryIntake(ctx, conn, statement, before, decide(before.Rotation), leads)
			return err
		})
	})
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case refused.Code == foreignKey:
			return false, nil // a status was deleted just now, and Update returns its error
		case refused.Code == invalidText && strings.Contains(refused.Message, leftOut):
			return false, errLeftOut
		}
	}
	return stored, err
}

// onConn runs do on a connection of the pool. It rolls back a transaction left open.
func (s *Storage) onConn(ctx context.Context, do func(conn *pgx.Conn) error) error {
	done, err := s.store.TakeWriter(ctx)
	if err != nil {
		return err
	}
	defer done()
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	err = conn.Raw(func(driver any) error {
		std, ok := driver.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("cims: want connections of pgx's stdlib, got %T", driver)
		}
		c := std.Conn()
		err := do(c)
		if c.PgConn().TxStatus() != 'I' && !c.IsClosed() {
			_, undo := c.Exec(context.WithoutCancel(ctx), "ROLLBACK")
			err = errors.Join(err, undo)
		}
		return err
	})
	return errors.Join(err, conn.Close())
}

const beginning = "BEGIN ISOLATION LEVEL READ COMMITTED"

// users is the table of users, or the view over the host's table.
const users = `"user"`

// lockAndRead begins a transaction, takes the locks on the leads' statuses and then the
// rotation's, and reads the state.
func lockAndRead(ctx context.Context, conn *pgx.Conn, leads []*cims.Lead) (sqlstore.State, error) {
	var state sqlstore.State
	statuses := make([]string, len(leads))
	for i, lead := range leads {
		statuses[i] = lead.Customer.StatusName
	}
	batch := &pgx.Batch{}
	batch.Queue(beginning)
	batch.Queue("SELECT FROM customer_status WHERE name = ANY($1) ORDER BY id FOR KEY SHARE", statuses)
	batch.Queue(sqlstore.Lock)
	batch.Queue(sqlstore.Version).QueryRow(func(row pgx.Row) error { return sqlstore.NeedsCounter(row.Scan(&state.Version)) })
	batch.Queue(sqlstore.MembersDigest(users)).QueryRow(func(row pgx.Row) error { return row.Scan(&state.Digest) })
	batch.Queue(sqlstore.ReadRotation(users)).Query(func(rows pgx.Rows) error {
		var err error
		state.Rotation, err = sqlstore.ScanRotation(rows)
		return err
	})
	return state, conn.SendBatch(ctx, batch).Close()
}

// errLeftOut is returned instead of storing only some of the leads.
var errLeftOut = errors.New("cims: a trigger or rule of the host's table drops inserted rows")

const (
	invalidText = "22P02"
	leftOut     = "leads were stored"
)

// allStored makes the guarded statement fail if fewer rows than leads were stored. It casts
// a text that is not a number, and the error repeats that text.
const allStored = ` UNION ALL SELECT CAST(stored.n || ' of ' || input.n || ' ` + leftOut + `' AS BIGINT), NULL, NULL
		FROM (SELECT count(*) AS n FROM stored) AS stored, (SELECT count(*) AS n FROM input) AS input, holds WHERE stored.n < input.n`

// tryIntake stores the leads if the rotation is still in the state before, and reports
// whether it was. It commits the open transaction of conn; without one, the statement is a
// transaction itself. The statement takes the rotation's lock by increasing the version.
// Any other holder of the lock has increased the version too.
func (s *Storage) tryIntake(
	ctx context.Context, conn *pgx.Conn, statement string, before sqlstore.State, after cims.Rotation, leads []*cims.Lead,
) (bool, error) {
	alone := conn.PgConn().TxStatus() == 'I'
	batch := &pgx.Batch{}
	if alone && !s.readCommitted {
		batch.Queue(beginning)
	}
	stored := 0
	arguments := append(leadArguments(leads), guardArguments(before, after, leads)...)
	batch.Queue(statement, arguments...).Query(func(rows pgx.Rows) error {
		var err error
		stored, err = scanIDs(rows, leads)
		return err
	})
	committed := false
	if !alone || !s.readCommitted {
		batch.Queue("COMMIT").Exec(func(tag pgconn.CommandTag) error {
			committed = tag.String() == "COMMIT"
			return nil
		})
	}
	// A server that shuts down may report that right after it has committed.
	if err := conn.SendBatch(ctx, batch).Close(); err != nil && !committed {
		server, answered := errors.AsType[*pgconn.PgError](err)
		refused := answered && server.SeverityUnlocalized == "ERROR" // FATAL and PANIC end the session, and a pooler reports them only afterwards
		if !refused && !pgconn.SafeToRetry(err) {
			// The commit had been sent too.
			return false, &cims.Error{Kind: cims.ErrOutcomeUnknown, Err: err}
		}
		return false, err
	}
	if stored == len(leads) {
		s.rotation.Advance(before, after)
	}
	return stored == len(leads), nil
}

// leadArguments returns the arguments $1 to $10, the leads.
func leadArguments(leads []*cims.Lead) []any {
	n := len(leads)
	names, phones, platforms := make([]string, n), make([]string, n), make([]string, n)
	usernames, notes, statuses := make([]string, n), make([]string, n), make([]string, n)
	managers, by, waiting, times := make([]*int64, n), make([]*int64, n), make([]bool, n), make([]time.Time, n)
	for i, lead := range leads {
		c := &lead.Customer
		names[i], phones[i], platforms[i] = c.FullName, string(c.PhoneNumber), string(c.Platform)
		usernames[i], notes[i], statuses[i] = string(c.Username), string(c.Notes), c.StatusName
		by[i], waiting[i], times[i] = lead.By, lead.Waiting, c.CreatedAt
		if c.SalesManager != nil {
			managers[i] = &c.SalesManager.ID
		}
	}
	return []any{names, phones, platforms, usernames, notes, statuses, managers, by, waiting, times}
}

// guardArguments returns the arguments $11 to $16, the rotation.
func guardArguments(before sqlstore.State, after cims.Rotation, leads []*cims.Lead) []any {
	gained := sqlstore.Gains(before.Rotation, after, leads)
	ids := slices.Sorted(maps.Keys(gained))
	counts := make([]int64, len(ids))
	for i, id := range ids {
		counts[i] = gained[id]
	}
	return []any{before.Version, before.Digest, after.Turn, sqlstore.FormatLedger(after.Members), ids, counts}
}

// guard locks the statuses, and then takes the rotation's lock if all of them are active and
// the state is still the one of the decision. The CTE holds has a row then.
var guard = `, statuses AS (
		SELECT name FROM customer_status WHERE name IN (SELECT status_name FROM input) AND is_active ORDER BY id FOR KEY SHARE
	), holds AS (
		UPDATE sales_manager_counter SET version = version + 1, turn = $13, ledger = $14
		WHERE ` + sqlstore.TheCounter + ` AND version = $11 AND (` + sqlstore.MembersDigest(users) + `) = $12
		AND (SELECT count(*) FROM statuses) = (SELECT count(DISTINCT status_name) FROM input)
		RETURNING 1
	), members AS (
		INSERT INTO sales_manager_rotation AS r (sales_manager_id, assigned_leads_count)
		SELECT m.id, m.leads FROM unnest($15::bigint[], $16::bigint[]) AS m (id, leads), holds
		ON CONFLICT (sales_manager_id) DO UPDATE SET assigned_leads_count = r.assigned_leads_count + excluded.assigned_leads_count
	)`

// intakeStatement returns the statement that stores new leads with their histories and
// assignments. It is one data-modifying CTE, made for the columns of the host's tables. Ids
// are assigned in the order of the leads. A guarded statement stores nothing if guard has no
// row.
func intakeStatement(ctx context.Context, host sqlstore.Hosts, guarded bool) (string, error) {
	customer, err := host(ctx, "customer")
	if err != nil {
		return "", err
	}
	assignment, err := host(ctx, "sales_manager_assignment")
	if err != nil {
		return "", err
	}
	columns := []string{"full_name", "phone_number", "platform", "username", "notes", "status_name", "created_at", "updated_at", "cims_version"}
	values := []string{"i.full_name"}
	for _, column := range []string{"phone_number", "platform", "username", "notes"} {
		if customer.Columns[column].NotNull {
			values = append(values, "i."+column)
		} else {
			values = append(values, "NULLIF(i."+column+", '')")
		}
	}
	values = append(values, "i.status_name", at(customer, "created_at"), at(customer, "updated_at"), "1")
	for _, column := range slices.Sorted(maps.Keys(customer.Fill)) {
		columns = append(columns, pgx.Identifier{column}.Sanitize())
		values = append(values, customer.Fill[column])
	}
	condition, holds, all := "", "", ""
	if guarded {
		condition, holds, all = guard, ", holds", allStored
	}
	return `WITH input AS (
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::boolean[], $10::timestamptz[])
			WITH ORDINALITY AS i (full_name, phone_number, platform, username, notes, status_name, manager_id, by_id, waiting, at, place)
	)` + condition + `, stored AS (
		INSERT INTO customer (` + strings.Join(columns, ", ") + `) SELECT ` + strings.Join(values, ", ") + ` FROM input AS i` + holds + ` ORDER BY i.place RETURNING id
	), lead AS (
		SELECT n.id, i.* FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM stored) AS n JOIN input AS i USING (place)
	), history AS (
		INSERT INTO customer_status_history (customer_id, to_status, cause, changed_by, owner_id, changed_at)
		SELECT id, status_name, '` + string(cims.CauseCreated) + `', by_id, manager_id, at FROM lead
	), unassigned AS (
		INSERT INTO cims_unassigned (customer_id, customer_created_at, waiting) SELECT id, at, waiting FROM lead WHERE manager_id IS NULL
	), assignment AS (
		INSERT INTO sales_manager_assignment (customer_id, sales_manager_id, assigned_at, is_active, customer_created_at, cims_version)
		SELECT id, manager_id, ` + at(assignment, "assigned_at") + `, TRUE, at, 1 FROM lead WHERE manager_id IS NOT NULL ORDER BY place
		RETURNING id, customer_id
	) SELECT id, assignment_id FROM (
		SELECT lead.id, assignment.id AS assignment_id, lead.place FROM lead LEFT JOIN assignment ON assignment.customer_id = lead.id` + all + `
	) AS answer ORDER BY place`, nil
}

// guardedStatement returns the statement of Intake, which it makes once.
func (s *Storage) guardedStatement(ctx context.Context) (string, error) {
	if statement := s.statement.Load(); statement != nil {
		return *statement, nil
	}
	statement, err := intakeStatement(ctx, s.store.Host, true)
	if err == nil {
		s.statement.Store(&statement)
	}
	return statement, err
}

// scanIDs reads the ids of the stored leads and returns their number.
func scanIDs(rows sqlstore.Rows, leads []*cims.Lead) (stored int, err error) {
	for ; rows.Next() && stored < len(leads); stored++ {
		var assignment *int64
		if err := rows.Scan(&leads[stored].Customer.ID, &assignment); err != nil {
			return stored, err
		}
		if assignment != nil {
			sqlstore.SetFirst(leads[stored], *assignment)
		}
	}
	return stored, rows.Err()
}

// intake implements sqlstore.Dialect.Intake. It runs the statement without the guard, inside
// a transaction.
func intake(ctx context.Context, conn sqlstore.Conn, host sqlstore.Hosts, leads []*cims.Lead) (err error) {
	statement, err := intakeStatement(ctx, host, false)
	if err != nil {
		return err
	}
	rows, err := beneath(conn).Query(ctx, statement, leadArguments(leads)...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	stored, err := scanIDs(rows, leads)
	if err == nil && stored < len(leads) {
		err = errLeftOut
	}
	return errors.Join(err, rows.Err())
}

// at returns the time of the intake as SQL for a column of the host's table. A column
// without time zone holds UTC.
func at(host sqlstore.Host, column string) string {
	if strings.HasSuffix(host.Columns[column].Type, "without time zone") {
		return "at AT TIME ZONE 'UTC'"
	}
	return "at"
}

// simple sends bun's statements by the simple protocol. Their arguments are part of their
// text, so that each text is new and preparing it would gain nothing.
type simple struct{ conn }

type conn interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func (s simple) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return s.conn.QueryContext(ctx, query, append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...)
}

func (s simple) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return s.conn.QueryRowContext(ctx, query, append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...)
}

func (s simple) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return s.conn.ExecContext(ctx, query, append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...)
}

// prepared implements sqlstore.Dialect.Prepared. It uses the default mode of the
// connections. By default, pgx prepares a statement once on each connection.
func prepared(ctx context.Context, on sqlstore.Conn, query string, args []any) (sqlstore.ResultSet, error) {
	var numbered strings.Builder
	for n := 1; ; n++ {
		before, after, more := strings.Cut(query, "?")
		numbered.WriteString(before)
		if !more {
			break
		}
		numbered.WriteString("$" + strconv.Itoa(n))
		query = after
	}
	return beneath(on).Query(ctx, numbered.String(), args...)
}

// beneath implements sqlstore.Dialect.TakesArguments.
func beneath(on sqlstore.Conn) sqlstore.Conn {
	switch c := on.(type) {
	case joined:
		c.mode = nil
		return c
	case sqlstore.SQL:
		switch s := c.IConn.(type) {
		case simple:
			return sqlstore.SQL{IConn: s.conn}
		case transaction:
			return sqlstore.SQL{IConn: s.conn}
		}
	}
	return on
}
