package cims

import (
	"context"
	"encoding/json"
	"errors"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cimskit/cims/rotation"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestFingerprintIsOfWhatWasSent checks that a new field of NewCustomer changes the
// fingerprint only of requests that use it.
func TestFingerprintIsOfWhatWasSent(t *testing.T) {
	t.Parallel()
	type later struct {
		NewCustomer
		Region string `json:"region,omitempty"`
	}
	in := NewCustomer{FullName: "Aziza", Notes: "<new>", IdempotencyKey: "one"}
	kept := fingerprint(in)
	require.Equal(t, "f05ea289c3b370f3b8462ac3827d33701ab013f05bbab0bac3afe665b74ec3ad", kept, "the keys of 24 hours depend on it")
	require.Equal(t, kept, fingerprint(later{NewCustomer: in}))
	require.NotEqual(t, kept, fingerprint(later{NewCustomer: in, Region: "Xorazm"}))
	in.IdempotencyKey = "two"
	require.Equal(t, kept, fingerprint(in))
	for f := range reflect.TypeFor[NewCustomer]().Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		require.True(t, name == "-" || options == "omitempty", f.Name)
	}
}

func TestTextsAreNullWhereTheyAreEmpty(t *testing.T) {
	t.Parallel()
	type texts struct {
		Some Text `json:"some"`
		None Text `json:"none"`
	}
	written, err := json.Marshal(texts{Some: "<a> \"b\" \u2028"})
	require.NoError(t, err)
	require.Equal(t, `{"some":"\u003ca\u003e \"b\" \u2028","none":null}`, string(written)) //nolint:testifylint // the escapes matter
	var read texts
	require.NoError(t, json.Unmarshal(written, &read))
	require.Equal(t, texts{Some: "<a> \"b\" \u2028"}, read)

	var plain strings.Builder
	encoder := json.NewEncoder(&plain)
	encoder.SetEscapeHTML(false)
	require.NoError(t, encoder.Encode(texts{Some: "<a>"}))
	require.Equal(t, `{"some":"<a>","none":null}`+"\n", plain.String()) //nolint:testifylint // the escapes matter

	role, err := json.Marshal(Role{})
	require.NoError(t, err)
	require.Contains(t, string(role), `"permissions":[]`)
}

func TestRateIsRoundedHalfAwayFromZero(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		total, count int
		rate         float64
	}{
		{0, 0, 0},
		{100, 0, 0},
		{100, 100, 100},
		{3, 1, 33.33},
		{3, 2, 66.67},
		{7, 1, 14.29},
		{800, 1, 0.13},  // 0.125: a half
		{1600, 3, 0.19}, // 0.1875
		{1600, 1, 0.06}, // 0.0625
		{2000, 201, 10.05},
		{40_000, 2001, 5},        // 5.0025
		{20_000, 1, 0.01},        // 0.005: a half
		{100_000, 1, 0},          // 0.001
		{100_000, 99_999, 100},   // 99.999
		{100_000, 12_345, 12.35}, // 12.345: a half, which binary fractions make 12.34
	} {
		require.InDelta(t, c.rate, Conversion{Total: c.total, Count: c.count}.Rate(), 0, "%d of %d", c.count, c.total)
	}
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.IntRange(1, maxCohort).Draw(t, "total")
		count := rapid.IntRange(0, total).Draw(t, "count")
		exact := new(big.Rat).Mul(big.NewRat(int64(count), int64(total)), big.NewRat(100, 1)).FloatString(2) // half away from zero
		got := new(big.Rat).SetFloat64(Conversion{Total: total, Count: count}.Rate()).FloatString(2)
		require.Equal(t, exact, got, "%d of %d", count, total)
	})
}

func TestCursors(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		numbers := rapid.SliceOfN(rapid.Int64(), 1, 3).Draw(t, "numbers")
		cursor := encodeCursor('x', numbers...)
		require.LessOrEqual(t, len(cursor), 100)
		require.Equal(t, strings.Map(urlSafe, cursor), cursor)
		decoded, ok := decodeCursor('x', len(numbers), cursor)
		require.True(t, ok)
		require.Equal(t, numbers, decoded)
		_, ok = decodeCursor('y', len(numbers), cursor)
		require.False(t, ok, "of another list")
		_, ok = decodeCursor('x', len(numbers)+1, cursor)
		require.False(t, ok)
	})
	rapid.Check(t, func(t *rapid.T) { // any input of a client
		cursor := rapid.OneOf(rapid.String(), rapid.StringMatching("[A-Za-z0-9_-]{0,120}")).Draw(t, "cursor")
		if numbers, ok := decodeCursor('x', 2, cursor); ok {
			require.Len(t, numbers, 2)
		}
	})
}

