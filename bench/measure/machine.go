package measure

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Build builds inceptor into a folder, and returns its path.
func Build(ctx context.Context, dir string) (string, error) {
	binary, version := filepath.Join(dir, "inceptor"), "unknown"
	if out, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output(); err == nil {
		version = strings.TrimSpace(string(out))
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags", "-X main.version="+version, "-o", binary, "./cmd/inceptor")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build inceptor: %w", err)
	}
	return binary, nil
}

// Inception is what most of the benchmarks measure.
const Inception = "Inception v3 on JPEG photos of 640×427"

// WriteMachine begins a report: with what was measured, and a table of the
// machine and of what inceptor's program says of itself with TensorFlow's
// library. WriteRow adds to the table.
func WriteMachine(ctx context.Context, w io.Writer, what, binary, library string) error {
	out, err := exec.CommandContext(ctx, binary, "version", "--tensorflow.library", library).Output()
	if err != nil {
		return fmt.Errorf("%s version: %w", binary, err)
	}
	fmt.Fprintf(w, "%s, %s.\n\n", what, time.Now().Format(time.DateOnly))
	fmt.Fprintf(w, "| machine | |\n| --- | --- |\n")
	WriteRow(w, "processor", fmt.Sprintf("%s, %d cores, %.0f GiB", processor(), runtime.NumCPU(), memory()))
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if key == "processors" {
			continue
		}
		if key == "TensorFlow" { // its path says nothing to others
			value, _, _ = strings.Cut(value, "(")
		}
		WriteRow(w, key, strings.TrimSpace(value))
	}
	if isa := os.Getenv(maxISA); isa != "" {
		WriteRow(w, "instructions of oneDNN", "at most "+isa+" ("+maxISA+")")
	}
	return nil
}

// maxISA is the variable in the environment that caps the instructions of oneDNN, in this process
// and in those that it starts.
const maxISA = "ONEDNN_MAX_CPU_ISA"

// knownISAs are the values that oneDNN takes for maxISA. It ignores any other.
var knownISAs = []string{
	"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI", "AVX512_CORE_BF16", "AVX512_CORE_FP16",
	"AVX512_CORE_AMX", "AVX512_CORE_AMX_FP16", "DEFAULT", "ALL",
}

// checkISA refuses a cap that oneDNN would ignore.
func checkISA(isa string) error {
	if isa == "" || slices.Contains(knownISAs, strings.ToUpper(isa)) {
		return nil
	}
	return fmt.Errorf("%s: %q is none of %s", maxISA, isa, strings.Join(knownISAs, ", "))
}

// WriteRow writes a row of a table.
func WriteRow(w io.Writer, cells ...string) {
	fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
}

// Progress shows on a terminal what is going on, in a line that the next one
// replaces.
func Progress(format string, args ...any) {
	if info, err := os.Stderr.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return
	}
	fmt.Fprintf(os.Stderr, "\r\x1b[K"+format, args...)
}
