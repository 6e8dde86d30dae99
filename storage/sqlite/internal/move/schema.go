package move

import (
	"context"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/uptrace/bun"

	"github.com/cimskit/cims/storage/internal/hosttables"
)

// schema holds the SQL files.
type schema struct{ files fs.FS }

// read returns a file of the folder schema.
func (s schema) read(file string) string {
	text, err := fs.ReadFile(s.files, "schema/"+file+".sql")
	if err != nil {
		panic(err) // the folder has no such file
	}
	return string(text)
}

// object is a table, index or trigger of cims. SQLite stores its sql unchanged.
type object struct {
	kind, name, sql string
}

// objects returns the objects in a file of the schema.
func (h *Host) objects(file string) []object { return h.schema.objects(file, h.Names) }

var created = regexp.MustCompile(`^CREATE (TABLE|INDEX|TRIGGER) "?(\w+)"? `)

// objects returns the objects in a file, under the host's names. A statement begins with
// CREATE and ends with the first unindented line that ends in a semicolon.
func (s schema) objects(file string, names hosttables.Names) []object {
	var all []object
	var sql strings.Builder
	for line := range strings.Lines(expressions.Replace(s.read(file))) {
		if sql.Len() == 0 && !strings.HasPrefix(line, "CREATE ") {
			continue
		}
		sql.WriteString(line)
		if strings.HasPrefix(line, "\t") || !strings.HasSuffix(line, ";\n") {
			continue
		}
		statement := strings.TrimSuffix(sql.String(), ";\n")
		found := created.FindStringSubmatch(statement)
		all = append(all, object{kind: strings.ToLower(found[1]), name: found[2], sql: names.SQL(statement)})
		sql.Reset()
	}
	return all
}

var entry = regexp.MustCompile(`(?m)^\t\('(\w+)'`)

// systemNames returns the names of the statuses or roles that Migrate adds.
func (s schema) systemNames(table string) []string {
	_, inserts, _ := strings.Cut(s.read("entries"), "INSERT INTO "+table+" ")
	inserts, _, _ = strings.Cut(inserts, "INSERT INTO ")
	var names []string
	for _, found := range entry.FindAllStringSubmatch(inserts, -1) {
		names = append(names, found[1])
	}
	return names
}

func create(ctx context.Context, conn bun.IConn, all []object) error {
	for _, o := range all {
		if _, err := conn.ExecContext(ctx, o.sql); err != nil {
			return fmt.Errorf("%s %s: %w", o.kind, o.name, err)
		}
	}
	return nil
}

// expressions replaces placeholders that several statements of the schema share. The
// expressions are flat and use only SQLite's own functions, since other programs run the
// triggers too. A program whose SQLite can't parse a trigger can't open the file.
var expressions = strings.NewReplacer(
	"{now}", nowSQL,
	"{due}", dueSQL,
	"{status of NEW}", "(COALESCE("+known("customer_status", "NEW.{customer.status_name}")+", 'contacted') COLLATE BINARY)",
	"{role of NEW}", "(COALESCE("+known("user_role", "NEW.{user.role_name}")+") COLLATE BINARY)",
)

// TimeFormat is the format in which bun writes a time. The texts sort like the times.
const TimeFormat = "2006-01-02 15:04:05.999999-07:00"

// Due implements sqlstore.Dialect.Due. All rows have the same time of grace, so that a
// larger due_at shows that the clock was set back.
var Due = "(due_at <= " + nowSQL + " OR due_at > " + dueSQL + ")"

var nowSQL, dueSQL = inOurFormat("'now'"), inOurFormat("'now', '+1 minute'")

// inOurFormat returns SQL that writes a time in TimeFormat. Cursors depend on the format.
func inOurFormat(time string) string {
	return "rtrim(rtrim(strftime('%Y-%m-%d %H:%M:%f', " + time + "), '0'), '.') || '+00:00'"
}

// known returns SQL for the names that a text can stand for. These are the text itself, if
// such a name exists, or its normal form, if its only capital letters are ASCII.
func known(entries, text string) string {
	return "(SELECT name FROM " + entries + " WHERE name = " + text + "), NULLIF(replace(lower(trim(" + text + ")), ' ', '_'), '')"
}
