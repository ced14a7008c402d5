package savedmodel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"inceptor/savedmodel/internal/ctf"
	"inceptor/savedmodel/tfpb"
	"inceptor/testenv"
)

// helperVariable makes the test binary a process in which no library is open. The process opens
// each of its arguments and prints the results.
const helperVariable = "INCEPTOR_TEST_HELPER"

func helper(paths []string) int {
	TrimMemory() // does nothing
	_, numbers := NewTensor(Float32, 1)
	_, texts := NewStringTensor([][]byte{nil})
	if LibraryPath()+LibraryVersion() != "" || !errors.Is(numbers, ErrNoRuntime) || !errors.Is(texts, ErrNoRuntime) {
		fmt.Println("a library is open already:", LibraryPath(), LibraryVersion(), numbers, texts)
		return 1
	}
	for _, path := range paths {
		if err := OpenLibrary(path); err != nil {
			fmt.Println(err)
			if !errors.Is(err, ErrNoRuntime) {
				fmt.Println("which is not ErrNoRuntime")
			}
			continue
		}
		fmt.Println("opened", LibraryPath(), LibraryVersion())
	}
	if LibraryPath() == "" {
		_, load := Load(context.Background(), "nowhere", Options{})
		_, session := NewSession(&tfpb.GraphDef{}, Options{})
		fmt.Println("load and session:", errors.Is(load, ErrNoRuntime), errors.Is(session, ErrNoRuntime))
		return 0
	}
	s, err := NewSession(&tfpb.GraphDef{}, Options{})
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// runHelper runs the helper in dir and returns its standard output and error.
func runHelper(t *testing.T, dir string, paths ...string) (out, log string) {
	t.Helper()
	if errors.Is(ctf.Open(""), ctf.ErrNoRuntime) {
		t.Skip("built without cgo")
	}
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), exe, paths...)
	cmd.Dir = dir
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "TF_") || strings.HasPrefix(v, "LD_LIBRARY_PATH=")
	}), helperVariable+"=1")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("helper: %v\n%s%s", err, &stdout, &stderr)
	}
	return stdout.String(), stderr.String()
}

func TestOpenLibrary(t *testing.T) {
	t.Parallel()
	folder := testenv.TensorFlow(t)
	checkout := testenv.Root(t)
	opened := regexp.MustCompile(`(?m)^opened /\S+/libtensorflow(_cc)?\.so\.2 [2-9]\.\d+\.\d+\S*\n`)
	for _, test := range []struct {
		name, dir, path string
	}{
		{"folder", "/", folder},
		{"working folder", folder, "."},
		{"name in the working folder", folder, "libtensorflow_cc.so.2"},
		{"checkout", filepath.Join(checkout, "savedmodel", "testdata"), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			out, log := runHelper(t, test.dir, test.path, "nonsense") // ignored: a library is open
			if len(opened.FindAllString(out, -1)) != 2 {
				t.Errorf("got %s", out)
			}
			for line := range strings.Lines(log) {
				if !strings.Contains(line, "before absl::InitializeLog()") && !strings.Contains(line, "oneDNN custom operations are on") {
					t.Errorf("TensorFlow says %s", line)
				}
			}
		})
	}
}

func TestOpenLibraryFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := filepath.Join(dir, "text.so")
	must(t, os.WriteFile(text, bytes.Repeat([]byte("no library\n"), 100), 0o600))
	how := []string{"no TensorFlow runtime; tried\n", "pip install tensorflow-cpu", "make setup", "--tensorflow.library", "INCEPTOR_TENSORFLOW_LIBRARY"}
	exe, err := os.Executable()
	must(t, err)
	tests := []struct {
		name, path string
		want       []string
	}{
		{"nowhere", "", []string{
			"\n  " + filepath.Dir(exe) + "/libtensorflow.so.2: cannot open",
			"\n  " + filepath.Dir(exe) + "/libtensorflow_cc.so.2: cannot open",
			"\n  libtensorflow.so.2: cannot open",
			"\n  libtensorflow_cc.so.2: cannot open",
		}},
		{"missing file", dir + "/none.so", []string{"\n  " + dir + "/none.so: cannot open"}},
		{"empty folder", dir, []string{"\n  " + dir + "/libtensorflow.so.2: cannot open", "\n  " + dir + "/libtensorflow_cc.so.2: cannot open"}},
		{"no library", text, []string{"\n  " + text + ": invalid ELF header\n"}},
		{"other library", "libm.so.6", []string{"\n  libm.so.6: missing symbols: TF_Version ", " TF_AllocateTensor ", " TF_SessionRun\n"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			out, _ := runHelper(t, dir, test.path)
			if strings.HasPrefix(out, "opened ") && test.path == "" {
				t.Skip("this system has TensorFlow: ", out)
			}
			for _, want := range slices.Concat(how, test.want, []string{"\nload and session: true true\n"}) {
				if !strings.Contains(out, want) {
					t.Errorf("no %q", want)
				}
			}
			if t.Failed() || strings.Contains(out, "which is not") || strings.Count(out, "\n  ") != max(1, len(test.want)) && test.name != "other library" {
				t.Errorf("got\n%s", out)
			}
		})
	}
	t.Run("then found", func(t *testing.T) {
		t.Parallel()
		folder := testenv.TensorFlow(t)
		// The second library has only some of the functions.
		out, _ := runHelper(t, dir, "libm.so.6", filepath.Join(folder, "libtensorflow_framework.so.2"), text, folder)
		if strings.Count(out, "missing symbols: TF_Version") != 2 || !strings.Contains(out, "\nopened "+folder) {
			t.Errorf("got\n%s", out)
		}
	})
}

