// Package ctf binds TensorFlow's C API, which it opens at run time with dlopen. It has one Go
// function for each C function, named after it. It has no policy and does not log; package
// savedmodel does the rest.
//
// A handle is a value around a C pointer. The caller frees it exactly once and does not use it
// after that. The zero handle is not valid.
package ctf

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNoRuntime says that the program was built without cgo, so it cannot open TensorFlow's library.
var ErrNoRuntime = errors.New("built without cgo")

// A Code is a TF_Code.
type Code int32

// The codes, as in tensorflow/c/tf_status.h.
const (
	OK Code = iota
	Cancelled
	Unknown
	InvalidArgument
	DeadlineExceeded
	NotFound
	AlreadyExists
	PermissionDenied
	ResourceExhausted
	FailedPrecondition
	Aborted
	OutOfRange
	Unimplemented
	Internal
	Unavailable
	DataLoss
	Unauthenticated
)

var codeNames = [...]string{
	"ok", "cancelled", "unknown", "invalid argument", "deadline exceeded", "not found", "already exists",
	"permission denied", "resource exhausted", "failed precondition", "aborted", "out of range",
	"unimplemented", "internal", "unavailable", "data loss", "unauthenticated",
}

func (c Code) String() string {
	if c >= 0 && int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("code %d", int32(c))
}

// An Error is a TF_Status that is not OK.
type Error struct {
	Code    Code
	Message string
}

// Error returns the message on one line. TensorFlow's own has several, with the nodes that failed.
func (e *Error) Error() string {
	return e.Code.String() + ": " + strings.Join(strings.Fields(e.Message), " ")
}

// Transient says whether the same call may succeed later, because the fault lies with the machine
// or other calls, not with the arguments.
func (e *Error) Transient() bool {
	switch e.Code {
	case Cancelled, Unknown, DeadlineExceeded, ResourceExhausted, Aborted, Internal, Unavailable:
		return true
	}
	return false
}
