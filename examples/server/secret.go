package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cimskit/cims/httpapi/jwtauth"
)

func secretPath(db database) string { return db.path + ".jwt-secret" }

// loadSecret returns the key for signing tokens, from the environment or from the file
// beside the SQLite file. It returns nil if that file doesn't exist yet.
func loadSecret(db database) ([]byte, error) {
	source := "CIMS_JWT_SECRET"
	secret := []byte(os.Getenv(source))
	if len(secret) == 0 {
		if db.path == "" {
			return nil, errors.New("CIMS_JWT_SECRET is required with PostgreSQL: at least 32 random bytes, such as from openssl rand -hex 32")
		}
		source = secretPath(db)
		kept, err := os.ReadFile(source)
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		secret = bytes.TrimSpace(kept)
	}
	if _, err := jwtauth.New(jwtauth.Config{Secret: secret}); err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	return secret, nil
}

// makeSecret creates the file of the key atomically. If two processes start at once, one
// creates the file and both use it.
func makeSecret(db database) ([]byte, error) {
	path := secretPath(db)
	random := make([]byte, 32) // RFC 7518, section 3.2
	if _, err := rand.Read(random); err != nil {
		return nil, err
	}
	secret := []byte(hex.EncodeToString(random))
	draft, err := os.CreateTemp(filepath.Dir(path), ".jwt-secret-*") // mode 0600
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(draft.Name()) }() // also after the link
	if _, err := draft.Write(secret); err != nil {
		return nil, errors.Join(err, draft.Close())
	}
	if err := errors.Join(draft.Sync(), draft.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(draft.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	return loadSecret(db)
}
