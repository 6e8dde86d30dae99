package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims/internal/pgtest"
)

// binary is the server as a user builds it: tests run it as processes.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		folder, err := os.MkdirTemp("", "cims-server")
		if err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(folder) }()
		binary = filepath.Join(folder, "server")
		build := exec.Command("go", "build", "-o", binary, ".") //nolint:gosec,noctx // our own path
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

const secretForTests = "0123456789abcdef0123456789abcdef"

// process is a running server.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	base   string
	stdout *lockedBuffer
	stderr *lockedBuffer
	read   chan struct{} // closed when stdout has been read to its end
	env    []string
	db     string
}

// lockedBuffer has no methods but these: others of bytes.Buffer, such as
// ReadFrom, which io.Copy prefers, would pass the lock by.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// launch starts a server on a free port and waits until it says where.
func launch(t *testing.T, db string, args ...string) *process {
	t.Helper()
	p := begin(t, db, args...)
	p.await()
	return p
}

// begin starts a server.
func begin(t *testing.T, db string, args ...string) *process {
	t.Helper()
	p := &process{
		t: t, db: db, stdout: new(lockedBuffer), stderr: new(lockedBuffer), read: make(chan struct{}),
		env: cleanEnv("CIMS_JWT_SECRET=" + secretForTests),
	}
	p.cmd = exec.Command(binary, append([]string{"-addr", "127.0.0.1:0", "-db", db}, args...)...) //nolint:gosec,noctx // our own binary; ended by stop
	p.cmd.Env = p.env
	p.cmd.Stderr = p.stderr
	stdout, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(p.stop)
	go func() {
		defer close(p.read)
		_, _ = io.Copy(p.stdout, stdout) // ends with the process
	}()
	return p
}

// await waits until the server says where it is.
func (p *process) await() {
	p.t.Helper()
	var line string
	require.Eventually(p.t, func() bool {
		select {
		case <-p.read:
			return true
		default:
		}
		var whole bool
		line, _, whole = strings.Cut(p.stdout.String(), "\n")
		return whole
	}, time.Minute, time.Millisecond)
	where, found := strings.CutPrefix(line, "cims is at ")
	require.True(p.t, found, p.stderr)
	p.base, _, _ = strings.Cut(where, ",")
}

// cleanEnv returns the environment without settings of the server.
func cleanEnv(more ...string) []string {
	var env []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "CIMS_") {
			env = append(env, entry)
		}
	}
	return append(env, more...)
}

// stop ends the server as an operator does, and expects it to end well.
func (p *process) stop() {
	if p.cmd.ProcessState != nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended just now
	<-p.read
	err := p.cmd.Wait()
	require.NoError(p.t, err, p.stderr)
}

func (p *process) token(email string) string {
	p.t.Helper()
	cmd := exec.Command(binary, "token", "-db", p.db, "-email", email) //nolint:gosec,noctx // our own binary
	cmd.Env = p.env
	out, err := cmd.Output()
	require.NoError(p.t, err)
	return strings.TrimSpace(string(out))
}

// client asks a server in somebody's name.
type client struct {
	p     *process
	token string
}

func (p *process) as(email string) client { return client{p, p.token(email)} }

// call makes a request, expects a status and returns the decoded answer.
func (c client) call(status int, method, path string, body any) any {
	c.p.t.Helper()
	answer, err := c.try(status, method, path, body)
	require.NoError(c.p.t, err, "%s", c.p.stderr)
	return answer
}

func (c client) try(status int, method, path string, body any) (any, error) {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(context.Background(), method, c.p.base+path, reader)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // read to its end
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != status {
		return nil, fmt.Errorf("%s %s: %d, want %d: %s", method, path, response.StatusCode, status, text)
	}
	if len(text) == 0 {
		return nil, nil
	}
	var answer any
	err = json.Unmarshal(text, &answer)
	return answer, err
}

