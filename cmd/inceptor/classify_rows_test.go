package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inceptor/testenv"
)

// A row in a file is classified like one in a record. Golden rows need labels.
func TestClassifyRow(t *testing.T) {
	t.Parallel()
	base := testenv.Tiny(t, "--kind", "mixed")
	row := filepath.Join(t.TempDir(), "row.json")
	write := func(path, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const content = `{"word":"ww","age":4,"member":true,"numbers":[0.25,1.25]}`
	write(row, content)
	args := []string{"classify", "--input.format", "tensor-json", "--model.dir", base, "--tensorflow.library", testenv.TensorFlow(t), row}
	if code, stdout, stderr := execute(t, args...); code != 0 || !strings.Contains(stdout, "[105.5]") { // 4/2 + 1.5 + 100 + 2
		t.Errorf("exit status %d\n%s%s", code, stdout, stderr)
	}
	golden := filepath.Join(base, "1", "assets.extra", "golden")
	write(filepath.Join(golden, "row"), content)
	write(filepath.Join(golden, "golden.yaml"), "- {image: row, label: rich, floor: 0}\n")
	if code, stdout, stderr := execute(t, args...); code != exitFailed || !strings.Contains(stderr, `golden: row is ""`) {
		t.Errorf("a golden row without labels: exit status %d\n%s%s", code, stdout, stderr)
	}
}
