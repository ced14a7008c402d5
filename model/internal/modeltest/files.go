package modeltest

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A FileServer has a file that a model reads. While it has vanished, runs of the model hang in
// native code, as on a file server that does not answer.
type FileServer struct {
	testing.TB
	Path   string // of the file, without Suffix, for Tiny.Needs
	Suffix string // "1" for white images, "0" for all others
}

// NewFileServer returns one that answers.
func NewFileServer(t testing.TB) FileServer {
	f := FileServer{t, filepath.Join(t.TempDir(), "file"), "0"}
	Write(t, f.Path+"0", nil)
	return f
}

// Vanish makes runs on such images hang until Mend or the end of the test.
func (f FileServer) Vanish() {
	f.Helper()
	if err := errors.Join(os.Remove(f.Path+f.Suffix), syscall.Mkfifo(f.Path+f.Suffix, 0o600)); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(f.Mend)
}

// Mend lets the runs that hang go on.
func (f FileServer) Mend() {
	held, err := os.OpenFile(f.Path+f.Suffix, os.O_RDWR, 0)
	if err != nil {
		f.Error(err)
		return
	}
	Write(f, f.Path+"new", nil)
	if err := errors.Join(os.Rename(f.Path+"new", f.Path+f.Suffix), held.Close()); err != nil {
		f.Error(err)
	}
}

// Link makes a symbolic link at path, and the folders above it.
func Link(t testing.TB, to, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

// CopyVersion returns a directory of a test's own, with a copy of version 1 in base.
func CopyVersion(t testing.TB, base string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "1"), os.DirFS(filepath.Join(base, "1"))); err != nil {
		t.Fatal(err)
	}
	return dir
}