func (c client) get(path string) map[string]any {
	c.p.t.Helper()
	return c.call(http.StatusOK, http.MethodGet, path, nil).(map[string]any)
}

func (c client) list(path string) []any {
	c.p.t.Helper()
	return c.call(http.StatusOK, http.MethodGet, path, nil).([]any)
}

func (c client) post(path string, body any) map[string]any {
	c.p.t.Helper()
	status := http.StatusCreated
	if strings.HasPrefix(path, "/crm/assign") {
		status = http.StatusOK
	}
	return c.call(status, http.MethodPost, path, body).(map[string]any)
}

func (c client) hire(names ...string) {
	c.p.t.Helper()
	for _, name := range names {
		c.post("/management/users", map[string]any{
			"email": strings.ToLower(name) + "@example.com", "name": name, "surname": "Karimov", "role_name": "sales_manager",
		})
	}
}

// leads reads the list of customers to its end.
func (c client) leads() []map[string]any {
	c.p.t.Helper()
	var items []map[string]any
	cursor := ""
	for {
		page := c.get("/crm/customers?limit=200" + cursor)
		for _, item := range page["items"].([]any) {
			items = append(items, item.(map[string]any))
		}
		if page["next"] == nil {
			return items
		}
		cursor = "&cursor=" + page["next"].(string)
	}
}

func sqliteFile(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "crm.db") }

// onBoth runs a test on each database.
func onBoth(t *testing.T, test func(t *testing.T, db string)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) { test(t, sqliteFile(t)) })
	t.Run("PostgreSQL", func(t *testing.T) { test(t, pgtest.URL(t)) })
}

func TestFirstStart(t *testing.T) {
	onBoth(t, func(t *testing.T, db string) {
		p := launch(t, db)
		hint := "For a token: go run ./examples/server token -email ceo@example.com -db " + shellWord(db) + "\n"
		ceo := p.as("ceo@example.com")
		me := ceo.get("/me")
		require.Equal(t, "ceo", me["role_name"])
		require.Len(t, me["permissions"], 13)
		require.Len(t, ceo.list("/management/statuses"), 6)
		require.Len(t, ceo.list("/management/roles"), 5)
		require.Empty(t, ceo.list("/crm/sales-managers"))
		require.Equal(t, map[string]any{
			"total_customers": 0.0, "project_started_count": 0.0, "conversion_rate": 0.0, "period": "Oxirgi 0 ta lead",
		}, ceo.get("/crm/conversion-rate"))
		for _, path := range []string{"/", "/healthz", "/readyz", "/docs", "/openapi.json"} {
			response, err := http.Get(p.base + path) //nolint:noctx // our own server
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, response.StatusCode, path)
			require.NoError(t, response.Body.Close())
		}

		p.stop()
		again := launch(t, db)
		require.Len(t, again.as("ceo@example.com").list("/management/roles"), 5)
		again.stop()
		for _, p := range []*process{p, again} {
			require.Contains(t, p.stdout.String(), hint)
			require.NotContains(t, p.stdout.String()+p.stderr.String(), "eyJ", "no token in what may be a log")
		}
	})
}

func TestNineLeadsOverThreeManagersAreAStrictRotation(t *testing.T) {
	onBoth(t, func(t *testing.T, db string) {
		ceo := launch(t, db).as("ceo@example.com")
		ceo.hire("Aziza", "Bekzod", "Dilnoza")
		var order []string
		for i := range 9 {
			lead := ceo.post("/crm/customers", map[string]any{"full_name": fmt.Sprintf("Lead %d", i)})
			order = append(order, lead["sales_manager"].(map[string]any)["name"].(string))
		}
		require.Equal(t, strings.Fields(strings.Repeat("Aziza Bekzod Dilnoza ", 3)), order)
	})
}

