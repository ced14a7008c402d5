//go:build !unix

package host

import "os/exec"

// Detach has no effect on this system.
func Detach(*exec.Cmd) {}
