package modeltest

import (
	"testing"

	"inceptor/savedmodel"
	"inceptor/testenv"
)

// OpenLibrary opens TensorFlow's library, or skips the test without one.
func OpenLibrary(t testing.TB) {
	t.Helper()
	if err := savedmodel.OpenLibrary(testenv.TensorFlow(t)); err != nil {
		t.Fatal(err)
	}
}