// TestTwoProcessesShareOneRotation adds 2,000 leads through two servers on one
// database, from 16 clients at once.
func TestTwoProcessesShareOneRotation(t *testing.T) {
	const leads, clients, managers = 2000, 16, 5
	onBoth(t, func(t *testing.T, db string) {
		first := launch(t, db)
		second := launch(t, db)
		ceo := first.as("ceo@example.com")
		ceo.hire("Aziza", "Bekzod", "Dilnoza", "Feruza", "Gulnora")
		var group sync.WaitGroup
		errs := make(chan error, leads)
		for i := range clients {
			c := client{[]*process{first, second}[i%2], ceo.token}
			group.Go(func() {
				for j := range leads / clients {
					if _, err := c.try(http.StatusCreated, http.MethodPost, "/crm/customers", map[string]any{"full_name": fmt.Sprintf("Lead %d.%d", i, j)}); err != nil {
						errs <- err
					}
				}
			})
		}
		group.Wait()
		close(errs)
		for err := range errs {
			require.NoError(t, err)
		}

		counts := map[string]int{}
		for _, lead := range ceo.leads() {
			require.NotNil(t, lead["sales_manager"], lead)
			counts[lead["sales_manager"].(map[string]any)["name"].(string)]++
		}
		require.Len(t, counts, managers)
		for _, manager := range ceo.list("/crm/sales-managers") {
			m := manager.(map[string]any)
			require.Equal(t, leads/managers, counts[m["name"].(string)])
			require.InDelta(t, leads/managers, m["assigned_leads_count"], 0)
		}
	})
}

// TestAnyProcessAssignsWaitingLeads checks that a manager can become eligible through
// another process than the one that added the lead.
func TestAnyProcessAssignsWaitingLeads(t *testing.T) {
	onBoth(t, func(t *testing.T, db string) {
		first := launch(t, db)
		ceo := first.as("ceo@example.com")
		lead := ceo.post("/crm/customers", map[string]any{"full_name": "Waiting"})
		require.Nil(t, lead["sales_manager"])
		first.stop()
		second := launch(t, db).as("ceo@example.com")
		second.hire("Aziza")
		require.Eventually(t, func() bool {
			return second.get(fmt.Sprintf("/crm/customers/%v", lead["id"]))["sales_manager"] != nil
		}, time.Minute, 10*time.Millisecond)
	})
}

func TestDemo(t *testing.T) {
	p := launch(t, sqliteFile(t), "-demo")
	ceo := p.as("ceo@example.com")
	require.Len(t, ceo.leads(), demoLeads)
	require.Len(t, ceo.list("/crm/sales-managers"), 4)
	rate := ceo.get("/crm/conversion-rate")
	require.InDelta(t, 100, rate["total_customers"], 0)
	require.Greater(t, rate["project_started_count"], 5.0)
	p.stop()
	again := launch(t, p.db, "-demo")
	require.Len(t, again.as("ceo@example.com").leads(), demoLeads, "a second start adds nothing")
}

func TestTwoDemosAtOnceFillOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, db string) {
		first, second := begin(t, db, "-demo"), begin(t, db, "-demo")
		first.await()
		second.await() // both: one may have left the work to the other
		ceo := first.as("ceo@example.com")
		require.Len(t, ceo.leads(), demoLeads)
		ceo.post("/management/statuses", map[string]any{"name": "negotiating", "display_name": "Negotiating"})
	})
}

func TestSecretIsMadeOnceAndKeptPrivate(t *testing.T) {
	t.Setenv("CIMS_JWT_SECRET", "")
	db, err := parseDatabase(sqliteFile(t))
	require.NoError(t, err)
	none, err := loadSecret(db)
	require.NoError(t, err)
	require.Nil(t, none)
	secrets := make([]string, 8)
	var group sync.WaitGroup
	for i := range secrets {
		group.Go(func() {
			secret, err := makeSecret(db)
			if err == nil {
				secrets[i] = string(secret)
			}
		})
	}
	group.Wait()
	require.Len(t, secrets[0], 64)
	for _, secret := range secrets {
		require.Equal(t, secrets[0], secret)
	}
	require.Equal(t, os.FileMode(0o600), mode(t, secretPath(db)))
}

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Mode().Perm()
}

