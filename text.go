package cims

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Text is an optional text. The empty one stands for none and is null in JSON.
type Text string

// MarshalJSON returns the text as a JSON string, or null where it is empty.
func (t Text) MarshalJSON() ([]byte, error) {
	if t == "" {
		return []byte("null"), nil
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // the encoder that called decides that
	err := encoder.Encode(string(t))
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), err
}

// mustMarshal marshals a struct whose fields can all be marshaled.
func mustMarshal(fields any) []byte {
	text, err := json.Marshal(fields)
	if err != nil {
		panic(fmt.Sprintf("cims: a %T is always marshalable: %v", fields, err))
	}
	return text
}
