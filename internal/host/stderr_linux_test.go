package host

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// What is written to file descriptor 2 goes to the file until it is restored.
func TestRedirectStderr(t *testing.T) {
	before, err := os.Readlink("/proc/self/fd/2")
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	restore, original, err := RedirectStderr(file)
	if err != nil {
		t.Fatal(err)
	}
	_, err = syscall.Write(2, []byte("native"))
	kept, _ := os.Readlink("/proc/self/fd/" + strconv.FormatUint(uint64(original.Fd()), 10))
	restore()
	after, _ := os.Readlink("/proc/self/fd/2")
	text, _ := os.ReadFile(file.Name())
	if err != nil || string(text) != "native" || kept != before || after != before {
		t.Errorf("%v: %q; before %s, kept %s, after %s", err, text, before, kept, after)
	}
}
