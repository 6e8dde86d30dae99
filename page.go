package cims

import (
	"context"
	"encoding/base64"
	"iter"
	"strconv"
	"strings"
	"time"
)

// PageRequest selects a page of a list.
type PageRequest struct {
	Limit  int    // 1 to 200; 0 means 50
	Cursor string // Page.Next of the page before; empty for the first page
}

// Page is a part of a list.
type Page[T any] struct {
	Items []T
	Next  string // cursor of the next page; empty on the last one
}

const (
	defaultLimit = 50
	maxLimit     = 200
)

// page checks a page request. It returns the numbers in its cursor, or nil.
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

// paginate returns a page. It reads one item more than the page holds, to find out
// whether there is a next page.
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

// allPages returns an iterator over all items of a list. It holds one page at a time
// and ends after an error.
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

// encodeCursor returns a cursor. It consists of the letter of the list and the
// numbers that locate the last item of a page.
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
	return numbers, encodeCursor(kind, numbers...) == cursor // only one text stands for a position
}

// microTime converts a time of a cursor. It reports whether databases can store it.
func microTime(micros int64) (time.Time, bool) {
	t := time.UnixMicro(micros).UTC()
	return t, t.Year() >= 1 && t.Year() <= 9999
}
