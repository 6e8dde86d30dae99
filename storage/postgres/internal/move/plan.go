package move

import (
	"context"
	"errors"
	"fmt"

	"github.com/cimskit/cims/storage/internal/sqlstore"
	"github.com/cimskit/cims/storage/migration"
)

// Plan returns the steps that Migrate would take, and how it would handle odd data. It
// changes nothing.
func (m *Mover) Plan(ctx context.Context) (migration.Plan, error) {
	problems, err := m.problems(ctx)
	if err != nil {
		return migration.Plan{}, m.store.Explain(err)
	}
	p := planner{Mover: m, ctx: ctx}
	if p.has("cims_copy") {
		return migration.Plan{State: migration.Unfinished, Steps: []migration.Step{}, Findings: []migration.Finding{}}, nil
	}
	plan := migration.Plan{State: p.state(), Steps: p.steps(), Findings: []migration.Finding{}}
	if len(problems) > 0 {
		for _, found := range problems {
			plan.Findings = append(plan.Findings, migration.Finding{Where: found.where, Found: found.found, Does: "is refused: nothing is migrated"})
		}
		return plan, m.store.Explain(p.err)
	}
	if len(plan.Steps) > 0 {
		p.lookAtRights()
		if plan.State != migration.Empty {
			p.look()
		}
		plan.Findings = append(plan.Findings, p.findings...)
	}
	return plan, m.store.Explain(p.err)
}

// planner keeps the first error and runs no query after it.
type planner struct {
	*Mover
	ctx      context.Context //nolint:containedctx // of the one call that it serves
	err      error
	findings []migration.Finding
}

func scalar[T any](p *planner, query string, args ...any) (value T) {
	if p.err == nil {
		p.err = p.db.QueryRowContext(p.ctx, query, args...).Scan(&value)
	}
	return value
}

func (p *planner) has(table string) bool {
	return scalar[bool](p, "SELECT to_regclass($1) IS NOT NULL", p.names.Relation(table))
}

const columnOf = `SELECT EXISTS (SELECT 1 FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
	WHERE a.attrelid = to_regclass($1) AND a.attname = $2 AND NOT a.attisdropped`

func (p *planner) hasColumn(table, column string) bool {
	return scalar[bool](p, columnOf+")", p.names.Relation(table), p.names.Column(table, column))
}

func (p *planner) isEnum(table, column string) bool {
	return scalar[bool](p, columnOf+" AND t.typtype = 'e')", p.names.Relation(table), p.names.Column(table, column))
}

func (p *planner) state() migration.State {
	switch {
	case p.has("cims_migrations") && len(p.left(p.ctx)) == 0:
		return migration.Current
	case p.isEnum("customer", "status") || p.isEnum("user", "role"):
		if p.hasColumn("customer", "status_name") && !p.ours("customer", "status_name") {
			return migration.Deployed
		}
		return migration.EnumOnly
	case p.has("customer") || p.has("user"):
		if p.ours("customer", "") && p.ours("user", "") {
			return migration.Empty
		}
		return migration.Host
	}
	return migration.Empty
}

// ours reports whether Migrate has added a table, or a column if it isn't empty.
func (p *planner) ours(table, column string) bool {
	return p.has("cims_added") && scalar[bool](p, "SELECT EXISTS (SELECT 1 FROM cims_added WHERE table_name = $1 AND name = $2 AND kind <> 'row')", table, p.names.Column(table, column))
}

func (p *planner) steps() []migration.Step {
	steps := []migration.Step{}
	for _, step := range p.left(p.ctx) {
		planned := migration.Step{Name: step.Name, Does: step.Does}
		if step.Kind == Batches {
			for _, table := range []string{"user", "sales_manager_assignment", "customer"} {
				if p.has(table) {
					planned.Rows += scalar[int64](p, "SELECT count(*) FROM "+p.names.Relation(table))
				}
			}
		}
		steps = append(steps, planned)
	}
	return steps
}

