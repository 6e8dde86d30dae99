// Command server is a CRM for trying out and an example of a host. It serves the routes of
// httpapi and their documentation, on an SQLite file or a PostgreSQL database.
//
//	go run ./examples/server                         starts it
//	go run ./examples/server -demo                   … with made-up leads
//	go run ./examples/server token -email E          prints a token for a user
//	go run ./examples/server import FILE             adds the leads of a file
//	go run ./examples/server migrate …               migrates an older program's database, or copies a database
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/mattn/go-isatty"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/storage/migration"
	"github.com/cimskit/cims/storage/transfer"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to be stopped
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var err error
	command := ""
	if len(args) > 0 {
		command = args[0]
	}
	switch command {
	case "token":
		err = printToken(ctx, args[1:], stdout)
	case "import":
		err = importFile(ctx, args[1:], stdout, stderr)
	case "migrate":
		err = migrate(ctx, args[1:], stdout, stderr)
	default:
		var s settings
		if s, err = parseSettings(args, stdout); err == nil {
			err = start(ctx, s, stdout, stderr)
		}
	}
	if errors.Is(err, flag.ErrHelp) { // the help was requested and is printed
		return nil
	}
	return err
}

// start prepares the database and serves until ctx ends. It checks the settings before it
// writes anything.
func start(ctx context.Context, s settings, stdout, stderr io.Writer) error {
	level := slog.LevelInfo
	if s.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))

	secret, err := loadSecret(s.db)
	if err != nil {
		return err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", s.addr)
	if err != nil {
		return fmt.Errorf("-addr: %w", err)
	}
	defer func() { _ = listener.Close() }() // the server may have closed it
	store, err := s.db.create(ctx)
	if err != nil {
		return err
	}
	defer closing(log, "database", store.Close)
	if secret == nil {
		if secret, err = makeSecret(s.db); err != nil {
			return err
		}
	}
	if err := prepare(ctx, store, log); err != nil {
		return err
	}
	crm, err := cims.New(store, &cims.Config{Logger: log})
	if err != nil {
		return err
	}
	defer closing(log, "manager", func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
		defer cancel()
		return crm.Close(ctx)
	})
	first, err := makeCEO(ctx, crm, s.ceo)
	if err != nil {
		return err
	}
	if s.demo {
		if err := fillDemo(ctx, store, log); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	handler, err := newHandler(crm, secret, s.origins, log)
	if err != nil {
		return err
	}
	base := baseURL(listener.Addr())
	fmt.Fprintf(stdout, "cims is at %s, its API at %s/docs\n", base, base)
	if first != nil && isTerminal(stdout) {
		err = greet(stdout, *first, base, secret)
	} else {
		err = hint(ctx, stdout, store, s)
	}
	if err != nil && ctx.Err() == nil { // if ctx has ended, the server stops normally below
		return err
	}
	return serve(ctx, listener, handler, log)
}

// prepare migrates the database. It reports tables of another program, since the database
// may have been named by mistake.
func prepare(ctx context.Context, store transfer.Storage, log *slog.Logger) error {
	if m, ok := store.(mover); ok {
		_, left, err := m.Steps(ctx)
		if err != nil {
			return err
		}
		if left > 0 {
			plan, err := m.Plan(ctx)
			if err != nil {
				return err
			}
			if plan.State != migration.Empty {
				log.Info("migrating", "database", plan.State, "steps", left, "back", "server migrate rollback")
			}
		}
	}
	return store.Migrate(ctx)
}

func closing(log *slog.Logger, what string, closeIt func() error) {
	if err := closeIt(); err != nil {
		log.Error("closing", "what", what, "error", err)
	}
}

// makeCEO creates the first user, who can create others. It returns nil if there are users.
func makeCEO(ctx context.Context, crm *cims.Manager, email string) (*cims.User, error) {
	trusted := cims.System("first start")
	users, err := crm.Users(ctx, trusted, cims.UserFilter{}, cims.PageRequest{Limit: 1})
	if err != nil || len(users.Items) > 0 {
		return nil, err
	}
	ceo, err := crm.CreateUser(ctx, trusted, cims.NewUser{Email: email, Name: "First", Surname: "CEO", RoleName: cims.RoleCEO})
	if errors.Is(err, cims.ErrExists) { // another process was faster
		return nil, nil //nolint:nilnil // that is somebody
	}
	if err != nil {
		return nil, err
	}
	return &ceo, nil
}

// baseURL returns the URL of a listener for a browser on this machine. A listener on all
// addresses has no address that a browser could open.
func baseURL(addr net.Addr) string {
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return fmt.Sprintf("http://127.0.0.1:%d", tcp.Port)
	}
	return "http://" + addr.String()
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && isatty.IsTerminal(file.Fd())
}

// greet prints the first steps. It shows a token, so it only prints to a terminal: other
// output may be a log.
func greet(stdout io.Writer, ceo cims.User, base string, secret []byte) error {
	token, err := tokenFor(secret, ceo, 24*time.Hour)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, `
You are the CEO, %s. Your token, good for a day:

  TOKEN=%s

See who sells, then add a lead:

  curl -H "Authorization: Bearer $TOKEN" %s/crm/sales-managers
  curl -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \
    -d '{"full_name": "Aziza Karimova", "phone_number": "+998901234567"}' %s/crm/customers

`, ceo.Email, token, base, base)
	return err
}

// hint tells how to get a token. If the database had users before, the CEO of the settings
// may not be one of them.
func hint(ctx context.Context, stdout io.Writer, store cims.Storage, s settings) error {
	email := s.ceo
	users, err := store.AccountsByEmail(ctx, email)
	if err != nil {
		return err
	}
	if len(users) == 0 {
		email = "EMAIL"
	}
	command := "go run ./examples/server token -email " + shellWord(email)
	if s.db.url != defaultDatabase {
		command += " -db " + shellWord(s.db.shown())
	}
	_, err = fmt.Fprintf(stdout, "For a token: %s\n", command)
	return err
}

// shellWord quotes a text unless a shell reads it as one word.
func shellWord(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@%+=:,./_-", r)
	}
	if text != "" && strings.TrimFunc(text, plain) == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
