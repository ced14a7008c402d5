package model

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

func TestSums(t *testing.T) {
	right := fmt.Sprintf("%x  saved_model.pb\n", sha256.Sum256([]byte("model")))
	for _, test := range []struct{ name, sums, want string }{
		{"right", right + strings.Replace(right, "  ", " *", 1) + "\n", ""},
		{"other content", strings.Replace(right, right[:4], "0000", 1), "has the digest"},
		{"missing file", strings.Replace(right, "saved_model.pb", "variables", 1), "no such file"},
		{"outside", strings.Replace(right, "saved_model.pb", "../x", 1), "not below it"},
		{"half", right + right[:30], "line 2 is not a digest"},
		{"long line", strings.Repeat("x", 1<<20), "too long"},
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "saved_model.pb"), []byte("model"))
		write(t, filepath.Join(dir, sumsFile), []byte(test.sums))
		err := checkSums(t.Context(), dir)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
	if err := checkSums(t.Context(), t.TempDir()); err != nil {
		t.Errorf("none: got %v", err)
	}
}
