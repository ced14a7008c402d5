package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"inceptor/model/infer"
	"inceptor/savedmodel"
	"inceptor/testenv"
)

// grayFolder returns a folder with pictures of one gray, one of them in a folder below, and with
// files that are no pictures. Of these files, README.txt, b.png and d.png give the ranges.
func grayFolder(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Join(folder, "more"), 0o700))
	for name, gray := range map[string]uint8{"a.png": 60, "b.png": 250, "c.png": 90, "d.png": 20, "more/e.png": 120} {
		must(os.Rename(square(t, gray), filepath.Join(folder, name)))
	}
	must(os.WriteFile(filepath.Join(folder, "README.txt"), []byte("pictures"), 0o600))
	must(os.WriteFile(filepath.Join(folder, ".hidden"), []byte("pictures"), 0o600))
	must(os.Symlink("gone.png", filepath.Join(folder, "link.png")))
	return folder
}

// quantize writes ranges with which the version runs in int8 into a copy, which is the same but for
// these.
func TestQuantizeCommand(t *testing.T) {
	t.Parallel()
	base := testenv.Tiny(t, "--kind", "convolutions")
	folder := grayFolder(t)
	to := filepath.Join(t.TempDir(), "2")
	quantize := func(args ...string) (int, string, string) {
		return execute(t, append([]string{"quantize", "--images", folder, "--tensorflow.library", testenv.TensorFlow(t)}, args...)...)
	}
	status, out, errs := quantize(base, "--to", to)
	if status != 0 {
		t.Fatalf("exit status %d\n%s\n%s", status, out, errs)
	}
	for _, want := range []string{
		"2 of 6 files gave the ranges, and 3 others were compared.\n", "BEST CLASS IN FLOAT32", "LARGEST DIFFERENCES", "times as fast",
		"multiplications in int8", "3 of 3 have the same best class", "To show 99 % takes 381 images", "wrote " + filepath.Join(to, infer.CalibrationFile),
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	if !strings.Contains(errs, "skipped README.txt: not-an-image") || strings.Contains(errs, "hidden") || !strings.Contains(errs, ": calibrating\n") {
		t.Errorf("standard error: %s", errs)
	}
	if c, err := infer.ReadCalibration(to); err != nil || c == nil || c.Records != 2 {
		t.Fatalf("the ranges are not of 2 images: %v", err)
	}
	from, err := savedmodel.Digest(t.Context(), filepath.Join(base, "1"))
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Dir(to)); err != nil || len(left) != 1 {
		t.Errorf("beside the copy there is %v, %v", left, err)
	}
	if err := os.Rename(filepath.Join(to, infer.CalibrationFile), filepath.Join(t.TempDir(), "int8.yaml")); err != nil {
		t.Fatal(err)
	}
	if copied, err := savedmodel.Digest(t.Context(), to); err != nil || copied != from {
		t.Errorf("the copy has the digest %s, %v, the version has %s", copied, err, from)
	}

	if status, _, errs := quantize(base, "--to", to); status != exitFailed || !strings.Contains(errs, "exists: name a directory that does not") {
		t.Errorf("a copy that exists: status %d, %s", status, errs)
	}
	if status, _, errs := quantize(folder); status != exitFailed || !strings.Contains(errs, "has neither a saved_model.pb nor a version") {
		t.Errorf("no version: status %d, %s", status, errs)
	}
}

func TestSplitImages(t *testing.T) {
	numbered := func(n int) (names []string) {
		for i := range n {
			names = append(names, fmt.Sprintf("%06d", i))
		}
		return names
	}
	for _, test := range []struct{ found, calibrate, measure int }{
		{1, 1, 1}, {3, 3, 3}, {4, 2, 2}, {7, 3, 4}, {20, 10, 10}, {512, 256, 256}, {800, 256, 544}, {2256, 256, 2000}, {100_000, 256, 2000},
	} {
		names := numbered(test.found)
		calibrate, measure := splitImages(names)
		if len(calibrate) != test.calibrate || len(measure) != test.measure {
			t.Errorf("of %d, %d calibrate and %d are measured, want %d and %d", test.found, len(calibrate), len(measure), test.calibrate, test.measure)
		}
		if !slices.IsSorted(calibrate) || !slices.IsSorted(measure) {
			t.Errorf("of %d: not in order", test.found)
		}
		both := slices.ContainsFunc(calibrate, func(name string) bool { return slices.Contains(measure, name) })
		if both != (test.found < 4) {
			t.Errorf("of %d, the same image is in both parts: %v", test.found, both)
		}
		if last := names[test.found*9/10:]; test.found > 10 && (!slices.Contains(last, calibrate[len(calibrate)-1]) || !slices.Contains(last, measure[len(measure)-1])) {
			t.Errorf("of %d, no image of the last tenth is in a part", test.found)
		}
	}
}