// find adds a finding for each row of a query. The row has a number of rows and, if the
// query is about several values, the value.
func (p *planner) find(where, found, does, query string) {
	if p.err != nil {
		return
	}
	rows, err := p.db.QueryContext(p.ctx, query)
	if p.err = err; err != nil {
		return
	}
	defer func() { _ = rows.Close() }() // Err reports its error
	for rows.Next() {
		f := migration.Finding{Where: where}
		var value, becomes string
		if p.err = rows.Scan(&f.Rows, &value, &becomes); p.err != nil {
			return
		}
		if f.Rows == 0 {
			continue
		}
		f.Found = fmt.Sprintf(found, f.Rows, value)
		f.Does = fmt.Sprintf(does, becomes)
		p.findings = append(p.findings, f)
	}
	p.err = rows.Err()
}

// count is like find, for a condition on a table or on a column of it.
func (p *planner) count(found, does, condition, table string, column ...string) {
	p.find(p.names.Shown(table, column...), found+"%.0s", does+"%.0s", fmt.Sprintf("SELECT count(*), '', '' FROM %s AS t WHERE %s", p.names.Relation(table), p.names.SQL(condition)))
}

const normal = "NULLIF(left(replace(lower(btrim(%s)), ' ', '_'), 100), '')"

func normalOf(column string) string { return fmt.Sprintf(normal, "CAST("+column+" AS TEXT)") }

// manyValues limits how many different values of a column are listed.
const manyValues = 100

func (p *planner) look() {
	p.lookAtNames("customer", "status_name", "status", "customer_status", "the status contacted")
	p.lookAtNames("user", "role_name", "role", "user_role", "no role")
	if p.hasColumn("customer", "status") && !p.isEnum("customer", "status") && !p.hasColumn("customer", "status_name") && p.names.Ours("customer", "status") == "status" {
		p.findings = append(p.findings, migration.Finding{
			Where: p.names.Shown("customer") + ".status", Found: "it seems to hold statuses, and is no column of cims",
			Does: `is left aside, and all rows get the status contacted: to use it, map it with the option Customers, Columns: {"status_name": "status"}`,
		})
	}
	for _, e := range []struct{ table, system string }{{"customer_status", systemStatuses}, {"user_role", systemRoles}} {
		if p.has(e.table) && !p.ours(e.table, "") {
			p.lookAtEntries(e.table, fmt.Sprintf(e.system, normalOf("name")))
		}
	}
	for _, c := range timeColumns[:3] { // the columns that users see
		kind, err := p.names.timeType(p.ctx, sqlstore.SQL{IConn: p.db}, c.table, c.column)
		if p.err = errors.Join(p.err, err); kind == "timestamp" {
			p.findings = append(p.findings, migration.Finding{
				Where: p.names.Shown(c.table, c.column), Found: "its times have no zone",
				Does: "stays as it is, and is read and written as UTC: if the older program writes another zone's, they are off by as much",
			})
		}
	}
	if p.hasColumn("user", "is_active") {
		p.count("%d users are neither active nor inactive", "stays as it is, and is taken for inactive", "{user.is_active} IS NULL", "user", "is_active")
	}
	if p.has("sales_manager_counter") {
		p.find("sales_manager_counter", "%d rows%.0s", "the one with the lowest id counts, the others stay as they are%.0s",
			"SELECT count(*), '', '' FROM sales_manager_counter HAVING count(*) > 1")
		p.count("%d rows say nothing", "is taken for 0", "last_assigned_index IS NULL", "sales_manager_counter", "last_assigned_index")
	}
	if p.has("sales_manager_assignment") {
		p.lookAtAssignments()
	}
}

// lookAtRights finds rights that the current database user lacks. Another user may run the
// migration with psql.
func (p *planner) lookAtRights() {
	add := func(where, found, does string) {
		p.findings = append(p.findings, migration.Finding{Where: where, Found: found, Does: does})
	}
	if scalar[bool](p, "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on'") {
		add("the server", "it takes no writes from this user", "fails at the first step")
	}
	if !scalar[bool](p, "SELECT COALESCE(has_schema_privilege(current_schema(), 'CREATE'), FALSE)") {
		add("the schema "+scalar[string](p, "SELECT COALESCE(current_schema(), 'of the search_path')"), "this user may create nothing in it", "fails at the first step")
	}
	for _, table := range []string{"customer", "user", "customer_status", "user_role", "sales_manager_assignment", "sales_manager_counter"} {
		if !p.has(table) {
			continue
		}
		relation := p.names.Relation(table)
		if !scalar[bool](p, "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass($1)", relation) {
			add(p.names.Shown(table), "this user does not own it", "fails where it is to get columns or triggers")
		} else if owner := scalar[string](p, "SELECT CASE WHEN u.rolsuper AND NOT o.rolsuper THEN o.rolname ELSE '' END FROM pg_class AS c JOIN pg_roles AS o ON o.oid = c.relowner, pg_roles AS u WHERE c.oid = to_regclass($1) AND u.rolname = current_user", relation); owner != "" && table == "customer" {
			add(p.names.Shown(table), "its owner is "+owner+", and this user is a superuser", "triggers run with the rights of this user: better migrate as "+owner)
		}
	}
}

