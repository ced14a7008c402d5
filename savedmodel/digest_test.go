package savedmodel

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const tinyDigest = "sha256:0aa07ba3beb64a480a22667f93a9b8f0a8694b60bfd6ce3e38fe76c512ad4775"

// copyTiny copies testdata/tiny, so that a test can change it.
func copyTiny(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "1")
	if err := os.CopyFS(dir, os.DirFS("testdata/tiny")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// kubernetes changes a version to the layout of a Kubernetes volume: each name is a link into
// ..data, which is a link to a folder.
func kubernetes(t testing.TB, dir string) string {
	t.Helper()
	volume := t.TempDir()
	must(t, os.Rename(dir, filepath.Join(volume, "..2026_01_02")))
	must(t, os.Symlink("..2026_01_02", filepath.Join(volume, "..data")))
	names, err := filepath.Glob(filepath.Join(volume, "..data", "*"))
	must(t, err)
	for _, name := range names {
		base := filepath.Base(name)
		must(t, os.Symlink(filepath.Join("..data", base), filepath.Join(volume, base)))
	}
	return volume
}

func TestDigest(t *testing.T) {
	same := map[string]func(t *testing.T, dir string) string{
		"copy":       func(_ *testing.T, dir string) string { return dir },
		"kubernetes": func(t *testing.T, dir string) string { return kubernetes(t, dir) },
		"through a link": func(t *testing.T, dir string) string {
			must(t, os.Symlink("1", dir+"-link"))
			return dir + "-link"
		},
		"empty folder, mode": func(t *testing.T, dir string) string {
			must(t, os.Mkdir(filepath.Join(dir, "empty"), 0o700))
			must(t, os.Chmod(filepath.Join(dir, "saved_model.pb"), 0o400))
			return dir
		},
	}
	for name, change := range same {
		t.Run(name, func(t *testing.T) {
			got, err := Digest(t.Context(), change(t, copyTiny(t)))
			if err != nil || got != tinyDigest {
				t.Errorf("%s, %v, want %s", got, err, tinyDigest)
			}
		})
	}

	other := map[string]func(dir string) error{
		"contents": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "assets/labels.txt"), []byte("cat\ndog\nfisH\n"), 0o600)
		},
		"name": func(dir string) error {
			return os.Rename(filepath.Join(dir, "assets/labels.txt"), filepath.Join(dir, "assets/label.txt"))
		},
		"file more": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600)
		},
		"file less": func(dir string) error {
			return os.Remove(filepath.Join(dir, "fingerprint.pb"))
		},
	}
	for name, change := range other {
		t.Run(name, func(t *testing.T) {
			dir := copyTiny(t)
			must(t, change(dir))
			got, err := Digest(t.Context(), dir)
			if err != nil || got == tinyDigest || !strings.HasPrefix(got, "sha256:") {
				t.Errorf("%s, %v, want another one than before", got, err)
			}
		})
	}
}

func TestDigestFails(t *testing.T) {
	if _, err := Digest(t.Context(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	if _, err := Digest(t.Context(), "testdata/make.py"); err == nil {
		t.Error("a file has a digest")
	}
	dir := copyTiny(t)
	must(t, os.Symlink("..", filepath.Join(dir, "assets", "loop")))
	if _, err := Digest(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "assets/loop: the link leads to a folder that contains it") {
		t.Errorf("a loop: %v", err)
	}
}

// The digest of the weights is that of a folder with nothing else, whatever lies beside them.
func TestWeightsDigest(t *testing.T) {
	digest := func(dir string) string {
		t.Helper()
		d, err := WeightsDigest(t.Context(), dir)
		must(t, err)
		return d
	}
	bare := copyTiny(t)
	entries, err := os.ReadDir(bare)
	must(t, err)
	for _, e := range entries {
		if e.Name() != graphFile && e.Name() != "variables" {
			must(t, os.RemoveAll(filepath.Join(bare, e.Name())))
		}
	}
	want, err := Digest(t.Context(), bare)
	must(t, err)
	dir := copyTiny(t)
	must(t, os.MkdirAll(filepath.Join(dir, "assets.extra"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "assets.extra", "int8.yaml"), []byte("x"), 0o600))
	if got := digest(dir); got != want {
		t.Errorf("with other files: %s, want %s", got, want)
	}
	if got := digest(kubernetes(t, dir)); got != want {
		t.Errorf("in a Kubernetes volume: %s, want %s", got, want)
	}
	other := copyTiny(t)
	shards, err := filepath.Glob(filepath.Join(other, "variables", "*.data-*"))
	must(t, err)
	must(t, os.WriteFile(shards[0], []byte("x"), 0o600))
	if digest(other) == want {
		t.Error("other weights have the same digest")
	}
}
