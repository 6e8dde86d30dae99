package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cimskit/cims"
	"github.com/danielgtaylor/huma/v2"
)

// These are the content types of a file of leads.
const (
	NDJSON = "application/x-ndjson" // one JSON object on each line
	CSV    = "text/csv"             // comma separated; the first row names the fields
)

// These limit a file of leads.
const (
	maxLeadBytes = 256 << 20
	maxLeads     = 1_000_000
	maxLeadLine  = 1 << 20
)

// LineError reports a refused line of a file and the reason.
type LineError struct {
	Line int // counted from 1
	Err  error
}

// Error returns an English text for logs and developers.
func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns the reason.
func (e *LineError) Unwrap() error { return e.Err }

// LeadFile is a file of leads that was received and checked. It is stored in a temporary
// file without a name, so that nothing of it outlives the process.
type LeadFile struct {
	Leads int // the number of leads

	file  *os.File
	named bool // the system removes no open files, so Close does
}

// lead is a new customer and its line in the file.
type lead struct {
	Line     int
	Customer cims.NewCustomer
}

// ReadLeads receives a file of leads and makes all checks that need no database. A slow
// sender therefore keeps no transaction open. The fields are those of POST /crm/customers.
// It skips the byte order mark that spreadsheets begin a file with. ReadLeads returns a
// *LineError for a bad line. The caller must close the LeadFile.
func ReadLeads(r io.Reader, contentType string) (*LeadFile, error) {
	parse := parseNDJSON
	switch contentType {
	case NDJSON:
	case CSV:
		parse = parseCSV
	default:
		return nil, httpError{status: http.StatusUnsupportedMediaType}
	}
	file, err := os.CreateTemp("", "cims-leads-*") // mode 0600
	if err != nil {
		return nil, err
	}
	f := &LeadFile{file: file, named: os.Remove(file.Name()) != nil}
	if err := f.receive(parse(&bounded{r: withoutMark(r), left: maxLeadBytes})); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func withoutMark(r io.Reader) io.Reader {
	text := bufio.NewReader(r)
	if mark, _ := text.Peek(3); string(mark) == "\ufeff" {
		_, _ = text.Discard(3) // Peek has read them
	}
	return text
}

func (f *LeadFile) receive(leads iter.Seq2[lead, error]) error {
	buffer := bufio.NewWriterSize(f.file, 1<<16)
	encoder := gob.NewEncoder(buffer)
	for lead, err := range leads {
		if err == nil {
			err = lead.Customer.Validate()
		}
		switch {
		case err != nil && lead.Line == 0: // an error of the transfer, not of a line
			return err
		case err != nil:
			return &LineError{Line: lead.Line, Err: err}
		case f.Leads == maxLeads:
			return httpError{status: http.StatusRequestEntityTooLarge, reason: "rows"}
		}
		if err := encoder.Encode(lead); err != nil {
			return err
		}
		f.Leads++
	}
	return buffer.Flush()
}

// AddTo stores the leads, all or none, with cims.Manager.ImportCustomers. It returns their
// number. If progress is not nil, AddTo calls it with the number stored so far.
func (f *LeadFile) AddTo(ctx context.Context, crm *cims.Manager, actor cims.Actor, progress func(stored int)) (int, error) {
	leads := func(yield func(cims.NewCustomer, error) bool) {
		for lead, err := range f.all() {
			if !yield(lead.Customer, err) {
				return
			}
		}
	}
	n, err := crm.ImportCustomers(ctx, actor, leads, progress)
	if refused, ok := errors.AsType[*cims.LeadError](err); ok {
		return n, f.locate(refused)
	}
	return n, err
}

// locate returns a *LineError for the line of a refused lead.
func (f *LeadFile) locate(refused *cims.LeadError) error {
	i := 0
	for lead, err := range f.all() {
		switch {
		case err != nil:
			return err
		case i == refused.Index:
			return &LineError{Line: lead.Line, Err: refused.Err}
		}
		i++
	}
	return refused
}

func (f *LeadFile) all() iter.Seq2[lead, error] {
	return func(yield func(lead, error) bool) {
		if _, err := f.file.Seek(0, io.SeekStart); err != nil {
			yield(lead{}, err)
			return
		}
		decoder := gob.NewDecoder(bufio.NewReaderSize(f.file, 1<<16))
		for {
			var l lead
			err := decoder.Decode(&l)
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}

// Close releases the temporary file.
func (f *LeadFile) Close() error {
	err := f.file.Close()
	if f.named {
		err = errors.Join(err, os.Remove(f.file.Name()))
	}
	return err
}

// bounded is a reader that limits the size of a file and of each record.
type bounded struct {
	r      io.Reader
	left   int64 // bytes left of the file
	record int64 // bytes left of this record; 0 for no limit
}

var errLongLine = errors.New("httpapi: a line is too long")

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = bodyFault(err)
	}
	b.left -= int64(n)
	if b.left < 0 {
		return 0, httpError{status: http.StatusRequestEntityTooLarge, reason: "bytes"}
	}
	if b.record > 0 {
		if b.record -= int64(n); b.record <= 0 {
			return 0, errLongLine
		}
	}
	return n, err
}

// leadBody describes a line of NDJSON: the body of POST /crm/customers.
var leadBody = bodyOf(0, reflect.TypeFor[cimsNewCustomer](), huma.NewMapRegistry("#/", huma.DefaultSchemaNamer))

func parseNDJSON(from *bounded) iter.Seq2[lead, error] {
	return func(yield func(lead, error) bool) {
		lines := bufio.NewScanner(from)
		lines.Buffer(nil, maxLeadLine)
		n := 0
		for lines.Scan() {
			n++
			text := bytes.Trim(lines.Bytes(), " \t\r") // white space in JSON
			if len(text) == 0 {
				continue
			}
			if !utf8.Valid(text) {
				yield(lead{Line: n}, invalid{{rule: ruleEncoding}})
				return
			}
			var in cimsNewCustomer
			err := leadBody.decode(text, reflect.ValueOf(&in).Elem())
			if !yield(lead{n, in.customer()}, err) || err != nil {
				return
			}
		}
		switch err := lines.Err(); {
		case errors.Is(err, bufio.ErrTooLong):
			yield(lead{Line: n + 1}, invalid{{rule: ruleLongLine}})
		case err != nil:
			yield(lead{}, err)
		}
	}
}

func parseCSV(from *bounded) iter.Seq2[lead, error] {
	return func(yield func(lead, error) bool) {
		rows := csv.NewReader(from)
		rows.ReuseRecord = true
		line := 0
		next := func() ([]string, int, error) {
			from.record = maxLeadLine
			row, err := rows.Read()
			if err == nil {
				line, _ = rows.FieldPos(0)
			}
			if malformed, ok := errors.AsType[*csv.ParseError](err); ok {
				return nil, malformed.StartLine, invalid{{rule: cims.RuleFormat}}
			}
			if errors.Is(err, errLongLine) {
				return nil, line + 1, invalid{{rule: ruleLongLine}}
			}
			if err != nil {
				return nil, 0, err // an error of the transfer, or io.EOF
			}
			if slices.ContainsFunc(row, func(text string) bool { return !utf8.ValidString(text) }) {
				return nil, line, invalid{{rule: ruleEncoding}}
			}
			return row, line, nil
		}
		header, at, err := next()
		if err == nil || errors.Is(err, io.EOF) {
			at = max(at, 1)
			header, err = slices.Clone(header), checkHeader(header)
		}
		if err != nil {
			yield(lead{Line: at}, err)
			return
		}
		for {
			row, at, err := next()
			if errors.Is(err, io.EOF) {
				return
			}
			l := lead{Line: at}
			for i, text := range row {
				*csvFields[header[i]](&l.Customer) = text
			}
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}

// csvFields holds the columns that a file may have.
var csvFields = map[string]func(*cims.NewCustomer) *string{
	"full_name":    func(c *cims.NewCustomer) *string { return &c.FullName },
	"phone_number": func(c *cims.NewCustomer) *string { return &c.PhoneNumber },
	"platform":     func(c *cims.NewCustomer) *string { return &c.Platform },
	"username":     func(c *cims.NewCustomer) *string { return &c.Username },
	"notes":        func(c *cims.NewCustomer) *string { return &c.Notes },
	"status_name":  func(c *cims.NewCustomer) *string { return &c.StatusName },
}

func checkHeader(header []string) error {
	var faults invalid
	seen := map[string]bool{}
	for _, name := range header {
		switch {
		case strings.TrimSpace(name) == "":
			faults = append(faults, fault{rule: ruleUnnamed})
		case csvFields[name] == nil && csvFields[strings.TrimSpace(name)] != nil:
			faults = append(faults, fault{location: strings.TrimSpace(name), rule: ruleSpaces})
			name = strings.TrimSpace(name)
		case csvFields[name] == nil:
			faults = append(faults, fault{location: harmless(name), rule: ruleUnknownField})
		case seen[name]:
			faults = append(faults, fault{location: name, rule: ruleRepeated})
		}
		seen[name] = true
	}
	if !seen["full_name"] {
		faults = append(faults, fault{location: "full_name", rule: cims.RuleRequired})
	}
	return faults.err()
}

// csvColumns lists the columns for the document.
func csvColumns() string { return strings.Join(slices.Sorted(maps.Keys(csvFields)), ", ") }
