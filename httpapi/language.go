package httpapi

import (
	"context"
	"fmt"
	"strings"

	"github.com/cimskit/cims"
)

// language maps keys to texts for people. Names and codes are the same in all languages.
type language map[string]string

const defaultLanguage = "uz"

var languages = map[string]language{"uz": uzbek, "ru": russian, "en": english}

// languageOf returns the preferred language of an Accept-Language header. It returns
// otherwise if the header is empty, malformed or names no supported language.
func languageOf(accept string, otherwise language) language {
	best, picked := 0.0, otherwise
	for tag, quality := range preferences(accept) {
		primary, _, _ := strings.Cut(tag, "-")
		if lang, ok := languages[primary]; ok && quality > best {
			best, picked = quality, lang
		}
		if tag == "*" && quality > best {
			best, picked = quality, otherwise
		}
	}
	return picked
}

type languageKey struct{}

// languageIn returns the language of the request with this ctx.
func languageIn(ctx context.Context) language {
	lang, _ := ctx.Value(languageKey{}).(language)
	return lang
}

// say returns the text of the first key with a text.
func (l language) say(keys []string) string {
	for _, key := range keys {
		if text := l[key]; text != "" {
			return text
		}
	}
	return ""
}

func (l language) format(key string, values ...any) string { return fmt.Sprintf(l[key], values...) }

// rule returns a sentence about a field's rule.
func (l language) rule(f fault) string {
	key := "rule." + string(f.rule)
	switch {
	case f.rule == cims.RuleLength && f.min == 0:
		return l.format(key+".max", f.max)
	case f.rule == cims.RuleRange && f.max == 0:
		return l.format(key+".min", f.min)
	case f.rule == cims.RuleMultiple:
		return l.format(key, f.min)
	case f.rule == cims.RuleLength, f.rule == cims.RuleRange:
		return l.format(key, f.min, f.max)
	default:
		return l.say([]string{key, "rule.format"})
	}
}
