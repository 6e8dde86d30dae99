package httpapi

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

// FuzzAcceptLanguage checks that a header with one language selects it, and that any other
// header selects one of the three.
func FuzzAcceptLanguage(f *testing.F) {
	for _, accept := range []string{"", "ru", "en-GB, uz;q=0.9", "*;q=0.1, ru;q=0", "q=1", ";;;", "ru;q=1e400", strings.Repeat("en,", 5_000)} {
		f.Add(accept)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		picked := languageOf(accept, uzbek)["404"]
		var known []string
		for _, language := range languages {
			known = append(known, language["404"])
		}
		require.Contains(t, known, picked)
		for name, language := range languages {
			require.Equal(t, language["404"], languageOf(name+", "+strings.ReplaceAll(accept, ";", ";q=0;"), uzbek)["404"])
		}
	})
}

// FuzzAccept checks that a header that accepts JSON names it.
func FuzzAccept(f *testing.F) {
	for _, accept := range []string{"", "*/*", "text/html", "application/json;q=0", "APPLICATION/*", "a/b;;q=1, application/json;q=.5"} {
		f.Add(accept)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		if acceptsJSON(accept) && strings.TrimSpace(accept) != "" {
			lower := strings.ToLower(accept)
			require.True(t, strings.Contains(lower, jsonType) || strings.Contains(lower, "application/*") || strings.Contains(lower, "*/*"), "%q", accept)
		}
	})
}

// read returns the leads of a file, or the error that refuses it.
func read(t *testing.T, text []byte, contentType string) ([]cims.NewCustomer, error) {
	t.Helper()
	file, err := ReadLeads(bytes.NewReader(text), contentType)
	if err != nil {
		return nil, err
	}
	defer func() { require.NoError(t, file.Close()) }()
	var leads []cims.NewCustomer
	for lead, err := range file.all() {
		require.NoError(t, err)
		leads = append(leads, lead.Customer)
	}
	require.Len(t, leads, file.Leads)
	return leads, nil
}

// requireClean checks that a refused file leaves no temporary file.
func requireClean(t *testing.T, folder string) {
	t.Helper()
	left, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Empty(t, left)
}

// FuzzCSV checks that another reader reads accepted files in the same way.
func FuzzCSV(f *testing.F) {
	for _, text := range []string{
		"full_name,phone_number\nAziza,+99890\nBekzod,\n", "full_name\n\"a\nb\"\n", "full_name\r\nA\r\n", "\ufefffull_name\nA\n", "full_name;x\nA;B\n",
		"notes,full_name\n\"x,\"\"y\",A\n", "full_name,full_name\nA,B\n", "full_name\n\"A\n", "full_name\nA,B\n", "full_name\n\n\nA\n", "",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		folder := t.TempDir()
		t.Setenv("TMPDIR", folder)
		got, err := read(t, text, CSV)
		requireClean(t, folder)
		if err != nil {
			return
		}
		require.True(t, utf8.Valid(text))
		records, err := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff")))).ReadAll()
		require.NoError(t, err)
		require.Len(t, got, max(0, len(records)-1))
		for i, lead := range got {
			fields := map[string]string{
				"full_name": lead.FullName, "phone_number": lead.PhoneNumber, "platform": lead.Platform,
				"username": lead.Username, "notes": lead.Notes, "status_name": lead.StatusName,
			}
			for column, name := range records[0] {
				require.Equal(t, records[i+1][column], fields[name])
				delete(fields, name)
			}
			require.Empty(t, strings.Join(slices.Collect(maps.Values(fields)), ""), "nothing else")
			require.NoError(t, lead.Validate())
		}
	})
}

// FuzzNDJSON is like FuzzCSV for NDJSON.
func FuzzNDJSON(f *testing.F) {
	for _, text := range []string{
		`{"full_name": "Aziza"}` + "\n" + `{"full_name": "B", "notes": "\u0041"}`, "\n\n", `{"full_name": "A"}{"full_name": "B"}`, `[]`, `{"FULL_NAME": "A"}`,
		`{"full_name": "A", "full_name": "B"}`, `{"full_name": "\ud800"}`, "\ufeff{\"full_name\": \"A\"}", "{\"full_name\":\n\"A\"}",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		folder := t.TempDir()
		t.Setenv("TMPDIR", folder)
		got, err := read(t, text, NDJSON)
		requireClean(t, folder)
		if err != nil {
			return
		}
		decoder := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff"))))
		decoder.DisallowUnknownFields()
		for _, lead := range got {
			var want struct {
				FullName    string `json:"full_name"`
				PhoneNumber string `json:"phone_number"`
				Platform    string `json:"platform"`
				Username    string `json:"username"`
				Notes       string `json:"notes"`
				StatusName  string `json:"status_name"`
			}
			require.NoError(t, decoder.Decode(&want))
			require.Equal(t, cims.NewCustomer{
				FullName: want.FullName, PhoneNumber: want.PhoneNumber, Platform: want.Platform,
				Username: want.Username, Notes: want.Notes, StatusName: want.StatusName,
			}, lead)
			require.NoError(t, lead.Validate())
		}
		require.ErrorIs(t, decoder.Decode(new(any)), io.EOF, "nothing was left out")
	})
}
