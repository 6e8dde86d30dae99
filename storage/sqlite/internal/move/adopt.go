package move

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"
	bunschema "github.com/uptrace/bun/schema"
	"modernc.org/sqlite"

	"github.com/cimskit/cims/storage/internal/hosttables"
	"github.com/cimskit/cims/storage/migration"
)

// NameColumn is the column of a customer's name in lower case.
const NameColumn = "search_name"

// hostable is a table that may be the host's: customer or "user".
type hostable struct {
	name       string
	nameColumn string // the column with the name of a status or role
	entries    string // the table of statuses or roles
	newName    string // SQL for the new value of nameColumn
	fillRows   []string

	needs    []string   // columns that a host's table must have besides id
	times    []string   // columns that hold times
	adds     []addition // columns to add if the host's table lacks them
	reserved string     // a column that a host's table must not have

	names  hosttables.Names
	schema schema
}

// sql replaces placeholders in a statement by the host's names. {t} stands for the table,
// {t.id} for its column id, and {t.entry} for its nameColumn.
func (t *hostable) sql(statement string) string {
	return t.names.SQL(strings.NewReplacer("{t}", "{"+t.name+"}", "{t.entry}", "{"+t.name+"."+t.nameColumn+"}", "{t.", "{"+t.name+".").Replace(statement))
}

func (t *hostable) table() string { return t.names.Table(t.name) }

func (t *hostable) column(name string) string { return t.names.Column(t.name, name) }

func (t *hostable) shown(column ...string) string { return t.names.Shown(t.name, column...) }

// find returns a column by its name in cims, or nil.
func (t *hostable) find(columns []shapeColumn, name string) *shapeColumn {
	return find(columns, t.column(name))
}

// addition is a column to add.
type addition struct{ name, kind, then string }

var (
	users = hostable{
		name: "user", nameColumn: "role_name", entries: "user_role", newName: "cims_name({t.entry})",
		needs: []string{"email"},
		adds: []addition{
			{"name", "VARCHAR(255)", " NOT NULL DEFAULT ''"},
			{"surname", "VARCHAR(255)", " NOT NULL DEFAULT ''"},
			{"role_name", "VARCHAR(100)", ""},
			{"is_active", "BOOLEAN", " NOT NULL DEFAULT TRUE"},
		},
		fillRows: []string{
			`UPDATE {t} SET {t.entry} = cims_name({t.entry}) WHERE {t.id} > ?1 AND {t.id} <= ?2 AND cims_name({t.entry}) IS NOT {t.entry} COLLATE BINARY`,
		},
	}
	customers = hostable{
		name: "customer", nameColumn: "status_name", entries: "customer_status", newName: statusName,
		needs: []string{"full_name", "created_at"}, times: []string{"created_at", "updated_at"},
		adds: []addition{
			{"phone_number", "VARCHAR(50)", ""},
			{"platform", "VARCHAR(255)", ""},
			{"username", "VARCHAR(255)", ""},
			{"notes", "TEXT", ""},
			{"status_name", "VARCHAR(100)", " NOT NULL DEFAULT 'contacted'"},
			{"updated_at", "TIMESTAMP", ""},
			{NameColumn, "TEXT", ""},
			{"cims_version", "INTEGER", " NOT NULL DEFAULT 0"},
		},
		reserved: NameColumn,
		// The history comes first: see the trigger cims_status_changed.
		fillRows: []string{
			`INSERT INTO customer_status_history (customer_id, to_status, cause, owner_id, changed_at)
				SELECT c.{t.id}, ` + statusName + `, 'migrated', a.sales_manager_id, ?3
				FROM {t} AS c LEFT JOIN sales_manager_assignment AS a ON a.customer_id = c.{t.id} AND a.is_active
				WHERE c.{t.id} > ?1 AND c.{t.id} <= ?2 AND NOT EXISTS (SELECT 1 FROM customer_status_history AS h WHERE h.customer_id = c.{t.id})`,
			`UPDATE {t} SET {t.entry} = ` + statusName + `, search_name = cims_lower(COALESCE({t.full_name}, ''))
				WHERE {t.id} > ?1 AND {t.id} <= ?2`,
			`INSERT INTO cims_unassigned (customer_id, customer_created_at, waiting)
				SELECT c.{t.id}, c.{t.created_at}, FALSE FROM {t} AS c WHERE c.{t.id} > ?1 AND c.{t.id} <= ?2
				AND NOT EXISTS (SELECT 1 FROM sales_manager_assignment AS a WHERE a.customer_id = c.{t.id} AND a.is_active)
				ON CONFLICT (customer_id) DO NOTHING`,
		},
	}
)

