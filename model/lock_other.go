//go:build !linux && !darwin

package model

import "os"

// tryLock is not to be had here.
func tryLock(*os.File) (locked bool, err error) { return false, errNoLocks }
