package infer

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"inceptor/model/internal/modeltest"
)

func TestSums(t *testing.T) {
	right := fmt.Sprintf("%x  saved_model.pb\n", sha256.Sum256([]byte("model")))
	for _, test := range []struct{ name, sums, want string }{
		{"right", right + strings.Replace(right, "  ", " *", 1) + "\n", ""},
		{"other content", strings.Replace(right, right[:4], "0000", 1), "has the digest"},
		{"missing file", strings.Replace(right, "saved_model.pb", "variables", 1), "no such file"},
		{"outside", strings.Replace(right, "saved_model.pb", "../x", 1), "not in the version's directory"},
		{"half", right + right[:30], "line 2 is not a digest"},
		{"long line", strings.Repeat("x", 1<<20), "too long"},
	} {
		dir := t.TempDir()
		modeltest.Write(t, filepath.Join(dir, "saved_model.pb"), []byte("model"))
		modeltest.Write(t, filepath.Join(dir, SumsFile), []byte(test.sums))
		err := checkSums(t.Context(), dir)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
	if err := checkSums(t.Context(), t.TempDir()); err != nil {
		t.Errorf("none: got %v", err)
	}
}

// The command in docs/models.md writes digests that the version passes with,
// and that cover what no other file asks for.
func TestSumsByCommand(t *testing.T) {
	dir := t.TempDir()
	m := modeltest.TinyOf(1)
	m.Golden = "[]\n"
	m.Write(t, dir)
	cmd := exec.Command("sh", "-c", "find . -type f ! -name SHA256SUMS | xargs sha256sum > SHA256SUMS")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := checkSums(t.Context(), dir); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"saved_model.pb", "assets/labels.txt", SpecFile, GoldenFile, "assets.extra/golden/black.bmp"} {
		path := filepath.Join(dir, name)
		was, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		modeltest.Write(t, path, append(slices.Clone(was), ' '))
		if err := checkSums(t.Context(), dir); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s has changed: got %v", name, err)
		}
		modeltest.Write(t, path, was)
	}
}
