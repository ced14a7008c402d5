package remote

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A Kind says what the sender of a batch does about an Error.
type Kind string

// The kinds of errors. The first two blame the batch. After any other, the same batch
// may be answered later: keep its records.
const (
	// KindInput: the server refuses the content of the batch. Halve the batch. A record
	// that is refused alone is bad: the server has accepted a blank one in its place, if
	// one is known.
	KindInput Kind = "input"
	// KindTooLarge: the message is larger than one side accepts. Halve the batch. An
	// image that is refused alone is too large for this server.
	KindTooLarge Kind = "too-large"
	// KindUnavailable: the server is down, overloaded, too slow or broken. Retries
	// within the budget have failed too, where a retry could help.
	KindUnavailable Kind = "unavailable"
	// KindOpen: the breaker is open, or another batch is the one that tries the server;
	// no call was made.
	KindOpen Kind = "open"
	// KindVersion: the server does not have the requested version or label, or another
	// version has answered.
	KindVersion Kind = "version"
	// KindRefused: the server refuses such requests, whatever the input: it has no such
	// model or signature, expects another type or shape, or denies permission.
	KindRefused Kind = "refused"
	// KindAnswer: the response does not hold scores for the batch.
	KindAnswer Kind = "answer"
)

// Codes of this package, for responses that cannot be used.
const (
	codeBadAnswer    = "BadAnswer"
	codeWrongVersion = "WrongVersion"
)

// An Error says why a call has failed. The error of a context that the caller has
// cancelled is not an *Error.
type Error struct {
	Kind   Kind
	Op     string // predict, metadata or status
	Server string // the configured address
	// Code is that of gRPC, such as "Unavailable"; "BadAnswer" or "WrongVersion" for a
	// response that cannot be used; empty where no call was made.
	Code    string
	Message string
	// After is how long to wait before the next try, for KindOpen.
	After time.Duration
}

func (e *Error) Error() string {
	s := e.Op + " at " + e.Server + ": "
	if e.Code != "" {
		s += e.Code + ": "
	}
	return s + e.Message
}

// KindOf returns the kind of an *Error, and "" for any other error.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

func codeOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// Unimplemented reports whether the server lacks the method that was called, as a proxy
// does that forwards Predict alone.
func Unimplemented(err error) bool { return codeOf(err) == codes.Unimplemented.String() }

// retryable reports whether the same call may soon succeed.
func retryable(err error) bool {
	if KindOf(err) != KindUnavailable {
		return false
	}
	switch codeOf(err) {
	case codes.Unavailable.String(), codes.ResourceExhausted.String(), codes.Aborted.String(), codes.DeadlineExceeded.String():
		return true
	}
	return false
}

// notCounted reports whether the breaker ignores an error, since it says nothing about
// the server's health.
func notCounted(err error) bool {
	return errors.Is(err, errNotCounted) || err != nil && KindOf(err) == "" || KindOf(err) == KindTooLarge
}

// healthy reports whether the result of a call shows that the server works.
func healthy(err error) bool { return err == nil || KindOf(err) == KindInput }

// errNotCounted is the result of a call that says nothing about the server's health.
var errNotCounted = errors.New("not counted")

// asRefused turns KindInput into KindRefused, for a call without an input to blame.
func asRefused(err error) error {
	var e *Error
	if errors.As(err, &e) && e.Kind == KindInput {
		e.Kind = KindRefused
	}
	return err
}

// errBudget is the cause of a context that ends since fallback.budget is spent.
var errBudget = errors.New("budget is spent")

// withBudget bounds the time of a batch with all its calls.
func (c *Client) withBudget(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, c.config.Budget, errBudget)
}

// cancelled returns the error of a context that the caller has cancelled, or nil.
func (c *Client) cancelled(ctx context.Context, op string) error {
	if ctx.Err() == nil || errors.Is(context.Cause(ctx), errBudget) {
		return nil
	}
	return fmt.Errorf("%s at %s: %w", op, c.config.Address, context.Cause(ctx))
}

// callError returns the *Error for an error of gRPC. The call has taken this long.
func (c *Client) callError(op string, choice versionChoice, took time.Duration, err error) error {
	s := status.Convert(err)
	e := &Error{Op: op, Server: c.config.Address, Code: s.Code().String(), Message: OneLine(s.Message())}
	switch s.Code() {
	case codes.InvalidArgument:
		e.Kind = KindInput
	case codes.ResourceExhausted:
		e.Kind = KindUnavailable
		// The words of the C++ and the Go library, on the client and on the server.
		if strings.Contains(strings.ToLower(e.Message), "larger than max") {
			e.Kind = KindTooLarge
		}
	case codes.DeadlineExceeded:
		e.Kind = KindUnavailable
		e.Message = fmt.Sprintf("after %v: %s", took.Round(time.Millisecond), e.Message)
	case codes.NotFound:
		e.Kind = KindRefused
		if choice.version >= 0 || choice.label != "" {
			e.Kind = KindVersion
		}
	case codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented, codes.FailedPrecondition, codes.OutOfRange, codes.AlreadyExists:
		e.Kind = KindRefused
	default:
		e.Kind = KindUnavailable
	}
	return e
}

// badAnswer returns the error of a response that does not fit the request.
func (c *Client) badAnswer(op, format string, args ...any) *Error {
	return &Error{Kind: KindAnswer, Op: op, Server: c.config.Address, Code: codeBadAnswer, Message: OneLine(fmt.Sprintf(format, args...))}
}

func (c *Client) wrongVersion(op, format string, args ...any) *Error {
	return &Error{Kind: KindVersion, Op: op, Server: c.config.Address, Code: codeWrongVersion, Message: OneLine(fmt.Sprintf(format, args...))}
}

// maxMessage is how many bytes of a text OneLine keeps.
const maxMessage = 1000

// OneLine returns a text as one line of at most 1,000 bytes. Use it for text from a server
// that goes into errors, logs and dead letters.
func OneLine(s string) string {
	s = strings.ToValidUTF8(strings.Join(strings.Fields(s), " "), "\ufffd")
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + " …"
	}
	return s
}
