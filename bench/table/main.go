// Command table turns the output of the benchmarks into one Markdown table. It shows each
// result, its floor, and whether the ratio reaches the goal.
//
//	go test -run '^$' -bench . -benchtime 1x ./bench | go run ./bench/table -versions "…"
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"runtime"
	"strconv"
	"strings"

	sqlite3 "modernc.org/sqlite/lib"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("table: ")
	versions := flag.String("versions", "", "what else was at work, such as the server")
	flag.Parse()
	if err := write(os.Stdout, os.Stdin, *versions); err != nil {
		log.Fatal(err)
	}
}

// result is one line of a benchmark's output.
type result struct {
	kind, database, what string
	metrics              map[string]float64
}

func write(w io.Writer, r io.Reader, versions string) error {
	cpu, results, err := parse(r)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s, %d cores, which client and database share. %s, SQLite %s%s.\n\n",
		cpu, runtime.NumCPU(), runtime.Version(), sqlite3.SQLITE_VERSION, versions)
	fmt.Fprintln(w, "| Database | What | Measured | p50 / p99 µs | Floor | Ratio | ± | Wanted | |")
	fmt.Fprintln(w, "|---|---|--:|--:|--:|--:|--:|--:|---|")
	idle := map[string]float64{}
	for _, r := range results {
		if name, ok := strings.CutPrefix(r.what, "GET healthz"); ok {
			idle[r.database+name] = r.metrics["requests/s"]
		}
	}
	for _, r := range results {
		fmt.Fprintf(w, "| %s | %s | %s |\n", r.database, r.what, r.row(idle))
	}
	return nil
}

func parse(r io.Reader) (cpu string, results []result, err error) {
	cpu = runtime.GOARCH
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if name, ok := strings.CutPrefix(line, "cpu: "); ok {
			cpu = name
		}
		if !strings.HasPrefix(line, "Benchmark") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 4 { // other output of a benchmark
			continue
		}
		one := result{metrics: map[string]float64{}}
		for i := 2; i+1 < len(fields); i += 2 {
			if one.metrics[fields[i+1]], err = strconv.ParseFloat(fields[i], 64); err != nil {
				return "", nil, fmt.Errorf("%s: %w", line, err)
			}
		}
		name := fields[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 { // the number of processors
			name = name[:i]
		}
		parts := strings.Split(strings.TrimPrefix(name, "Benchmark"), "/")
		if len(parts) < 3 {
			continue
		}
		one.kind, one.database = parts[0], strings.ReplaceAll(parts[1], "-", " ")
		one.what = describe(parts[2:])
		results = append(results, one)
	}
	return cpu, results, lines.Err()
}

// describe describes the rest of a benchmark's name.
func describe(parts []string) string {
	words := make([]string, len(parts))
	for i, part := range parts {
		name, value, counted := strings.Cut(part, "=")
		if !counted {
			words[i] = strings.ReplaceAll(part, "-", " ")
			continue
		}
		if n, err := strconv.Atoi(value); err == nil {
			value = thousands(float64(n))
		}
		words[i] = value + " " + name
	}
	return strings.Join(words, ", ")
}

// row returns the cells of a result. The floor of HTTP is a route without database access.
func (r result) row(idle map[string]float64) string {
	var measured, times, floor, ratio, spread string
	share := r.metrics["ratio"]
	switch r.kind {
	case "HTTP":
		rate := r.metrics["requests/s"]
		measured, spread = thousands(rate)+"/s", fmt.Sprintf("%.0f %%", 100*r.metrics["requests/s-spread"]/rate)
		times = thousands(r.metrics["p50-µs"]) + " / " + thousands(r.metrics["p99-µs"])
		_, connections, _ := strings.Cut(r.what, ",")
		if f := idle[r.database+","+connections]; f > 0 {
			floor, ratio = thousands(f)+"/s", fmt.Sprintf("%.2f", rate/f)
		}
		share = rate
	case "Reads":
		measured, floor = thousands(r.metrics["p50-µs"])+" µs", thousands(r.metrics["floor-p50-µs"])+" µs"
	default:
		measured, floor = thousands(r.metrics["leads/s"])+"/s", thousands(r.metrics["floor-leads/s"])+"/s"
	}
	if r.kind != "HTTP" {
		ratio, spread = fmt.Sprintf("%.2f", share), fmt.Sprintf("%.2f", r.metrics["ratio-spread"])
	}
	want, met := r.wanted(share)
	verdict := ""
	if want != "" && !met {
		verdict = "missed"
	}
	return strings.Join([]string{measured, times, floor, ratio, spread, want, verdict}, " | ")
}

// atLeast is the goal of intake, in ratios to the floor.
var atLeast = map[string]map[string]float64{
	"PostgreSQL":    {"1 callers": 0.65, "16 callers": 1.2, "64 callers": 3.7, "4x16 callers": 1.5},
	"SQLite FULL":   {"1 callers": 0.7, "16 callers": 4, "64 callers": 6},
	"SQLite NORMAL": {"1 callers": 0.6, "16 callers": 2.5, "64 callers": 4},
}

const atMost = 1.3 // of reads, in ratios to a thousand leads

func (r result) wanted(value float64) (text string, met bool) {
	switch r.kind {
	case "HTTP":
		if r.database != "PostgreSQL" || !strings.HasSuffix(r.what, ", 16 connections") {
			return "", true
		}
		rate := 10_000.0
		switch {
		case strings.HasPrefix(r.what, "POST customers"):
			rate = 5_000
		case !strings.HasPrefix(r.what, "GET"), strings.HasPrefix(r.what, "GET healthz"):
			return "", true
		}
		return "≥ " + thousands(rate) + "/s", value >= rate
	case "Reads":
		return fmt.Sprintf("≤ %.1f", atMost), value <= atMost
	}
	_, callers, _ := strings.Cut(r.what, ", ")
	least := atLeast[r.database][callers]
	if least == 0 {
		return "", true
	}
	return fmt.Sprintf("≥ %g", least), value >= least
}

// thousands formats a number with separators.
func thousands(n float64) string {
	text := strconv.FormatFloat(n, 'f', 0, 64)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
