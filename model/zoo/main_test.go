//go:build !race

package zoo

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"inceptor/savedmodel"
)

// Every model must free its goroutines and its native tensors.
func TestMain(m *testing.M) {
	code := m.Run()
	if n := savedmodel.LiveTensors(); n != 0 || savedmodel.LeakedTensors() != 0 {
		fmt.Fprintf(os.Stderr, "%d tensors are not closed, %d were leaked\n", n, savedmodel.LeakedTensors())
		code = 1
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
