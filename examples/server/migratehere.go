package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/migration"
)

// mover is the part of both storages that moves a database.
type mover interface {
	cims.Storage
	Plan(ctx context.Context) (migration.Plan, error)
	MigrateWithProgress(ctx context.Context, progress func(migration.Progress)) error
	Verify(ctx context.Context, options migration.VerifyOptions) (migration.Report, error)
	Repair(ctx context.Context, options migration.RepairOptions) ([]migration.Finding, error)
	Steps(ctx context.Context) (done, left int, err error)
	Rollback(ctx context.Context, options migration.RollbackOptions) error
}

var usagesMigrate = map[string]string{
	"plan": `Says what a migration would do, and what it found that is odd. Changes nothing.

  server migrate plan [-db URL]

Flags:
`,
	"up": `Adds what cims needs to a database, while its other programs go on writing.

  server migrate up [-db URL]

Interrupted, the same command goes on where it was.

Flags:
`,
	"sql": `Prints the steps that are left as plain SQL, to be run with psql.

  server migrate sql -db URL | psql -v ON_ERROR_STOP=1 URL

Flags:
`,
	"verify": `Compares a database with what it was before the migration, and with itself.

  server migrate verify [-while-running] [-db URL]

Flags:
`,
	"repair": `Sets right the counts, lists and ends of histories that others have left wrong.

  server migrate repair [-dry-run] [-db URL]

Says first what it will change. Changes nothing else.

Flags:
`,
	"rollback": `Takes away what the migration has added. Make a backup first.

  server migrate rollback [-force] [-db URL]

Flags:
`,
}

// migrateHere runs the commands that concern one database.
func migrateHere(ctx context.Context, command string, args []string, stdout, stderr io.Writer) (err error) {
	var running, dry, force bool
	flags := flag.NewFlagSet("server migrate "+command, flag.ContinueOnError)
	db := databaseFlag(flags)
	switch command {
	case "verify":
		flags.BoolVar(&running, "while-running", false, "other programs go on writing: what they have changed is no fault")
	case "repair":
		flags.BoolVar(&dry, "dry-run", false, "only say what would change")
	case "rollback":
		flags.BoolVar(&force, "force", false, "also where something is lost by it")
	}
	if err := parse(flags, args, stdout, usagesMigrate[command], ""); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("migrate %s: unexpected argument %q", command, flags.Arg(0))
	}
	where, err := databaseOf("-db", *db)
	if err != nil {
		return err
	}
	opened, err := where.existing(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	store, ok := opened.(mover)
	if !ok {
		return fmt.Errorf("migrate %s: not for this database", command)
	}
	switch command {
	case "plan":
		plan, err := store.Plan(ctx)
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(stdout, plan)
		return err
	case "sql":
		return migrateSQL(ctx, store, stdout)
	case "verify":
		return migrateVerify(ctx, store, running, stdout)
	case "repair":
		return migrateRepair(ctx, store, dry, stdout)
	case "rollback":
		return migrateRollback(ctx, store, force, stdout)
	default:
		return migrateUp(ctx, store, stdout, stderr)
	}
}

func migrateUp(ctx context.Context, store mover, stdout, stderr io.Writer) error {
	begin := time.Now()
	steps := stepProgress{to: stderr, drawn: isTerminal(stderr)}
	stop := steps.watch()
	err := store.MigrateWithProgress(ctx, steps.show)
	stop()
	steps.clear()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted: the same command goes on from here: %w", ctx.Err())
	case err != nil:
		return err
	case steps.count == 0:
		_, err = fmt.Fprintln(stdout, "Nothing was left to do.")
	default:
		_, err = fmt.Fprintf(stdout, "Done: %d steps in %s\n", steps.count, time.Since(begin).Round(time.Millisecond))
	}
	return err
}

// stepProgress prints each step, and draws a bar for a long one.
type stepProgress struct {
	to    io.Writer
	drawn bool

	mu    sync.Mutex
	step  string
	done  int64
	since time.Time // time of the last progress
	count int
	bar   *progressBar
}