// lookAtEntries finds oddities in the older program's statuses or roles.
func (p *planner) lookAtEntries(table, isSystem string) {
	p.find(table+".name", "%d rows are called “%s”", "%s", fmt.Sprintf(`SELECT count(*), name, CASE WHEN kept THEN 'becomes ' || becomes ELSE 'stays as it is, and is not used: ' || becomes || ' is' END
		FROM (SELECT name, becomes, NOT EXISTS (
				SELECT 1 FROM pg_constraint AS k JOIN pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = ANY (k.confkey)
				WHERE k.contype = 'f' AND k.confrelid = to_regclass('%[1]s') AND k.confupdtype <> 'c' AND a.attname = 'name'
			) AND NOT bool_or(name = becomes) OVER same AND row_number() OVER (same ORDER BY is_active DESC NULLS LAST, id) = 1 AS kept
			FROM (SELECT *, %[2]s AS becomes FROM %[1]q) AS e WINDOW same AS (PARTITION BY becomes)) AS e
		WHERE name <> becomes GROUP BY name, becomes, kept ORDER BY name`, table, normalOf("name")))
	p.count("%d rows are neither active nor inactive", "stays as it is, and is taken for inactive", "is_active IS NULL", table, "is_active")
	p.count("%d rows are neither system entries nor others", "stays as it is, and is taken for no system entry", "is_system IS NULL AND NOT "+isSystem, table, "is_system")
	p.count("%d rows are called like a system entry and are none", "becomes one, which can't be deleted", "is_system IS NOT TRUE AND "+isSystem, table, "is_system")
}

// These conditions select the system statuses and roles.
const (
	systemStatuses = "%s IN ('contacted', 'project_started', 'continuing', 'finished', 'rejected', 'need_to_call')"
	systemRoles    = "%s IN ('ceo', 'financial_director', 'sales_manager', 'member', 'customer')"
)

// lookAtNames finds oddities in a column of names and in its enum.
func (p *planner) lookAtNames(table, name, label, entries, nothing string) {
	if !p.has(table) {
		return
	}
	enum := p.isEnum(table, label)
	named := p.hasColumn(table, name) && !p.ours(table, name)
	known := "FALSE"
	if p.has(entries) {
		known = fmt.Sprintf("EXISTS (SELECT 1 FROM %s AS e WHERE %s = v.becomes)", entries, normalOf("e.name"))
	}
	values := func(column string) string {
		return fmt.Sprintf(`SELECT v.n, v.value, v.becomes FROM (
			SELECT count(*) AS n, CAST(%[2]s AS TEXT) AS value, %[3]s AS becomes FROM %[1]s AS t GROUP BY 2, 3
		) AS v WHERE v.becomes IS NOT NULL AND %%s ORDER BY v.n DESC, v.value LIMIT %[4]d`, p.names.Relation(table), column, normalOf(column), manyValues)
	}
	system := fmt.Sprintf(systemStatuses, "v.becomes")
	if table == "user" {
		system = fmt.Sprintf(systemRoles, "v.becomes")
	}
	column := p.names.SQL("t.{" + table + "." + name + "}")
	where, shown := p.names.Shown(table, name), p.names.Column(table, name)
	if enum {
		p.find(p.names.Shown(table, label), "%d rows say “%s”", "becomes %s beside it", fmt.Sprintf(values(label), "v.value <> v.becomes"))
		p.find(p.names.Shown(table, label), "%d rows say “%s”, which nothing is called", "an inactive entry %s is made", fmt.Sprintf(values(label), "NOT "+known+" AND NOT "+system))
	}
	if !named {
		if enum {
			p.count("%d rows are NULL", "gets "+nothing, label+" IS NULL", table, label)
		} else {
			p.count("%d rows have no "+shown+" yet", "gets "+nothing, "TRUE", table)
		}
		return
	}
	p.find(where, "%d rows say “%s”", "becomes %s", fmt.Sprintf(values(column), "v.value <> v.becomes"))
	p.find(where, "%d rows say “%s”, which nothing is called", "an inactive entry %s is made", fmt.Sprintf(values(column), "NOT "+known+" AND NOT "+system))
	without := "gets " + nothing
	if enum {
		without = "gets what " + label + " says, or else " + nothing
		p.count("%d rows differ from "+label, "the name wins, "+label+" stays as it is",
			fmt.Sprintf("%s <> %s", normalOf(column), normalOf("t."+label)), table, name)
	}
	p.count("%d rows are NULL", without, column+" IS NULL", table, name)
	p.count("%d rows are empty", without, column+" IS NOT NULL AND btrim("+column+") = ''", table, name)
}

