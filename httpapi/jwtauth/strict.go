package jwtauth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// object reads a JSON object. It refuses a repeated key, and a known key in another case,
// since two readers could interpret such a token differently.
func object(text []byte, known []string) (map[string]json.RawMessage, error) {
	if !json.Valid(text) {
		return nil, errors.New("no JSON")
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return nil, errors.New("no JSON object")
	}
	fields := map[string]json.RawMessage{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		key, _ := token.(string)
		if _, again := fields[key]; again {
			return nil, fmt.Errorf("%q is repeated", key)
		}
		if slices.ContainsFunc(known, func(k string) bool { return k != key && strings.EqualFold(k, key) }) {
			return nil, fmt.Errorf("%q is in the wrong case", key)
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, err
		}
		fields[key] = value
	}
	return fields, nil
}

// headerFields lists the header fields that a token may have. Others (crit, b64,
// jku, jwk, x5u …) change how it is read or where its key comes from. Some logins
// add thumbprints of certificates, which are ignored.
var headerFields = []string{"alg", "typ", "kid", "cty", "x5t", "x5t#S256"}

const maxKeyID = 128

// checkHeader refuses a token by its header, before the rest is read.
func checkHeader(token string) error {
	header, _, _ := strings.Cut(token, ".")
	text, err := base64.RawURLEncoding.Strict().DecodeString(header)
	if err != nil {
		return errors.New("jwtauth: the header is no base64url")
	}
	fields, err := object(text, headerFields)
	if err != nil {
		return fmt.Errorf("jwtauth: header: %w", err)
	}
	for name, value := range fields {
		var said string
		if !slices.Contains(headerFields, name) || string(value) == "null" || json.Unmarshal(value, &said) != nil {
			return fmt.Errorf("jwtauth: header: %q is not accepted", name)
		}
		if name == "kid" && !validKeyID(said) {
			return errors.New("jwtauth: header: malformed kid")
		}
	}
	return nil
}

// validKeyID reports whether a key id has only the characters of hashes and names,
// and can be neither a way up in a path nor a query.
func validKeyID(id string) bool {
	return id != "" && len(id) <= maxKeyID && !strings.Contains(id, "..") && !strings.ContainsFunc(id, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-+/=:", r))
	})
}

// claims are the registered claims, read strictly.
type claims struct{ jwt.RegisteredClaims }

// UnmarshalJSON reads the registered claims by their exact names and ignores others.
func (c *claims) UnmarshalJSON(text []byte) error {
	fields, err := object(text, []string{"sub", "iss", "aud", "exp", "nbf", "iat", "jti"})
	if err != nil {
		return err
	}
	for name, value := range fields {
		switch name {
		case "sub":
			err = readText(value, &c.Subject)
		case "iss":
			err = readText(value, &c.Issuer)
		case "aud":
			c.Audience, err = audience(value)
		case "exp":
			c.ExpiresAt, err = date(value)
		case "nbf":
			c.NotBefore, err = date(value)
		case "iat":
			c.IssuedAt, err = date(value)
		}
		if err != nil {
			return fmt.Errorf("malformed %s", name)
		}
	}
	return nil
}

var errMalformed = errors.New("malformed")

func readText(value json.RawMessage, to *string) error {
	if string(value) == "null" {
		return errMalformed
	}
	return json.Unmarshal(value, to)
}

// audience reads a text or a list of texts.
func audience(value json.RawMessage) (jwt.ClaimStrings, error) {
	var one string
	if readText(value, &one) == nil {
		return jwt.ClaimStrings{one}, nil
	}
	var many []string
	err := json.Unmarshal(value, &many)
	if many == nil {
		err = errMalformed
	}
	return many, err
}

// date reads a number of seconds before the year 10000: a larger one would overflow.
func date(value json.RawMessage) (*jwt.NumericDate, error) {
	const year10000 = 253_402_300_800
	var seconds float64
	if string(value) == "null" || json.Unmarshal(value, &seconds) != nil || seconds <= 0 || seconds >= year10000 {
		return nil, errMalformed
	}
	return jwt.NewNumericDate(time.Unix(int64(seconds), 0)), nil
}
