package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"inceptor/testenv"
)

// The settings that tune prints are those that it writes, and that run takes.
func TestTuneCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tuned.yaml")
	code, stdout, stderr := execute(t, "tune", "--model.dir", testenv.Tiny(t), "--tensorflow.library", testenv.TensorFlow(t),
		"--model.batch.max", "1", "--write", file)
	if code != 0 || !regexp.MustCompile(`(?m)^OPTIMIZE +KERNELS +PRECISION +THREADS +LOAD +MEMORY +MS AN IMAGE, BATCH OF 1 *$`).MatchString(stdout) {
		t.Fatalf("exit status %d\n%s%s", code, stdout, stderr)
	}
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	settings := regexp.MustCompile(`(?m)^(\S+): (\S+)$`).FindAllStringSubmatch(string(written), -1)
	if len(settings) != 4 {
		t.Errorf("written:\n%s", written)
	}
	for _, s := range settings {
		if want := " --" + s[1] + " " + s[2]; !strings.Contains(stdout, want) {
			t.Errorf("%s is written, and not printed:\n%s", want, stdout)
		}
	}
	code, stdout, stderr = execute(t, "run", "--config", file)
	if code != exitUsage || !strings.Contains(stderr, "model.dir") || strings.Contains(stderr, "key") {
		t.Errorf("run: exit status %d\n%s%s", code, stdout, stderr)
	}
}
