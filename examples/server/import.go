package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi"
)

// formats maps file extensions to content types.
var formats = map[string]string{".csv": httpapi.CSV, ".ndjson": httpapi.NDJSON, ".jsonl": httpapi.NDJSON}

// importFile adds the leads of a file, all or none, to a database that a server has
// prepared. A server may be running on it.
func importFile(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	s, err := parseImportSettings(args, stdout)
	if err != nil {
		return err
	}
	from, err := os.Open(s.file)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // it was only read
	leads, err := httpapi.ReadLeads(from, formats[strings.ToLower(filepath.Ext(s.file))])
	if err != nil {
		return fmt.Errorf("%s: %w", s.file, err)
	}
	defer func() { err = errors.Join(err, leads.Close()) }()
	store, err := s.db.use(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	crm, err := cims.New(store, &cims.Config{Logger: slog.New(slog.NewTextHandler(stderr, nil))})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, crm.Close(context.WithoutCancel(ctx))) }()

	bar := progressBar{to: stderr, what: "leads", total: leads.Leads, begin: time.Now()}
	progress := bar.show
	if !isTerminal(stderr) {
		progress = nil
	}
	n, err := leads.AddTo(ctx, crm, cims.System("import"), progress)
	bar.clear()
	if err != nil {
		return fmt.Errorf("%s: nothing was imported: %w", s.file, err)
	}
	what := "leads"
	if n == 1 {
		what = "lead"
	}
	_, err = fmt.Fprintf(stdout, "%d %s imported from %s in %s\n", n, what, s.file, time.Since(bar.begin).Round(time.Millisecond))
	return err
}

// progressBar redraws a bar on one line of a terminal.
type progressBar struct {
	to     io.Writer
	what   string // the counted things
	total  int
	before int // count at the start
	begin  time.Time
	drawn  time.Time
}

const barWidth = 30

func (b *progressBar) show(stored int) {
	if time.Since(b.drawn) < time.Second/10 && stored < b.total {
		return
	}
	b.drawn = time.Now()
	done := stored * barWidth / max(b.total, 1)
	fmt.Fprintf(b.to, "\r[%s%s] %3d %%  %d of %d %s, %.0f/s ", strings.Repeat("#", done), strings.Repeat(" ", barWidth-done),
		stored*100/max(b.total, 1), stored, b.total, b.what, float64(stored-b.before)/time.Since(b.begin).Seconds())
}

// clear erases the line for the next output.
func (b *progressBar) clear() {
	if !b.drawn.IsZero() {
		fmt.Fprint(b.to, "\r\033[K")
	}
}
