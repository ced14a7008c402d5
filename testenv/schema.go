package testenv

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Validate checks JSON values, each on one line, against the JSON Schema in a file. It returns what
// is wrong with each of them, or an empty string. The validator is a Go module of its own, which
// the first use on a machine downloads.
func Validate(tb testing.TB, schema string, values ...[]byte) []string {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), "go", "run", ".", schema)
	cmd.Dir = filepath.Join(Root(tb), "testenv", "jsonschema")
	cmd.Stdin = bytes.NewReader(bytes.Join(append(values, nil), []byte("\n")))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("%v: %s", err, stderr.String())
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != len(values) {
		tb.Fatalf("%d values, %d verdicts: %q", len(values), len(lines), lines)
	}
	wrong := make([]string, len(values))
	for i, line := range lines {
		if line == "ok" {
			continue
		}
		if wrong[i], err = strconv.Unquote(line); err != nil {
			tb.Fatalf("verdict %q: %v", line, err)
		}
	}
	return wrong
}
