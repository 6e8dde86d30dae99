package httpapi

import (
	"encoding/json"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cimskit/cims"
)

// orNull is an optional object. It is null in JSON if there is none.
type orNull[T any] struct{ value *T }

// MarshalJSON returns the object, or null.
func (o orNull[T]) MarshalJSON() ([]byte, error) { return json.Marshal(o.value) }

// Schema documents an object or null.
func (orNull[T]) Schema(registry huma.Registry) *huma.Schema {
	return &huma.Schema{AnyOf: []*huma.Schema{registry.Schema(reflect.TypeFor[T](), true, ""), {Type: "null"}}}
}

// named adds a schema to the document's own and returns a reference to it.
// A generated client then has one type for it, under this name.
func named(registry huma.Registry, name string, schema *huma.Schema) *huma.Schema {
	registry.Map()[name] = schema
	return &huma.Schema{Ref: "#/components/schemas/" + name}
}

// list returns the items for JSON, where an empty list is [] and not null.
func list[T any](items []T, err error) ([]T, error) {
	if items == nil {
		items = []T{}
	}
	return items, err
}

// cimsPage is a part of a list.
type cimsPage[T any] struct {
	Items []T       `json:"items" nullable:"false"`
	Next  cims.Text `json:"next" doc:"The cursor of the next part; null at the end."`
}

func page[T any](part cims.Page[T], err error) (cimsPage[T], error) {
	items, err := list(part.Items, err)
	return cimsPage[T]{Items: items, Next: cims.Text(part.Next)}, err
}

func convertPage[From, To any](part cims.Page[From], err error, convert func(From) To) (cimsPage[To], error) {
	items, err := list(convertAll(part.Items, convert), err)
	return cimsPage[To]{Items: items, Next: cims.Text(part.Next)}, err
}

func convertAll[From, To any](items []From, convert func(From) To) []To {
	converted := make([]To, len(items))
	for i, item := range items {
		converted[i] = convert(item)
	}
	return converted
}

// exampleTime is the time in all examples of the document.
var exampleTime = time.Date(2025, 12, 15, 10, 30, 0, 0, time.UTC)
