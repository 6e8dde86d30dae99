package contract

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi"
)

func (s *Server) importing(t *testing.T, contentType, file string) *call {
	t.Helper()
	return s.request(t, http.MethodPost, "/crm/customers/import", file).with("Content-Type", contentType).with("Accept-Language", "en")
}

func testImport(t *testing.T, on Host) {
	on.each(t, func(t *testing.T, s *Server) {
		for _, name := range []string{"aziza", "bekzod", "dilnoza"} {
			s.user(t, cims.RoleSalesManager, name)
		}
		a := s.importing(t, httpapi.NDJSON, "\ufeff"+`{"full_name": "One", "phone_number": "+998901234567", "notes": null}`+"\n\n"+
			`{"full_name": "Two", "status_name": "need_to_call", "platform": "telegram", "username": "@two", "notes": "a\nb"}`+"\r\n").do(t).is(t, 201)
		require.Equal(t, map[string]any{"imported": 2.0}, a.object(t))
		a = s.importing(t, "text/csv; charset=utf-8; header=present", "\ufeffstatus_name,full_name,notes\r\n,Three,\"first\nsecond\"\r\nfinished,\"Four, the last\",\r\n").do(t).is(t, 201)
		require.Equal(t, map[string]any{"imported": 2.0}, a.object(t))

		leads := s.get(t, "/crm/customers").objects(t)
		require.Len(t, leads, 4)
		got := map[string]string{}
		for _, lead := range leads {
			got[lead["full_name"].(string)] = fmt.Sprint(lead["status_name"], " ", lead["phone_number"], " ", lead["platform"], " ",
				lead["username"], " ", lead["notes"], " ", lead["sales_manager"].(map[string]any)["name"])
		}
		require.Equal(t, map[string]string{
			"One":            "contacted +998901234567 <nil> <nil> <nil> aziza",
			"Two":            "need_to_call <nil> telegram @two a\nb bekzod",
			"Three":          "contacted <nil> <nil> <nil> first\nsecond dilnoza",
			"Four, the last": "finished <nil> <nil> <nil> <nil> aziza",
		}, got)
		require.InDelta(t, 0, s.importing(t, httpapi.CSV, "full_name\n").do(t).is(t, 201).object(t)["imported"], 0)
	})
}

// testImportNamesTheBadLine: nothing of a file with one is stored.
func testImportNamesTheBadLine(t *testing.T, on Host) {
	long := strings.Repeat("x", 1<<20)
	on.each(t, func(t *testing.T, s *Server) {
		s.user(t, cims.RoleSalesManager, "aziza")
		good := `{"full_name": "Good"}` + "\n"
		for _, test := range []struct{ contentType, file, location, says string }{
			{httpapi.NDJSON, good + good + `{"full_name": ""}`, "line[3].full_name", "Line 3: full_name is required. Nothing was stored"},
			{httpapi.NDJSON, good + `{"phone_number": "1"}`, "line[2].full_name", "Line 2: full_name is required"},
			{httpapi.NDJSON, good + `{"full_name": "x", "full_name": "y"}`, "line[2].full_name", "more than once"},
			{httpapi.NDJSON, good + `{"full_name": "x", "id": 1}`, "line[2].id", "Line 2: id is an unknown field. Nothing"},
			{httpapi.NDJSON, good + `{"full_name": 7}`, "line[2].full_name", "must be a string"},
			{httpapi.NDJSON, good + `{"full_name": "x"} {"full_name": "y"}`, "line[2]", "Line 2 is malformed. Nothing was stored"},
			{httpapi.NDJSON, good + "{\n", "line[2]", "is malformed"},
			{httpapi.NDJSON, good + "[]\n", "line[2]", "must be a JSON object"},
			{httpapi.NDJSON, "\ufeff" + good + "\ufeff" + good, "line[2]", "is malformed"},
			{httpapi.NDJSON, good + "{\"full_name\": \"\xff\"}", "line[2]", "Line 2 is not in UTF-8"},
			{httpapi.NDJSON, "\xff\xfe{\x00", "line[1]", "Line 1 is not in UTF-8"},
			{httpapi.NDJSON, good + "\n" + `{"full_name": "x", "status_name": "no_such"}`, "line[3].status_name", "Line 3: status_name names no active entry"},
			{httpapi.NDJSON, good + `{"full_name": "` + long + `"}`, "line[2]", "longer than 1 MiB"},
			{httpapi.CSV, "", "line[1].full_name", "is required"},
			{httpapi.CSV, "name\nx\n", "line[1].name", "unknown field"},
			{httpapi.CSV, "full_name,full_name\nx,y\n", "line[1].full_name", "more than once"},
			{httpapi.CSV, "full_name, notes\nx,y\n", "line[1].notes", "notes must have no spaces around it"},
			{httpapi.CSV, "full_name;notes\nx;y\n", "line[1].full_name;notes", "unknown field"},
			{httpapi.CSV, "full_name,notes\nx,y\n\n,z\n", "line[4].full_name", "is required"},
			{httpapi.CSV, "full_name,notes\nx,y\nz\n", "line[3]", "is malformed"},
			{httpapi.CSV, "full_name\nx\n\"y\n", "line[3]", "is malformed"},
			{httpapi.CSV, "full_name,,notes\nx,y,z\n", "line[1]", "Line 1 has a column without a name. Nothing"},
			{httpapi.CSV, "full_name\n\xcd\xe8\xea\n", "line[2]", "Line 2 is not in UTF-8; save the file in that encoding. Nothing"},
			{httpapi.CSV, "\xff\xfef\x00u\x00", "line[1]", "Line 1 is not in UTF-8"},
			{httpapi.CSV, "full_name,status_name\nx,\n\"a\nb\",finished\n", "line[3].full_name", "control characters"},
			{httpapi.CSV, "full_name,status_name\nx,contacted\ny,no_such\n", "line[3].status_name", "names no active entry"},
			{httpapi.CSV, "full_name,notes\nx,\ny,\"" + long + "\n" + long + "\"\n", "line[3]", "longer than 1 MiB"},
		} {
			a := s.importing(t, test.contentType, test.file).do(t).is(t, 422)
			require.Equal(t, test.location, a.at(t)[0], a.text)
			require.Contains(t, a.problem(t).Detail, test.says)
		}
		require.Empty(t, s.get(t, "/crm/customers").objects(t))
	})
}

