package infer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel"
	"inceptor/testenv"
)

// optionsIn are the options of a version that is optimized and runs in a precision.
func optionsIn(p savedmodel.Precision) Options {
	o := Options{Model: "inception", Batch: Batch{Max: 1}, MaxPixels: attemptPixels}
	o.Session.OwnThreads, o.Session.Optimize, o.Session.Precision = true, true, p
	return o
}

// loadWith loads the version in dir.
func loadWith(t *testing.T, o Options, dir string) (*Version, error) {
	t.Helper()
	modeltest.OpenLibrary(t)
	v, _, release, err := LoadOnce(t.Context(), o, 1, dir, SpecOverrides{})
	if err == nil {
		t.Cleanup(release)
	}
	return v, err
}

// calibrationOf returns the ranges of a version in float32 on some records.
func calibrationOf(t *testing.T, v *Version, records ...[]byte) Calibration {
	t.Helper()
	c, err := v.NewCalibrator(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range records {
		if err := c.Add(t.Context(), record); err != nil {
			t.Fatal(err)
		}
	}
	return c.Calibration()
}

// convolutions returns the folder of a small version with convolutions, whose classes are dark and
// bright.
func convolutions(t *testing.T) string {
	t.Helper()
	return filepath.Join(testenv.Tiny(t, "--kind", "convolutions"), "1")
}

// grayPicture returns a picture of one gray. The scores of 110 are 0.35 and 0.65.
func grayPicture(gray byte) []byte {
	return drawing{48, 48, func(int, int, int) byte { return gray }}.encode("png")
}

func readPhoto(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(testenv.Photos(t), name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCalibrator(t *testing.T) {
	v, err := loadWith(t, optionsIn(savedmodel.PrecisionFloat32), filepath.Join(testenv.Model(t), "1"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := v.NewCalibrator(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Add(t.Context(), readPhoto(t, "china.jpg")); err != nil {
		t.Fatal(err)
	}
	first := c.Calibration()
	for name, content := range map[string][]byte{"empty": nil, "no image": []byte("hello"), "cut off": readPhoto(t, "chelsea.png")[:5000]} {
		if err := c.Add(t.Context(), content); !errors.As(err, new(*InputError)) {
			t.Errorf("%s: %v, want an InputError", name, err)
		}
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Add(canceled, readPhoto(t, "chelsea.png")); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if got := c.Calibration(); got.Records != 1 || fmt.Sprint(got) != fmt.Sprint(first) {
		t.Errorf("after bad records the calibration is of %d records, and other than before", got.Records)
	}
	if err := c.Add(t.Context(), readPhoto(t, "chelsea.png")); err != nil {
		t.Fatal(err)
	}
	both := c.Calibration()
	grown := 0
	for name, r := range both.Layers {
		if was := first.Layers[name]; r.Max < was.Max || !(0 < r.LeastError && r.LeastError <= r.Max && r.Percentile <= r.Max) {
			t.Errorf("layer %s: %+v, after %+v with one record less", name, r, was)
		} else if r.Max > was.Max {
			grown++
		}
	}
	if both.Records != 2 || len(both.Layers) < 90 || grown == 0 || !strings.HasPrefix(both.Digest, "sha256:") || both.Pixels == "" {
		t.Errorf("%d records, %d layers of which %d have grown, digest %q, pixels %q", both.Records, len(both.Layers), grown, both.Digest, both.Pixels)
	}
}

func TestNoCalibrator(t *testing.T) {
	for name, test := range map[string]struct {
		scores string
		model  savedmodel.Model
		want   string
	}{
		"only arrays":     {"", savedmodel.Model{Frozen: true}, "have only arrays"},
		"not optimized":   {"scores", savedmodel.Model{}, "its graph is not optimized"},
		"in bfloat16":     {"scores", savedmodel.Model{Frozen: true, Precision: savedmodel.PrecisionBFloat16}, "it runs in bfloat16"},
		"no convolutions": {"scores", savedmodel.Model{Frozen: true}, "no convolution is followed by another one"},
	} {
		v := &Version{model: &test.model}
		v.sig.Output.Scores = test.scores
		if _, err := v.NewCalibrator(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
		if err := CheckInt8(v); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: CheckInt8: %v, want %s", name, err, test.want)
		}
	}
}

// A version runs in int8 only with ranges of its own weights and pixels, and if its golden images
// pass in int8. Else it runs in float32, and says why, or is refused.
func TestInt8(t *testing.T) {
	dir := convolutions(t)
	float, err := loadWith(t, optionsIn(savedmodel.PrecisionFloat32), dir)
	if err != nil {
		t.Fatal(err)
	}
	good := calibrationOf(t, float, grayPicture(20), grayPicture(240))
	photo := grayPicture(110)
	want, err := float.Classify(t.Context(), photo)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(change func(c *Calibration)) *Calibration {
		c := good
		change(&c)
		return &c
	}
	narrow := map[string]LayerRange{}
	for name, r := range good.Layers {
		narrow[name] = LayerRange{r.LeastError / 1000, r.Max, r.Percentile}
	}
	golden := fmt.Sprintf("[{image: photo, label: %s, floor: %v}]\n", want.Classes[0].Label, want.Classes[0].Score-0.1)
	for _, test := range []struct {
		name   string
		file   []byte       // of the version; nil: none
		given  *Calibration // in the options
		golden string
		why    string // in float32; empty: int8
	}{
		{"no ranges", nil, nil, "", "it has no ranges for int8"},
		{"its own file", encoded(t, good), nil, "", ""},
		{"golden images pass", encoded(t, good), nil, golden, ""},
		{"given ranges, and a bad file", []byte("digest: 1"), &good, "", ""},
		{"a bad file", []byte("digests: 1"), nil, "", `int8.yaml: line 1: there is no key "digests"`},
		{"other weights", encoded(t, *changed(func(c *Calibration) { c.Digest = "sha256:12" })), nil, "", "measured with other weights, sha256:12"},
		{"other pixels", nil, changed(func(c *Calibration) { c.Pixels = "48×48, bilinear, pixels 0…1" }), "", "measured with another input, 48×48, bilinear, pixels 0…1"},
		{"other layers", nil, changed(func(c *Calibration) { c.Layers = map[string]LayerRange{"conv": {1, 1, 1}} }), "", "no convolution"},
		{"golden images fail in int8", nil, changed(func(c *Calibration) { c.Layers = narrow }), golden, "golden: photo is"},
	} {
		t.Run(test.name, func(t *testing.T) {
			os.Remove(filepath.Join(dir, CalibrationFile))
			os.RemoveAll(filepath.Join(dir, filepath.Dir(GoldenFile)))
			if test.file != nil {
				modeltest.Write(t, filepath.Join(dir, CalibrationFile), test.file)
			}
			if test.golden != "" {
				modeltest.Write(t, filepath.Join(dir, GoldenFile), []byte(test.golden))
				modeltest.Write(t, filepath.Join(dir, filepath.Dir(GoldenFile), "photo"), photo)
			}
			o := optionsIn(savedmodel.PrecisionInt8)
			o.Calibration = test.given
			v, err := loadWith(t, o, dir)
			if err != nil {
				t.Fatal(err)
			}
			p, err := v.Classify(t.Context(), photo)
			if err != nil || !SameClass(p.Classes[0], want.Classes[0]) {
				t.Errorf("got %v, %v, want %v", p.Classes, err, want.Classes)
			}
			if test.why == "" {
				if p.Precision != "int8" || v.WhyFloat32() != "" || v.Int8() < 0.5 {
					t.Errorf("runs in %s (%s), with %.3f of the multiplications in int8", p.Precision, v.WhyFloat32(), v.Int8())
				}
				if _, err := v.NewCalibrator(t.Context()); err == nil || !strings.Contains(err.Error(), "it runs in int8") {
					t.Errorf("a calibrator of a version in int8: %v", err)
				}
				return
			}
			if p.Precision != "float32" || !strings.Contains(v.WhyFloat32(), test.why) {
				t.Errorf("runs in %s, since %q, want %q", p.Precision, v.WhyFloat32(), test.why)
			}
			o.NoFallback = true
			var gate *GateError
			if _, err := loadWith(t, o, dir); !errors.As(err, &gate) || !strings.Contains(err.Error(), test.why) {
				t.Errorf("without fallback: %v, want a gate's error with %q", err, test.why)
			}
		})
	}
}

func encoded(t *testing.T, c Calibration) []byte {
	t.Helper()
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A Quantizer measures with images that it can read, and tells of the others.
func TestQuantizer(t *testing.T) {
	skipped := map[string]int{}
	last, steps := 0, 0
	q := Quantizer{
		Options: optionsIn(savedmodel.PrecisionFloat32), Number: 1, Dir: convolutions(t),
		Calibrate: []string{"20", "note.txt", "240"}, Measure: []string{"gone.jpg", "110", "150"},
		Read: func(_ context.Context, name string) ([]byte, error) {
			if name == "note.txt" {
				return []byte("no image"), nil
			}
			gray, err := strconv.Atoi(name)
			return grayPicture(byte(gray)), err
		},
		Progress: func(what string, done, total int) {
			if what == "" || done < last || done > total {
				t.Errorf("progress: %q, %d of %d after %d", what, done, total, last)
			}
			last, steps = done, total
		},
		Skipped: func(name string, err error) { skipped[name]++ },
	}
	modeltest.OpenLibrary(t)
	got, err := q.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(skipped) != "map[gone.jpg:1 note.txt:1]" {
		t.Errorf("skipped %v", skipped)
	}
	if last < steps*3/4 {
		t.Errorf("the last progress is %d of %d", last, steps)
	}
	if got.Calibration.Records != 2 || got.Agreement.Records != 2 || got.Agreement.Same != 2 || len(got.Compared) != 2 || len(got.Methods) != 3 {
		t.Errorf("calibrated with %d, compared %d (%v), methods %v", got.Calibration.Records, len(got.Compared), got.Agreement, got.Methods)
	}
	if c := got.Compared[0]; c.Name != "110" || !SameClass(c.Float, c.Int8) || c.Float.Score == c.Int8.Score {
		t.Errorf("the first image: %+v", c)
	}
	if got.Multiplied < 0.5 || got.Float.PerImage <= 0 || got.Int8.PerImage <= 0 {
		t.Errorf("%+v and %+v, %.3f in int8", got.Float, got.Int8, got.Multiplied)
	}
	if got.Calibration.Method != betterMethod(got.Methods) {
		t.Errorf("the method is %s of %v", got.Calibration.Method, got.Methods)
	}

	last, q.Calibrate = 0, []string{"note.txt"}
	if _, err := q.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "none of the images can be used") {
		t.Errorf("without images: %v", err)
	}
	last = 0
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.Run(canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestBetterMethod(t *testing.T) {
	of := func(same int, difference float64) Agreement {
		return Agreement{Records: 100, Same: same, differences: 100 * difference}
	}
	for name, test := range map[string]struct {
		tried map[Method]Agreement
		want  Method
	}{
		"more equal classes":  {map[Method]Agreement{MethodLeastError: of(99, 0.001), MethodMax: of(100, 0.009)}, MethodMax},
		"fewer equal classes": {map[Method]Agreement{MethodLeastError: of(99, 0.009), MethodMax: of(98, 0.001)}, MethodLeastError},
		"much closer scores":  {map[Method]Agreement{MethodLeastError: of(99, 0.003), MethodMax: of(99, 0.002), MethodPercentile: of(99, 0.0014)}, MethodPercentile},
		"a bit closer scores": {map[Method]Agreement{MethodLeastError: of(99, 0.003), MethodMax: of(99, 0.002), MethodPercentile: of(99, 0.0016)}, MethodLeastError},
		"all alike":           {map[Method]Agreement{MethodPercentile: of(99, 0.002), MethodMax: of(99, 0.002), MethodLeastError: of(99, 0.002)}, MethodLeastError},
		"one alone":           {map[Method]Agreement{MethodPercentile: of(1, 1)}, MethodPercentile},
	} {
		if got := betterMethod(test.tried); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}
