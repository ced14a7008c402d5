package model

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
)

// ReasonPanicked is the reason of an InputError for a record on which code of
// this program panicked, alone too: a bug, whose stack is in the log.
const ReasonPanicked = "panicked"

// A panicError is a panic that was caught. It costs what was being done then,
// not the process.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// caught returns what f returns, or its panic as a *panicError.
func caught(f func() error) (err error) {
	defer rescue(&err)
	return f()
}

// rescue, deferred, makes an error of a panic.
func rescue(err *error) {
	if value := recover(); value != nil {
		*err = &panicError{value, debug.Stack()}
	}
}

// blamePanic makes an *InputError of a panic; other errors stay what they are.
func blamePanic(err error) error {
	if p := (*panicError)(nil); errors.As(err, &p) {
		return &InputError{Reason: ReasonPanicked, Err: err}
	}
	return err
}

// logPanic logs the stack of an error that is a panic.
func logPanic(log *slog.Logger, err error, attrs ...any) {
	if p := (*panicError)(nil); errors.As(err, &p) {
		log.Error("panic: a bug; what was being done then has failed", append(attrs, "panic", p.value, "stack", string(p.stack))...)
	}
}
