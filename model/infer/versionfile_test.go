package infer

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"inceptor/model/internal/modeltest"
)

// Only regular files up to the limit are read.
func TestReadVersionFile(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	modeltest.Write(t, path("full"), []byte("12345"))
	modeltest.Write(t, path("long"), []byte("123456"))
	if err := errors.Join(os.Symlink("full", path("link")), syscall.Mkfifo(path("pipe"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"full", "link"} {
		if b, err := readVersionFile(path(name), 5); err != nil || string(b) != "12345" {
			t.Errorf("%s: got %q, %v", name, b, err)
		}
	}
	for name, want := range map[string]string{"long": "more than 5 bytes", "pipe": "is not a file", ".": "is not a file"} {
		if _, err := readVersionFile(path(name), 5); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	if _, err := readVersionFile(path("none"), 5); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: got %v", err)
	}
}

// All files of a version are read with readVersionFile.
func TestVersionFilesAreBounded(t *testing.T) {
	for name, read := range map[string]func(dir string) error{
		SpecFile:            func(dir string) error { _, err := readSpec(dir); return err },
		GoldenFile:          func(dir string) error { _, err := readGolden(dir); return err },
		"assets/labels.txt": func(dir string) error { _, err := readLabels(dir, Labels{File: "labels.txt"}); return err },
		"assets.extra/golden/a.jpg": func(dir string) error {
			_, err := goldenRecord{Image: "a.jpg"}.read(dir)
			return err
		},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), syscall.Mkfifo(file, 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := read(dir); err == nil || !strings.Contains(err.Error(), "is not a file") {
			t.Errorf("%s: a pipe is read: %v", name, err)
		}
	}
}
