package sqlstore

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
)

// A block of rows is a transaction.
const (
	blockRows  = 2_000
	blockBytes = 1 << 20
)

// kind is what a column's values are in Go.
type kind string

const (
	kindInt   kind = "integer"
	kindBool  kind = "boolean"
	kindFloat kind = "floating point"
	kindTime  kind = "time"
	kindBytes kind = "bytes"
	kindText  kind = "text" // and all that can be written as one
)

func kindOf(c Column) kind {
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

// copyColumn is a column that both databases have.
type copyColumn struct {
	name     string
	kind     kind
	cast     map[*Store]bool // whether its type is one that is read as a text
	required bool            // in the target
}

// copyPlan is a table with the columns to be copied.
type copyPlan struct {
	copyTable
	columns  []copyColumn
	keys     []int // places of the key's columns
	marker   int   // place of the marker, or -1
	computed []Computed
	fill     filling
}

// plan reads what columns the databases have, and refuses data that has no
// place in the target.
func (c *copying) plan(ctx context.Context, source bun.IConn) error {
	columns, err := c.fit(ctx, source, false)
	if err != nil {
		return err
	}
	for _, t := range copyTables {
		p := copyPlan{copyTable: t, marker: -1, columns: columns[t.name]}
		if err := p.find(); err != nil {
			return err
		}
		for _, computed := range c.to.dialect.Copying.Computed {
			if computed.Table == t.name {
				p.computed = append(p.computed, computed)
			}
		}
		if p.fill, err = c.to.fill(ctx, t.name); err != nil {
			return err
		}
		c.tables = append(c.tables, p)
		var total int64
		if err := source.QueryRowContext(ctx, "SELECT count(*) FROM "+string(c.from.table(t.name))).Scan(&total); err != nil {
			return c.from.explain(err)
		}
		c.totals[t.name] = total
	}
	return nil
}

// fit finds the columns that both databases have, by table, and refuses all data
// that has no place in the target: if that is yet to be migrated, none then either.
func (c *copying) fit(ctx context.Context, source bun.IConn, yetToBeMigrated bool) (map[string][]copyColumn, error) {
	shared := map[string][]copyColumn{}
	var homeless error
	for _, t := range copyTables {
		theirs, err := c.from.dialect.Columns(ctx, SQL{source}, t.name)
		if err != nil {
			return nil, c.from.explain(err)
		}
		there, err := c.to.dialect.Columns(ctx, c.to.conn, t.name)
		if err != nil {
			return nil, c.to.explain(err)
		}
		_, hosts := ours[t.name]
		for _, column := range theirs {
			if c.from.follows(t.name, column) {
				continue
			}
			i := slices.IndexFunc(there, func(o Column) bool { return o.Name == column.Name })
			if i < 0 {
				if yetToBeMigrated && (!hosts || slices.Contains(ours[t.name], column.Name)) {
					continue
				}
				found, err := c.from.holdsData(ctx, source, t.name, column.Name)
				if err != nil {
					return nil, err
				}
				if found {
					homeless = errors.Join(homeless, fmt.Errorf("cims: column %q of table %q holds data, and the target has no such column: add it there first",
						c.from.dialect.Names.Theirs(t.name, column.Name), c.from.dialect.Names.Table(t.name)))
				}
				continue
			}
			if c.to.follows(t.name, there[i]) {
				continue
			}
			k := kindOf(there[i])
			if k != kindOf(column) {
				homeless = errors.Join(homeless, fmt.Errorf("cims: column %q of table %q is of type %s in the source and %s in the target", column.Name, t.name, column.Type, there[i].Type))
			}
			shared[t.name] = append(shared[t.name], copyColumn{
				name: column.Name, kind: k, required: there[i].NotNull,
				cast: map[*Store]bool{c.from: castToText(column), c.to: castToText(there[i])},
			})
		}
	}
	return shared, homeless
}

// follows says whether a column says nothing that others don't: the database
// keeps it by itself.
func (q *queries) follows(table string, column Column) bool {
	return column.isOlder(table) || slices.ContainsFunc(q.dialect.Copying.Computed, func(c Computed) bool {
		return c.Table == table && c.Column == column.Name
	})
}

// castToText says whether a column of kindText is of another type.
func castToText(c Column) bool {
	return kindOf(c) == kindText && c.Type != "text" && !strings.Contains(c.Type, "char")
}

func (q *queries) holdsData(ctx context.Context, source bun.IConn, table, column string) (found bool, err error) {
	err = source.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+string(q.table(table))+" WHERE "+string(q.column(table, column))+" IS NOT NULL)").Scan(&found)
	return found, q.explain(err)
}

