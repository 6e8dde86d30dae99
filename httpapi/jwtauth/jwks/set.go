package jwks

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/MicahParks/jwkset"

	"github.com/cimskit/cims/httpapi/jwtauth"
)

// readSet reads a key set. It skips keys that can't verify tokens, such as keys for another
// use or of an unknown kind. The other keys stay usable.
func readSet(text []byte, log *slog.Logger) (map[string]crypto.PublicKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("the answer is no key set: %w", err)
	}
	if set.Keys == nil {
		return nil, errors.New("the answer is no key set: it has no keys")
	}
	keys := map[string]crypto.PublicKey{}
	for _, text := range set.Keys {
		var said jwkset.JWKMarshal
		err := json.Unmarshal(text, &said)
		var key crypto.PublicKey
		if err == nil {
			key, err = publicKey(said)
		}
		if _, again := keys[said.KID]; again {
			err = errors.New("another key has that kid")
		}
		if err != nil {
			log.Info("jwks: a published key doesn't count", "kid", said.KID, "error", err)
			continue
		}
		keys[said.KID] = key
	}
	if len(keys) == 0 {
		log.Warn("jwks: the login publishes no key that tokens could be verified with")
	}
	return keys, nil
}

// publicKey reads one key. It returns an error unless the key is only for verifying.
func publicKey(said jwkset.JWKMarshal) (crypto.PublicKey, error) {
	switch {
	case said.KID == "":
		return nil, errors.New("it has no kid")
	case said.KTY == jwkset.KtyOct || said.K != "":
		return nil, errors.New("a secret was published")
	case said.D+said.P+said.Q+said.DP+said.DQ+said.QI != "" || said.OTH != nil:
		return nil, errors.New("a private key was published")
	case said.USE != "" && said.USE != jwkset.UseSig:
		return nil, fmt.Errorf("its use is %q", said.USE)
	case said.KEYOPS != nil && !slices.Contains(said.KEYOPS, jwkset.KeyOpsVerify):
		return nil, errors.New("it is not for verifying")
	}
	// Only the key itself counts, since the login vouches for it over TLS.
	said.X5C, said.X5U, said.X5T, said.X5TS256 = nil, "", "", ""
	read, err := jwkset.NewJWKFromMarshal(said, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return nil, err
	}
	algorithm, err := jwtauth.Algorithm(read.Key())
	if err != nil {
		return nil, err
	}
	if said.ALG != "" && said.ALG.String() != algorithm {
		return nil, fmt.Errorf("its alg is %q, and it is for %s", said.ALG, algorithm)
	}
	return read.Key(), nil
}
