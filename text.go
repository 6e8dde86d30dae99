package cims

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Text is an optional text. The empty Text stands for none, and its JSON form is
// null.
type Text string

// MarshalJSON returns a JSON string, or null if t is empty.
func (t Text) MarshalJSON() ([]byte, error) {
	if t == "" {
		return []byte("null"), nil
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // the calling encoder escapes if it is set to
	err := encoder.Encode(string(t))
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), err
}

// mustMarshal returns the JSON form of a struct whose fields can all be marshaled.
func mustMarshal(fields any) []byte {
	text, err := json.Marshal(fields)
	if err != nil {
		panic(fmt.Sprintf("cims: can't marshal %T: %v", fields, err))
	}
	return text
}
