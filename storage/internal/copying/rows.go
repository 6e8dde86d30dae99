package copying

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/cimskit/cims/storage/internal/hosttables"
	"github.com/cimskit/cims/storage/internal/sqlstore"
)

// These bound a block of rows. Each block is one transaction.
const (
	blockRows  = 2_000
	blockBytes = 1 << 20
)

// kind is the type in Go of a column's values.
type kind string

const (
	kindInt   kind = "integer"
	kindBool  kind = "boolean"
	kindFloat kind = "floating point"
	kindTime  kind = "time"
	kindBytes kind = "bytes"
	kindText  kind = "text" // and all other types, cast to text
)

func kindOf(c hosttables.Column) kind {
	starts := func(prefixes ...string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(c.Type, p) })
	}
	switch {
	case c.Type == "int", starts("integer", "bigint", "smallint", "int2", "int4", "int8"):
		return kindInt
	case starts("bool"):
		return kindBool
	case starts("real", "double", "float"):
		return kindFloat
	case starts("timestamp", "datetime"), c.Type == "date":
		return kindTime
	case starts("bytea", "blob"):
		return kindBytes
	}
	return kindText
}

// column is a column that both databases have.
type column struct {
	name     string
	kind     kind
	cast     map[*Database]bool // whether it is read by a cast to text
	required bool               // NOT NULL in the target
}

// plan is a table with the columns to copy.
type plan struct {
	table
	columns  []column
	keys     []int // indexes of the key's columns
	marker   int   // index of cims_version, or -1
	computed []Computed
	defaults hosttables.Defaults
}

// plan reads the columns of both databases. It returns an error for data without a column
// in the target.
func (c *job) plan(ctx context.Context, source bun.IConn) error {
	columns, err := c.sharedColumns(ctx, source, false)
	if err != nil {
		return err
	}
	for _, t := range tables {
		p := plan{table: t, marker: -1, columns: columns[t.name]}
		if err := p.find(); err != nil {
			return err
		}
		for _, computed := range c.to.dialect.Computed {
			if computed.Table == t.name {
				p.computed = append(p.computed, computed)
			}
		}
		if p.defaults, err = c.to.store.HostDefaults(ctx, t.name); err != nil {
			return err
		}
		c.tables = append(c.tables, p)
		var total int64
		if err := source.QueryRowContext(ctx, "SELECT count(*) FROM "+c.from.names().Quoted(t.name)).Scan(&total); err != nil {
			return c.from.store.Explain(err)
		}
		c.totals[t.name] = total
	}
	return nil
}

// sharedColumns returns the columns that both databases have, by table. It returns an error
// for data without a column in the target. If the target is yet to be migrated, the columns
// that Migrate will add count as present.
func (c *job) sharedColumns(ctx context.Context, source bun.IConn, yetToBeMigrated bool) (map[string][]column, error) {
	shared := map[string][]column{}
	var homeless error
	for _, t := range tables {
		here, err := c.from.columns(ctx, sqlstore.SQL{IConn: source}, t.name)
		if err != nil {
			return nil, err
		}
		there, err := c.to.columns(ctx, c.to.store.Conn(), t.name)
		if err != nil {
			return nil, err
		}
		_, mayBeHosts := hosttables.Nameable[t.name]
		for _, from := range here {
			if c.from.derives(t.name, from) {
				continue
			}
			i := slices.IndexFunc(there, func(to hosttables.Column) bool { return to.Name == from.Name })
			if i < 0 {
				if yetToBeMigrated && (!mayBeHosts || hosttables.Fills(t.name, from.Name)) {
					continue
				}
				found, err := c.from.holdsData(ctx, source, t.name, from.Name)
				if err != nil {
					return nil, err
				}
				if found {
					homeless = errors.Join(homeless, fmt.Errorf("cims: column %q of table %q holds data, and the target has no such column: add it there first",
						c.from.names().Theirs(t.name, from.Name), c.from.names().Table(t.name)))
				}
				continue
			}
			to := there[i]
			if c.to.derives(t.name, to) {
				continue
			}
			k := kindOf(to)
			if k != kindOf(from) {
				homeless = errors.Join(homeless, fmt.Errorf("cims: column %q of table %q is of type %s in the source and %s in the target", from.Name, t.name, from.Type, to.Type))
			}
			shared[t.name] = append(shared[t.name], column{
				name: from.Name, kind: k, required: to.NotNull,
				cast: map[*Database]bool{c.from: castToText(from), c.to: castToText(to)},
			})
		}
	}
	return shared, homeless
}

// derives reports whether the database derives a column from another one.
func (d *Database) derives(table string, of hosttables.Column) bool {
	return of.IsOlderEnum(table) || slices.ContainsFunc(d.dialect.Computed, func(c Computed) bool {
		return c.Table == table && c.Column == of.Name
	})
}

// castToText reports whether a column of kindText has another type in the database.
func castToText(c hosttables.Column) bool {
	return kindOf(c) == kindText && c.Type != "text" && !strings.Contains(c.Type, "char")
}

