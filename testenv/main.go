package testenv

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Main runs the tests of a package, and exits. Afterwards the checks must pass, and no goroutine of
// a test may be left. They are repeated for a while: what a test has closed may end a moment later.
func Main(m *testing.M, checks ...func() error) {
	code := m.Run()
	for _, check := range append(checks, func() error { return goleak.Find() }) {
		if code != 0 {
			break
		}
		err := check()
		for end := time.Now().Add(time.Minute); err != nil && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			err = check()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
