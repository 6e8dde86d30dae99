package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/cimskit/cims"
	"github.com/cimskit/cims/httpapi/jwtauth"
)

// printToken prints a token and nothing else, for use in a shell. It creates neither a
// secret nor a user, since a token for new ones would be useless.
func printToken(ctx context.Context, args []string, stdout io.Writer) (err error) {
	s, err := parseTokenSettings(args, stdout)
	if err != nil {
		return err
	}
	secret, err := loadSecret(s.db)
	if err != nil {
		return err
	}
	if secret == nil {
		return fmt.Errorf("there is no %s: start the server once, or set CIMS_JWT_SECRET", secretPath(s.db))
	}
	store, err := s.db.use(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	user, err := findUser(ctx, store, s.email)
	if err != nil {
		return err
	}
	token, err := tokenFor(secret, user, s.ttl)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, token)
	return err
}

// findUser asks the Storage directly, since a Manager would start background work.
func findUser(ctx context.Context, store cims.Storage, email string) (cims.User, error) {
	found, err := store.AccountsByEmail(ctx, email)
	switch {
	case err != nil:
		return cims.User{}, err
	case len(found) == 0:
		return cims.User{}, fmt.Errorf("-email: no such user: %s", email)
	case len(found) > 1:
		return cims.User{}, fmt.Errorf("-email: %d users have %s in other cases: write it as one of them does", len(found), email)
	}
	return found[0].User, nil
}

// tokenFor returns a token for a user's id, since an email may pass to another user.
func tokenFor(secret []byte, user cims.User, ttl time.Duration) (string, error) {
	return jwtauth.Token(secret, strconv.FormatInt(user.ID, 10), ttl)
}
