package cims

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// hostError wraps an error from host code, such as a hook. It has no Unwrap method,
// so the storage doesn't mistake an io.EOF in it for a database error.
type hostError struct{ err error }

func (f *hostError) Error() string { return "cims: error of host code" }

// hostCause returns the error in a hostError, and other errors unchanged.
func hostCause(err error) error {
	if f, ok := errors.AsType[*hostError](err); ok {
		return f.err
	}
	return err
}

// isHostError reports whether host code is the reason of an error. A failed
// statement of a hook counts, unless the database is unavailable.
func isHostError(err error) bool {
	_, refused := errors.AsType[*hostError](err)
	_, fault := errors.AsType[*panicked](err)
	_, statement := errors.AsType[*statementError](err)
	return refused || fault || statement && !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrOutcomeUnknown)
}

// runIsolated runs do, which may call host code, in a new goroutine. It returns a
// panic or a runtime.Goexit as an error. In a goroutine of the Manager they would
// end the program or leave callers waiting forever.
func runIsolated(do func() error) error {
	err := error(&hostError{errors.New("cims: a hook ended its goroutine")})
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

// panicked is a recovered panic with its stack, to be raised again in the goroutine
// of its caller.
type panicked struct {
	fault any
	stack string
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v\n\n%s", p.fault, p.stack) }

// statementError is a database error of a statement that a hook ran.
type statementError struct{ error }

func (s *statementError) Unwrap() error { return s.error }
