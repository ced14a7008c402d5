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

// A Kind is what an Error means to whoever sent the batch.
type Kind string

// The kinds of errors. Only the first two say something about the batch; with
// any other the same batch may be answered later, and its records must wait.
const (
	// KindInput: the server refuses the batch's content. Halve the batch; one
	// record alone is guilty: the server has taken a blank one in its place, if one
	// is known.
	KindInput Kind = "input"
	// KindTooLarge: one side does not take so large a message. Halve the batch;
	// one image alone is too large for this server.
	KindTooLarge Kind = "too-large"
	// KindUnavailable: the server is not there, overloaded, too slow or broken.
	// What is worth a retry within the budget was retried.
	KindUnavailable Kind = "unavailable"
	// KindOpen: the breaker is open, or one batch is trying the server now; no
	// call was made.
	KindOpen Kind = "open"
	// KindVersion: the version or label that was asked for is not there, or
	// another version has answered.
	KindVersion Kind = "version"
	// KindRefused: the server does not take such requests, whatever the input:
	// no such model or signature, another type or shape, no permission.
	KindRefused Kind = "refused"
	// KindAnswer: the answer is not scores for the batch.
	KindAnswer Kind = "answer"
)

// Codes that no server sends, for answers that cannot be used.
const (
	codeBadAnswer    = "BadAnswer"
	codeWrongVersion = "WrongVersion"
)

// An Error is why a call has come to nothing. Errors of a context that its
// caller has ended are not of this type.
type Error struct {
	Kind   Kind
	Op     string // predict, metadata or status
	Server string // the configured address
	// Code is gRPC's, such as "Unavailable"; "BadAnswer" or "WrongVersion" for
	// an answer that cannot be used; empty where no call was made.
	Code    string
	Message string
	// After is, for KindOpen, how long to wait before the next try.
	After time.Duration
}

func (e *Error) Error() string {
	s := e.Op + " at " + e.Server + ": "
	if e.Code != "" {
		s += e.Code + ": "
	}
	return s + e.Message
}

// KindOf is the kind of an *Error, and empty for any other error.
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

// Unimplemented tells whether the server does not have what was called, as
// proxies that pass on Predict alone.
func Unimplemented(err error) bool { return codeOf(err) == codes.Unimplemented.String() }

// retryable tells whether the same call may succeed in a moment.
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

// neutral tells whether an error says nothing of the server's health, and
// healthy whether it shows that the server works.
func neutral(err error) bool {
	return errors.Is(err, errNotCounted) || err != nil && KindOf(err) == "" || KindOf(err) == KindTooLarge
}

func healthy(err error) bool { return err == nil || KindOf(err) == KindInput }

// errNotCounted is given to the breaker for a call that shows nothing.
var errNotCounted = errors.New("not counted")

// asRefused gives an error that blames the input another kind, where there is
// no input that could be to blame.
func asRefused(err error) error {
	var e *Error
	if errors.As(err, &e) && e.Kind == KindInput {
		e.Kind = KindRefused
	}
	return err
}

// errBudget is why the context of a batch ends by itself.
var errBudget = errors.New("budget is spent")

// budget bounds a batch with all its calls.
func (c *Client) budget(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, c.config.Budget, errBudget)
}

// ended is the error of a context that the caller has ended, or nil.
func (c *Client) ended(ctx context.Context, op string) error {
	if ctx.Err() == nil || errors.Is(context.Cause(ctx), errBudget) {
		return nil
	}
	return fmt.Errorf("%s at %s: %w", op, c.config.Address, context.Cause(ctx))
}

// failure makes an *Error of what a call has returned after this time.
func (c *Client) failure(op string, spec asked, took time.Duration, err error) error {
	s := status.Convert(err)
	e := &Error{Op: op, Server: c.config.Address, Code: s.Code().String(), Message: OneLine(s.Message())}
	switch s.Code() {
	case codes.InvalidArgument:
		e.Kind = KindInput
	case codes.ResourceExhausted:
		e.Kind = KindUnavailable
		// Both gRPC libraries say it so, on either side.
		if strings.Contains(strings.ToLower(e.Message), "larger than max") {
			e.Kind = KindTooLarge
		}
	case codes.DeadlineExceeded:
		e.Kind = KindUnavailable
		e.Message = fmt.Sprintf("after %v: %s", took.Round(time.Millisecond), e.Message)
	case codes.NotFound:
		e.Kind = KindRefused
		if spec.version >= 0 || spec.label != "" {
			e.Kind = KindVersion
		}
	case codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented, codes.FailedPrecondition, codes.OutOfRange, codes.AlreadyExists:
		e.Kind = KindRefused
	default:
		e.Kind = KindUnavailable
	}
	return e
}

// badAnswer is the error of an answer that is not what was asked for.
func (c *Client) badAnswer(op, format string, args ...any) *Error {
	return &Error{Kind: KindAnswer, Op: op, Server: c.config.Address, Code: codeBadAnswer, Message: OneLine(fmt.Sprintf(format, args...))}
}

func (c *Client) wrongVersion(op, format string, args ...any) *Error {
	return &Error{Kind: KindVersion, Op: op, Server: c.config.Address, Code: codeWrongVersion, Message: OneLine(fmt.Sprintf(format, args...))}
}

// maxMessage is what of a text OneLine keeps, in bytes.
const maxMessage = 1000

// OneLine makes one line of a text that a server has a part in, cut off after 1,000
// bytes: what goes into errors, logs and dead letters.
func OneLine(s string) string {
	s = strings.ToValidUTF8(strings.Join(strings.Fields(s), " "), "\ufffd")
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + " …"
	}
	return s
}
