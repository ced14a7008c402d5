package input

import (
	"errors"
	"fmt"
	"syscall"
)

// A Reason says why a record could not be read. The words are stable.
type Reason string

// The reasons.
const (
	Empty         Reason = "empty"          // the value has no bytes, or the image that it holds or names
	UnknownFormat Reason = "unknown-format" // neither image nor envelope nor one line of text
	BadEnvelope   Reason = "bad-envelope"   // invalid JSON or base64, or not exactly one of image, url and path
	TooLarge      Reason = "too-large"      // over --input.max-bytes, wherever it comes from

	BadPath        Reason = "bad-path"         // no valid path: a NUL byte, too long, or empty
	PathNotAllowed Reason = "path-not-allowed" // not below --input.files.root, or that is not set
	PathNotFound   Reason = "path-not-found"   // no such file
	PathNotFile    Reason = "path-not-file"    // a directory, device, pipe or socket
	PathUnreadable Reason = "path-unreadable"  // no permission, or input/output errors that persist

	BadURL         Reason = "bad-url"               // not a URL of a host
	URLNotAllowed  Reason = "url-not-allowed"       // the scheme, user, host or port, of the URL or of a redirect
	URLForbidden   Reason = "url-address-forbidden" // the host's address is not public and not listed
	URLNotFound    Reason = "url-not-found"         // status 404 or 410
	URLStatus      Reason = "url-status"            // another status than 200, and it persists
	URLTimeout     Reason = "url-timeout"           // not done within --input.fetch.timeout
	URLUnreachable Reason = "url-unreachable"       // no such host, no connection, an untrusted certificate, or the connection ended early
	URLBadResponse Reason = "url-bad-response"      // not HTTP, encoded, or too many redirects
)

// Reasons lists every reason.
func Reasons() []Reason {
	return []Reason{
		Empty, UnknownFormat, BadEnvelope, TooLarge,
		BadPath, PathNotAllowed, PathNotFound, PathNotFile, PathUnreadable,
		BadURL, URLNotAllowed, URLForbidden, URLNotFound, URLStatus, URLTimeout, URLUnreachable, URLBadResponse,
	}
}

// An Error says that a record cannot be read, now or later.
type Error struct {
	Reason Reason
	Err    error
}

func (e *Error) Error() string { return string(e.Reason) + ": " + e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

func refuse(r Reason, format string, args ...any) *Error {
	return &Error{r, fmt.Errorf(format, args...)}
}

// isLocalFault tells whether an error is of this process or machine, not of the
// record. Such an error is not wrapped in an *Error.
func isLocalFault(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// quote quotes a part of a record for a message, and limits its length.
func quote(s string) string {
	const most = 200
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
