//go:build !linux

package host

import (
	"errors"
	"os"
)

// RedirectStderr is not available on this system.
func RedirectStderr(*os.File) (restore func(), original *os.File, err error) {
	return nil, nil, errors.ErrUnsupported
}