// find looks the key and the marker up among the columns.
func (p *copyPlan) find() error {
	place := func(name string) int {
		return slices.IndexFunc(p.columns, func(c copyColumn) bool { return c.name == name })
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

// record is a row as the target has to have it.
type record struct {
	values  []any
	encoded []byte // equal for equal rows
}

func (p *copyPlan) keyTexts(r record) []string {
	texts := make([]string, len(p.keys))
	for i, place := range p.keys {
		texts[i] = fmt.Sprint(r.values[place])
	}
	return texts
}

// keyOf names a row.
func (p *copyPlan) keyOf(r record) string {
	texts := make([]string, len(p.keys))
	for i, place := range p.keys {
		texts[i] = fmt.Sprintf("%s %v", p.key[i], r.values[place])
	}
	return strings.Join(texts, ", ")
}

// compareKeys orders rows as both databases do.
func (p *copyPlan) compareKeys(a, b record) int {
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

// differing lists the columns in which two rows are not equal.
func (p *copyPlan) differing(a, b record) string {
	var names []string
	for i, c := range p.columns {
		if !bytes.Equal(encode(nil, a.values[i]), encode(nil, b.values[i])) {
			names = append(names, c.name)
		}
	}
	return strings.Join(names, ", ")
}

const versionColumn = "cims_version"

// load inserts rows. What others have inserted gets its version taken away again
// afterwards, so that no trigger takes it for new.
func (p *copyPlan) load(ctx context.Context, tx *queries, block []record) error {
	columns := make([]string, 0, len(p.columns)+len(p.computed)+len(p.fill.columns))
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
	for i, name := range p.fill.columns {
		if slices.Contains(columns, name) {
			continue
		}
		for j := range rows {
			rows[j] = append(rows[j], p.fill.values[i])
		}
		columns = append(columns, name)
	}
	if err := tx.dialect.Copying.Load(ctx, tx.sql(), p.name, columns, rows); err != nil || unmarked == nil {
		return err
	}
	_, err := tx.exec(ctx, "UPDATE ? SET ? = 0 WHERE ? IN (?)", tx.table(p.name), tx.column(p.name, versionColumn), tx.column(p.name, "id"), bun.List(unmarked))
	return err
}

// query selects the rows after a key, in the order of the key.
func (p *copyPlan) query(store *Store, after []string) (query string, args []any, err error) {
	selected := make([]string, len(p.columns))
	for i, c := range p.columns {
		selected[i] = string(store.column(p.name, c.name))
		if c.cast[store] {
			selected[i] = "CAST(" + selected[i] + " AS TEXT)"
		}
	}
	keys, marks := make([]string, len(p.keys)), make([]string, len(p.keys))
	for i, place := range p.keys {
		keys[i], marks[i] = string(store.column(p.name, p.key[i])), "?"
		if p.columns[place].kind == kindInt {
			marks[i] = "CAST(? AS BIGINT)"
		} else {
			keys[i] += store.dialect.Copying.ByteOrder
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
	return "SELECT " + strings.Join(selected, ", ") + " FROM " + string(store.table(p.name)) + where + " ORDER BY " + strings.Join(keys, ", "), args, nil
}

// stream is a table being read, a block ahead of whoever takes it.
type stream struct {
	blocks chan []record
	left   []record // of the block that was taken
	err    error    // set before blocks is closed
	cancel context.CancelFunc
}

// read begins to read a table on a connection of a snapshot.
func (p *copyPlan) read(ctx context.Context, store *Store, conn bun.IConn, after []string) (*stream, error) {
	query, args, err := p.query(store, after)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{blocks: make(chan []record), cancel: cancel}
	go func() {
		defer close(s.blocks)
		s.err = store.explain(p.send(ctx, store, conn, query, args, s.blocks))
	}()
	return s, nil
}

func (p *copyPlan) send(ctx context.Context, store *Store, conn bun.IConn, query string, args []any, to chan<- []record) (err error) {
	rows, err := store.prepared(ctx, SQL{conn}, query, args)
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

// block returns the next rows; none at the end.
func (s *stream) block() ([]record, error) {
	block, more := <-s.blocks
	if !more {
		return nil, s.err
	}
	return block, nil
}

// next returns the next row; nil at the end.
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

// close ends the reading and waits until the connection is left alone.
func (s *stream) close() {
	s.cancel()
	for range s.blocks { // until it is closed
	}
}

// holder is what a value is scanned into.
func (c copyColumn) holder() any {
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

// value takes what was scanned. Where the target has no NULL, as an older
// program's tables may, it is what this library takes NULL for.
func (c copyColumn) value(holder any) any {
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

// encode appends a value so that different ones are never taken for each other.
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
