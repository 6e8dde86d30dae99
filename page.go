package cims

import (
	"context"
	"encoding/base64"
	"iter"
	"strconv"
	"strings"
	"time"
)

// PageRequest asks for a part of a list.
type PageRequest struct {
	Limit  int    // 1 to 200; 0 means 50
	Cursor string // Page.Next of the part before; empty for the first
}

// Page is a part of a list.
type Page[T any] struct {
	Items []T
	Next  string // the cursor of the next part; empty at the end
}

const (
	defaultLimit = 50
	maxLimit     = 200
)

// page checks a page request and reads its cursor, if it has one.
func (c *checks) page(page PageRequest, kind byte, numbers int) []int64 {
	if page.Limit != 0 {
		c.between("limit", page.Limit, 1, maxLimit)
	}
	if page.Cursor == "" {
		return nil
	}
	cursor, ok := decodeCursor(kind, numbers, page.Cursor)
	if !ok {
		c.add("cursor", RuleFormat)
	}
	return cursor
}

// paginate asks for one more than the page holds, to know whether it is the last.
func paginate[T any](page PageRequest, list func(limit int) ([]T, error), cursor func(T) string) (Page[T], error) {
	limit := page.Limit
	if limit == 0 {
		limit = defaultLimit
	}
	items, err := list(limit + 1)
	if err != nil || len(items) <= limit {
		return Page[T]{Items: items}, err
	}
	return Page[T]{Items: items[:limit], Next: cursor(items[limit-1])}, nil
}

// every ranges over a list, page after page, with no more than one in memory.
// After an error, which may be the context's, it ends.
func allPages[T any](ctx context.Context, list func(PageRequest) (Page[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		for page := (PageRequest{Limit: maxLimit}); ; {
			part, err := list(page)
			if err != nil {
				yield(none, err)
				return
			}
			for _, item := range part.Items {
				if err := ctx.Err(); err != nil {
					yield(none, &Error{Kind: ErrUnavailable, Err: err})
					return
				}
				if !yield(item, nil) {
					return
				}
			}
			if part.Next == "" {
				return
			}
			page.Cursor = part.Next
		}
	}
}

// A cursor is opaque to callers: the list's letter and the numbers that place
// its last item.
func encodeCursor(kind byte, numbers ...int64) string {
	text := []byte{kind}
	for _, n := range numbers {
		text = strconv.AppendInt(append(text, '.'), n, 10)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func decodeCursor(kind byte, count int, cursor string) ([]int64, bool) {
	if len(cursor) > 100 {
		return nil, false
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil {
		return nil, false
	}
	parts := strings.Split(string(text), ".")
	if parts[0] != string(kind) || len(parts) != count+1 {
		return nil, false
	}
	numbers := make([]int64, count)
	for i := range numbers {
		if numbers[i], err = strconv.ParseInt(parts[i+1], 10, 64); err != nil {
			return nil, false
		}
	}
	return numbers, encodeCursor(kind, numbers...) == cursor // no other text stands for the same
}

// microTime reads a time out of a cursor and refuses what no database holds.
func microTime(micros int64) (time.Time, bool) {
	t := time.UnixMicro(micros).UTC()
	return t, t.Year() >= 1 && t.Year() <= 9999
}