func testImportRefusals(t *testing.T, on Host) {
	s := on.newServer(t)
	s.user(t, cims.RoleSalesManager, "aziza")
	for _, contentType := range []string{"application/json", "text/plain", "text/csv; charset=latin1", "text/csv; header=absent", ""} {
		a := s.importing(t, contentType, "full_name\nx\n").do(t).is(t, 415)
		if !strings.Contains(contentType, ";") { // of those below
			require.Contains(t, a.problem(t).Detail, "text/csv")
		}
	}
	for says, call := range map[string]*call{
		"without a Content-Encoding": s.importing(t, httpapi.CSV, "full_name\nx\n").with("Content-Encoding", "gzip"),
		"charset=utf-8":              s.importing(t, "text/csv; charset=latin1", "full_name\nx\n"),
	} {
		require.Contains(t, call.do(t).is(t, 415).problem(t).Detail, says)
	}
	keyed := s.importing(t, httpapi.CSV, "full_name\nx\n").with("Idempotency-Key", "k").do(t).is(t, 422)
	require.Equal(t, []string{"header.Idempotency-Key"}, keyed.at(t), "it would not make a repetition harmless")
	a := s.importing(t, httpapi.CSV, "full_name\nx\n").with("Accept-Language", "ru").do(t).is(t, 201)
	require.InDelta(t, 1, a.object(t)["imported"], 0)
	s.importing(t, httpapi.CSV, "full_name\nx\n").as(t, "aziza@example.com").do(t).is(t, 403)

	if !on.RouterOnly { // takes its time, and is no router's business
		tooMany := strings.Repeat("x\n", 1_000_001)
		a := s.importing(t, httpapi.CSV, "full_name\n"+tooMany).do(t).is(t, 413)
		require.Equal(t, "The file has more than 1,000,000 rows", a.problem(t).Detail)
	}
	large := io.MultiReader(strings.NewReader("full_name,notes\n"), io.LimitReader(rows{}, 257<<20))
	call := s.request(t, http.MethodPost, "/crm/customers/import", large).with("Content-Type", httpapi.CSV)
	if on.CutsLongBodies {
		call.isCutOff(t, 413)
	} else {
		call.do(t).is(t, 413)
	}
	require.Len(t, s.get(t, "/crm/customers").objects(t), 1)
}

// rows are endless rows of CSV of a kilobyte each.
type rows struct{}

func (rows) Read(p []byte) (int, error) {
	row := "x," + strings.Repeat("y", 1021) + "\n"
	n := 0
	for n+len(row) <= len(p) {
		n += copy(p[n:], row)
	}
	if n == 0 { // of a smaller piece: the end of a row
		n = copy(p, row[max(len(row)-len(p), 0):])
	}
	return n, nil
}

