package infer

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"path/filepath"
	"strings"
	"testing"

	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel"
	"inceptor/testenv"
)

// gray returns an image of one level of gray, from 0 to 255.
func gray(t testing.TB, level int) []byte {
	t.Helper()
	m := image.NewGray(image.Rect(0, 0, 48, 48))
	for i := range m.Pix {
		m.SetGray(i%48, i/48, color.Gray{uint8(level)})
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A layer with one huge channel leaves nothing of the others in 8 bits. The comparison shows that,
// and where the version has golden images, a load with such ranges goes on in float32.
func TestInt8Outlier(t *testing.T) {
	modeltest.OpenLibrary(t)
	for _, test := range []struct {
		name    string
		options []string
		broken  bool
	}{
		{"with an outlier", []string{"--outlier"}, true},
		{"without", nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(testenv.Tiny(t, append([]string{"--kind", "convolutions"}, test.options...)...), "1")
			images := make(map[string][]byte)
			var names []string
			for level := 5; level < 256; level += 10 {
				name := fmt.Sprintf("gray %d", level)
				names, images[name] = append(names, name), gray(t, level)
			}
			measured, err := Quantizer{
				Options: optimizedOptions(), Number: 1, Dir: dir, Calibrate: names, Measure: names,
				Read:     func(_ context.Context, name string) ([]byte, error) { return images[name], nil },
				Progress: func(string, int, int) {},
				Skipped:  func(name string, err error) { t.Errorf("%s: %v", name, err) },
			}.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			a := measured.Agreement
			t.Logf("%v; ranges by %s", a, measured.Calibration.Method)
			if _, most := a.Bounds(); test.broken != (most < LeastAgreement || a.MeanDifference() > MaxScoreDifference) {
				t.Errorf("it is refused: %v", !test.broken)
			}

			// Somebody has written the ranges into the version all the same.
			if _, err := WriteCalibration(dir, measured.Calibration); err != nil {
				t.Fatal(err)
			}
			modeltest.Write(t, filepath.Join(dir, "assets.extra/golden/white.png"), gray(t, 250))
			modeltest.Write(t, filepath.Join(dir, "assets.extra/golden/black.png"), gray(t, 5))
			modeltest.Write(t, filepath.Join(dir, GoldenFile), []byte("- {image: white.png, label: bright, floor: 0.9}\n- {image: black.png, label: dark, floor: 0.9}\n"))
			o := optimizedOptions()
			o.Session.Precision = savedmodel.PrecisionInt8
			v, _, release, err := LoadOnce(t.Context(), o, 1, dir, SpecOverrides{})
			if err != nil {
				t.Fatal(err)
			}
			defer release()
			if _, precision := v.Optimized(); (precision == "float32") != test.broken {
				t.Errorf("it runs in %s", precision)
			}
			if why := v.WhyFloat32(); test.broken != strings.Contains(why, "white.png is \"dark\"") || !test.broken && why != "" {
				t.Errorf("the reason is %q", why)
			}
			for level, want := range map[int]string{20: "dark", 230: "bright"} {
				p, err := v.Classify(t.Context(), gray(t, level))
				if best, _ := p.Best(); err != nil || best.Label != want {
					t.Errorf("gray of %d: %v, %v", level, p.Classes, err)
				}
			}
		})
	}
}

func optimizedOptions() Options {
	o := Options{Model: "inception", Batch: Batch{Max: 1}, MaxPixels: 40e6}
	o.Session.OwnThreads, o.Session.Optimize = true, true
	return o
}
