package model

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
)

// ReasonPanicked is the reason of an InputError that Recovered makes.
const ReasonPanicked = "panicked"

// A PanicError is a panic of this program.
type PanicError struct {
	Value any
	Stack []byte
}

// newPanicError is the error of what recover has returned.
func newPanicError(value any) *PanicError { return &PanicError{value, debug.Stack()} }

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Recovered makes a panic an InputError, which wraps a PanicError, where it is
// deferred: a fault of this program costs the record that shows it, and no
// other one anything.
func Recovered(err *error) {
	if value := recover(); value != nil {
		*err = &InputError{ReasonPanicked, newPanicError(value)}
	}
}

// caught returns what f returns, or its panic as a *PanicError, which blames no
// record.
func caught(f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = newPanicError(value)
		}
	}()
	return f()
}

// logPanic logs the stack of an error that is a panic.
func logPanic(log *slog.Logger, err error, attrs ...any) {
	if p := (*PanicError)(nil); errors.As(err, &p) {
		log.Error("panic: a bug; what was being done then has failed", append(attrs, "panic", p.Value, "stack", string(p.Stack))...)
	}
}