// patience is the time without progress after which watch reports that it waits.
const patience = 5 * time.Second

// watch reports when the migration waits, until it is stopped.
func (s *stepProgress) watch() (stop func()) {
	s.since = time.Now()
	ended, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-ended:
				return
			case <-time.After(patience):
				s.mu.Lock()
				if waited := time.Since(s.since); waited >= patience {
					s.clear()
					fmt.Fprintf(s.to, "still waiting after %s: a lock or a long transaction of somebody else may be in the way\n", waited.Round(time.Second))
				}
				s.mu.Unlock()
			}
		}
	}()
	return func() { close(ended); <-stopped }
}

func (s *stepProgress) show(p migration.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.Step != s.step || p.Done != s.done {
		s.since, s.done = time.Now(), p.Done
	}
	if p.Step != s.step {
		s.clear()
		s.step, s.count, s.bar = p.Step, s.count+1, nil
		fmt.Fprintln(s.to, p.Step)
	}
	if p.Total == 0 || !s.drawn {
		return
	}
	if s.bar == nil {
		s.bar = &progressBar{to: s.to, what: "rows", total: int(p.Total), before: int(p.Done), begin: time.Now()}
	}
	s.bar.show(int(p.Done))
}

func (s *stepProgress) clear() {
	if s.bar != nil {
		s.bar.clear()
	}
}

func migrateSQL(ctx context.Context, store mover, stdout io.Writer) error {
	printer, ok := store.(interface {
		SQL(ctx context.Context) (string, error)
	})
	if !ok {
		return errors.New("migrate sql: for PostgreSQL only: up is all that an SQLite file needs")
	}
	text, err := printer.SQL(ctx)
	if err == nil {
		_, err = fmt.Fprint(stdout, text)
	}
	return err
}

func migrateVerify(ctx context.Context, store mover, running bool, stdout io.Writer) error {
	_, left, err := store.Steps(ctx)
	if err != nil {
		return err
	}
	if left > 0 {
		return fmt.Errorf("migrate verify: %d steps are left to do: migrate up does them", left)
	}
	report, err := store.Verify(ctx, migration.VerifyOptions{WhileRunning: running})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprint(stdout, report); err != nil {
		return err
	}
	if !report.OK() {
		return errors.New("migrate verify: something is wrong")
	}
	return nil
}

func migrateRepair(ctx context.Context, store mover, dry bool, stdout io.Writer) error {
	found, err := store.Repair(ctx, migration.RepairOptions{DryRun: true})
	if err != nil {
		return err
	}
	if len(found) == 0 {
		_, err = fmt.Fprintln(stdout, "Nothing is to be repaired.")
		return err
	}
	for _, f := range found {
		if _, err := fmt.Fprintf(stdout, "%s: %s (%d rows)\n    → %s\n", f.Where, f.Found, f.Rows, f.Does); err != nil {
			return err
		}
	}
	if dry {
		return nil
	}
	if _, err := store.Repair(ctx, migration.RepairOptions{}); err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, "Done.")
	return err
}

func migrateRollback(ctx context.Context, store mover, force bool, stdout io.Writer) error {
	if done, _, err := store.Steps(ctx); err != nil || done == 0 {
		if err == nil {
			_, err = fmt.Fprintln(stdout, "Nothing of cims is here to be taken away.")
		}
		return err
	}
	err := store.Rollback(ctx, migration.RollbackOptions{}) // with -force too: the error lists the losses
	if refused, ok := errors.AsType[*migration.RefusedError](err); ok {
		for _, reason := range refused.Reasons {
			fmt.Fprintln(stdout, reason)
		}
		if !force {
			return errors.New("migrate rollback: this would be lost: add -force to go on")
		}
		fmt.Fprintln(stdout, "This is lost, as -force says.")
		err = store.Rollback(ctx, migration.RollbackOptions{Force: true})
	}
	if err == nil {
		_, err = fmt.Fprintln(stdout, "Done: the database is as it would be without cims.")
	}
	return err
}
