package httpapi

import (
	"encoding/json"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// textOrNull answers an absent text as null.
func textOrNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// orNull is an object or null, documented as both.
type orNull[T any] struct{ value *T }

// MarshalJSON is the object's, or null.
func (o orNull[T]) MarshalJSON() ([]byte, error) { return json.Marshal(o.value) }

// Schema documents it.
func (orNull[T]) Schema(registry huma.Registry) *huma.Schema {
	return &huma.Schema{AnyOf: []*huma.Schema{registry.Schema(reflect.TypeFor[T](), true, ""), {Type: "null"}}}
}

// named puts a schema among the document's own, so that a generated client has
// one type for it, whose name is no accident.
func named(registry huma.Registry, name string, schema *huma.Schema) *huma.Schema {
	registry.Map()[name] = schema
	return &huma.Schema{Ref: "#/components/schemas/" + name}
}

// list answers an empty list as [], never as null.
func list[From, To any](items []From, convert func(From) To) []To {
	converted := make([]To, len(items))
	for i, item := range items {
		converted[i] = convert(item)
	}
	return converted
}

// exampleTime is when everything in the document's examples happened.
var exampleTime = time.Date(2025, 12, 15, 10, 30, 0, 0, time.UTC)
