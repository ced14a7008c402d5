//go:build unix

package host

import (
	"os/exec"
	"syscall"
)

// Detach makes a command run in a process group of its own, so that Ctrl-C in the terminal does not
// end it.
func Detach(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
