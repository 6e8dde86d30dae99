package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims/internal/pgtest"
)

// section is a part of a page: its heading, and what it shows.
type section struct {
	heading string
	blocks  []block
}

// block is commands, and what they print if the page shows it.
type block struct {
	commands string
	prints   string
}

func readPage(t *testing.T, path string) []section {
	t.Helper()
	text, err := os.ReadFile(path) //nolint:gosec // our own page
	require.NoError(t, err)
	sections := []section{{}}
	fences := regexp.MustCompile("(?s)\n(?:## ([^\n]+)|```(sh|text)\n(.*?)\n```)\n").FindAllStringSubmatch(string(text), -1)
	require.Equal(t, strings.Count(string(text), "```"), 2*(strings.Count(string(text), "\n```sh\n")+strings.Count(string(text), "\n```text\n")), "another kind of block")
	for _, match := range fences {
		last := &sections[len(sections)-1]
		switch {
		case match[1] != "":
			sections = append(sections, section{heading: match[1]})
		case match[2] == "sh":
			last.blocks = append(last.blocks, block{commands: match[3]})
		default:
			require.NotEmpty(t, last.blocks, "what prints that? %s", match[3])
			last.blocks[len(last.blocks)-1].prints = match[3]
		}
	}
	return sections
}

// shell is a bash that a person types into: jobs and variables stay.
type shell struct {
	t      *testing.T
	stdin  *os.File
	lines  *bufio.Scanner
	stderr *lockedBuffer
}

func startShell(t *testing.T, folder string, env []string) *shell {
	t.Helper()
	read, write, err := os.Pipe()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	cmd := exec.CommandContext(ctx, "bash", "--norc")
	s := &shell{t: t, stdin: write, stderr: new(lockedBuffer)}
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stderr = folder, env, read, s.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	require.NoError(t, read.Close())
	s.lines = bufio.NewScanner(out)
	t.Cleanup(func() {
		_, _ = fmt.Fprintln(write, "kill $(jobs -p) 2>/dev/null; exit 0") // it may have ended
		_ = write.Close()
		for s.lines.Scan() { // to its end, for Wait
		}
		_ = cmd.Wait() // what failed has been said
		cancel()
	})
	// Job control, as on a terminal; what fails ends it.
	_, err = fmt.Fprintln(write, "set -em")
	require.NoError(t, err)
	return s
}

const endOfBlock = "-- end of block --"

// run types commands and returns what they print.
func (s *shell) run(commands string) string {
	s.t.Helper()
	_, err := fmt.Fprintf(s.stdin, "{\n%s\n} </dev/null\necho; echo '%s'\n", commands, endOfBlock)
	require.NoError(s.t, err)
	var printed strings.Builder
	for s.lines.Scan() {
		if s.lines.Text() == endOfBlock {
			return strings.TrimSpace(printed.String())
		}
		printed.WriteString(s.lines.Text() + "\n")
	}
	require.Fail(s.t, "a command has failed", "%s\n%s\n%s", commands, printed.String(), s.stderr)
	return ""
}

// requireShown compares with what a page shows: … stands for anything.
func requireShown(t *testing.T, shown, printed string) {
	t.Helper()
	pattern := strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(shown)), "…", "(?s:.*?)")
	require.Regexp(t, "^"+pattern+"$", printed)
}

// TestMovingAsThePageSays runs each command of docs/moving.md as it stands there,
// in order, on a database of its own at which the older program works until the
// page says to stop it.
func TestMovingAsThePageSays(t *testing.T) {
	t.Parallel()
	pgtest.Need(t)
	root, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	sections := readPage(t, filepath.Join(root, "docs", "moving.md"))

	db := ownDatabase(t)
	older := deployed(0)
	older.fill(t, db)
	conn := connect(t, db)
	before := remember(t, conn)
	path := os.Getenv("PATH")
	for _, name := range []string{"psql", "pg_dump"} {
		program := postgresProgram(t, conn, name)
		if program == "" {
			t.Skip("NOT RUN: there is no " + name)
		}
		path = filepath.Dir(program) + string(filepath.ListSeparator) + path
	}
	program := startOlder(t, db)
	stop := program.begin(20)
	defer stop()

	free, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := free.Addr().String()
	require.NoError(t, free.Close())
	files := t.TempDir()
	shell := startShell(t, root, append(cleanEnv(), "PATH="+path, "DB="+db, "ADDR="+addr, "CEO="+older.ceo, "CIMS_JWT_SECRET="+secretForTests,
		"BACKUP="+filepath.Join(files, "backup"), "LOG="+filepath.Join(files, "log"), "COPY="+filepath.Join(files, "copy.db")))

	commands := 0
	for _, section := range sections {
		if section.heading == "Cut over" {
			stop()
			require.Empty(t, program.failures)
		}
		for _, block := range section.blocks {
			printed := shell.run(block.commands)
			if block.prints != "" {
				requireShown(t, block.prints, printed)
			}
			commands++
		}
		if section.heading == "Back" {
			before.requireAway(t, conn, ids(program.touched), nil)
		}
	}
	require.GreaterOrEqual(t, commands, 10)
	require.Greater(t, program.writes, 10)
}
