//go:build !race

package infer

import (
	"bytes"
	"context"
	"flag"
	"image/png"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel"
	"inceptor/testenv"
	"inceptor/testenv/augment"
)

var nightly = flag.Bool("nightly", false, "compare int8 with float32 on all pictures, not on three of each photo")

// The input of Inception.
const (
	inceptionSide  = 299
	inceptionScale = 1. / 255
)

// A picture is a photo, augmented in one way.
type picture struct {
	photo augment.Photo
	way   augment.Way
}

func (p picture) String() string { return p.photo.Name + ", " + p.way.Name }

// content returns the picture as a file that has the size of Inception's input.
func (p picture) content(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, p.way.Picture(p.photo, inceptionSide)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A fold is a half of the original photos, for the comparison of int8 with float32, and the other
// half for the calibration. So calibration has never seen a photo of the comparison in any form.
type fold struct{ calibrate, compare []picture }

// folds returns both folds. The two photos of the motorcycle are in the same half. For the
// calibration, each photo has the first four ways; for the comparison all ways, or three that
// differ from photo to photo.
func folds(t testing.TB) [2]fold {
	t.Helper()
	photos, err := augment.Read(testenv.Originals(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(photos) < 20 || 20*len(augment.Ways) < 400 {
		t.Fatalf("%d photos in %d ways: want at least 400 of 20", len(photos), len(augment.Ways))
	}
	var folds [2]fold
	for i, photo := range photos {
		half, n := i/10%2, len(augment.Ways)
		for j, way := range augment.Ways {
			if j < 4 {
				folds[1-half].calibrate = append(folds[1-half].calibrate, picture{photo, way})
			}
			if *nightly || (j+n-3*i%n)%n < 3 {
				folds[half].compare = append(folds[half].compare, picture{photo, way})
			}
		}
	}
	return folds
}

// inceptionIn loads the trained Inception in a precision, as the service does.
func inceptionIn(t testing.TB, p savedmodel.Precision, c *Calibration) *Version {
	t.Helper()
	modeltest.OpenLibrary(t)
	o := optimizedOptions()
	o.Session.Precision, o.Calibration, o.NoFallback = p, c, true
	v, _, release, err := LoadOnce(t.Context(), o, 1, filepath.Join(testenv.Model(t), "1"), SpecOverrides{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return v
}

// quantize measures the ranges as "inceptor quantize" does, on the pictures of a fold for that.
func (f fold) quantize(t testing.TB) Calibration {
	t.Helper()
	byName := make(map[string]picture)
	var names []string
	for _, p := range f.calibrate {
		names, byName[p.String()] = append(names, p.String()), p
	}
	measured, err := Quantizer{
		Options: optimizedOptions(), Number: 1, Dir: filepath.Join(testenv.Model(t), "1"),
		Calibrate: names, Measure: names[:1],
		Read:     func(_ context.Context, name string) ([]byte, error) { return byName[name].content(t), nil },
		Progress: func(string, int, int) {},
		Skipped:  func(name string, err error) { t.Errorf("%s: %v", name, err) },
	}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return measured.Calibration
}

// A fetcher returns tensors of a version for a picture.
type fetcher func(picture) []*savedmodel.Tensor

// fetcherOf returns a fetcher of these tensors, besides the scores, which come first.
func fetcherOf(t testing.TB, v *Version, tensors ...string) fetcher {
	t.Helper()
	s, err := v.model.Signature("serving_default")
	if err != nil {
		t.Fatal(err)
	}
	f, err := v.model.Function([]string{s.Inputs["images"].Name}, append([]string{s.Outputs["scores"].Name}, tensors...))
	if err != nil {
		t.Fatal(err)
	}
	return func(p picture) []*savedmodel.Tensor {
		input, err := savedmodel.NewTensor(savedmodel.Float32, 1, inceptionSide, inceptionSide, 3)
		if err != nil {
			t.Fatal(err)
		}
		defer input.Close()
		copy(floatsOf(t, input), augment.Append(nil, p.way.Picture(p.photo, inceptionSide), inceptionScale, 0))
		out, err := f.Run(t.Context(), input)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

func floatsOf(t testing.TB, tensor *savedmodel.Tensor) []float32 {
	t.Helper()
	values, err := savedmodel.Data[float32](tensor)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// vectors returns the values of tensors, which it closes.
func vectors(t testing.TB, tensors []*savedmodel.Tensor) [][]float32 {
	t.Helper()
	defer closeTensors(tensors)
	all := make([][]float32, len(tensors))
	for i, one := range tensors {
		all[i] = slices.Clone(floatsOf(t, one))
	}
	return all
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab, aa, bb = ab+float64(a[i])*float64(b[i]), aa+float64(a[i])*float64(a[i]), bb+float64(b[i])*float64(b[i])
	}
	return ab / math.Sqrt(aa*bb)
}