func urlSafe(r rune) rune {
	if r == '-' || r == '_' || ('0' <= r && r <= '9') || ('A' <= r && r <= 'Z') || ('a' <= r && r <= 'z') {
		return r
	}
	return -1
}

// TestNames checks that an accepted name has a single form and no invisible
// characters.
func TestNames(t *testing.T) {
	t.Parallel()
	for given, name := range map[string]string{
		"Need to Call": "need_to_call", " a ": "a", "ҚЎНҒИРОҚ": "қўнғироқ", "a\u00a0": "a", "É": "é", "Ⅷ½٣": "ⅷ½٣",
	} {
		var check checks
		require.Equal(t, name, check.name("name", given))
		require.NoError(t, check.err(), given)
	}
	for given, rule := range map[string]FieldRule{
		"": RuleRequired, " ": RuleRequired, "\u00a0": RuleRequired, strings.Repeat("ў", 101): RuleLength,
		"a-b": RuleName, "a\tb": RuleName, "a\n": RuleName, "a\u200b": RuleName, "\ufeffa": RuleName, "a\u00adb": RuleName,
		"a\u202eb": RuleName, "a\u00a0b": RuleName, "a\u2028b": RuleName, "e\u0301": RuleName, "😀": RuleName, "a\xff": RuleName, "\x00": RuleName,
		"a\ufffdb": RuleName, "a'b": RuleName, "a%": RuleName, "\U000e0001a": RuleName, "\ue000": RuleName,
	} {
		var check checks
		check.name("name", given)
		require.Len(t, check, 1, "%q", given)
		require.Equal(t, checks{{Field: "name", Rule: rule, Min: check[0].Min, Max: check[0].Max}}, check, "%q", given)
	}
	rapid.Check(t, func(t *rapid.T) {
		var check checks
		name := check.name("name", rapid.String().Draw(t, "name"))
		if check.err() != nil {
			return
		}
		require.True(t, utf8.ValidString(name))
		require.LessOrEqual(t, utf8.RuneCountInString(name), maxNameLen)
		require.Equal(t, name, check.name("name", name), "it is its own form")
		require.NoError(t, check.err())
		for _, r := range name {
			require.True(t, r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r), "%q", name)
			require.False(t, unicode.IsUpper(r) && unicode.ToLower(r) != r, "%q", name)
		}
	})
}

func TestErrorsSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	cause := errors.New("the cause")
	for text, err := range map[string]*Error{
		`cims: not found: status "7"`:                                              {Kind: ErrNotFound, Entity: EntityStatus, Name: "7"},
		`cims: in use: role "clerk": by 1000 or more`:                              {Kind: ErrInUse, Entity: EntityRole, Name: "clerk", Count: 1000, CountIsMinimum: true},
		`cims: in use: role "clerk": by 3`:                                         {Kind: ErrInUse, Entity: EntityRole, Name: "clerk", Count: 3},
		`cims: forbidden (permission): leads:read is needed`:                       {Kind: ErrForbidden, Reason: ReasonPermission, Permission: LeadsRead},
		`cims: database unavailable: the cause`:                                    {Kind: ErrUnavailable, Err: cause},
		`cims: invalid input: name is required; order must be from 0 to 9`:         {Kind: ErrInvalid, Fields: []FieldError{{"name", RuleRequired, 0, 0}, {"order", RuleRange, 0, 9}}},
		`cims: invalid input: color must be #RGB or #RRGGBB; no field to change`:   {Kind: ErrInvalid, Fields: []FieldError{{"color", RuleColor, 0, 0}, {"body", RuleNoField, 0, 0}}},
		`cims: invalid input: display_name must have 1 to 255 characters`:          {Kind: ErrInvalid, Fields: []FieldError{{"display_name", RuleLength, 1, 255}}},
		`cims: invalid input: status_name names nothing that exists and is active`: {Kind: ErrInvalid, Fields: []FieldError{{"status_name", RuleUnknown, 0, 0}}},
	} {
		require.EqualError(t, err, text)
		require.ErrorIs(t, err, err.Kind)
		if err.Err != nil {
			require.ErrorIs(t, err, cause)
		}
	}
	for _, rule := range []FieldRule{
		RuleRequired, RuleLength, RuleRange, RuleMultiple, RuleName, RuleColor, RuleEmail, RuleText, RuleReadOnly, RuleUnknown,
		RuleChoice, RuleFormat, RuleNoField,
	} {
		require.NotContains(t, FieldError{Field: "x", Rule: rule}.String(), string(rule)+":", "each rule is put into words")
	}
}

// still is an empty Storage, for the background work of a Manager.
type still struct{ Storage }

func (still) Unassigned(context.Context, UnassignedQuery) ([]int64, error) { return nil, nil }

