package testenv

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Both images are built in the same way, of the compiler in go.mod and the library that the tests
// run with.
func TestDockerfiles(t *testing.T) {
	cpu, gpu := readFile(t, "Dockerfile.cpu"), readFile(t, "Dockerfile.gpu")
	_, cpuSteps, _ := strings.Cut(cpu, "\nFROM ")
	_, gpuSteps, _ := strings.Cut(gpu, "\nFROM ")
	if cpuSteps == "" || cpuSteps != gpuSteps {
		t.Error("the Dockerfiles differ after their first FROM")
	}
	if strings.Contains(cpuSteps, "RUN --mount=type=bind") {
		t.Error("a step mounts another stage: buildah would take that step from its cache although the stage has changed")
	}
	language := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(readFile(t, "go.mod"))
	library := regexp.MustCompile(`(?m)^tensorflow-cpu(==[\d.]+)`).FindStringSubmatch(readFile(t, "testenv/requirements.txt"))
	if language == nil || library == nil {
		t.Fatal("no version of Go, or none of TensorFlow")
	}
	for _, want := range []struct{ file, text, part string }{
		{"Dockerfile.cpu", cpu, "\nARG GO=golang:" + language[1] + "-"},
		{"Dockerfile.cpu", cpu, `"tensorflow-cpu` + library[1] + `"`},
		{"Dockerfile.cpu", cpu, "LIBRARIES=tensorflow" + library[1] + ","}, // for arm64
		{"Dockerfile.gpu", gpu, "\nARG GO=golang:" + language[1] + "-"},
		{"Dockerfile.gpu", gpu, `"tensorflow` + library[1] + " "},
	} {
		if !strings.Contains(want.text, want.part) {
			t.Errorf("%s does not have %q", want.file, want.part)
		}
	}
}

// What the program is made of goes to the builder.
func TestDockerignore(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "../cmd/inceptor").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := "\n" + readFile(t, ".dockerignore")
	own := 0
	for pkg := range strings.FieldsSeq(string(out)) {
		path, ours := strings.CutPrefix(pkg, "inceptor/")
		if !ours {
			continue
		}
		own++
		top, _, _ := strings.Cut(path, "/")
		if !strings.Contains(lines, "\n!"+top+"\n") {
			t.Errorf(".dockerignore keeps %s from the builder", pkg)
		}
	}
	if own < 10 {
		t.Errorf("the program has %d packages of its own", own)
	}
}
