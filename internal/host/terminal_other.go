//go:build !unix

package host

import "os"

// TerminalWidth returns 0: a terminal is not recognized on this system.
func TerminalWidth(*os.File) int { return 0 }
