package testenv

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// Tiny makes a model that costs nothing, with tiny.py's options, and returns
// its base directory.
func Tiny(tb testing.TB, options ...string) string {
	tb.Helper()
	python := Python(tb)
	dir := tb.TempDir()
	args := append([]string{"-B", filepath.Join(Root(tb), "testenv/tiny.py"), "--out", dir}, options...)
	if out, err := exec.CommandContext(tb.Context(), python, args...).CombinedOutput(); err != nil {
		tb.Fatalf("tiny.py: %v\n%s", err, out)
	}
	return dir
}
