package main

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzDatabase: what is shown of a database's URL holds no password, and what is
// taken for a file is a plain path.
func FuzzDatabase(f *testing.F) {
	for _, text := range []string{
		"sqlite:cims.db", "sqlite:", "sqlite://x", "sqlite::memory:", "postgres://u:secret-word@h/d", "postgres://h/d?password=secret-word",
		"postgresql://h/d?PASSWORD=secret-word", "postgres://u:secret-word@[::1", "postgres://u:secret-word%zz@h", "mysql://u:secret-word@h",
		"postgres://h/d?sslpassword=secret-word", "postgres://u:p@ss:secret-word@h/d",
	} {
		f.Add(text)
	}
	const secret = "secret-word"
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseDatabase(text)
		if err != nil {
			if !strings.HasPrefix(text, "sqlite:") {
				require.NotContains(t, err.Error(), secret)
			}
			return
		}
		if d.path != "" {
			require.Equal(t, "sqlite:"+d.path, text)
			require.False(t, strings.HasPrefix(d.path, "//") || strings.Contains(d.path, ":memory:"))
			return
		}
		parsed, err := url.Parse(text)
		if err != nil || parsed.User == nil {
			return
		}
		if password, has := parsed.User.Password(); has && len(password) > 8 && strings.Count(text, password) == 1 {
			require.NotContains(t, d.shown(), password)
		}
		require.Equal(t, strings.Contains(strings.ToLower(parsed.RawQuery), "password"), d.shown() == "postgres://…")
	})
}
