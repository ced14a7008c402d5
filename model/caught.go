package model

import (
	"errors"
	"log/slog"
	"runtime/debug"
)

// caught returns what f returns, or its panic as a *PanicError, which blames no
// record.
func caught(f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{value, debug.Stack()}
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
