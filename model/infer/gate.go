package infer

import (
	"errors"
	"io/fs"

	"inceptor/savedmodel"
)

// The gates that a version passes before it serves, in their order; the signature is checked again
// once the warm-up has shown the classes. Timeout and memory stand apart: they end a load, or keep
// it from beginning. These names do not change, since metrics have them as labels.
const (
	GateRead      = "read"      // its files can be read
	GateComplete  = "complete"  // no file is missing or too short
	GateSignature = "signature" // it takes the content of records, and has the serving version's classes
	GateLoad      = "load"      // TensorFlow loads it
	GateWarmUp    = "warm-up"   // it runs its own warm-up requests, and every batch size
	GateGolden    = "golden"    // it answers its golden images as listed
	GateAgreement = "agreement" // it agrees with the serving version on recent images
	GateTimeout   = "timeout"   // the other gates take at most model.gate.timeout
	GateMemory    = "memory"    // it fits into memory
)

// Gates lists the gates.
var Gates = []string{
	GateRead, GateComplete, GateSignature, GateLoad, GateWarmUp, GateGolden, GateAgreement, GateTimeout, GateMemory,
}

// A GateError says at which gate a version failed, and why.
type GateError struct {
	Gate string
	Err  error
}

func (e *GateError) Error() string { return e.Gate + ": " + e.Err.Error() }

func (e *GateError) Unwrap() error { return e.Err }

// Transient tells whether the same files may pass later, since the machine was to blame.
func (e *GateError) Transient() bool {
	var (
		status *savedmodel.Error
		file   *fs.PathError
	)
	switch {
	case e.Gate == GateTimeout, e.Gate == GateMemory:
		return true
	case errors.As(e.Err, new(*OverdueError)): // perhaps a file server does not answer
		return true
	case errors.As(e.Err, &status):
		return status.Transient()
	case errors.As(e.Err, &file): // a file that is missing stays so until the version changes
		return e.Gate == GateRead || !errors.Is(file, fs.ErrNotExist)
	}
	return false
}

// AtGate makes a *GateError of an error; nil stays nil.
func AtGate(gate string, err error) error {
	if err == nil {
		return nil
	}
	return &GateError{gate, err}
}
