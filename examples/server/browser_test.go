//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// requireBrowser has the test fail where there is no browser, in place of being
// skipped: scripts/test sets it.
const requireBrowser = "CIMS_TEST_REQUIRE_BROWSER"

// browser is a headless Chromium with one page, spoken to in the DevTools protocol
// through a pipe.
type browser struct {
	t       *testing.T
	to      *os.File
	session string
	id      int
	answers chan message

	mu     sync.Mutex
	events []message
}

type message struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   json.RawMessage `json:"error,omitempty"`
}

func openBrowser(t *testing.T) *browser {
	t.Helper()
	var path string
	err := exec.ErrNotFound
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if errors.Is(err, exec.ErrNotFound) {
			path, err = exec.LookPath(name)
		}
	}
	if err != nil && os.Getenv(requireBrowser) == "" {
		t.Skip("NOT RUN IN A BROWSER: there is no Chromium here; ./scripts/test installs it")
	}
	require.NoError(t, err)
	theirs, ours, err := os.Pipe()
	require.NoError(t, err)
	back, theirBack, err := os.Pipe()
	require.NoError(t, err)
	cmd := exec.Command(path, //nolint:gosec,noctx // a browser, closed below
		"--headless=new", "--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "--no-first-run",
		"--no-sandbox", // which root can't have; it visits our own server alone
		"--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--disable-sync")
	cmd.ExtraFiles = []*os.File{theirs, theirBack} // 3 and 4, as the protocol has it
	require.NoError(t, cmd.Start())
	require.NoError(t, errors.Join(theirs.Close(), theirBack.Close()))
	b := &browser{t: t, to: ours, answers: make(chan message, 1)}
	go b.listen(back)
	t.Cleanup(func() { // in good order: what it leaves running would go on writing
		stuck := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		defer stuck.Stop()
		_, _ = fmt.Fprint(ours, `{"id":-1,"method":"Browser.close"}`+"\x00") // it may have died
		_ = cmd.Wait()                                                       // of whatever
		_ = ours.Close()
	})

	var target struct{ TargetID, SessionID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target)
	b.session = target.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		b.call(domain+".enable", nil, nil)
	}
	return b
}

func (b *browser) listen(from *os.File) {
	defer close(b.answers)
	scanner := bufio.NewScanner(from)
	scanner.Buffer(nil, 64<<20)
	scanner.Split(func(data []byte, _ bool) (int, []byte, error) {
		if text, _, whole := strings.Cut(string(data), "\x00"); whole {
			return len(text) + 1, []byte(text), nil
		}
		return 0, nil, nil
	})
	for scanner.Scan() {
		var m message
		if json.Unmarshal(scanner.Bytes(), &m) != nil {
			return
		}
		if m.Method == "" {
			b.answers <- m
			continue
		}
		b.mu.Lock()
		b.events = append(b.events, m)
		b.mu.Unlock()
	}
}

// call asks the browser for something and reads the answer.
func (b *browser) call(method string, params map[string]any, to any) {
	b.t.Helper()
	b.id++
	text, err := json.Marshal(map[string]any{"id": b.id, "method": method, "params": params, "sessionId": b.session})
	require.NoError(b.t, err)
	if b.session == "" {
		text = []byte(strings.Replace(string(text), `,"sessionId":""`, "", 1))
	}
	_, err = b.to.Write(append(text, 0))
	require.NoError(b.t, err)
	select {
	case m, alive := <-b.answers:
		require.True(b.t, alive, "the browser has died")
		require.Equal(b.t, b.id, m.ID)
		require.Empty(b.t, m.Error, string(m.Error))
		if to != nil {
			require.NoError(b.t, json.Unmarshal(m.Result, to))
		}
	case <-time.After(time.Minute):
		require.Fail(b.t, "the browser does not answer", method)
	}
}

// all are the events of one kind since the last visit.
func (b *browser) all(method string) []message {
	b.mu.Lock()
	defer b.mu.Unlock()
	var some []message
	for _, m := range b.events {
		if m.Method == method {
			some = append(some, m)
		}
	}
	return some
}

// visit opens a page and waits until it has loaded.
func (b *browser) visit(address string) {
	b.t.Helper()
	b.call("Page.navigate", map[string]any{"url": "about:blank"}, nil) // else another fragment would be no visit
	b.eventually("location.href === 'about:blank' && document.readyState === 'complete'")
	b.mu.Lock()
	b.events = nil
	b.mu.Unlock()
	b.call("Page.navigate", map[string]any{"url": address}, nil)
	require.Eventually(b.t, func() bool { return len(b.all("Page.loadEventFired")) > 0 }, time.Minute, 10*time.Millisecond, address)
}

// value is what an expression is in the page.
func (b *browser) value(expression string) any {
	b.t.Helper()
	var answer struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &answer)
	require.Empty(b.t, answer.ExceptionDetails, "%s: %s", expression, answer.ExceptionDetails)
	return answer.Result.Value
}

// eventually waits until an expression is true in the page.
func (b *browser) eventually(expression string) {
	b.t.Helper()
	for deadline := time.Now().Add(time.Minute); b.value(expression) != true; time.Sleep(20 * time.Millisecond) {
		require.True(b.t, time.Now().Before(deadline), "it never comes to %s", expression)
	}
}

