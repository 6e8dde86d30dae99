package sqlite

import (
	"context"
	"embed"
	"fmt"
	"regexp"
	"strings"

	"github.com/uptrace/bun"
)

//go:embed schema/*.sql
var files embed.FS

// object is a table, an index or a trigger of ours, by the text that makes it,
// which is also the text that SQLite keeps of it.
type object struct {
	kind, name, sql string
}

// objects is what a file of the folder schema makes, under the host's names.
func (h *host) objects(file string) []object {
	all := objects(file)
	for i := range all {
		all[i].sql = h.SQL(all[i].sql)
	}
	return all
}

var created = regexp.MustCompile(`^CREATE (TABLE|INDEX|TRIGGER) "?(\w+)"? `)

// objects reads a file of the folder schema. A statement there begins with
// CREATE, and ends at the first line that is not indented and ends in a semicolon.
func objects(file string) []object {
	text, err := files.ReadFile("schema/" + file + ".sql")
	if err != nil {
		panic(err) // a name that is not in the folder
	}
	var all []object
	var sql strings.Builder
	for line := range strings.Lines(expressions.Replace(string(text))) {
		if sql.Len() == 0 && !strings.HasPrefix(line, "CREATE ") {
			continue
		}
		sql.WriteString(line)
		if strings.HasPrefix(line, "\t") || !strings.HasSuffix(line, ";\n") {
			continue
		}
		statement := strings.TrimSuffix(sql.String(), ";\n")
		found := created.FindStringSubmatch(statement)
		all = append(all, object{kind: strings.ToLower(found[1]), name: found[2], sql: statement})
		sql.Reset()
	}
	return all
}

var entry = regexp.MustCompile(`(?m)^\t\('(\w+)'`)

// systemNames reads which statuses or roles Migrate makes.
func systemNames(table string) []string {
	text, err := files.ReadFile("schema/entries.sql")
	if err != nil {
		panic(err) // the file is not in the folder
	}
	_, inserts, _ := strings.Cut(string(text), "INSERT INTO "+table+" ")
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

// expressions are what several statements of the schema have in common. They are
// SQLite's own and flat, since other programs run the triggers too: one whose
// SQLite can't read a trigger can't open the file at all.
var expressions = strings.NewReplacer(
	"{now}", nowSQL,
	"{due}", dueSQL,
	"{status of NEW}", "(COALESCE("+known("customer_status", "NEW.{customer.status_name}")+", 'contacted') COLLATE BINARY)",
	"{role of NEW}", "(COALESCE("+known("user_role", "NEW.{user.role_name}")+") COLLATE BINARY)",
)

var nowSQL, dueSQL = inOurFormat("'now'"), inOurFormat("'now', '+1 minute'")

// inOurFormat is timeFormat, without which a cursor would not find its place.
func inOurFormat(time string) string {
	return "rtrim(rtrim(strftime('%Y-%m-%d %H:%M:%f', " + time + "), '0'), '.') || '+00:00'"
}

// known are the names that a text can stand for: itself, if there is such a name,
// or what normalName makes of it, if its only capital letters are ASCII.
func known(entries, text string) string {
	return "(SELECT name FROM " + entries + " WHERE name = " + text + "), NULLIF(replace(lower(trim(" + text + ")), ' ', '_'), '')"
}