const statusName = "COALESCE(cims_name({customer.status_name}), 'contacted')"

const maxName = 100

func init() {
	sqlite.MustRegisterDeterministicScalarFunction("cims_name", 1, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		return normalName(args[0]), nil
	})
}

// normalName returns the stored form of a name, or nil for an empty one. It is the SQL
// function cims_name. Only queries may use it: an index or trigger with it would lock other
// programs out of the file.
func normalName(name any) any {
	var text string
	switch name := name.(type) {
	case nil:
		return nil
	case []byte:
		text = string(name)
	default:
		text = fmt.Sprint(name)
	}
	text = strings.ReplaceAll(strings.ToLower(strings.TrimSpace(text)), " ", "_")
	if runes := []rune(text); len(runes) > maxName {
		text = string(runes[:maxName])
	}
	if text == "" {
		return nil
	}
	return text
}

// shapeColumn is a column of a host's table, as PRAGMA table_xinfo describes it.
type shapeColumn struct {
	name, kind string
	notNull    bool
	filled     bool // has a default
	hidden     bool // generated, and can't be written
}

// shape returns the columns of the table. There are none if the table doesn't exist.
func (t *hostable) shape(ctx context.Context, conn bun.IConn) ([]shapeColumn, error) {
	var all []shapeColumn
	err := each(ctx, conn, func(rows *sql.Rows) error {
		var c shapeColumn
		err := rows.Scan(&c.name, &c.kind, &c.notNull, &c.filled, &c.hidden)
		all = append(all, c)
		return err
	}, `SELECT name, upper(type), "notnull", dflt_value IS NOT NULL OR pk > 0, hidden > 0 FROM pragma_table_xinfo(?)`, t.table())
	return all, err
}

func find(columns []shapeColumn, name string) *shapeColumn {
	if i := slices.IndexFunc(columns, func(c shapeColumn) bool { return strings.EqualFold(c.name, name) }); i >= 0 {
		return &columns[i]
	}
	return nil
}

// adopt creates the table. If the host has it, adopt adds the missing columns and records
// the existing ones.
func (t *hostable) adopt(ctx context.Context, conn bun.IConn) error {
	columns, err := t.shape(ctx, conn)
	if err != nil {
		return err
	}
	if len(columns) == 0 {
		return create(ctx, conn, t.schema.objects(t.name, t.names))
	}
	original := []string{}
	for _, c := range columns {
		if !c.hidden {
			original = append(original, c.name)
		}
	}
	list, err := json.Marshal(original)
	if err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, "INSERT INTO cims_adopted (table_name, relation, names, columns) VALUES (?, ?, ?, ?)",
		t.name, t.table(), t.names.ColumnsJSON(t.name), string(list)); err != nil {
		return err
	}
	strict, err := value[bool](ctx, conn, "SELECT strict FROM pragma_table_list WHERE schema = 'main' AND name = ? COLLATE NOCASE", t.table())
	if err != nil {
		return err
	}
	for _, a := range t.adds {
		if t.find(columns, a.name) != nil {
			continue
		}
		kind := a.kind
		switch {
		case !strict:
		case kind == "BOOLEAN":
			kind = "INTEGER"
		default:
			kind = "TEXT"
		}
		if _, err := conn.ExecContext(ctx, t.sql("ALTER TABLE {t} ADD COLUMN ")+a.name+" "+kind+a.then); err != nil {
			return fmt.Errorf("table %q: column %q: %w", t.table(), a.name, err)
		}
		if _, err := conn.ExecContext(ctx, "INSERT INTO cims_added_column (table_name, column_name) VALUES (?, ?)", t.name, a.name); err != nil {
			return err
		}
	}
	return nil
}

// adopted returns the original columns of the host's table, or nil if cims created it.
func (t *hostable) adopted(ctx context.Context, conn bun.IConn) ([]string, error) {
	found, err := values[string](ctx, conn, "SELECT columns FROM cims_adopted WHERE table_name = ?", t.name)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	var columns []string
	err = json.Unmarshal([]byte(found[0]), &columns)
	return columns, err
}

