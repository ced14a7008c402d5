package infer

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inceptor/savedmodel"
)

func TestCalibrationFile(t *testing.T) {
	dir := t.TempDir()
	if c, err := ReadCalibration(dir); c != nil || err != nil {
		t.Fatalf("a version without the file: %v, %v", c, err)
	}
	want := Calibration{
		Digest: "sha256:12", Pixels: "299×299, bilinear, pixels −1…1", Records: 20, Method: MethodPercentile,
		Layers: map[string]LayerRange{"a/Relu": {3, 3.25, 2.5}, "dead": {}, "b: {x}": {1e-7, 1e-7, 1e-7}},
	}
	for range 2 { // the second one replaces the first one
		path, err := WriteCalibration(dir, want)
		if err != nil || path != filepath.Join(dir, CalibrationFile) {
			t.Fatal(path, err)
		}
	}
	if files, err := os.ReadDir(filepath.Join(dir, "assets.extra")); err != nil || len(files) != 1 {
		t.Errorf("the folder has %v, want one file (%v)", files, err)
	}
	got, err := ReadCalibration(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(got.Layers, want.Layers) || got.Digest != want.Digest || got.Pixels != want.Pixels || got.Records != 20 || got.Method != MethodPercentile {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := got.Ranges(); !maps.Equal(got, savedmodel.Ranges{"a/Relu": 2.5, "b: {x}": 1e-7}) {
		t.Errorf("ranges: %v", got)
	}
	for method, end := range map[Method]float32{MethodMax: 3.25, MethodLeastError: 3} {
		want.Method = method
		if got := want.Ranges()["a/Relu"]; got != end {
			t.Errorf("with %s the range is %v, want %v", method, got, end)
		}
	}
}

func TestBadCalibration(t *testing.T) {
	const good = "digest: d\nrecords: 1\nmethod: max\n"
	for name, test := range map[string]struct{ text, want string }{
		"empty":                {"", "digest is missing"},
		"unknown method":       {"digest: d\nmethod: mean\n", `method: "mean" is none of [least-error max percentile]`},
		"unknown key":          {good + "layer: {}\n", `there is no key "layer"`},
		"not a number":         {good + "layers: {a: {max: .nan, percentile: 1}}\n", "layers: a: want numbers of which none is negative"},
		"infinite":             {good + "layers: {a: {max: .inf, percentile: 1}}\n", "layers: a: want numbers"},
		"negative":             {good + "layers: {a: {max: 1, percentile: -1}}\n", "layers: a: want numbers"},
		"percentile is wrong":  {good + "layers: {a: {max: 1, percentile: 2}}\n", "none is above max"},
		"least error is wrong": {good + "layers: {a: {max: 1, least_error: 2}}\n", "none is above max"},
		"a word":               {good + "layers: {a: {max: much}}\n", "much is not a number"},
		"too large":            {good + strings.Repeat("#", maxCalibrationBytes), "the limit"},
		"too many layers":      {good + "layers:\n" + manyLayers(), "10001 are more than 10000, the limit"},
	} {
		if _, err := DecodeCalibration([]byte(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		}
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, CalibrationFile), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadCalibration(dir); err == nil || !strings.Contains(err.Error(), "is not a file") {
		t.Errorf("a folder: %v", err)
	}
}

func manyLayers() string {
	var b strings.Builder
	for i := range maxLayers + 1 {
		b.WriteString("  l")
		for ; i > 0; i /= 10 {
			b.WriteByte(byte('0' + i%10))
		}
		b.WriteString("x: {max: 1}\n")
	}
	return b.String()
}
