//go:build !race

package zoo

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"inceptor/model/infer"
	"inceptor/savedmodel"
	"inceptor/testenv"
)

// The command in the refusal of a saved_model.pbtxt makes a version that is served.
func TestConvertText(t *testing.T) {
	const text = "saved_model.pbtxt"
	base := specimen{model: "pbtxt"}.place(t)
	spaced := filepath.Join(t.TempDir(), "it's a model")
	if err := os.Rename(base, spaced); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(spaced, "1")
	info, err := savedmodel.Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, command, ok := strings.Cut(strings.Join(info.Missing, ""), "convert it, where Python has TensorFlow: ")
	if !ok || !strings.HasSuffix(infer.Explain(dir, infer.Images, infer.SpecOverrides{}).Refused, command) {
		t.Fatalf("missing %q, refused %q", info.Missing, infer.Explain(dir, infer.Images, infer.SpecOverrides{}).Refused)
	}
	shell := exec.CommandContext(t.Context(), "sh", "-c", command)
	shell.Env = append(os.Environ(), "TF_CPP_MIN_LOG_LEVEL=3",
		"PATH="+filepath.Join(testenv.Root(t), ".tools/venv/bin")+":"+os.Getenv("PATH"))
	if out, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	if err := os.Remove(filepath.Join(dir, text)); err != nil { // a link
		t.Fatal(err)
	}
	if err := savedmodel.OpenLibrary(testenv.TensorFlow(t)); err != nil {
		t.Fatal(err)
	}
	specimen{model: "pbtxt", pixels: assumed}.test(t, spaced, "auto")
}