// obstacles returns the reasons why the host's tables can't be used.
func (h *Host) obstacles(ctx context.Context, conn bun.IConn) ([]migration.Finding, error) {
	var all []migration.Finding
	for _, o := range slices.Concat(h.objects("names"), h.objects("tables")) {
		there, err := exists(ctx, conn, o.kind, o.name)
		if err != nil {
			return nil, err
		}
		if there {
			all = append(all, migration.Finding{Where: o.name, Found: "this " + o.kind + " exists and doesn't belong to cims", Does: refuses + "rename it"})
		}
	}
	for _, t := range h.tables() {
		found, err := t.obstacles(ctx, conn)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

const refuses = "Migrate refuses: "

func (t *hostable) obstacles(ctx context.Context, conn bun.IConn) ([]migration.Finding, error) {
	columns, err := t.shape(ctx, conn)
	if err != nil {
		return nil, err
	}
	var found []migration.Finding
	add := func(column string, rows int64, what, advice string) {
		where := t.shown()
		if column != "" {
			where += "." + column
		}
		found = append(found, migration.Finding{Where: where, Found: what, Rows: rows, Does: refuses + advice})
	}
	named, other := t.names[t.name]
	if len(columns) == 0 {
		if other {
			add("", 0, "there is no such table", "name the one that is there")
		}
		return found, nil
	}

	ordinary, err := value[bool](ctx, conn, "SELECT type = 'table' FROM pragma_table_list WHERE schema = 'main' AND name = ? COLLATE NOCASE", t.table())
	if err != nil {
		return nil, err
	}
	if !ordinary {
		add("", 0, "it is a view or a virtual table", "it must be an ordinary one")
		return found, nil
	}
	// An id that isn't the rowid has a separate index.
	id, err := value[bool](ctx, conn, `SELECT COALESCE((SELECT group_concat(name) FROM pragma_table_info(?1) WHERE pk > 0), '') = ?2
		AND NOT EXISTS (SELECT 1 FROM pragma_index_list(?1) WHERE origin = 'pk')`, t.table(), t.column("id"))
	if err != nil {
		return nil, err
	}
	if !id {
		add(t.column("id"), 0, "it is not INTEGER PRIMARY KEY", "ids must be SQLite's own row numbers")
		return found, nil
	}
	names := append(slices.Clone(t.needs), "id")
	for _, a := range t.adds {
		names = append(names, a.name)
	}
	for _, name := range names {
		theirs := t.column(name)
		_, listed := named.Columns[name]
		switch c := find(columns, theirs); {
		case c == nil && listed:
			add(theirs, 0, "there is no such column, which is to be its "+name, "name the one that is there")
		case c == nil && slices.Contains(t.needs, name):
			add(name, 0, "there is no such column", "add it and fill it")
		case c == nil:
		case c.name != theirs:
			add(c.name, 0, "the column's name is written like this", "rename it to "+theirs)
		case c.hidden:
			add(theirs, 0, "the column is generated", "it must be one that can be written")
		case name == t.reserved:
			add(name, 0, "the column is there, but not of cims", "rename it")
		case name == t.nameColumn && !slices.Contains([]string{"TEXT", "BLOB"}, affinity(c.kind)):
			add(theirs, 0, "the column is of type "+c.kind, "it must be TEXT: it holds names")
		case slices.Contains(t.times, name) && slices.Contains([]string{"INTEGER", "REAL"}, affinity(c.kind)):
			add(theirs, 0, "the column is of type "+c.kind, "it must be TIMESTAMP, DATETIME or TEXT: it holds times as text")
		case name == "is_active" && affinity(c.kind) != "INTEGER" && affinity(c.kind) != "NUMERIC":
			add(theirs, 0, "the column is of type "+c.kind, "it must be BOOLEAN or INTEGER")
		}
	}
	for _, c := range columns {
		if !c.notNull || c.filled || c.hidden || slices.Contains(hosttables.NameableColumns(t.name), t.names.Ours(t.name, c.name)) {
			continue
		}
		if _, err := hosttables.DefaultFor(hosttables.Column{Name: c.name, Type: strings.ToLower(c.kind)}); err != nil {
			add(c.name, 0, "the column is NOT NULL without a default, and there is no harmless value of type "+c.kind, "give it a default")
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	if err := t.oddRows(ctx, conn, columns, add); err != nil {
		return nil, err
	}
	return found, nil
}

// oddRows finds unusable rows in usable columns.
func (t *hostable) oddRows(ctx context.Context, conn bun.IConn, columns []shapeColumn, add func(column string, rows int64, what, advice string)) error {
	count := func(column, condition, what, advice string) error {
		if t.find(columns, column) == nil {
			return nil
		}
		n, err := value[int64](ctx, conn, t.sql("SELECT count(*) FROM {t} WHERE "+condition))
		if err == nil && n > 0 {
			add(t.column(column), n, fmt.Sprintf("%d rows %s", n, what), advice)
		}
		return err
	}
	references, err := value[bool](ctx, conn, `SELECT EXISTS (SELECT 1 FROM pragma_foreign_key_list(?) WHERE "from" = ?)`, t.table(), t.column(t.nameColumn))
	if err != nil {
		return err
	}
	if references {
		add(t.column(t.nameColumn), 0, "the column references another table", "it must be free to hold the names of "+t.entries)
	}
	if c := t.find(columns, t.nameColumn); c != nil && c.notNull && t.newName != statusName {
		if err := count(t.nameColumn, t.newName+" IS NULL", "hold no name, and the column is NOT NULL", "give them one"); err != nil {
			return err
		}
	}
	if t.name == "customer" {
		for _, column := range t.times {
			if err := t.oddTimes(ctx, conn, columns, column, add); err != nil {
				return err
			}
		}
		return nil
	}
	if err := count("is_active", "{t.is_active} NOT IN (0, 1)", "hold neither 0 nor 1 nor NULL", "make it one of these"); err != nil {
		return err
	}
	return count("email", "{t.email} IN (SELECT {t.email} FROM {t} GROUP BY {t.email} HAVING count(*) > 1)",
		"have an email that another row has too", "it must be one user's")
}

// oddTimes finds unreadable times.
func (t *hostable) oddTimes(ctx context.Context, conn bun.IConn, columns []shapeColumn, column string, add func(column string, rows int64, what, advice string)) error {
	if t.find(columns, column) == nil {
		return nil
	}
	var missing, odd int64
	err := each(ctx, conn, func(rows *sql.Rows) error {
		var kind string
		var stored any
		if err := rows.Scan(&kind, &stored); err != nil {
			return err
		}
		switch {
		case kind == "null":
			missing++
		case kind != "text" || !isTime(stored):
			odd++
		}
		return nil
	}, t.sql("SELECT typeof({t."+column+"}), {t."+column+"} FROM {t}"))
	if missing > 0 && slices.Contains(t.needs, column) {
		add(t.column(column), missing, fmt.Sprintf("%d rows hold none", missing), "give them one")
	}
	if odd > 0 {
		add(t.column(column), odd, fmt.Sprintf("%d rows hold no time in text", odd), "write it as YYYY-MM-DD HH:MM:SS, in UTC")
	}
	return err
}

// isTime reports whether the storage can read the driver's value as a time.
func isTime(stored any) bool {
	var at time.Time
	return bunschema.Scanner(reflect.TypeFor[time.Time]())(reflect.ValueOf(&at).Elem(), stored) == nil
}

// affinity returns the affinity of a column of this type in SQLite:
// https://www.sqlite.org/datatype3.html#determination_of_column_affinity
func affinity(kind string) string {
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(kind, part) })
	}
	switch {
	case has("INT"):
		return "INTEGER"
	case has("CHAR", "CLOB", "TEXT"):
		return "TEXT"
	case kind == "" || has("BLOB"):
		return "BLOB"
	case has("REAL", "FLOA", "DOUB"): //nolint:misspell // as SQLite looks for it
		return "REAL"
	}
	return "NUMERIC"
}

// batchRows is the number of rows per transaction. It takes some tenths of a second.
const batchRows = 5_000

// fill processes the next batch of rows, and reports whether more are left.
func (t *hostable) fill(ctx context.Context, conn bun.IConn) (more bool, err error) {
	var after int64
	var last *int64
	if after, err = t.reached(ctx, conn); err != nil {
		return false, err
	}
	if last, err = value[*int64](ctx, conn, t.sql("SELECT max({t.id}) FROM (SELECT {t.id} FROM {t} WHERE {t.id} > ? ORDER BY {t.id} LIMIT ?)"), after, batchRows); err != nil || last == nil {
		return false, err
	}
	columns, err := t.adopted(ctx, conn)
	if err != nil {
		return false, err
	}
	if slices.Contains(columns, t.column(t.nameColumn)) {
		if _, err := conn.ExecContext(ctx, t.sql(`INSERT INTO cims_replaced_name (table_name, row_id, old_name, new_name)
			SELECT ?3, {t.id}, {t.entry}, `+t.newName+` FROM {t}
			WHERE {t.id} > ?1 AND {t.id} <= ?2 AND `+t.newName+` IS NOT {t.entry} COLLATE BINARY`), after, *last, t.name); err != nil {
			return false, err
		}
	}
	rows, digest, err := t.digest(ctx, conn, columns, after, *last)
	if err != nil {
		return false, err
	}
	if _, err := conn.ExecContext(ctx, "INSERT INTO cims_original (table_name, last_id, row_count, digest) VALUES (?, ?, ?, ?)", t.name, *last, rows, digest); err != nil {
		return false, err
	}
	return true, t.quietly(ctx, conn, func() error {
		at := now()
		for _, statement := range t.fillRows {
			if _, err := conn.ExecContext(ctx, t.sql(statement), after, *last, at); err != nil {
				return fmt.Errorf("table %q, rows %d to %d: %w", t.table(), after+1, *last, err)
			}
		}
		return nil
	})
}

// reached returns the id of the last processed row.
func (t *hostable) reached(ctx context.Context, conn bun.IConn) (int64, error) {
	return value[int64](ctx, conn, "SELECT COALESCE(max(last_id), ?) FROM cims_original WHERE table_name = ?", int64(math.MinInt64), t.name)
}

// report calls progress with the progress of fill. It counts the total once.
func (t *hostable) report(ctx context.Context, conn bun.IConn, step string, totals map[string]int64, progress func(migration.Progress)) (err error) {
	if _, counted := totals[t.name]; !counted {
		if totals[t.name], err = value[int64](ctx, conn, t.sql("SELECT count(*) FROM {t}")); err != nil {
			return err
		}
	}
	done, err := value[int64](ctx, conn, "SELECT COALESCE(sum(row_count), 0) FROM cims_original WHERE table_name = ?", t.name)
	if err == nil {
		progress(migration.Progress{Step: step, Done: done, Total: max(done, totals[t.name])})
	}
	return err
}

// digest returns a digest of the host's columns in a range of rows. It leaves out the names
// that cims rewrites.
func (t *hostable) digest(ctx context.Context, conn bun.IConn, columns []string, after, last int64) (rows int64, digest []byte, err error) {
	id := t.column("id")
	list := []string{hosttables.Quote(id)}
	for _, column := range columns {
		if column != t.column(t.nameColumn) && column != id {
			list = append(list, "+"+hosttables.Quote(column)) // the plus keeps the driver from parsing times
		}
	}
	hash, cells, to := sha256.New(), make([]any, len(list)), make([]any, len(list))
	for i := range cells {
		to[i] = &cells[i]
	}
	var line []byte
	err = each(ctx, conn, func(found *sql.Rows) error {
		rows++
		if err := found.Scan(to...); err != nil {
			return err
		}
		line = line[:0]
		for _, cell := range cells {
			line = appendCell(line, cell)
		}
		_, err := hash.Write(line)
		return err
	}, "SELECT "+strings.Join(list, ", ")+t.sql(" FROM {t} WHERE {t.id} > ? AND {t.id} <= ? ORDER BY {t.id}"), after, last)
	return rows, hash.Sum(nil), err
}

// appendCell appends the encoding of a value. Different values have different encodings.
func appendCell(line []byte, cell any) []byte {
	switch cell := cell.(type) {
	case int64:
		return binary.BigEndian.AppendUint64(append(line, 'i'), uint64(cell)) //nolint:gosec // the bits matter
	case float64:
		return binary.BigEndian.AppendUint64(append(line, 'f'), math.Float64bits(cell))
	case string:
		return append(binary.AppendUvarint(append(line, 't'), uint64(len(cell))), cell...)
	case []byte:
		return append(binary.AppendUvarint(append(line, 'b'), uint64(len(cell))), cell...)
	default:
		return append(line, 'n')
	}
}

// quietly changes a host's table without running the host's triggers. It drops them and
// creates them again in the same transaction.
func (t *hostable) quietly(ctx context.Context, conn bun.IConn, do func() error) error {
	theirs, err := t.hostTriggers(ctx, conn)
	if err != nil {
		return err
	}
	for _, trigger := range theirs {
		if _, err := conn.ExecContext(ctx, "DROP TRIGGER "+hosttables.Quote(trigger.name)); err != nil {
			return err
		}
	}
	return errors.Join(do(), create(ctx, conn, theirs))
}

func (t *hostable) hostTriggers(ctx context.Context, conn bun.IConn) ([]object, error) {
	ours := slices.Concat(t.schema.objects("triggers", t.names), t.schema.objects("guard_"+t.name, t.names))
	var theirs []object
	err := each(ctx, conn, func(rows *sql.Rows) error {
		o := object{kind: "trigger"}
		err := rows.Scan(&o.name, &o.sql)
		if !slices.ContainsFunc(ours, func(our object) bool { return our.name == o.name }) {
			theirs = append(theirs, o)
		}
		return err
	}, "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE ORDER BY rowid", t.table())
	return theirs, err
}
