package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestCheckWritable(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		dir  string
		want error
	}{
		"writable": {dir, nil},
		"missing":  {filepath.Join(dir, "missing"), fs.ErrNotExist},
		"a file":   {file, syscall.ENOTDIR},
	} {
		t.Run(name, func(t *testing.T) {
			if err := CheckWritable(test.dir, 1000); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%d files are there afterwards, want only the one of before; %v", len(left), err)
	}
}
