package modeltest

import (
	"errors"
	"flag"
	"fmt"
	"testing"

	"inceptor/savedmodel"
	"inceptor/testenv"
)

// Main runs the tests of a package, which must give back their goroutines and native tensors, and
// exits.
func Main(m *testing.M) {
	if err := savedmodel.OpenLibrary(""); errors.Is(err, savedmodel.ErrNoRuntime) {
		_ = flag.Set("test.skip", "^ExampleManager_Classify$") // an example cannot skip itself
	}
	testenv.Main(m, func() error {
		live, leaked := savedmodel.LiveTensors(), savedmodel.LeakedTensors()
		if live != 0 || leaked != 0 {
			return fmt.Errorf("%d tensors are not closed, %d were lost", live, leaked)
		}
		return nil
	})
}