func (d *Database) holdsData(ctx context.Context, source bun.IConn, table, column string) (found bool, err error) {
	err = source.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+d.names().Quoted(table)+" WHERE "+d.names().QuotedColumn(table, column)+" IS NOT NULL)").Scan(&found)
	return found, d.store.Explain(err)
}

// find finds the key and the marker among the columns.
func (p *plan) find() error {
	place := func(name string) int {
		return slices.IndexFunc(p.columns, func(c column) bool { return c.name == name })
	}
	for _, key := range p.key {
		i := place(key)
		if i < 0 {
			return fmt.Errorf("cims: table %q has no column %q", p.name, key)
		}
		p.keys = append(p.keys, i)
	}
	if p.marked {
		p.marker = place(versionColumn)
	}
	return nil
}

// record is a row as the target has to store it.
type record struct {
	values  []any
	encoded []byte // equal for equal rows
}

func (p *plan) keyTexts(r record) []string {
	texts := make([]string, len(p.keys))
	for i, place := range p.keys {
		texts[i] = fmt.Sprint(r.values[place])
	}
	return texts
}

// keyOf describes a row by its key.
func (p *plan) keyOf(r record) string {
	texts := make([]string, len(p.keys))
	for i, place := range p.keys {
		texts[i] = fmt.Sprintf("%s %v", p.key[i], r.values[place])
	}
	return strings.Join(texts, ", ")
}

// compareKeys compares rows in the order of both databases.
func (p *plan) compareKeys(a, b record) int {
	for _, place := range p.keys {
		order := 0
		switch x := a.values[place].(type) {
		case int64:
			order = cmp.Compare(x, b.values[place].(int64)) //nolint:forcetypeassert // of one column
		case string:
			order = cmp.Compare(x, b.values[place].(string)) //nolint:forcetypeassert // of one column
		}
		if order != 0 {
			return order
		}
	}
	return 0
}

// differing lists the columns in which two rows differ.
func (p *plan) differing(a, b record) string {
	var names []string
	for i, c := range p.columns {
		if !bytes.Equal(encode(nil, a.values[i]), encode(nil, b.values[i])) {
			names = append(names, c.name)
		}
	}
	return strings.Join(names, ", ")
}

const versionColumn = "cims_version"

// load inserts rows. It sets version 0 only after the insert, so that no trigger takes the
// row for a new one.
func (p *plan) load(ctx context.Context, to *Database, tx sqlstore.Transaction, block []record) error {
	columns := make([]string, 0, len(p.columns)+len(p.computed)+len(p.defaults.Columns))
	for _, c := range p.columns {
		columns = append(columns, c.name)
	}
	rows := make([][]any, len(block))
	var unmarked []any
	for i, r := range block {
		rows[i] = slices.Clone(r.values)
		if p.marker >= 0 && r.values[p.marker] == int64(0) {
			rows[i][p.marker] = int64(1)
			unmarked = append(unmarked, r.values[p.keys[0]])
		}
	}
	for _, computed := range p.computed {
		from := slices.Index(columns, computed.From)
		for i := range rows {
			rows[i] = append(rows[i], computed.Value(rows[i][from]))
		}
		columns = append(columns, computed.Column)
	}
	for i, name := range p.defaults.Columns {
		if slices.Contains(columns, name) {
			continue
		}
		for j := range rows {
			rows[j] = append(rows[j], p.defaults.Values[i])
		}
		columns = append(columns, name)
	}
	if err := to.dialect.Load(ctx, tx, p.name, columns, rows); err != nil || unmarked == nil {
		return err
	}
	names := to.names()
	_, err := to.exec(ctx, sqlstore.SQL{IConn: tx}, "UPDATE "+names.Quoted(p.name)+" SET "+names.QuotedColumn(p.name, versionColumn)+
		" = 0 WHERE "+names.QuotedColumn(p.name, "id")+" IN (?)", bun.List(unmarked))
	return err
}

// query returns a query for the rows after a key, in the order of the key.
func (p *plan) query(of *Database, after []string) (query string, args []any, err error) {
	selected := make([]string, len(p.columns))
	for i, c := range p.columns {
		selected[i] = of.names().QuotedColumn(p.name, c.name)
		if c.cast[of] {
			selected[i] = "CAST(" + selected[i] + " AS TEXT)"
		}
	}
	keys, marks := make([]string, len(p.keys)), make([]string, len(p.keys))
	for i, place := range p.keys {
		keys[i], marks[i] = of.names().QuotedColumn(p.name, p.key[i]), "?"
		if p.columns[place].kind == kindInt {
			marks[i] = "CAST(? AS BIGINT)"
		} else {
			keys[i] += of.dialect.ByteOrder
		}
		if after == nil {
			continue
		}
		var arg any = after[i]
		if p.columns[place].kind == kindInt {
			if arg, err = strconv.ParseInt(after[i], 10, 64); err != nil {
				return "", nil, err
			}
		}
		args = append(args, arg)
	}
	where := ""
	if after != nil {
		where = " WHERE (" + strings.Join(keys, ", ") + ") > (" + strings.Join(marks, ", ") + ")"
	}
	return "SELECT " + strings.Join(selected, ", ") + " FROM " + of.names().Quoted(p.name) + where + " ORDER BY " + strings.Join(keys, ", "), args, nil
}

