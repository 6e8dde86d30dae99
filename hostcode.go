package cims

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// foreign is an error of the host's own, such as a hook's, on its way through the
// storage, which would take an io.EOF in it for one of its database's.
type hostError struct{ err error }

func (f *hostError) Error() string { return "cims: an error of the host's own" }

// unwrapped is the host's own error again, if it is one.
func hostCause(err error) error {
	if f, ok := errors.AsType[*hostError](err); ok {
		return f.err
	}
	return err
}

// ofHost tells whether the host's own code is why something failed. A statement of
// its that failed is, unless the database can't do anything just now.
func isHostError(err error) bool {
	_, refused := errors.AsType[*hostError](err)
	_, fault := errors.AsType[*panicked](err)
	_, statement := errors.AsType[*statementError](err)
	return refused || fault || statement && !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrOutcomeUnknown)
}

// apart runs what may be the host's own code in a goroutine of its own: a panic
// or runtime.Goexit there is an error here, where it would end the program or
// leave others waiting for ever.
func runIsolated(do func() error) error {
	err := error(&hostError{errors.New("cims: a hook has ended its goroutine")})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer func() {
			if fault := recover(); fault != nil {
				err = &panicked{fault: fault, stack: string(debug.Stack())}
			}
		}()
		err = do()
	}()
	<-ended
	return err
}

// panicked is a panic on its way to the caller that it belongs to, with where it
// came from.
type panicked struct {
	fault any
	stack string
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v\n\n%s", p.fault, p.stack) }

// statementError is an error of the database in a statement of a hook's.
type statementError struct{ error }

func (s *statementError) Unwrap() error { return s.error }
