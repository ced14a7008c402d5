package infer

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
)

// ReasonPanicked is the reason of an InputError from Recovered.
const ReasonPanicked = "panicked"

// A PanicError is a recovered panic of this program.
type PanicError struct {
	Value any
	Stack []byte
}

// newPanicError returns the error for a value of recover.
func newPanicError(value any) *PanicError { return &PanicError{value, debug.Stack()} }

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Recovered turns a panic into an InputError that wraps a PanicError. Defer it. So a bug in this
// program affects only the record that shows it.
func Recovered(err *error) {
	if value := recover(); value != nil {
		*err = &InputError{ReasonPanicked, newPanicError(value)}
	}
}

// recoverPanic calls f and returns its error, or its panic as a *PanicError, which blames no
// record.
func recoverPanic(f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = newPanicError(value)
		}
	}()
	return f()
}

// LogPanic logs the stack of an error that wraps a panic.
func LogPanic(log *slog.Logger, err error, attrs ...any) {
	if p := (*PanicError)(nil); errors.As(err, &p) {
		log.Error("panic: a bug; what was being done then has failed", append(attrs, "panic", p.Value, "stack", string(p.Stack))...)
	}
}