// testASlowImportHoldsNothing: while a file trickles in, others add leads, and
// no more than a few such files are taken at once.
func testASlowImportHoldsNothing(t *testing.T, on Host) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	on.each(t, func(t *testing.T, s *Server) {
		s.user(t, cims.RoleSalesManager, "aziza")
		const slow = 4
		var pipes [slow]*io.PipeWriter
		answers := make(chan int, slow)
		for i := range pipes {
			reader, writer := io.Pipe()
			pipes[i] = writer
			request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, s.URL+"/crm/customers/import", reader)
			require.NoError(t, err)
			request.Header.Set("Authorization", "Bearer "+Token(t, CEOEmail))
			request.Header.Set("Content-Type", httpapi.NDJSON)
			go func() {
				response, err := s.client.Do(request)
				if err != nil {
					answers <- 0
					return
				}
				_ = response.Body.Close()
				answers <- response.StatusCode
			}()
			_, err = io.WriteString(writer, `{"full_name": "Slow"}`+"\n")
			require.NoError(t, err)
		}
		require.Eventually(t, func() bool {
			return openFiles(t, filepath.Join(temporary, "cims-leads-")) == slow
		}, time.Minute, time.Millisecond)
		s.post(t, "/crm/customers", map[string]any{"full_name": "Quick"}).is(t, 201)
		a := s.importing(t, httpapi.CSV, "full_name\nx\n").do(t).is(t, 503)
		require.Equal(t, "1", a.header.Get("Retry-After"))
		for _, pipe := range pipes {
			require.NoError(t, pipe.Close())
		}
		for range pipes {
			require.Equal(t, 201, <-answers)
		}
		require.Len(t, s.get(t, "/crm/customers").objects(t), slow+1)
		require.Zero(t, openFiles(t, filepath.Join(temporary, "cims-leads-")), "no temporary file stays")
	})
}

// openFiles counts the open files whose names begin with a prefix, also removed ones.
func openFiles(t *testing.T, prefix string) (n int) {
	t.Helper()
	const open = "/proc/self/fd"
	links, err := os.ReadDir(open)
	if err != nil {
		t.Skip("the system doesn't list open files")
	}
	for _, link := range links {
		// A file may be closed meanwhile.
		if name, err := os.Readlink(filepath.Join(open, link.Name())); err == nil && strings.HasPrefix(name, prefix) {
			n++
		}
	}
	return n
}

// testSilentImportIsNotWaitedFor: a file may take its time as long as some of it
// comes, and storing it afterwards may take longer than any silence.
func testSilentImportIsNotWaitedFor(t *testing.T, on Host) {
	const silence = time.Second
	s := on.newServer(t, func(o *httpapi.Options) { o.Timeout = silence })
	conn := s.dial(t)
	begin := func() *bufio.Reader {
		_, err := fmt.Fprintf(conn, "POST %s/crm/customers/import HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n", s.host.Prefix, Token(t, CEOEmail))
		require.NoError(t, err)
		return bufio.NewReader(conn)
	}
	answers := begin()
	for _, piece := range []string{"a\r\nfull_name\n\r\n", "2\r\nA\n\r\n", "2\r\nB\n\r\n", "2\r\nC\n\r\n", "2\r\nD\n\r\n", "0\r\n\r\n"} {
		time.Sleep(silence / 4)
		_, err := io.WriteString(conn, piece)
		require.NoError(t, err)
	}
	response, err := http.ReadResponse(answers, nil)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusCreated, response.StatusCode)

	answers = begin()
	_, err = io.WriteString(conn, "a\r\nfull_name\n\r\n2\r\nE\n\r\n")
	require.NoError(t, err)
	response, err = http.ReadResponse(answers, nil)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusRequestTimeout, response.StatusCode)
	require.Len(t, s.get(t, "/crm/customers").objects(t), 4)
}

// testStoringAFileMayTakeLongerThanSilence: a deadline of its sending that stayed
// would look as if the client had hung up.
func testStoringAFileMayTakeLongerThanSilence(t *testing.T, on Host) {
	const silence = 500 * time.Millisecond
	s := on.newServerOn(t, slow{newStorage(t), 4 * silence}, func(o *httpapi.Options) { o.Timeout = silence })
	s.importing(t, httpapi.CSV, "full_name\nA\n").do(t).is(t, 201)
}

// slow is a storage that takes its time to change anything.
type slow struct {
	cims.Storage
	time time.Duration
}

func (s slow) Update(ctx context.Context, do func(context.Context, cims.Tx) error) error {
	select {
	case <-time.After(s.time):
		return s.Storage.Update(ctx, do)
	case <-ctx.Done():
		return ctx.Err()
	}
}
