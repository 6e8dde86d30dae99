package httpapi

import (
	"encoding/json"
	"net/http"
	"reflect"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"
)

// FuzzBody checks that encoding/json decodes every body that the strict decoder accepts to
// the same value, and that no body makes the strict decoder panic.
func FuzzBody(f *testing.F) {
	for _, text := range []string{
		`{"name": "a", "display_name": "A", "color": null, "order": 1, "is_active": false}`, `{"name": "\ud83d\ude00 \ud83d"}`,
		`{"name":"\\ud800","display_name":"\"\\\u0041"}`, `[]`, `{"name": {"name": 1}}`, `{"NAME": "a", "name": "b"}`, "{\"name\": \"\xff\"}",
	} {
		f.Add([]byte(text))
	}
	decoder := bodyOf(0, reflect.TypeFor[cimsNewStatus](), huma.NewMapRegistry("#/", huma.DefaultSchemaNamer))
	f.Fuzz(func(t *testing.T, text []byte) {
		var got, want cimsNewStatus
		err := decoder.decode(text, reflect.ValueOf(&got).Elem())
		if !json.Valid(text) {
			require.Equal(t, httpError{status: http.StatusBadRequest}, err)
			return
		}
		if err == nil {
			require.NoError(t, json.Unmarshal(text, &want))
			require.Equal(t, want, got)
		}
	})
}
