package model

import (
	"fmt"
	"runtime/debug"
)

// ReasonPanicked is the reason of an InputError that Recovered makes.
const ReasonPanicked = "panicked"

// A PanicError is a panic of this program.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Recovered makes a panic an InputError, which wraps a PanicError, where it is
// deferred: a fault of this program costs the record that shows it, and no
// other one anything.
func Recovered(err *error) {
	if v := recover(); v != nil {
		*err = &InputError{ReasonPanicked, &PanicError{v, debug.Stack()}}
	}
}
