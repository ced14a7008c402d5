package host

import (
	"os"
	"syscall"
)

// RedirectStderr makes what is written to standard error, by native code too, go to a file, until
// restore is called. Original writes to where standard error was before; restore closes it.
func RedirectStderr(to *os.File) (restore func(), original *os.File, err error) {
	const stderr = 2
	kept, err := syscall.Dup(stderr)
	if err != nil {
		return nil, nil, err
	}
	syscall.CloseOnExec(kept)
	original = os.NewFile(uintptr(kept), "/dev/stderr")
	if err := syscall.Dup3(int(to.Fd()), stderr, 0); err != nil {
		_ = original.Close()
		return nil, nil, err
	}
	return func() {
		_ = syscall.Dup3(kept, stderr, 0)
		_ = original.Close()
	}, original, nil
}
