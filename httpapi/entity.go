package httpapi

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cimskit/cims"
)

// documentEntities has the document describe each of the root's types as the type
// that stands for it here. Answers are made of the root's own: these types only
// give the schema its name, and its fields their descriptions and examples.
func documentEntities(registry huma.Registry) {
	document[cims.Text, optionalText](registry)
	document[cims.Permission, cimsPermission](registry)
	document[cims.Status, cimsStatus](registry)
	document[cims.Role, cimsRole](registry)
	document[cims.User, cimsUser](registry)
	document[cims.Person, cimsPerson](registry)
	document[cims.SalesManager, cimsSalesManager](registry)
	document[cims.Customer, cimsCustomer](registry)
	document[cims.Assignment, cimsAssignment](registry)
	document[cimsPage[cims.User], cimsPage[cimsUser]](registry)
	document[cimsPage[cims.Customer], cimsPage[cimsCustomer]](registry)
}

func document[Entity, As any](registry huma.Registry) {
	registry.RegisterTypeAlias(reflect.TypeFor[Entity](), reflect.TypeFor[As]())
}

// optionalText documents cims.Text.
type optionalText string

// Schema documents a text that is null where there is none.
func (optionalText) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Nullable: true}
}

// fields documents fields by their names in JSON.
type fields map[string]field

type field struct {
	doc     string
	example any // none where it is nil
}

// describe completes the schema of type T. A list in it is never null, and an object
// that is a pointer may be. It panics where the schema lacks one of the fields.
func describe[T any](schema *huma.Schema, described ...fields) *huma.Schema {
	for _, fields := range described {
		for name, field := range fields {
			property := schema.Properties[name]
			if property == nil {
				panic(fmt.Errorf("%T has no field %q to describe", *new(T), name))
			}
			property.Description = field.doc
			if field.example != nil {
				property.Examples = []any{field.example}
			}
		}
	}
	var order []string // in which JSON has the fields; huma puts embedded ones last
	for _, f := range reflect.VisibleFields(reflect.TypeFor[T]()) {
		name := fieldName(f)
		order = append(order, name)
		property := schema.Properties[name]
		switch {
		case property == nil:
		case property.Type == huma.TypeArray:
			property.Nullable = false
		case property.Ref != "" && f.Type.Kind() == reflect.Pointer:
			property.AnyOf, property.Ref = []*huma.Schema{{Ref: property.Ref}, {Type: "null"}}, ""
		}
	}
	slices.SortFunc(schema.Required, func(a, b string) int { return slices.Index(order, a) - slices.Index(order, b) })
	return schema
}