// stream reads a table one block ahead.
type stream struct {
	blocks chan []record
	left   []record // remaining rows of the current block
	err    error    // set before blocks is closed
	cancel context.CancelFunc
}

// read starts reading a table on a connection of a snapshot.
func (p *plan) read(ctx context.Context, of *Database, conn bun.IConn, after []string) (*stream, error) {
	query, args, err := p.query(of, after)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{blocks: make(chan []record), cancel: cancel}
	go func() {
		defer close(s.blocks)
		s.err = of.store.Explain(p.send(ctx, of, conn, query, args, s.blocks))
	}()
	return s, nil
}

func (p *plan) send(ctx context.Context, of *Database, conn bun.IConn, query string, args []any, to chan<- []record) (err error) {
	rows, err := of.store.Prepared(ctx, sqlstore.SQL{IConn: conn}, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	holders := make([]any, len(p.columns))
	for i, c := range p.columns {
		holders[i] = c.holder()
	}
	give := func(block []record) error {
		select {
		case to <- block:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var block []record
	var buffer []byte
	for rows.Next() {
		if err := rows.Scan(holders...); err != nil {
			return err
		}
		r := record{values: make([]any, len(holders))}
		begin := len(buffer)
		for i, c := range p.columns {
			r.values[i] = c.value(holders[i])
			buffer = encode(buffer, r.values[i])
		}
		r.encoded = buffer[begin:len(buffer):len(buffer)]
		block = append(block, r)
		if len(block) == blockRows || len(buffer) >= blockBytes {
			if err := give(block); err != nil {
				return err
			}
			block, buffer = nil, nil
		}
	}
	if err := rows.Err(); err != nil || len(block) == 0 {
		return err
	}
	return give(block)
}

// block returns the next block of rows. It is empty at the end.
func (s *stream) block() ([]record, error) {
	block, more := <-s.blocks
	if !more {
		return nil, s.err
	}
	return block, nil
}

// next returns the next row, or nil at the end.
func (s *stream) next() (*record, error) {
	if len(s.left) == 0 {
		var err error
		if s.left, err = s.block(); err != nil || len(s.left) == 0 {
			return nil, err
		}
	}
	r := &s.left[0]
	s.left = s.left[1:]
	return r, nil
}

// close stops the reading and waits until the connection is unused.
func (s *stream) close() {
	s.cancel()
	for range s.blocks { // until the reader closes it
	}
}

// holder returns a pointer for scanning a value.
func (c column) holder() any {
	switch c.kind {
	case kindInt:
		return new(sql.Null[int64])
	case kindBool:
		return new(sql.Null[bool])
	case kindFloat:
		return new(sql.Null[float64])
	case kindTime:
		return new(sql.Null[time.Time])
	case kindBytes:
		return new([]byte)
	default:
		return new(sql.Null[string])
	}
}

// value returns the scanned value. If the target takes no NULL, as in an older program's
// tables, it returns the zero value for NULL. Both mean the same to cims.
func (c column) value(holder any) any {
	switch h := holder.(type) {
	case *sql.Null[int64]:
		return orNull(h.V, h.Valid || c.required)
	case *sql.Null[bool]:
		return orNull(h.V, h.Valid || c.required)
	case *sql.Null[float64]:
		return orNull(h.V, h.Valid || c.required)
	case *sql.Null[time.Time]:
		return orNull(h.V.UTC().Truncate(time.Microsecond), h.Valid || c.required)
	case *sql.Null[string]:
		return orNull(h.V, h.Valid || c.required)
	case *[]byte:
		return orNull(bytes.Clone(*h), *h != nil || c.required)
	default:
		return nil
	}
}

func orNull[T any](value T, valid bool) any {
	if !valid {
		return nil
	}
	return value
}

// encode appends the encoding of a value. Different values have different encodings.
func encode(to []byte, value any) []byte {
	switch v := value.(type) {
	case nil:
		return append(to, 0)
	case bool:
		if v {
			return append(to, 'b', 1)
		}
		return append(to, 'b', 0)
	case int64:
		return binary.BigEndian.AppendUint64(append(to, 'i'), uint64(v)) //nolint:gosec // the bits are what counts
	case float64:
		return binary.BigEndian.AppendUint64(append(to, 'f'), math.Float64bits(v))
	case time.Time:
		return binary.BigEndian.AppendUint64(append(to, 't'), uint64(v.UnixMicro()))
	case string:
		return append(binary.AppendUvarint(append(to, 's'), uint64(len(v))), v...)
	case []byte:
		return append(binary.AppendUvarint(append(to, 'x'), uint64(len(v))), v...)
	default:
		panic(fmt.Sprintf("cims: a value of type %T", value))
	}
}
