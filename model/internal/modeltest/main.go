package modeltest

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"inceptor/savedmodel"
)

// Main runs the tests of a package, which must give back their goroutines and native tensors, and
// exits.
func Main(m *testing.M) {
	if err := savedmodel.OpenLibrary(""); errors.Is(err, savedmodel.ErrNoRuntime) {
		_ = flag.Set("test.skip", "^ExampleManager_Classify$") // an example cannot skip itself
	}
	code := m.Run()
	if n := savedmodel.LiveTensors(); n != 0 || savedmodel.LeakedTensors() != 0 {
		fmt.Fprintf(os.Stderr, "%d tensors are not closed, %d were lost\n", n, savedmodel.LeakedTensors())
		code = 1
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
