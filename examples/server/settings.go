package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	usage = `A CRM to try.

  server [flags]                               starts it
  server token -email E [-ttl 1h] [-db URL]    prints a token for a user
  server import [-db URL] FILE                 adds the leads of a file
  server migrate plan -db URL                  says what up would do, and changes nothing
  server migrate up -db URL                    moves an older CIMS database to cims
  server migrate sql -db URL                   prints what up would do for psql
  server migrate verify -db URL                compares what is there with what was
  server migrate repair -db URL                sets right the counts that others left wrong
  server migrate rollback -db URL              takes away what up has added
  server migrate copy -from URL -to URL        moves everything to another database

-h after a command says more of it.

Flags:
`
	usageImport = `Adds the leads of a file, all of them or none, each with its sales manager.

  server import [-db URL] FILE

FILE.csv has a first row that names the fields, FILE.ndjson or FILE.jsonl one
JSON object on each line. The fields are full_name, which has to be there,
phone_number, platform, username, notes and status_name.

Flags:
`
	usageCommand = `Prints a token for a user.

  server token -email E [-ttl 1h] [-db URL]

Flags:
`
	usageKey = `
Environment without a flag:
  CIMS_JWT_SECRET
    	key of the tokens, at least 32 bytes; absent: one is made and kept
    	beside the SQLite file; required with PostgreSQL
`
	usageOrigins = `  CIMS_CORS_ORIGINS
    	origins such as https://crm.example.com, comma separated, whose pages
    	may call the API (default none)
`
)

// settings are the settings of the server. Flags override the environment.
type settings struct {
	addr    string
	db      database
	ceo     string
	origins []string
	demo    bool
	verbose bool
}

func parseSettings(args []string, stdout io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	flags.StringVar(&s.addr, "addr", env("CIMS_ADDR", "127.0.0.1:8000"), "listen `address` (CIMS_ADDR)")
	db := databaseFlag(flags)
	flags.StringVar(&s.ceo, "ceo", env("CIMS_CEO_EMAIL", "ceo@example.com"), "`email` of the first CEO, made when there are no users (CIMS_CEO_EMAIL)")
	flags.BoolVar(&s.demo, "demo", false, "fill an empty database with made-up users and leads")
	flags.BoolVar(&s.verbose, "v", false, "log every request")
	err := parse(flags, args, stdout, usage, usageKey+usageOrigins)
	if err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("unknown command %q: there are token, import and migrate, and they come before all flags", flags.Arg(0))
	}
	if s.db, err = parseDatabase(*db); err != nil {
		return s, err
	}
	if !validEmail(s.ceo) {
		return s, fmt.Errorf("-ceo: %q is no email", s.ceo)
	}
	s.origins, err = parseOrigins(os.Getenv("CIMS_CORS_ORIGINS"))
	return s, err
}

// tokenSettings are the settings of the command token.
type tokenSettings struct {
	db    database
	email string
	ttl   time.Duration
}

func parseTokenSettings(args []string, stdout io.Writer) (tokenSettings, error) {
	var s tokenSettings
	flags := flag.NewFlagSet("server token", flag.ContinueOnError)
	db := databaseFlag(flags)
	flags.StringVar(&s.email, "email", "", "`email` of the user that the token is for (required)")
	flags.DurationVar(&s.ttl, "ttl", time.Hour, "how long the token is good for")
	err := parse(flags, args, stdout, usageCommand, usageKey)
	switch {
	case err != nil:
		return s, err
	case flags.NArg() > 0:
		return s, fmt.Errorf("token: unexpected argument %q", flags.Arg(0))
	case s.email == "":
		return s, errors.New("-email: whose token? Name a user's email")
	case s.ttl <= 0:
		return s, fmt.Errorf("-ttl: want a time above 0, such as 1h, not %s", s.ttl)
	}
	s.db, err = parseDatabase(*db)
	return s, err
}

// importSettings are the settings of the command import.
type importSettings struct {
	db   database
	file string
}

func parseImportSettings(args []string, stdout io.Writer) (importSettings, error) {
	var s importSettings
	flags := flag.NewFlagSet("server import", flag.ContinueOnError)
	db := databaseFlag(flags)
	if err := parse(flags, args, stdout, usageImport, ""); err != nil {
		return s, err
	}
	if flags.NArg() != 1 {
		return s, errors.New("import: which file? Name one, after all flags")
	}
	s.file = flags.Arg(0)
	if _, known := formats[strings.ToLower(filepath.Ext(s.file))]; !known {
		return s, fmt.Errorf("import: %s: want a name that ends in .csv, .ndjson or .jsonl", s.file)
	}
	var err error
	s.db, err = parseDatabase(*db)
	return s, err
}

// parse parses flags, and prints help on request. The flag package itself would also print
// an error and all flags, although the caller prints the error.
func parse(flags *flag.FlagSet, args []string, stdout io.Writer, before, after string) error {
	flags.SetOutput(io.Discard)
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		flags.SetOutput(stdout)
		fmt.Fprint(stdout, before)
		flags.PrintDefaults()
		fmt.Fprint(stdout, after)
		return err
	}
	if err != nil {
		return fmt.Errorf("%w (-h lists the flags)", err)
	}
	return nil
}

func databaseFlag(flags *flag.FlagSet) *string {
	// The help doesn't show the value of the environment, which may hold a password.
	db := env("CIMS_DATABASE_URL", defaultDatabase)
	flags.Func("db", "sqlite:PATH or postgres://… `URL` (CIMS_DATABASE_URL; default "+defaultDatabase+")", func(value string) error {
		db = value
		return nil
	})
	return &db
}

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func validEmail(text string) bool {
	const longest = 255 // the limit of cims
	parsed, err := mail.ParseAddress(text)
	return err == nil && parsed.Address == text && len(text) <= longest
}

// parseOrigins accepts only origins as browsers send them. Any other form would silently
// never match.
func parseOrigins(list string) ([]string, error) {
	var origins []string
	for origin := range strings.SplitSeq(list, ",") {
		if origin = strings.TrimSpace(origin); origin == "" {
			continue
		}
		if strings.Contains(origin, "*") {
			return nil, fmt.Errorf("CIMS_CORS_ORIGINS: %q would let strange pages call the API with a user's credentials: name each origin", origin)
		}
		parsed, err := url.Parse(origin)
		web := err == nil && (parsed.Scheme == "http" || parsed.Scheme == "https")
		if !web || parsed.Hostname() == "" || origin != parsed.Scheme+"://"+parsed.Host {
			return nil, fmt.Errorf("CIMS_CORS_ORIGINS: %q is no origin: want https://host or http://host:port, without a path", origin)
		}
		origins = append(origins, origin)
	}
	return origins, nil
}
