package main

import (
	"bytes"
	"errors"
	imaging "image"
	"image/png"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"inceptor/model/infer"
	"inceptor/testenv"
)

// square writes a picture of a single grey.
func square(t *testing.T, grey uint8) string {
	t.Helper()
	grays := imaging.NewGray(imaging.Rect(0, 0, 16, 16))
	for i := range grays.Pix {
		grays.Pix[i] = grey
	}
	var b bytes.Buffer
	err := png.Encode(&b, grays)
	name := filepath.Join(t.TempDir(), "grey.png")
	if err := errors.Join(err, os.WriteFile(name, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return name
}

// The tiny model's classes are dark and bright. It takes pixels from 0 to 255. With pixels from 0
// to 1 every picture is dark.
func TestInitCommand(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(testenv.Tiny(t), "1")
	file := filepath.Join(dir, "assets.extra", "inceptor.yaml")
	if err := os.RemoveAll(filepath.Dir(file)); err != nil {
		t.Fatal(err)
	}
	initialize := func(args ...string) (int, string, string) {
		return execute(t, append([]string{"init", dir, "--tensorflow.library", testenv.TensorFlow(t)}, args...)...)
	}
	written := func() string {
		b, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return string(b)
	}

	for name, test := range map[string]struct {
		args   []string
		status int
		stderr string
	}{
		"expected, but no picture": {[]string{"--expect", "bright"}, exitUsage, "--expect: needs --image"},
		"no terminal":              {[]string{"--image", square(t, 220)}, exitFailed, "give --expect LABEL"},
		"no size":                  {[]string{"--size", "8"}, exitUsage, "--size: want a height and a width"},
		"another size":             {[]string{"--size", "9,8"}, exitFailed, "input.size: [9, 8] is not the size of the input"},
		"no such signature":        {[]string{"--signature", "x", "--output", "y"}, exitFailed, "init takes --signature, --size and --output"},
		"no such class":            {[]string{"--image", square(t, 220), "--expect", "cat"}, exitFailed, `no class "cat"`},
		"never that class":         {[]string{"--image", square(t, 10), "--expect", "bright"}, exitFailed, "best class in none of the rows"},
	} {
		code, stdout, stderr := initialize(test.args...)
		if code != test.status || !strings.Contains(stderr, test.stderr) || written() != "" {
			t.Errorf("%s: exit status %d, want %d and %q, written %q\n%s%s", name, code, test.status, test.stderr, written(), stdout, stderr)
		}
	}

	code, stdout, stderr := initialize("--image", square(t, 220), "--expect", "Bright")
	rows := `(?m)^ +PIXELS +BEST 3 CLASSES\n1 +−1…1 +dark 0\.\d+, bright 0\.\d+\n2 +0…1 +dark .*\n` +
		`3 +0…1 normalized by ImageNet's mean and std +dark .*\n4 +BGR 0…255 less ImageNet's mean +bright .*\n5 +0…255 +bright .*\nrow 5 is used; 2 rows are right.*\nwrote \S+inceptor\.yaml\n`
	if code != 0 || !regexp.MustCompile(rows).MatchString(stdout) {
		t.Errorf("exit status %d\n%s%s", code, stdout, stderr)
	}
	for _, line := range []string{"  scale: 1", "  offset: 0", "  size: [8, 8]", "output: scores", "labels: labels.txt"} {
		if !strings.Contains(written(), "\n"+line+"\n") {
			t.Errorf("no line %q in\n%s", line, written())
		}
	}
	if !strings.Contains(written(), "# Measured with grey.png, which is bright ") {
		t.Errorf("it does not say where the pixels are from:\n%s", written())
	}
	if !strings.Contains(written(), "with it. NOT CERTAIN: 1 more of the usual conventions give the same class.\n") {
		t.Errorf("it does not say that another convention is right as well:\n%s", written())
	}
	e := infer.Explain(dir, infer.Images, infer.SpecOverrides{})
	if e.Refused != "" || e.Preprocessing.Scale != (infer.PerChannel{1, 1, 1}) || e.Preprocessing.ScaleFrom != infer.OriginFile {
		t.Errorf("the service would make of it: %+v", e)
	}

	before := written()
	code, _, stderr = initialize()
	if code != exitFailed || !strings.Contains(stderr, file+": exists already") || written() != before {
		t.Errorf("a second time: exit status %d, %s", code, stderr)
	}
}

// Without a picture, init writes as a comment what nothing states. It needs no library.
func TestInitWithoutPicture(t *testing.T) {
	dir := t.TempDir()
	b, err := os.ReadFile(filepath.Join(testenv.Root(t), "savedmodel", "testdata", "classic", "saved_model.pb"))
	if err := errors.Join(err, os.WriteFile(filepath.Join(dir, "saved_model.pb"), b, 0o600)); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := execute(t, "init", dir)
	file := filepath.Join(dir, "assets.extra", "inceptor.yaml")
	if code != 0 || stdout != "wrote "+file+"\n" {
		t.Errorf("exit status %d\n%s%s", code, stdout, stderr)
	}
	if e := infer.Explain(dir, infer.Images, infer.SpecOverrides{}); e.Refused != "" || e.Signature != "serving_default" {
		t.Errorf("the service would make of it: %+v", e)
	}

	code, _, stderr = execute(t, "init", filepath.Join(testenv.Root(t), "savedmodel", "testdata", "tiny"))
	if code != exitFailed || !strings.Contains(stderr, "nothing was written: signature") {
		t.Errorf("a model of rows: exit status %d, %s", code, stderr)
	}
}
