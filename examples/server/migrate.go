package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cimskit/cims/storage/transfer"
)

const (
	usageMigrate = `Moves a database over to cims, and back; or to another place.

  server migrate plan [-db URL]                says what up would do, and changes nothing
  server migrate up [-db URL]                  does it, while others go on writing
  server migrate sql [-db URL]                 prints what up would do for psql
  server migrate verify [-db URL]              compares what is there with what was
  server migrate repair [-db URL]              sets right the counts that others left wrong
  server migrate rollback [-db URL]            takes away what up has added
  server migrate copy -from URL -to URL        moves everything to another database
`
	usageMigrateCopy = `Moves everything to another database, and compares both.

  server migrate copy -from URL -to URL

Stop all servers on both first. What is copied from is only read; what is copied
to has to be new. Interrupted, the same command goes on where it was.

Flags:
`
)

// migrate dispatches the commands below migrate.
func migrate(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	command := ""
	if len(args) > 0 {
		command = args[0]
	}
	switch command {
	case "plan", "up", "sql", "verify", "repair", "rollback":
		return migrateHere(ctx, command, args[1:], stdout, stderr)
	case "copy":
		return migrateCopy(ctx, args[1:], stdout, stderr)
	case "-h", "-help", "--help":
		fmt.Fprint(stdout, usageMigrate)
		return flag.ErrHelp
	default:
		return fmt.Errorf("migrate: unknown command %q: there are plan, up, sql, verify, repair, rollback and copy", command)
	}
}

// migrateCopySettings are the settings of the command migrate copy.
type migrateCopySettings struct{ from, to database }

func parseMigrateCopySettings(args []string, stdout io.Writer) (migrateCopySettings, error) {
	var s migrateCopySettings
	flags := flag.NewFlagSet("server migrate copy", flag.ContinueOnError)
	from := flags.String("from", "", "sqlite:PATH or postgres://… `URL` to copy from (required)")
	to := flags.String("to", "", "sqlite:PATH or postgres://… `URL` to copy to (required)")
	if err := parse(flags, args, stdout, usageMigrateCopy, ""); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("migrate copy: unexpected argument %q", flags.Arg(0))
	}
	var err error
	if s.from, err = databaseOf("-from", *from); err != nil {
		return s, err
	}
	s.to, err = databaseOf("-to", *to)
	return s, err
}

// migrateCopy copies everything from a database that a server has prepared to another one,
// which it migrates itself.
func migrateCopy(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	s, err := parseMigrateCopySettings(args, stdout)
	if err != nil {
		return err
	}
	from, err := s.from.use(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, left, err := s.prepare(ctx, from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()

	begin := time.Now()
	progress := copyProgress{bar: progressBar{to: stderr}, rows: map[string]int64{}, drawn: isTerminal(stderr)}
	err = transfer.Copy(ctx, from, to, progress.show)
	progress.bar.clear()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted: the same command goes on from here: %w", ctx.Err())
	case err != nil:
		return err
	}
	for _, what := range left {
		fmt.Fprintln(stdout, "Left behind:", what)
	}
	var rows int64
	for _, n := range progress.rows {
		rows += n
	}
	_, err = fmt.Fprintf(stdout, "%d rows of %d tables copied to %s and found equal, in %s\n",
		rows, len(progress.rows), s.to.shown(), time.Since(begin).Round(time.Millisecond))
	return err
}

// prepare opens and migrates the target of a copy. If the copy isn't possible it changes
// nothing, and leaves no new file.
func (s migrateCopySettings) prepare(ctx context.Context, from transfer.Storage) (to transfer.Storage, left []string, err error) {
	_, missing := os.Stat(s.to.path)
	if to, err = s.to.create(ctx); err != nil {
		return nil, nil, err
	}
	if left, err = transfer.Check(ctx, from, to); err != nil {
		err = errors.Join(err, to.Close())
		if s.to.path != "" && missing != nil {
			err = errors.Join(err, os.Remove(s.to.path))
		}
		return nil, nil, err
	}
	if err := to.Migrate(ctx); err != nil && !errors.Is(err, transfer.ErrUnfinished) {
		return nil, nil, fmt.Errorf("-to: %w", errors.Join(err, to.Close()))
	}
	return to, left, nil
}

// copyProgress draws a bar for the copy of each table, and another for its comparison.
type copyProgress struct {
	bar   progressBar
	rows  map[string]int64 // number of equal rows, by table
	drawn bool
}

func (c *copyProgress) show(p transfer.Progress) {
	what := p.Table + " rows copied"
	if p.Verifying {
		what = p.Table + " rows compared"
		c.rows[p.Table] = p.Done
	}
	if !c.drawn {
		return
	}
	if what != c.bar.what {
		c.bar.clear()
		c.bar = progressBar{to: c.bar.to, what: what, total: int(p.Total), before: int(p.Done), begin: time.Now()}
	}
	c.bar.show(int(p.Done))
}
