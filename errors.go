package cims

import (
	"errors"
	"fmt"
	"strings"
)

// The kinds of refusal and failure. Every error that a Manager returns for a
// reason that a caller can act on wraps exactly one of them, so that
//
//	errors.Is(err, cims.ErrInUse)
//
// works, and is an *Error that says which entry, which field, how many.
// Whatever wraps none of them is unexpected.
var (
	// ErrNotFound: no such status, role, user, customer or assignment; or, for
	// an actor limited to its own leads, somebody else's.
	ErrNotFound = errors.New("cims: not found")
	// ErrExists: the name or email is taken.
	ErrExists = errors.New("cims: exists already")
	// ErrInUse: a status that customers are in, or a role that users have, is
	// to be deleted. Error.Count says how many.
	ErrInUse = errors.New("cims: in use")
	// ErrInvalid: the input breaks a rule. Error.Fields says which.
	ErrInvalid = errors.New("cims: invalid input")
	// ErrForbidden: the actor may not do this. Error.Reason says why.
	ErrForbidden = errors.New("cims: forbidden")
	// ErrUnauthenticated: nobody, or nobody unambiguous, is behind the identity.
	ErrUnauthenticated = errors.New("cims: unauthenticated")
	// ErrLastCEO: the last active CEO would be gone.
	ErrLastCEO = errors.New("cims: the last active CEO has to stay")
	// ErrKeyReused: the idempotency key was used before with other input.
	ErrKeyReused = errors.New("cims: idempotency key used before with other input")
	// ErrUnavailable: the database is down, too slow, or out of connections.
	// Nothing was stored; trying again later may work.
	ErrUnavailable = errors.New("cims: database unavailable")
	// ErrOutcomeUnknown: the connection died while the transaction was being
	// committed, or the caller's context ended while its lead was on its way
	// together with others', so that it may or may not be stored. With an
	// idempotency key the same call can safely be made again.
	ErrOutcomeUnknown = errors.New("cims: outcome unknown")
	// ErrIsolation: the host's transaction is not read committed (Manager.WithTx).
	ErrIsolation = errors.New("cims: the transaction's isolation has to be read committed")
	// ErrUnsupported: the Storage lacks what this needs (UnimplementedStorage).
	ErrUnsupported = errors.New("cims: the storage does not support this")
	// ErrClosed: the Manager was closed.
	ErrClosed = errors.New("cims: manager is closed")
)

// Error is a refusal with its particulars. Use errors.As to read them.
type Error struct {
	Kind       error  // one of the Err… variables
	Reason     Reason // which of the cases of Kind, where there are several
	Entity     Entity // what it is about
	Name       string // the name, email or id that was given
	Permission Permission
	// Count is how many customers or users an entry in use has: exact up to
	// 1,000, and with CountIsMinimum "1,000 or more".
	Count          int
	CountIsMinimum bool
	Fields         []FieldError // for ErrInvalid
	Err            error        // the cause, for logs; never shown to a client
}

