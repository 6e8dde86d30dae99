package httpapi

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cimskit/cims"
)

// documentEntities documents each entity of package cims by a type of this package. Answers
// hold the entities themselves. The types here only provide the name of the schema, and the
// descriptions and examples of its fields.
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

// Schema documents a text, or null for an empty one.
func (optionalText) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Nullable: true}
}

// fields documents fields by their names in JSON.
type fields map[string]field

type field struct {
	doc     string
	example any // nil for no example
}

// describe completes the schema of type T. A list in it is never null. An object behind a
// pointer may be null. describe panics if the schema lacks one of the fields.
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
	var order []string // order of the fields in JSON; huma puts embedded ones last
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