// command runs the server where it ends by itself, in a folder of its own, and
// returns what it wrote.
func command(t *testing.T, folder string, env []string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), binary, args...) //nolint:gosec // our own binary
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = cleanEnv(env...), folder, &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// TestRefusesToStart checks that an error is reported once, and that nothing is written.
func TestRefusesToStart(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = taken.Close() }()                    // nothing was sent
	const postgres = "postgres://u:hidden@127.0.0.1:1/none" //nolint:gosec // nobody's password
	for name, test := range map[string]struct {
		env  string
		args []string
		says string
	}{
		"without a secret on PostgreSQL":  {"", []string{"-db", postgres}, "CIMS_JWT_SECRET is required"},
		"with a short secret":             {"CIMS_JWT_SECRET=short", nil, "CIMS_JWT_SECRET: jwtauth: the secret must have at least 32 bytes"},
		"with a repeated byte":            {"CIMS_JWT_SECRET=" + strings.Repeat("x", 32), nil, "CIMS_JWT_SECRET: jwtauth: the secret is one byte repeated"},
		"with another database":           {"", []string{"-db", "mysql://u:hidden@x"}, "-db: want sqlite:PATH or postgres://"},
		"with a mere path":                {"", []string{"-db", "cims.db"}, "-db: want sqlite:PATH or postgres://"},
		"with an empty database":          {"", []string{"-db", ""}, "-db: want sqlite:PATH or postgres://"},
		"with an SQLite URL":              {"", []string{"-db", "sqlite://x.db"}, "want a plain path"},
		"with an SQLite file URL":         {"", []string{"-db", "sqlite:file:x.db"}, "want a plain path"},
		"in memory":                       {"", []string{"-db", "sqlite::memory:"}, "want a file"},
		"without the file's directory":    {"", []string{"-db", "sqlite:none/x.db"}, "-db: there is no directory none"},
		"with an unknown command":         {"", []string{"tokens"}, "unknown command"},
		"with an unknown flag":            {"", []string{"-x"}, "not defined: -x"},
		"with no email for the CEO":       {"", []string{"-ceo", "notanemail"}, `-ceo: "notanemail" is no email`},
		"with a malformed address":        {"", []string{"-addr", "nowhere"}, "-addr: "},
		"on an address that is taken":     {"", []string{"-addr", taken.Addr().String()}, "in use"},
		"with any origin":                 {"CIMS_CORS_ORIGINS=*", nil, "credentials"},
		"with any origin below":           {"CIMS_CORS_ORIGINS=https://*.example.com", nil, "credentials"},
		"with an origin with a path":      {"CIMS_CORS_ORIGINS=https://a.example,https://b.example/", nil, `"https://b.example/" is no origin`},
		"with an origin without a scheme": {"CIMS_CORS_ORIGINS=localhost:3000", nil, `"localhost:3000" is no origin`},
		"with an origin of no web page":   {"CIMS_CORS_ORIGINS=ftp://files.example", nil, `"ftp://files.example" is no origin`},
		"when the database is down":       {"CIMS_JWT_SECRET=" + secretForTests, []string{"-addr", "127.0.0.1:0", "-db", postgres}, "unavailable"},
		"token: without an email":         {"", []string{"token"}, "-email"},
		"token: without time":             {"", []string{"token", "-email", "ceo@example.com", "-ttl", "0"}, "-ttl"},
		"token: with a malformed time":    {"", []string{"token", "-email", "ceo@example.com", "-ttl", "x"}, "-ttl"},
		"token: without a secret":         {"", []string{"token", "-email", "ceo@example.com"}, "start the server once, or set CIMS_JWT_SECRET"},
		"token: without a database":       {"CIMS_JWT_SECRET=" + secretForTests, []string{"token", "-email", "ceo@example.com"}, "start the server once"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			stdout, stderr, err := command(t, folder, []string{test.env}, test.args...)
			require.Error(t, err)
			require.Empty(t, stdout)
			require.Contains(t, stderr, test.says)
			require.Equal(t, 1, strings.Count(stderr, test.says), stderr)
			require.True(t, strings.HasPrefix(stderr, "server: "), stderr)
			require.NotContains(t, stderr, "Usage")
			require.NotContains(t, stderr, "hidden")
			left, err := os.ReadDir(folder)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"-h"}, {"--help"}, {"token", "-h"}} {
		stdout, stderr, err := command(t, t.TempDir(), []string{"CIMS_DATABASE_URL=postgres://u:hidden@x/y"}, args...)
		require.NoError(t, err)
		require.Empty(t, stderr)
		for _, said := range []string{"server token -email E", "-db", "CIMS_JWT_SECRET"} {
			require.Contains(t, stdout, said)
		}
		require.Equal(t, args[0] != "token", strings.Contains(stdout, "CIMS_CORS_ORIGINS"))
		for _, command := range []string{"import", "migrate plan", "migrate up", "migrate sql", "migrate verify", "migrate repair", "migrate rollback", "migrate copy"} {
			require.Equal(t, args[0] != "token", strings.Contains(stdout, "server "+command+" "), command)
		}
		require.NotContains(t, stdout, "hidden")
	}
}

