// Command testsum reads the output of go test -json, shows what a person wants
// to see of it while it comes (each package, and whatever fails, with all that
// it printed), and at the end writes one line to the file that is its argument:
//
//	N passed, N failed, N skipped
//
// Tests and subtests count alike. A package that fails without a failing test
// (it doesn't build, or exits early) counts as one failure, so that the line
// never says "0 failed" of a run that failed. The exit code is 1 then.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strings"
)

// event is a line of go test -json; see go doc test2json and go help buildjson.
type event struct {
	Action     string
	Package    string
	ImportPath string // in place of Package while building
	Test       string // empty where the event is the package's
	Elapsed    float64
	Output     string
}

type test struct{ pkg, name string }

type summary struct {
	passed, failed, skipped int

	running map[test][]string // what each printed so far; Test "" is the package itself
	order   []test            // of running, as they started
	broken  map[string]bool   // packages with a failed test
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("testsum: ")
	if len(os.Args) != 2 {
		log.Fatal("usage: go test -json ./... | testsum FILE")
	}

	s := summary{running: map[test][]string{}, broken: map[string]bool{}}
	if err := s.read(os.Stdin); err != nil {
		log.Fatal(err)
	}
	count := fmt.Sprintf("%d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
	//nolint:gosec // the path is the caller's choice: that is what the argument is for
	if err := os.WriteFile(os.Args[1], []byte(count), 0o600); err != nil {
		log.Fatal(err)
	}
	if s.failed > 0 {
		os.Exit(1)
	}
}

func (s *summary) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		if len(line) > 0 && json.Unmarshal(line, &e) == nil {
			s.add(e)
		} else {
			fmt.Print(string(line)) // not of test2json: the go command's own words
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *summary) add(e event) {
	t := test{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Print(e.Output)
	case "start", "run":
		s.running[t] = nil
		s.order = append(s.order, t)
	case "output":
		s.running[t] = append(s.running[t], e.Output)
	case "pass", "fail", "skip":
		if t.name == "" {
			s.endPackage(e)
		} else {
			s.endTest(e)
		}
	}
}

func (s *summary) endTest(e event) {
	t := test{e.Package, e.Test}
	switch e.Action {
	case "pass":
		s.passed++
	case "skip":
		s.skipped++
		s.show("SKIP", t) // with its reason
	case "fail":
		s.fail(t)
	}
	s.forget(t)
}

func (s *summary) fail(t test) {
	s.failed++
	s.broken[t.pkg] = true
	s.show("FAIL", t)
}

// show prints a test's name, and then what it printed, without the lines that
// say only that it started, paused, went on and ended.
func (s *summary) show(verdict string, t test) {
	fmt.Printf("--- %s: %s %s\n", verdict, t.pkg, t.name)
	for _, line := range s.running[t] {
		if !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(strings.TrimSpace(line), "--- "+verdict) {
			fmt.Print(line)
		}
	}
}

func (s *summary) endPackage(e event) {
	own := test{pkg: e.Package}
	for _, t := range slices.Clone(s.order) {
		switch {
		case t.pkg != e.Package || t == own:
			continue
		case e.Action == "fail":
			s.fail(t) // it never ended: the process died in it, by a timeout or os.Exit
		default:
			fmt.Print(strings.Join(s.running[t], "")) // a benchmark has no end of its own
		}
		s.forget(t)
	}
	switch e.Action {
	case "fail":
		if !s.broken[e.Package] {
			s.failed++
		}
		fmt.Print(strings.Join(s.running[own], ""))
	case "pass":
		fmt.Printf("ok  \t%s\t%.1fs\n", e.Package, e.Elapsed)
	}
	s.forget(own)
}

func (s *summary) forget(t test) {
	delete(s.running, t)
	s.order = slices.DeleteFunc(s.order, func(o test) bool { return o == t })
}