func (still) Update(context.Context, func(context.Context, Tx) error) error { return nil }

func TestNewAndClose(t *testing.T) {
	t.Parallel()
	_, err := New(nil, nil)
	require.Error(t, err)
	for field, config := range map[string]Config{
		"WaitingInterval": {WaitingInterval: -time.Second}, "InitialStatus": {InitialStatus: "not a name!"},
	} {
		_, err := New(still{}, &config)
		var refusal *Error
		require.ErrorAs(t, err, &refusal)
		require.ErrorIs(t, err, ErrInvalid)
		require.Equal(t, field, refusal.Fields[0].Field)
	}
	config := Config{InitialStatus: " Fresh Lead "}
	m, err := New(still{}, &config)
	require.NoError(t, err)
	require.Equal(t, Config{InitialStatus: " Fresh Lead "}, config, "defaults are filled in on a copy")
	require.NoError(t, m.Close(t.Context()))
	require.NoError(t, m.Close(t.Context()), "again")
}

// stuck is a Storage that doesn't answer.
type stuck struct {
	still
	release chan struct{}
}

func (s stuck) Unassigned(context.Context, UnassignedQuery) ([]int64, error) {
	<-s.release
	return nil, nil
}

func TestCloseWaitsNoLongerThanItsContext(t *testing.T) {
	t.Parallel()
	s := stuck{release: make(chan struct{})}
	m, err := New(s, &Config{WaitingInterval: time.Millisecond})
	require.NoError(t, err)
	time.Sleep(20 * time.Millisecond) // the worker is waiting for the storage
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, m.Close(ctx), context.DeadlineExceeded)
	close(s.release)
	require.NoError(t, m.Close(t.Context()))
}

// jumbled is a Storage that lists entries in an arbitrary order, as the interface
// allows.
type jumbled struct{ still }

func (jumbled) Statuses(context.Context) ([]Status, error) {
	return []Status{{ID: 3, Order: 1}, {ID: 2, Order: 1}, {ID: 1, Order: 5}, {ID: 4}}, nil
}

func (jumbled) Roles(context.Context) ([]Role, error) {
	return []Role{{ID: 3, DisplayName: "b"}, {ID: 2, DisplayName: "b"}, {ID: 1, DisplayName: "я"}, {ID: 4, DisplayName: "Z"}}, nil
}

func (jumbled) Rotation(context.Context) (Rotation, error) {
	return Rotation{
		State:  rotation.State{Members: []rotation.Member{{ID: 1}, {ID: 2}, {ID: 3}, {ID: 4}}},
		People: map[int64]Person{1: {ID: 1, Name: "я"}, 2: {ID: 2, Name: "b"}, 3: {ID: 3, Name: "b"}, 4: {ID: 4, Name: "Z"}},
	}, nil
}

func TestListsAreSortedWhateverTheStorageDoes(t *testing.T) {
	t.Parallel()
	m, err := New(jumbled{}, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close(context.Background())) }()
	var ids []int64
	statuses, err := m.Statuses(t.Context(), System("test"), StatusFilter{})
	require.NoError(t, err)
	for _, status := range statuses {
		ids = append(ids, status.ID)
	}
	roles, err := m.Roles(t.Context(), System("test"), RoleFilter{})
	require.NoError(t, err)
	for _, role := range roles {
		ids = append(ids, role.ID)
	}
	managers, err := m.SalesManagers(t.Context(), System("test"))
	require.NoError(t, err)
	for _, manager := range managers {
		ids = append(ids, manager.ID)
	}
	require.Equal(t, []int64{4, 2, 3, 1 /**/, 4, 2, 3, 1 /**/, 4, 2, 3, 1}, ids)
}

func TestActorThatIsNobody(t *testing.T) {
	t.Parallel()
	m, err := New(still{}, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close(context.Background())) }()
	_, err = m.AddCustomer(t.Context(), Actor{}, NewCustomer{FullName: "A"})
	require.ErrorIs(t, err, ErrForbidden, "the zero Actor may do nothing")
	require.NotEqual(t, System("").keyScope(), Actor{}.keyScope())
	require.NotEqual(t, System("user:1").keyScope(), Actor{user: User{ID: 1}}.keyScope())
}

// noStorage is the type of a nil pointer, as a failed opening returns it.
type noStorage struct{ Storage }

func TestNewTellsWhatIsMissing(t *testing.T) {
	_, err := New(nil, nil)
	require.ErrorContains(t, err, "needs a storage")
	_, err = New((*noStorage)(nil), nil)
	require.ErrorContains(t, err, "needs a storage")
	_, err = New(&noStorage{}, &Config{Hooks: []Hook{nil}})
	require.ErrorIs(t, err, ErrInvalid)
	require.ErrorContains(t, err, "Hooks")
}
