package cims

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// FuzzCursor checks that only cursors that were given out are accepted.
func FuzzCursor(f *testing.F) {
	f.Add(encodeCursor('c', time.Now().UnixMicro(), 42), byte('c'), 2)
	f.Add(encodeCursor('u', -1), byte('u'), 1)
	f.Add("Yy4xLjI", byte('c'), 2)
	f.Add("Yy4wMS4y", byte('c'), 2) // c.01.2
	f.Add("Yy4rMS4y", byte('c'), 2) // c.+1.2
	f.Fuzz(func(t *testing.T, text string, kind byte, count int) {
		count = max(0, min(count, 5))
		numbers, ok := decodeCursor(kind, count, text)
		if ok {
			require.Len(t, numbers, count)
			require.Equal(t, text, encodeCursor(kind, numbers...))
		}
	})
}

// FuzzName checks that an accepted name has one form, which is itself a name.
func FuzzName(f *testing.F) {
	for _, name := range []string{"Meeting Set", "янги босқич", "İstanbul", "ǅ", "ẞ", "a\u200bb", "ﬁ", "\u0345a", "Ⅷ", "_", " ", "ΑΣ"} {
		f.Add(name)
	}
	form := regexp.MustCompile(`^[\p{L}\p{N}_]{1,100}$`)
	f.Fuzz(func(t *testing.T, text string) {
		var check checks
		name := check.name("name", text)
		if len(check) > 0 {
			return
		}
		require.Regexp(t, form, name)
		require.True(t, possibleName(name), "%q becomes %q, which is no name", text, name)
		require.Equal(t, name, normalName(name))
		require.Equal(t, name, normalName(" "+text+" "))
	})
}

// FuzzText checks that an accepted text is valid, has no control characters, and is
// within its bounds.
func FuzzText(f *testing.F) {
	f.Add(" Aziza\t", 5)
	f.Add("a\x00b\u202e", 255)
	f.Add("\xff", 0)
	f.Add(strings.Repeat("я", 300), 255)
	f.Fuzz(func(t *testing.T, text string, longest int) {
		for multiline, stored := range map[bool]func(c *checks) string{
			false: func(c *checks) string { return c.line("field", text, 0, longest) },
			true:  func(c *checks) string { return c.lines("field", text, longest) },
		} {
			var check checks
			got := stored(&check)
			if len(check) > 0 {
				continue
			}
			require.True(t, utf8.ValidString(got))
			require.LessOrEqual(t, utf8.RuneCountInString(got), longest)
			require.NotContains(t, got, "\x00")
			require.Contains(t, text, got)
			if !multiline {
				require.Equal(t, strings.TrimSpace(got), got)
				require.NotRegexp(t, `[\n\r\t]`, got)
			}
		}
	})
}

// FuzzColor checks that an accepted color is safe in a style sheet.
func FuzzColor(f *testing.F) {
	for _, color := range []string{"#fff", "#0EA5E9", "red", "#fff\n", "#12345678", "#ggg", "url(x)", "#１２３"} {
		f.Add(color)
	}
	form := regexp.MustCompile(`^(#([0-9a-fA-F]{3}|[0-9a-fA-F]{6}))?$`)
	f.Fuzz(func(t *testing.T, text string) {
		var check checks
		require.Equal(t, text, check.color("color", text))
		require.Equal(t, form.MatchString(text) && !strings.HasSuffix(text, "\n"), len(check) == 0, "%q", text)
	})
}

// FuzzEmail checks that an accepted email is one token with an @.
func FuzzEmail(f *testing.F) {
	for _, email := range []string{"a@b", "ОЛГА@пример.рф", "a b@c", "@", "a@b@c", "a@\u00a0", "a\u200b@b", " a@b "} {
		f.Add(email)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var check checks
		email := check.email(text)
		if len(check) > 0 {
			return
		}
		require.Regexp(t, `^[^\s]+@[^\s]+$`, email)
		require.Equal(t, strings.TrimSpace(text), email)
	})
}

// FuzzIdempotencyKey checks that an accepted key is safe in a header.
func FuzzIdempotencyKey(f *testing.F) {
	for _, key := range []string{"web-form-8c1f", "a b", "\r\n", strings.Repeat("x", 256), "ключ", "~!"} {
		f.Add(key)
	}
	form := regexp.MustCompile(`^[\x21-\x7e]{0,255}$`)
	f.Fuzz(func(t *testing.T, text string) {
		var check checks
		check.key("key", text)
		require.Equal(t, form.MatchString(text) && !strings.HasSuffix(text, "\n"), len(check) == 0, "%q", text)
	})
}

// FuzzRequestID checks that an accepted id is returned unchanged and is one line.
func FuzzRequestID(f *testing.F) {
	for _, id := range []string{"order-form-17", "", "a\nb", "../x", "vm/v5Pa4BSHuC-000051", strings.Repeat("a", 129), "а"} {
		f.Add(id)
	}
	form := regexp.MustCompile(`^[A-Za-z0-9._/+=-]{1,128}$`)
	f.Fuzz(func(t *testing.T, text string) {
		got := RequestID(WithRequestID(t.Context(), text))
		require.Contains(t, []string{"", text}, got)
		require.Equal(t, form.MatchString(text) && !strings.HasSuffix(text, "\n"), got != "", "%q", text)
	})
}

// FuzzSystem checks that the name of trusted code is short and safe in a log.
func FuzzSystem(f *testing.F) {
	f.Add("web form")
	f.Add("\x00\u202e\xff")
	f.Add(strings.Repeat("я", 200))
	f.Fuzz(func(t *testing.T, why string) {
		actor := System(why)
		name := actor.SystemName()
		require.NotEmpty(t, name)
		require.LessOrEqual(t, utf8.RuneCountInString(name), 100)
		require.True(t, utf8.ValidString(name))
		require.NotRegexp(t, `[\x00-\x1f\x7f]`, name)
		require.True(t, slices.Equal(AllPermissions(), actor.Permissions()))
		require.Equal(t, name, System(name).SystemName(), "said again it is the same")
	})
}
