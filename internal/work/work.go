// Package work names the kinds of work that share a database's connections.
package work

import (
	"context"
	"errors"
)

// Kind is a kind of work.
type Kind int

// The kinds of work. The zero value is an ordinary read or change.
const (
	Ordinary Kind = iota
	SignIn        // authentication and readiness
	Heavy         // a read over many rows
	Import        // a transaction that stores many leads
	Kinds         // the number of kinds
)

// ErrRaised is in the error of a transaction that fails again and again with a conflict
// inside a statement. A host's trigger may raise it for one row of many.
var ErrRaised = errors.New("the conflict recurs")

type key struct{}

// With returns a context for work of a kind.
func With(ctx context.Context, kind Kind) context.Context { return context.WithValue(ctx, key{}, kind) }

// Of returns the kind of work of a context.
func Of(ctx context.Context) Kind {
	kind, _ := ctx.Value(key{}).(Kind)
	return kind
}
