package move

import (
	"context"
	"fmt"
	"strings"

	"github.com/cimskit/cims/storage/internal/sqlstore"
)

// SQL returns the remaining steps as SQL for psql.
func (m *Mover) SQL(ctx context.Context) (string, error) {
	if err := m.db.PingContext(ctx); err != nil {
		return "", m.store.Explain(err)
	}
	if err := m.check(ctx); err != nil {
		return "", m.store.Explain(err)
	}
	left := m.left(ctx)
	if len(left) == 0 {
		return "-- Nothing is left to do.\n", nil
	}
	var text strings.Builder
	text.WriteString("-- Run this with psql -v ON_ERROR_STOP=1. If a lock is not to be had in time, print it\n-- anew and go on: what was done is not in it any more.\n\n")
	text.WriteString("SET client_min_messages = warning;\nSET lock_timeout = '200ms';\n" + sqlstore.Ledger + ";\n")
	done := len(m.steps) - len(left)
	for i, step := range left {
		record := fmt.Sprintf("INSERT INTO cims_migrations (id, name, applied_at) VALUES (%d, '%s', now() AT TIME ZONE 'UTC');\n", done+i+1, step.Name)
		body := strings.TrimSpace(step.SQL)
		switch step.Kind {
		case Batches:
			_, call, _ := strings.Cut(body, "\n")
			fmt.Fprintf(&text, "\n-- %s\nDO $$ BEGIN\n\tWHILE NOT (SELECT finished FROM (%s) AS batch) LOOP\n\t\tCOMMIT;\n\tEND LOOP;\nEND $$;\n%s",
				step.Does, call, record)
		case Index:
			fmt.Fprintf(&text, "\nSET lock_timeout = 0;\n%s\nSET lock_timeout = '200ms';\n%s", concurrently(body), record)
		case Once:
			fmt.Fprintf(&text, "\nBEGIN;\n%s\n%sCOMMIT;\n", body, record)
		}
	}
	text.WriteString("\nRESET lock_timeout;\nRESET client_min_messages;\n")
	return text.String(), nil
}

func concurrently(index string) string {
	return strings.ReplaceAll(index, "CREATE INDEX ", "CREATE INDEX CONCURRENTLY IF NOT EXISTS ")
}