func TestLibraryCandidates(t *testing.T) {
	top := t.TempDir()
	folder := func(path string) string {
		path = filepath.Join(top, path)
		must(t, os.MkdirAll(path, 0o700))
		return path
	}
	both := func(folder string) []string {
		return []string{filepath.Join(folder, "libtensorflow.so.2"), filepath.Join(folder, "libtensorflow_cc.so.2")}
	}
	checkout, other, empty := folder("checkout/.tools/tensorflow"), folder("other/.tools/tensorflow"), folder("empty")
	deep := folder("checkout/a/b")
	folder("shared/.tools/tensorflow")
	inShared := folder("shared/a")
	must(t, os.Chmod(filepath.Dir(inShared), 0o777|os.ModeSticky))
	file := filepath.Join(empty, "lib.so")
	must(t, os.WriteFile(file, nil, 0o600))
	system := []string{"libtensorflow.so.2", "libtensorflow_cc.so.2"}
	t.Chdir(empty)

	tests := []struct {
		name, path, executable, work string
		want                         []string
	}{
		{"file", file, deep, deep, []string{file}},
		{"file of the working folder", "lib.so", deep, deep, []string{file}},
		{"folder", checkout, empty, empty, both(checkout)},
		{"working folder", ".", deep, deep, both(empty)},
		{"relative folder", "../checkout/a", deep, deep, both(filepath.Dir(deep))},
		{"name for the system", "libtensorflow.so.2.21.0", deep, deep, []string{"libtensorflow.so.2.21.0"}},
		{"executable only", "", empty, empty, slices.Concat(both(empty), system)},
		{"executable in a checkout", "", deep, filepath.Dir(other), slices.Concat(both(deep), both(checkout), system)},
		{"work in a checkout", "", empty, deep, slices.Concat(both(empty), both(checkout), system)},
		{"work in a folder of everybody", "", empty, inShared, slices.Concat(both(empty), system)},
		{"unknown executable", "", "", deep, slices.Concat(both(checkout), system)},
		{"nothing known", "", "", "", system},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := libraryCandidates(test.path, test.executable, test.work); !slices.Equal(got, test.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

func TestLibraryVersion(t *testing.T) {
	openLibrary(t)
	if v := LibraryVersion(); !regexp.MustCompile(`^[2-9]\.\d+\.\d+`).MatchString(v) {
		t.Errorf("version %q", v)
	}
	if path := LibraryPath(); filepath.Dir(path) != testenv.TensorFlow(t) {
		t.Errorf("path %s", path)
	}
}

// Without cgo everything builds, and the error says what is missing.
func TestWithoutCgo(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "main.go")
	must(t, os.WriteFile(program, []byte(`package main

import (
	"context"
	"errors"
	"fmt"

	"inceptor/savedmodel"
)

func main() {
	_, err := savedmodel.Load(context.Background(), "testdata/tiny", savedmodel.Options{})
	fmt.Println(errors.Is(err, savedmodel.ErrNoRuntime), err)
	_, err = savedmodel.NewTensor(savedmodel.Float32, 1)
	fmt.Println(errors.Is(err, savedmodel.ErrNoRuntime), err)
	info, err := savedmodel.Inspect("testdata/tiny")
	fmt.Println(info.Complete, err)
}
`), 0o600))
	cmd := exec.CommandContext(t.Context(), "go", "run", program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	want := "true no TensorFlow runtime: built without cgo\ntrue no TensorFlow runtime\ntrue <nil>\n"
	if err != nil || string(out) != want {
		t.Errorf("%v, got\n%s", err, out)
	}
}
