package cims

import (
	"errors"
	"fmt"
	"strings"
)

// Errors that a Manager returns. Every error that a caller can act on wraps exactly
// one of them, so use errors.Is to test for it:
//
//	errors.Is(err, cims.ErrInUse)
//
// An [*Error] carries the details. An error that wraps none of them is unexpected.
var (
	// ErrNotFound means that there is no such status, role, user, customer or
	// assignment. An actor limited to its own leads gets it for all others.
	ErrNotFound = errors.New("cims: not found")
	// ErrExists means that the name or email is taken.
	ErrExists = errors.New("cims: already exists")
	// ErrInUse means that customers are in the status to be deleted, or that
	// users have the role to be deleted. Error.Count is their number.
	ErrInUse = errors.New("cims: in use")
	// ErrInvalid means that the input is invalid. Error.Fields lists the faults.
	ErrInvalid = errors.New("cims: invalid input")
	// ErrForbidden means that the operation is not permitted. Error.Reason is
	// the reason.
	ErrForbidden = errors.New("cims: forbidden")
	// ErrUnauthenticated means that the identity matches no user, or several.
	ErrUnauthenticated = errors.New("cims: unauthenticated")
	// ErrLastCEO means that the change would leave no active CEO.
	ErrLastCEO = errors.New("cims: no active CEO would remain")
	// ErrKeyReused means that the idempotency key was used with other input.
	ErrKeyReused = errors.New("cims: idempotency key already used with other input")
	// ErrUnavailable means that the database is down, too slow or out of
	// connections, or that the context ended. Nothing was stored. A later
	// attempt may succeed.
	ErrUnavailable = errors.New("cims: database unavailable")
	// ErrOutcomeUnknown means that the change may or may not be stored. Either
	// the connection was lost during the commit, or the context of one caller
	// ended during a transaction that it shared with others. A call with an
	// idempotency key can safely be repeated.
	ErrOutcomeUnknown = errors.New("cims: outcome unknown")
	// ErrIsolation means that the transaction of the host is not read committed.
	// See Manager.WithTx.
	ErrIsolation = errors.New("cims: transaction is not read committed")
	// ErrUnsupported means that the Storage doesn't implement a method. See
	// UnimplementedStorage.
	ErrUnsupported = errors.New("cims: not supported by the storage")
	// ErrClosed means that the Manager is closed.
	ErrClosed = errors.New("cims: manager is closed")
)

// Error is an error with its details. Use errors.As to read them.
type Error struct {
	Kind       error      // one of the Err variables
	Reason     Reason     // tells errors of one Kind apart; may be empty
	Entity     Entity     // the kind of entity it concerns
	Name       string     // the name, email or id that was given
	Permission Permission // the missing permission, for ReasonPermission
	// Count is the number of customers or users, for ErrInUse. It is exact up to
	// 1,000. If CountIsMinimum is set, there are more.
	Count          int
	CountIsMinimum bool
	Fields         []FieldError // for ErrInvalid
	Err            error        // the cause, for logs; not for clients
}

// Error describes the error in English, for logs and developers.
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

// Unwrap returns the kind and, if there is one, the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// Entity is a kind of entity that an Error, a Change or an AuditEntry concerns.
type Entity string

// Kinds of entities.
const (
	EntityStatus       Entity = "status"
	EntityRole         Entity = "role"
	EntityUser         Entity = "user"
	EntityCustomer     Entity = "customer"
	EntitySalesManager Entity = "sales_manager"
	EntityAssignment   Entity = "assignment"
)

// Reason tells errors of one kind apart, so that a program can word its messages.
type Reason string

// Reasons, each with the kind of its errors.
const (
	ReasonPermission     Reason = "permission"       // ErrForbidden: Error.Permission is missing
	ReasonInactiveUser   Reason = "inactive_user"    // ErrForbidden: the acting user is inactive
	ReasonInactiveRole   Reason = "inactive_role"    // ErrForbidden: the acting user's role is missing or inactive
	ReasonSystemEntry    Reason = "system_entry"     // ErrForbidden: a status or role that the program relies on can't be deleted or deactivated
	ReasonCEOPermissions Reason = "ceo_permissions"  // ErrForbidden: the CEO's role keeps every permission
	ReasonExceedsOwn     Reason = "exceeds_own"      // ErrForbidden: the actor lacks a permission that the role or user has or would get
	ReasonOnlyCEO        Reason = "only_ceo"         // ErrForbidden: only a CEO may do this
	ReasonNoSalesManager Reason = "no_sales_manager" // ErrNotFound: the customer has no sales manager
	ReasonOverloaded     Reason = "overloaded"       // ErrUnavailable: too many calls are waiting
)

// FieldError describes a fault in one field of the input.
type FieldError struct {
	Field    string    // name in JSON, such as "display_name"
	Rule     FieldRule // the rule that it breaks
	Min, Max int       // the bounds, for RuleLength, RuleRange and RuleMultiple
}

// String describes the fault in English, for logs and developers.
func (f FieldError) String() string {
	switch f.Rule {
	case RuleRequired:
		return f.Field + " is required"
	case RuleLength:
		return fmt.Sprintf("%s must have %d to %d characters", f.Field, f.Min, f.Max)
	case RuleRange:
		return fmt.Sprintf("%s must be from %d to %d", f.Field, f.Min, f.Max)
	case RuleMultiple:
		return fmt.Sprintf("%s must be a multiple of %d", f.Field, f.Min)
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

// FieldRule is a rule for a field of the input.
type FieldRule string

// Rules for fields.
const (
	RuleRequired FieldRule = "required"  // must be present and not empty
	RuleLength   FieldRule = "length"    // must have Min to Max characters
	RuleRange    FieldRule = "range"     // must be from Min to Max
	RuleMultiple FieldRule = "multiple"  // must be a multiple of Min
	RuleName     FieldRule = "name"      // may contain letters and digits of any script and _
	RuleColor    FieldRule = "color"     // must be #RGB or #RRGGBB
	RuleEmail    FieldRule = "email"     // must be an email address
	RuleText     FieldRule = "text"      // must be valid UTF-8 without control characters
	RuleReadOnly FieldRule = "read_only" // can't be set
	RuleUnknown  FieldRule = "unknown"   // must name an entry that exists and is active
	RuleChoice   FieldRule = "choice"    // must be one of the allowed values
	RuleFormat   FieldRule = "format"    // must have the right form
	RuleNoField  FieldRule = "no_field"  // an update must change a field
)

func invalid(fields ...FieldError) error {
	return &Error{Kind: ErrInvalid, Fields: fields}
}

func notFound(entity Entity, id any) error {
	return &Error{Kind: ErrNotFound, Entity: entity, Name: fmt.Sprint(id)}
}

// countLimit bounds the count of an entry's users, since an exact count of many
// would be slow.
const countLimit = 1000

// inUse returns ErrInUse, or nil for a count of 0.
func inUse(entity Entity, name string, count int) error {
	if count == 0 {
		return nil
	}
	return &Error{
		Kind: ErrInUse, Entity: entity, Name: name,
		Count: min(count, countLimit), CountIsMinimum: count > countLimit,
	}
}