// click clicks on what a selector finds, once it is there.
func (b *browser) click(selector string) {
	b.t.Helper()
	b.eventually(fmt.Sprintf("document.querySelector(%q) !== null", selector))
	b.value(fmt.Sprintf("document.querySelector(%q).click()", selector))
}

// isQuiet checks that nothing of what was shown has run, and that nobody else was
// asked for anything.
func (b *browser) isQuiet(base, address string) {
	b.t.Helper()
	require.Equal(b.t, "undefined", b.value("typeof window.hit"), address)
	require.Empty(b.t, b.all("Page.javascriptDialogOpening"), address)
	for _, request := range b.all("Network.requestWillBeSent") {
		var params struct{ Request struct{ URL string } }
		require.NoError(b.t, json.Unmarshal(request.Params, &params))
		ours := strings.HasPrefix(params.Request.URL, base+"/") || params.Request.URL == "data:," // the page's icon: none
		require.True(b.t, ours || strings.HasPrefix(params.Request.URL, "data:image/"), "%s asks for %.200s", address, params.Request.URL)
	}
}

// isClean is isQuiet, and nothing was complained of.
func (b *browser) isClean(base, address string) {
	b.t.Helper()
	b.isQuiet(base, address)
	for _, kind := range []string{"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"} {
		for _, m := range b.all(kind) {
			require.Fail(b.t, kind, "%s: %s", address, m.Params)
		}
	}
}

// TestMarkupIsInertInABrowser: whatever people are called, on every page of ours.
func TestMarkupIsInertInABrowser(t *testing.T) {
	const script, image = `<script>window.hit=1</script>`, `<img src=x onerror="window.hit=1">`
	b := openBrowser(t)
	p := launch(t, sqliteFile(t))
	ceo := p.as("ceo@example.com")
	ceo.post("/management/statuses", map[string]any{"name": "marked", "display_name": script, "description": image})
	ceo.post("/management/roles", map[string]any{"name": "marked", "display_name": image, "description": script})
	ceo.post("/management/users", map[string]any{"email": `"<svg/onload=hit=1>"@example.com`, "name": script, "surname": image, "role_name": "sales_manager"})
	ceo.post("/crm/customers", map[string]any{"full_name": script + image, "notes": `</pre>` + script + `javascript:window.hit=1`})

	docs := p.base + "/docs"
	for _, address := range []string{p.base + "/", docs, docs + "?url=" + url.QueryEscape("https://evil.example/openapi.json"), docs + "#/" + image} {
		b.visit(address)
		b.eventually("document.querySelectorAll('.opblock').length > 20")
		b.isClean(p.base, address)
		require.InDelta(t, 0, b.value("document.querySelectorAll('script:not([src])').length"), 0)
	}

	// The pages' own way of showing what the API answers.
	b.visit(docs)
	b.click(".btn.authorize")
	b.eventually("document.querySelector('.auth-container input') !== null")
	b.value("document.querySelector('.auth-container input').focus()")
	b.call("Input.insertText", map[string]any{"text": ceo.token}, nil)
	b.click(".auth-btn-wrapper .authorize")
	b.click(".btn-done")
	for operation, shows := range map[string]string{
		"Statuses-cims-list-statuses":             script,
		"Roles-cims-list-roles":                   image,
		"Users-cims-list-users":                   "<svg/onload=hit=1>",
		"Leads-cims-list-customers":               script,
		"Sales_managers-cims-list-sales-managers": script,
	} {
		block := "#operations-" + operation
		b.click(block + " .opblock-summary-control")
		b.click(block + " .try-out__btn")
		b.click(block + " .execute")
		shown := strings.ReplaceAll(shows, `"`, `\"`)
		b.eventually(fmt.Sprintf("(document.querySelector('%s .live-responses-table')?.textContent ?? '').includes(%q)", block, shown))
		require.InDelta(t, 0, b.value(fmt.Sprintf("document.querySelectorAll('%[1]s .responses-wrapper :is(script, img, [onload], [onerror])').length", block)), 0)
	}
	b.isClean(p.base, docs)

	// No inline script runs there, whatever puts it in.
	require.Equal(t, "script-src-elem inline", b.value(`new Promise(done => {
		document.addEventListener("securitypolicyviolation", e => done(e.effectiveDirective + " " + e.blockedURI));
		document.body.appendChild(document.createElement("script")).textContent = "window.hit=1";
		setTimeout(done, 30_000, "it ran");
	})`))
	b.value(`document.body.insertAdjacentHTML("beforeend", '<img src="data:," onerror="window.hit=1"><a href="javascript:window.hit=1" id="evil">x</a>')`)
	b.click("#evil")
	b.isQuiet(p.base, "inline script")

	// Answers of the API as pages.
	b.call("Network.setExtraHTTPHeaders", map[string]any{"headers": map[string]string{"Authorization": "Bearer " + ceo.token}}, nil)
	for _, path := range []string{
		"/management/statuses", "/management/roles", "/management/users", "/crm/customers", "/crm/customers/1", "/crm/sales-managers", "/me",
		"/openapi.json", "/healthz", "/readyz", "/" + script, "/me?" + script + "=1", "/crm/customers/" + image, "/docs/" + image,
	} {
		b.visit(p.base + path)
		require.NotEmpty(t, b.value("document.body.textContent"))
		require.InDelta(t, 0, b.value("document.querySelectorAll('script, img').length"), 0, path)
		b.isQuiet(p.base, path)
	}
}