// agreementOf returns an Agreement of n images, of which so many differ, with this difference of
// scores.
func agreementOf(n, differ int, difference float32) (a infer.Agreement) {
	for i := range n {
		other := []infer.Class{{Index: 0, Score: 0.5 - difference}}
		if i < differ {
			other = append([]infer.Class{{Index: 1, Score: 0.9}}, other...)
		}
		a.Add(infer.Prediction{Classes: []infer.Class{{Index: 0, Score: 0.5}}}, infer.Prediction{Classes: other})
	}
	return a
}

func TestQuantizeRefusal(t *testing.T) {
	for name, test := range map[string]struct {
		a             infer.Agreement
		refused, says string
	}{
		"all agree":                   {agreementOf(400, 0, 0), "", "at least 99.05 %)"},
		"too few to show it":          {agreementOf(20, 0, 0), "", "To show 99 % takes 381 images"},
		"one of a few, not certain":   {agreementOf(30, 1, 0), "", "To show 99 % takes 381 images"},
		"one of very few":             {agreementOf(4, 1, 0), "3 of 4 images have the same best class in int8: with 95 % confidence fewer than 99 % have it", ""},
		"too many differ":             {agreementOf(400, 12, 0), "388 of 400 images", ""},
		"scores differ":               {agreementOf(400, 0, 0.02), "scores differ by 0.02 in the mean, and 0.01 is allowed", ""},
		"scores differ within bounds": {agreementOf(400, 0, 0.009), "", "scores differ by 0.009 in the mean"},
	} {
		r := quantizeReport{Quantized: infer.Quantized{Agreement: test.a}}
		err := r.refusal()
		if (err != nil) != (test.refused != "") || err != nil && !strings.Contains(err.Error(), test.refused) {
			t.Errorf("%s: refused with %v, want %q", name, err, test.refused)
		}
		if got := r.verdict(); !strings.Contains(got, test.says) {
			t.Errorf("%s: %s, want %q", name, got, test.says)
		}
	}
}

func TestQuantizeReport(t *testing.T) {
	class := func(label string, index int, score float32) infer.Class {
		return infer.Class{Label: label, Index: index, Score: score}
	}
	r := quantizeReport{found: 7, Quantized: infer.Quantized{
		Calibration: infer.Calibration{Records: 3, Method: infer.MethodMax},
		Methods:     map[infer.Method]infer.Agreement{infer.MethodMax: agreementOf(3, 0, 0.001), infer.MethodLeastError: agreementOf(3, 1, 0)},
		Agreement:   agreementOf(3, 1, 0),
		Compared: []infer.Compared{
			{Name: "a.jpg", Float: class("cat", 0, 0.9), Int8: class("cat", 0, 0.8), Difference: 0.1},
			{Name: "b.jpg", Float: class("dog", 1, 0.5), Int8: class("cat", 0, 0.51), Difference: 0.01},
			{Name: "c\x1b.jpg", Float: class("cat", 0, 0.7), Int8: class("cat", 0, 0.7), Difference: 0},
		},
		Float: infer.Cost{PerImage: 60 * time.Millisecond, Memory: 300 << 20}, Int8: infer.Cost{PerImage: 20 * time.Millisecond, Memory: 150 << 20},
		Multiplied: 0.987,
	}}
	var b strings.Builder
	if err := r.print(&b); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(b.String()) {
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	processors := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "on ") })
	lines[processors] = "on …"
	want := `3 of 7 files gave the ranges, and 3 others were compared.

BEST CLASS IN FLOAT32  IMAGES  SAME IN INT8  MEAN DIFFERENCE  LARGEST
dog                    1       0             0.01             0.01
cat                    2       2             0.05             0.1

LARGEST DIFFERENCES  FLOAT32     INT8        DIFFERENCE
b.jpg                dog 0.5000  cat 0.5100  0.01
a.jpg                cat 0.9000  cat 0.8000  0.1
c\u001b.jpg          cat 0.7000  cat 0.7000  0

COST                        FLOAT32  INT8
ms an image, one at a time  60.0     20.0    3.0 times as fast
MiB for load and warm-up    300      150
multiplications in int8     0 %      98.7 %  of those of convolutions
on …

RANGES BY    SAME CLASS  MEAN DIFFERENCE
least-error  2 of 3      0
max          3 of 3      0.001            chosen
percentile                                the version does not pass its gates

Of the compared images, 2 of 3 have the same best class (with 95 % confidence at least 20.77 %), scores differ by 0 in the mean and 0 at most. To show 99 % takes 381 images, if all of them agree: compare more, if you can.
`
	if diff := cmp.Diff(want, strings.Join(lines, "\n")+"\n"); diff != "" {
		t.Error(diff)
	}
}

func TestVersionIn(t *testing.T) {
	base := t.TempDir()
	for _, n := range []string{"2", "10", "x"} {
		if err := errors.Join(os.Mkdir(filepath.Join(base, n), 0o700), os.WriteFile(filepath.Join(base, n, "saved_model.pb"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		dir     string
		version int64
		path    string
	}{
		"base directory": {"", 10, "10"},
		"version":        {"2", 2, "2"},
		"no number":      {"x", 0, "x"},
	} {
		got, err := versionIn(filepath.Join(base, test.dir))
		if err != nil || got.Version != test.version || got.Dir != filepath.Join(base, test.path) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
