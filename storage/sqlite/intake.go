package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/internal/hosttables"
	"github.com/cimskit/cims/storage/internal/sqlstore"
	"github.com/cimskit/cims/storage/sqlite/internal/move"
)

var _ cims.Intaker = (*Storage)(nil)

// statements are the statements of Intake. They are prepared once, since parsing them takes
// as long as running them.
type statements struct {
	mu    sync.Mutex
	ready bool

	leads           leadStatements
	state, members  *sql.Stmt
	member, counter *sql.Stmt
}

// leadStatements are the statements that store one new lead.
type leadStatements struct {
	customer, assignment, history, waiting       *sql.Stmt
	phoneNull, platformNull, userNull, notesNull bool
}

// preparer is a connection or a pool.
type preparer interface {
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// toPrepare is the text of a statement and the variable for the prepared one.
type toPrepare struct {
	stmt  **sql.Stmt
	query string
}

func prepareAll(ctx context.Context, on preparer, all ...toPrepare) (err error) {
	for _, p := range all {
		if *p.stmt, err = on.PrepareContext(ctx, p.query); err != nil { //nolint:sqlclosecheck // by whoever asked for it
			return err
		}
	}
	return nil
}

// prepareLeads prepares the statements for the columns of the host's table.
func (h host) prepareLeads(ctx context.Context, on preparer, host sqlstore.Hosts) (in leadStatements, err error) {
	customer, err := host(ctx, "customer")
	if err != nil {
		return in, err
	}
	columns := []string{"full_name", "phone_number", "platform", "username", "notes", "status_name", "created_at", "updated_at", move.NameColumn, "cims_version"}
	values := []string{"?1", "?2", "?3", "?4", "?5", "?6", "?7", "?7", "?8", "1"}
	for _, column := range slices.Sorted(maps.Keys(customer.Fill)) {
		columns = append(columns, column)
		values = append(values, customer.Fill[column])
	}
	for i, column := range columns {
		columns[i] = hosttables.Quote(h.Theirs("customer", column))
	}
	in.phoneNull, in.platformNull = !customer.Columns["phone_number"].NotNull, !customer.Columns["platform"].NotNull
	in.userNull, in.notesNull = !customer.Columns["username"].NotNull, !customer.Columns["notes"].NotNull
	return in, prepareAll(
		ctx, on,
		toPrepare{&in.customer, "INSERT INTO " + h.Relation("customer") + " (" + strings.Join(columns, ", ") + ") VALUES (" + strings.Join(values, ", ") + ")"},
		toPrepare{&in.assignment, `INSERT INTO sales_manager_assignment (customer_id, sales_manager_id, assigned_at, is_active, customer_created_at, cims_version)
			VALUES (?1, ?2, ?3, TRUE, ?3, 1)`},
		toPrepare{&in.history, `INSERT INTO customer_status_history (customer_id, to_status, cause, changed_by, owner_id, changed_at)
			VALUES (?1, ?2, '` + string(cims.CauseCreated) + `', ?3, ?4, ?5)`},
		toPrepare{&in.waiting, "INSERT INTO cims_unassigned (customer_id, customer_created_at, waiting) VALUES (?1, ?2, ?3)"},
	)
}

// within returns the statements for use inside a transaction, which closes them.
func (in leadStatements) within(ctx context.Context, tx *sql.Tx) leadStatements {
	in.customer, in.assignment = tx.StmtContext(ctx, in.customer), tx.StmtContext(ctx, in.assignment)
	in.history, in.waiting = tx.StmtContext(ctx, in.history), tx.StmtContext(ctx, in.waiting)
	return in
}

func (in leadStatements) close() error {
	return closeAll(&in.customer, &in.assignment, &in.history, &in.waiting)
}

func closeAll(stmts ...**sql.Stmt) error {
	var errs []error
	for _, stmt := range stmts {
		if *stmt != nil {
			errs = append(errs, (*stmt).Close())
			*stmt = nil
		}
	}
	return errors.Join(errs...)
}

// intake implements sqlstore.Dialect.Intake.
func (h host) intake(ctx context.Context, conn sqlstore.Conn, host sqlstore.Hosts, leads []*cims.Lead) (err error) {
	on, ok := conn.(sqlstore.SQL).IConn.(preparer)
	if !ok {
		return fmt.Errorf("cims: want a connection that prepares statements, got %T", conn)
	}
	in, err := h.prepareLeads(ctx, on, host)
	defer func() { err = errors.Join(err, in.close()) }()
	if err != nil {
		return err
	}
	// With a context that can end, the driver starts a goroutine for each statement.
	for _, lead := range leads {
		if err := in.insert(context.WithoutCancel(ctx), lead); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Intake implements cims.Intaker on the one writing connection of the file. On a host's
// connections it returns false, which leaves the work to Update: their transactions may not
// begin with the write lock.
func (s *Storage) Intake(ctx context.Context, leads []*cims.Lead, decide func(cims.Rotation) cims.Rotation) (stored bool, err error) {
	if s.write == nil {
		return false, nil
	}
	if err := s.prepare(ctx); err != nil {
		return false, s.store.Explain(err)
	}
	err = s.store.Retry(ctx, func() error {
		var err error
		stored, err = s.tryIntake(ctx, leads, decide)
		return err
	})
	return stored, err
}

// prepare prepares the statements of Intake once.
func (s *Storage) prepare(ctx context.Context) (err error) {
	in, users := &s.intake, s.host.From("user")
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ready {
		return nil
	}
	defer func() {
		if in.ready = err == nil; !in.ready { // for example before Migrate
			err = errors.Join(err, in.leads.close(), closeAll(&in.state, &in.members, &in.member, &in.counter))
		}
	}()
	if in.leads, err = s.host.prepareLeads(ctx, s.write, s.store.Host); err != nil {
		return err
	}
	return prepareAll(
		ctx, s.write,
		toPrepare{&in.state, `SELECT version, (` + sqlstore.MembersDigest(users) + `),
			NOT EXISTS (SELECT 1 FROM json_each(?) WHERE value NOT IN (SELECT name FROM customer_status WHERE is_active))
			FROM sales_manager_counter WHERE ` + sqlstore.TheCounter},
		toPrepare{&in.members, sqlstore.ReadRotation(users)},
		toPrepare{&in.member, `INSERT INTO sales_manager_rotation (sales_manager_id, assigned_leads_count) VALUES (?1, ?2)
			ON CONFLICT (sales_manager_id) DO UPDATE SET assigned_leads_count = assigned_leads_count + excluded.assigned_leads_count`},
		toPrepare{&in.counter, "UPDATE sales_manager_counter SET version = version + 1, turn = ?1, ledger = ?2 WHERE " + sqlstore.TheCounter},
	)
}

// preparedTx is a transaction on a connection that runs prepared statements.
type preparedTx struct {
	*sql.Tx
	conn *sql.Conn
}

// beginPrepared waits for the one writing connection of the file until ctx ends. The
// transaction itself is short and ignores the end of ctx. With a context that can end, the
// driver would start a goroutine for each statement.
func beginPrepared(ctx context.Context, db *sql.DB) (preparedTx, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return preparedTx{}, err
	}
	tx, err := conn.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return preparedTx{}, errors.Join(err, transaction{conn}.Rollback())
	}
	return preparedTx{tx, conn}, nil
}

func (t preparedTx) Commit(context.Context) error {
	if err := t.Tx.Commit(); err != nil {
		return errors.Join(err, transaction{t.conn}.Rollback()) // SQLite may still be in the transaction
	}
	return t.conn.Close()
}

func (t preparedTx) Rollback() error {
	return errors.Join(t.Tx.Rollback(), transaction{t.conn}.Rollback())
}

func (s *Storage) tryIntake(ctx context.Context, leads []*cims.Lead, decide func(cims.Rotation) cims.Rotation) (stored bool, err error) {
	done, err := s.store.TakeWriter(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	tx, err := beginPrepared(ctx, s.write)
	if err != nil {
		return false, err
	}
	ended := false
	defer func() {
		if !ended {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	ctx = context.WithoutCancel(ctx)
	before, active, err := s.readState(ctx, tx.Tx, leads)
	if err != nil || !active {
		return false, err
	}
	after := decide(before.Rotation)
	in := s.intake.leads.within(ctx, tx.Tx)
	for _, lead := range leads {
		if err := in.insert(ctx, lead); err != nil {
			return false, err
		}
	}
	for id, n := range sqlstore.Gains(before.Rotation, after, leads) {
		if _, err := exec(ctx, tx.Tx, s.intake.member, id, n); err != nil {
			return false, err
		}
	}
	if _, err := exec(ctx, tx.Tx, s.intake.counter, after.Turn, sqlstore.FormatLedger(after.Members)); err != nil {
		return false, err
	}
	ended = true
	if err := s.store.Commit(ctx, tx); err != nil {
		return false, err
	}
	s.rotation.Advance(before, after)
	return true, nil
}

// readState returns the state of the rotation and reports whether the leads' statuses are
// active. It reads the rotation only if the cached one is not current.
func (s *Storage) readState(ctx context.Context, tx *sql.Tx, leads []*cims.Lead) (state sqlstore.State, active bool, err error) {
	statuses := make([]string, 0, 1)
	for _, lead := range leads {
		if !slices.Contains(statuses, lead.Customer.StatusName) {
			statuses = append(statuses, lead.Customer.StatusName)
		}
	}
	list, err := json.Marshal(statuses)
	if err != nil {
		return state, false, err
	}
	if err := queryRow(ctx, tx, s.intake.state, string(list)).Scan(&state.Version, &state.Digest, &active); err != nil || !active {
		return state, false, sqlstore.NeedsCounter(err)
	}
	if known, ok := s.rotation.Get(); ok && known.Version == state.Version && known.Digest == state.Digest {
		return known, true, nil
	}
	rows, err := tx.StmtContext(ctx, s.intake.members).QueryContext(ctx) //nolint:sqlclosecheck // closed with tx
	if err != nil {
		return state, false, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	state.Rotation, err = sqlstore.ScanRotation(rows)
	return state, true, errors.Join(err, rows.Err())
}

// exec and queryRow run a statement in a transaction. The transaction closes it at its end.
func exec(ctx context.Context, tx *sql.Tx, stmt *sql.Stmt, args ...any) (sql.Result, error) {
	return tx.StmtContext(ctx, stmt).ExecContext(ctx, args...) //nolint:sqlclosecheck // closed with tx
}

func queryRow(ctx context.Context, tx *sql.Tx, stmt *sql.Stmt, args ...any) *sql.Row {
	return tx.StmtContext(ctx, stmt).QueryRowContext(ctx, args...) //nolint:sqlclosecheck // closed with tx
}

// insert stores a lead with its history and its assignment or its place in the backlog.
func (in *leadStatements) insert(ctx context.Context, lead *cims.Lead) error {
	c := &lead.Customer
	at := c.CreatedAt.Format(move.TimeFormat)
	result, err := in.customer.ExecContext(ctx, c.FullName, textOrNull(string(c.PhoneNumber), in.phoneNull), textOrNull(string(c.Platform), in.platformNull),
		textOrNull(string(c.Username), in.userNull), textOrNull(string(c.Notes), in.notesNull), c.StatusName, at, strings.ToLower(c.FullName))
	if err != nil {
		return err
	}
	if c.ID, err = result.LastInsertId(); err != nil {
		return err
	}
	var owner any
	if c.SalesManager == nil {
		_, err = in.waiting.ExecContext(ctx, c.ID, at, lead.Waiting)
	} else {
		owner = c.SalesManager.ID
		if result, err = in.assignment.ExecContext(ctx, c.ID, owner, at); err == nil {
			var id int64
			id, err = result.LastInsertId()
			sqlstore.SetFirst(lead, id)
		}
	}
	if err != nil {
		return err
	}
	var by any
	if lead.By != nil {
		by = *lead.By
	}
	_, err = in.history.ExecContext(ctx, c.ID, c.StatusName, by, owner, at)
	return err
}

func textOrNull(text string, nullable bool) any {
	if text == "" && nullable {
		return nil
	}
	return text
}
