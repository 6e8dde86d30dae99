package cims

import (
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// checks collects the faults of an input, so that a caller learns of all of them
// at once.
type checks []FieldError

func (c *checks) add(field string, rule FieldRule) {
	*c = append(*c, FieldError{Field: field, Rule: rule})
}

func (c checks) err() error {
	if len(c) == 0 {
		return nil
	}
	return invalid(c...)
}

// line returns a trimmed text of one line with min to max characters.
func (c *checks) line(field, text string, minLen, maxLen int) string {
	return c.text(field, strings.TrimSpace(text), minLen, maxLen, nil)
}

// lines returns a text that may have line breaks and tabs. It isn't trimmed.
func (c *checks) lines(field, text string, maxLen int) string {
	return c.text(field, text, 0, maxLen, []rune{'\n', '\r', '\t'})
}

func (c *checks) text(field, text string, minLen, maxLen int, allowed []rune) string {
	bad := func(r rune) bool { return unicode.IsControl(r) && !slices.Contains(allowed, r) }
	n := utf8.RuneCountInString(text)
	switch {
	case minLen > 0 && n == 0:
		c.add(field, RuleRequired)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, bad):
		c.add(field, RuleText)
	case n < minLen || n > maxLen:
		*c = append(*c, FieldError{Field: field, Rule: RuleLength, Min: minLen, Max: maxLen})
	}
	return text
}

func (c *checks) between(field string, n, lowest, highest int) {
	if n < lowest || n > highest {
		*c = append(*c, FieldError{Field: field, Rule: RuleRange, Min: lowest, Max: highest})
	}
}

const maxNameLen = 100

// name checks the name of a status or role and returns the form in which it is
// stored: trimmed, in lower case, with _ for spaces. Letters and digits of every
// script are allowed. Invisible characters are not: names that look alike must be
// the same.
func (c *checks) name(field, text string) string {
	if strings.ContainsFunc(text, invisible) || !utf8.ValidString(text) {
		c.add(field, RuleName)
		return text
	}
	name := normalName(text)
	n := utf8.RuneCountInString(name)
	switch {
	case n == 0:
		c.add(field, RuleRequired)
	case n > maxNameLen:
		*c = append(*c, FieldError{Field: field, Rule: RuleLength, Min: 1, Max: maxNameLen})
	case strings.ContainsFunc(name, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsNumber(r) }):
		c.add(field, RuleName)
	}
	return name
}

// invisible reports whether a character can't be seen: one that controls or formats, one
// that fonts leave out, or the blank pattern of Braille.
func invisible(r rune) bool {
	return unicode.In(r, unicode.C, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) || r == '\u2800'
}

// possibleName reports whether a stored status or role can have this name.
func possibleName(name string) bool {
	var check checks
	return check.name("", name) == name && len(check) == 0
}

func normalName(text string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimSpace(text)), " ", "_")
}

func (c *checks) displayName(text string) string { return c.line("display_name", text, 1, 255) }

func (c *checks) description(text string) string { return c.lines("description", text, 2000) }

func (c *checks) color(field, text string) string {
	if text == "" {
		return text
	}
	digits, found := strings.CutPrefix(text, "#")
	hex := func(r rune) bool { return !strings.ContainsRune("0123456789abcdefABCDEF", r) }
	if !found || (len(digits) != 3 && len(digits) != 6) || strings.ContainsFunc(digits, hex) {
		c.add(field, RuleColor)
	}
	return text
}

const maxOrder = 1_000_000

func (c *checks) order(n int) int {
	c.between("order", n, 0, maxOrder)
	return n
}

const maxWeight = 100

// email checks an address. Invisible characters are refused, since an address with one
// looks like another person's.
func (c *checks) email(text string) string {
	before := len(*c)
	email := c.line("email", text, 1, 255)
	local, domain, found := strings.Cut(email, "@")
	if len(*c) == before && (!found || local == "" || domain == "" || strings.ContainsFunc(email, func(r rune) bool { return unicode.IsSpace(r) || invisible(r) })) {
		c.add("email", RuleEmail)
	}
	return email
}

// roleName checks that a role is given. The transaction finds out whether it exists.
func (c *checks) roleName(name string) string {
	if name = normalName(name); name == "" {
		c.add("role_name", RuleRequired)
	}
	return name
}

func (c *checks) permissions(field string, ps Permissions) Permissions {
	if slices.ContainsFunc(ps, func(p Permission) bool { return !slices.Contains(allPermissions, p) }) {
		c.add(field, RuleChoice)
	}
	return ps.normal()
}

func (c *checks) key(field, key string) string {
	if len(key) > 255 {
		*c = append(*c, FieldError{Field: field, Rule: RuleLength, Min: 1, Max: 255})
	} else if strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		c.add(field, RuleText)
	}
	return key
}

// time refuses years that the databases can't store.
func (c *checks) time(field string, t time.Time) time.Time {
	if t = t.UTC(); t.Year() < 1 || t.Year() > 9999 {
		c.add(field, RuleFormat)
	}
	return t
}

// checked applies a check to a field of an update if the field is set.
func checked[T any](update *T, check func(T) T) *T {
	if update == nil {
		return nil
	}
	return new(check(*update))
}

// valueOr returns the value of an update's field, or the present value if it is nil.
func valueOr[T any](update *T, present T) T {
	if update != nil {
		return *update
	}
	return present
}

// textOr is valueOr for a Text.
func textOr(update *string, present Text) Text { return Text(valueOr(update, string(present))) }

// zeroOnError returns value, or the zero value if there is an error.
func zeroOnError[T any](value T, err error) (T, error) {
	if err != nil {
		var zero T
		return zero, err
	}
	return value, nil
}
