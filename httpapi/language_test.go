package httpapi

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cimskit/cims"
)

func TestLanguagesSayTheSame(t *testing.T) {
	verbs := regexp.MustCompile(`%[a-z]`)
	for name, lang := range languages {
		require.Equal(t, slices.Sorted(maps.Keys(english)), slices.Sorted(maps.Keys(lang)), name)
		for key, text := range lang {
			require.Equal(t, verbs.FindAllString(english[key], -1), verbs.FindAllString(text, -1), "%s: %s", name, key)
			require.Equal(t, strings.TrimSpace(text), text)
			require.NotEmpty(t, text)
		}
	}
}

// TestEveryRefusalHasWords checks that each refusal of the Manager has a text.
func TestEveryRefusalHasWords(t *testing.T) {
	for _, rule := range []cims.FieldRule{
		cims.RuleRequired, cims.RuleLength, cims.RuleRange, cims.RuleMultiple, cims.RuleName, cims.RuleColor, cims.RuleEmail, cims.RuleText, cims.RuleReadOnly,
		cims.RuleUnknown, cims.RuleChoice, cims.RuleFormat, cims.RuleNoField,
		ruleUnknownField, ruleUnknownParameter, ruleRepeated, ruleString, ruleInteger, ruleBoolean, ruleArray, ruleObject, ruleEmpty, ruleLongLine, ruleEncoding, ruleUnnamed,
	} {
		require.Contains(t, english, "rule."+string(rule))
	}
	for _, reason := range []cims.Reason{
		cims.ReasonPermission, cims.ReasonInactiveUser, cims.ReasonInactiveRole, cims.ReasonCEOPermissions, cims.ReasonExceedsOwn, cims.ReasonOnlyCEO,
	} {
		require.Contains(t, english, string(reason))
	}
	for _, entity := range []cims.Entity{cims.EntityStatus, cims.EntityRole} {
		for _, key := range []string{"in_use." + string(entity), "in_use." + string(entity) + ".at_least", "system_entry." + string(entity)} {
			require.Contains(t, english, key)
		}
	}
	for _, entity := range []cims.Entity{
		cims.EntityStatus, cims.EntityRole, cims.EntityUser, cims.EntityCustomer, cims.EntitySalesManager, cims.EntityAssignment,
	} {
		require.Contains(t, english, "not_found."+string(entity))
	}
}

func TestRuleIsWordedWithItsBounds(t *testing.T) {
	for want, f := range map[string]fault{
		"must have 1 to 255 characters":   {rule: cims.RuleLength, min: 1, max: 255},
		"must have at most 50 characters": {rule: cims.RuleLength, max: 50},
		"must be from 0 to 1000000":       {rule: cims.RuleRange, max: 1_000_000},
		"must be a multiple of 20":        {rule: cims.RuleMultiple, min: 20},
		"must be at least 1":              {rule: cims.RuleRange, min: 1},
		"must be #RGB or #RRGGBB":         {rule: cims.RuleColor},
		"is malformed":                    {rule: "a rule of a later version"},
	} {
		require.Equal(t, want, english.rule(f))
	}
}

func TestUseOfUnknownExtentIsWordedWithoutANumber(t *testing.T) {
	p := (&route{}).problem(english, &cims.Error{Kind: cims.ErrInUse, Entity: cims.EntityStatus})
	require.Equal(t, 409, p.status)
	require.Equal(t, "It is in use and can't be deleted", p.detail)
}