// TestTokenIsForUsersThatAreThere also checks that a plain start needs no settings, and the
// modes of its files.
func TestTokenIsForUsersThatAreThere(t *testing.T) {
	db := sqliteFile(t)
	file := strings.TrimPrefix(db, "sqlite:")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	secret := []string{"CIMS_JWT_SECRET=" + secretForTests}
	_, stderr, err := command(t, t.TempDir(), secret, "token", "-db", db, "-email", "ceo@example.com")
	require.Error(t, err)
	require.Contains(t, stderr, "not ready", "it does not migrate")
	require.NoError(t, os.Remove(file))

	launch(t, db, "-demo", "-ceo", "aziza@example.com")
	require.Equal(t, os.FileMode(0o600), mode(t, file))
	stdout, stderr, err := command(t, t.TempDir(), secret, "token", "-db", db, "-email", "nobody@example.com")
	require.Error(t, err)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "no such user: nobody@example.com")
	stdout, stderr, err = command(t, t.TempDir(), secret, "token", "-db", db, "-email", "Aziza@Example.com")
	require.NoError(t, err)
	require.Empty(t, stderr)
	require.Regexp(t, `^eyJ[\w.-]+\n$`, stdout)
}

func TestAddressesAreShownAsTheyCanBeOpened(t *testing.T) {
	for ip, want := range map[string]string{
		"::": "http://127.0.0.1:8057", "0.0.0.0": "http://127.0.0.1:8057", "127.0.0.1": "http://127.0.0.1:8057", "::1": "http://[::1]:8057",
	} {
		require.Equal(t, want, baseURL(&net.TCPAddr{IP: net.ParseIP(ip), Port: 8057}))
	}
}

func TestHintsShowNoPassword(t *testing.T) {
	for url, want := range map[string]string{ //nolint:gosec // nobody's password
		"postgres://u@h/d?sslmode=require": "postgres://u@h/d?sslmode=require",
		"postgres://u:hidden@h/d":          "postgres://u:xxxxx@h/d",
		"postgres://h/d?password=hidden":   "postgres://…",
		"postgres://u:hidden@h:x/d":        "postgres://…",
		"sqlite:/tmp/my crm.db":            "sqlite:/tmp/my crm.db",
	} {
		db, err := parseDatabase(url)
		require.NoError(t, err)
		require.Equal(t, want, db.shown())
	}
	require.Equal(t, "sqlite:/tmp/crm.db", shellWord("sqlite:/tmp/crm.db"))
	require.Equal(t, `'sqlite:it'\''s.db'`, shellWord("sqlite:it's.db"))
}