// Error words it in English, for logs and developers.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Kind.Error())
	if e.Entity != "" {
		fmt.Fprintf(&b, ": %s", e.Entity)
	}
	if e.Name != "" {
		fmt.Fprintf(&b, " %q", e.Name)
	}
	if e.Reason != "" {
		fmt.Fprintf(&b, " (%s)", e.Reason)
	}
	if e.Permission != "" {
		fmt.Fprintf(&b, ": %s is needed", e.Permission)
	}
	if e.Count > 0 {
		least := ""
		if e.CountIsMinimum {
			least = " or more"
		}
		fmt.Fprintf(&b, ": by %d%s", e.Count, least)
	}
	for i, f := range e.Fields {
		separator := "; "
		if i == 0 {
			separator = ": "
		}
		b.WriteString(separator + f.String())
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap gives errors.Is the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// Entity names what an Error is about.
type Entity string

// The entities that errors speak of.
const (
	EntityStatus       Entity = "status"
	EntityRole         Entity = "role"
	EntityUser         Entity = "user"
	EntityCustomer     Entity = "customer"
	EntitySalesManager Entity = "sales_manager"
	EntityAssignment   Entity = "assignment"
)

// Reason tells apart what shares one kind, for those who word messages.
type Reason string

// The reasons, each with the kind that it belongs to.
const (
	ReasonPermission     Reason = "permission"       // ErrForbidden: Error.Permission is missing
	ReasonInactiveUser   Reason = "inactive_user"    // ErrForbidden: the acting user is inactive
	ReasonInactiveRole   Reason = "inactive_role"    // ErrForbidden: the acting user's role is missing or inactive
	ReasonSystemEntry    Reason = "system_entry"     // ErrForbidden: a system status or role stays and stays active
	ReasonCEOPermissions Reason = "ceo_permissions"  // ErrForbidden: the CEO's role keeps every permission
	ReasonExceedsOwn     Reason = "exceeds_own"      // ErrForbidden: the actor would hand out or change what it does not hold
	ReasonOnlyCEO        Reason = "only_ceo"         // ErrForbidden: only a CEO may
	ReasonNoSalesManager Reason = "no_sales_manager" // ErrNotFound: the customer has none
	ReasonOverloaded     Reason = "overloaded"       // ErrUnavailable: too many callers wait already
)

// FieldError says what is wrong with one field of the input.
type FieldError struct {
	Field    string    // its name in JSON, as in "display_name"
	Rule     FieldRule // which rule it breaks
	Min, Max int       // the bounds, for RuleLength and RuleRange
}

func (f FieldError) String() string {
	switch f.Rule {
	case RuleRequired:
		return f.Field + " is required"
	case RuleLength:
		return fmt.Sprintf("%s must have %d to %d characters", f.Field, f.Min, f.Max)
	case RuleRange:
		return fmt.Sprintf("%s must be from %d to %d", f.Field, f.Min, f.Max)
	case RuleName:
		return f.Field + " may hold letters, digits and _ only"
	case RuleColor:
		return f.Field + " must be #RGB or #RRGGBB"
	case RuleEmail:
		return f.Field + " must be an email address"
	case RuleText:
		return f.Field + " must be valid text without control characters"
	case RuleReadOnly:
		return f.Field + " can't be set"
	case RuleUnknown:
		return f.Field + " names nothing that exists and is active"
	case RuleChoice:
		return f.Field + " is none of the allowed values"
	case RuleFormat:
		return f.Field + " is malformed"
	case RuleNoField:
		return "no field to change"
	default:
		return f.Field + ": " + string(f.Rule)
	}
}

// FieldRule is a rule that a field can break.
type FieldRule string

// The rules.
const (
	RuleRequired FieldRule = "required"  // must be there and not empty
	RuleLength   FieldRule = "length"    // between Min and Max characters
	RuleRange    FieldRule = "range"     // between Min and Max
	RuleName     FieldRule = "name"      // letters of any script, digits and _
	RuleColor    FieldRule = "color"     // #RGB or #RRGGBB
	RuleEmail    FieldRule = "email"     // something@something
	RuleText     FieldRule = "text"      // valid UTF-8 without control characters
	RuleReadOnly FieldRule = "read_only" // the library sets it
	RuleUnknown  FieldRule = "unknown"   // no such entry, or an inactive one
	RuleChoice   FieldRule = "choice"    // none of the allowed values
	RuleFormat   FieldRule = "format"    // malformed
	RuleNoField  FieldRule = "no_field"  // an update without any field
)

func invalid(fields ...FieldError) error {
	return &Error{Kind: ErrInvalid, Fields: fields}
}

func notFound(entity Entity, id any) error {
	return &Error{Kind: ErrNotFound, Entity: entity, Name: fmt.Sprint(id)}
}

// countLimit is up to where users of an entry are counted exactly; what is
// above costs more than anyone gains by it.
const countLimit = 1000

// inUse is nil for a count of 0.
func inUse(entity Entity, name string, count int) error {
	if count == 0 {
		return nil
	}
	return &Error{
		Kind: ErrInUse, Entity: entity, Name: name,
		Count: min(count, countLimit), CountIsMinimum: count > countLimit,
	}
}