func (p *planner) lookAtAssignments() {
	const assignments = "sales_manager_assignment"
	p.count("%d rows are neither active nor inactive", "stays as it is, and is taken for inactive", "is_active IS NULL", assignments, "is_active")
	p.count("%d rows are inactive", "stays as it is; the lead has no sales manager", "NOT is_active", assignments)
	p.count("%d rows are NULL", "stays as it is", "assigned_at IS NULL", assignments, "assigned_at")
	if !p.has("user") || !p.has("customer") {
		return
	}
	if !p.ours(assignments, "") {
		p.lookForImpossible(assignments)
	}
	role := "NULL"
	for _, column := range []string{"role", "role_name"} { // the name wins
		if p.hasColumn("user", column) {
			role = fmt.Sprintf("COALESCE(%s, %s)", normalOf(p.names.SQL("u.{user."+column+"}")), role)
		}
	}
	p.count("%d active rows are of people who are not active sales managers", "stays as it is; they get no new leads",
		fmt.Sprintf(`t.is_active AND EXISTS (SELECT 1 FROM {user} AS u WHERE u.{user.id} = t.sales_manager_id AND (u.{user.is_active} AND %s = 'sales_manager') IS NOT TRUE)`, role), assignments)
	p.count("%d leads have no sales manager", "are left so, until POST /crm/assign-backlog",
		"NOT EXISTS (SELECT 1 FROM sales_manager_assignment AS a WHERE a.customer_id = t.{customer.id} AND a.is_active)", "customer")
}

// lookForImpossible finds assignments that violate keys. Only a table without keys has them.
func (p *planner) lookForImpossible(assignments string) {
	const aside = "is set aside, and comes back with a rollback, if the keys that are there let it"
	p.count("%d rows are of a customer that is not there", aside, "NOT EXISTS (SELECT 1 FROM {customer} AS c WHERE c.{customer.id} = t.customer_id)", assignments, "customer_id")
	p.count("%d rows are to a user who is not there", aside+"; the lead has no sales manager then", "NOT EXISTS (SELECT 1 FROM {user} AS u WHERE u.{user.id} = t.sales_manager_id)", assignments, "sales_manager_id")
	p.find(assignments+".customer_id", "%d rows are of a lead that has another%.0s", aside+": of each lead, the last active one stays%.0s",
		"SELECT count(*) - count(DISTINCT customer_id), '', '' FROM sales_manager_assignment")
	if p.lacksKeys(assignments) {
		p.findings = append(p.findings, migration.Finding{
			Where: assignments, Found: "keys or a unique index are missing, so that such rows may come",
			Does: "gets them; for a moment, longer where there are many rows, others wait to write to it",
		})
	}
}

func (p *planner) lacksKeys(assignments string) bool {
	return scalar[bool](p, `SELECT NOT EXISTS (
			SELECT 1 FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
			WHERE i.indrelid = to_regclass($1) AND a.attname = 'customer_id' AND i.indnkeyatts = 1 AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
		) OR EXISTS (
			SELECT 1 FROM pg_attribute AS a WHERE a.attrelid = to_regclass($1) AND a.attname IN ('customer_id', 'sales_manager_id')
			AND NOT EXISTS (SELECT 1 FROM pg_constraint AS c WHERE c.conrelid = a.attrelid AND c.contype = 'f' AND c.conkey = ARRAY[a.attnum]))`, assignments)
}