func TestImportFile(t *testing.T) {
	onBoth(t, func(t *testing.T, db string) {
		ceo := launch(t, db).as("ceo@example.com")
		ceo.hire("Aziza", "Bekzod")
		folder := t.TempDir()
		write := func(name, text string) string {
			require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600))
			return name
		}
		imported := func(file string) (string, string, error) {
			return command(t, folder, nil, "import", "-db", db, file)
		}
		stdout, stderr, err := imported(write("leads.csv", "full_name,platform\nOne,web\nTwo,\nThree,\n"))
		require.NoError(t, err, stderr)
		require.Contains(t, stdout, "3 leads imported from leads.csv in ")
		require.Empty(t, stderr, "no bar where there is no terminal")
		stdout, _, err = imported(write("more.ndjson", `{"full_name": "Four"}`))
		require.NoError(t, err)
		require.Contains(t, stdout, "1 lead imported")
		leads := ceo.leads()
		require.Len(t, leads, 4)
		for _, manager := range ceo.list("/crm/sales-managers") {
			require.InDelta(t, 2, manager.(map[string]any)["assigned_leads_count"], 0)
		}

		for file, says := range map[string]string{
			write("bad.csv", "full_name\nx\n\" \"\n"):                               "bad.csv: line 3: cims: invalid input: full_name is required",
			write("field.ndjson", `{"full_name": "x", "hue": 1}`):                   "field.ndjson: line 1: hue is an unknown field",
			write("unknown.csv", "full_name,status_name\nx,contacted\ny,no_such\n"): "unknown.csv: nothing was imported: line 3: cims: invalid input: status_name names nothing that exists and is active",
			"none.csv":                    "no such file",
			write("leads.txt", "x"):       ".csv, .ndjson or .jsonl",
			filepath.Join("..", "x", "y"): ".csv, .ndjson or .jsonl",
		} {
			stdout, stderr, err := imported(file)
			require.Error(t, err)
			require.Empty(t, stdout)
			require.Contains(t, stderr, says)
		}
		require.Len(t, ceo.leads(), 4)
	})
}

func TestProgressBar(t *testing.T) {
	var screen bytes.Buffer
	bar := progressBar{to: &screen, what: "leads", total: 1000, begin: time.Now().Add(-time.Second)}
	bar.clear()
	require.Empty(t, screen.String())
	bar.show(500)
	bar.show(501) // too soon after
	bar.show(1000)
	require.Equal(t, 2, strings.Count(screen.String(), "\r"))
	require.Contains(t, screen.String(), "[###############               ]  50 %  500 of 1000 leads, ")
	require.Contains(t, screen.String(), "[##############################] 100 %  1000 of 1000 leads, ")
	bar.clear()
	require.True(t, strings.HasSuffix(screen.String(), "\r\033[K"))
}

// TestShutdownFinishesWhatIsUnderWay: a SIGTERM under load tears nothing.
func TestShutdownFinishesWhatIsUnderWay(t *testing.T) {
	onBoth(t, func(t *testing.T, db string) {
		p := launch(t, db)
		ceo := p.as("ceo@example.com")
		ceo.hire("Aziza")
		var mu sync.Mutex
		acknowledged := 0
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for {
					if _, err := ceo.try(http.StatusCreated, http.MethodPost, "/crm/customers", map[string]any{"full_name": "Lead"}); err != nil {
						return // refused: the server is gone
					}
					mu.Lock()
					acknowledged++
					mu.Unlock()
				}
			})
		}
		require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return acknowledged > 50 }, time.Minute, time.Millisecond)
		p.stop()
		group.Wait()
		_, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.base, "http://"))
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		again := launch(t, p.db).as("ceo@example.com")
		require.Len(t, again.leads(), acknowledged, "each one was acknowledged, or is not there")
	})
}
