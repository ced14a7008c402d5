package host

import "errors"

// ErrNoLocks says that a system or file system has no locks.
var ErrNoLocks = errors.New("no locks here")
