package model

import (
	"errors"
	"io/fs"

	"inceptor/savedmodel"
)

// The gates that a version passes before it serves, in their order. The words
// are stable: metrics carry them.
const (
	GateRead      = "read"      // its files can be read
	GateComplete  = "complete"  // none is missing or short
	GateLoad      = "load"      // TensorFlow loads it
	GateSignature = "signature" // it takes what records hold, and has the classes of the version that serves
	GateWarmUp    = "warm-up"   // it answers its own warm-up requests, and every batch size
	GateGolden    = "golden"    // it answers its golden images as it should
	GateAgreement = "agreement" // it answers the last images as the version that serves
	GateTimeout   = "timeout"   // all this within model.gate.timeout
	GateMemory    = "memory"    // there is room for it
)

// A GateError says at which gate a version was refused.
type GateError struct {
	Gate string
	Err  error
}

func (e *GateError) Error() string { return e.Gate + ": " + e.Err.Error() }

func (e *GateError) Unwrap() error { return e.Err }

// transient tells whether the same files may pass another time: the fault was
// the machine's, not theirs.
func (e *GateError) transient() bool {
	var (
		status *savedmodel.Error
		file   *fs.PathError
	)
	switch {
	case e.Gate == GateTimeout, e.Gate == GateMemory:
		return true
	case errors.As(e.Err, new(*OverdueError)): // a file server may be gone
		return true
	case errors.As(e.Err, &status):
		return status.Transient()
	case errors.As(e.Err, &file): // but a file that is missing must come first
		return e.Gate == GateRead || !errors.Is(file, fs.ErrNotExist)
	}
	return false
}

func atGate(gate string, err error) error {
	if err == nil {
		return nil
	}
	return &GateError{gate, err}
}
