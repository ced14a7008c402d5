package pixels

import (
	"fmt"
	"image"
	"runtime"
	"testing"

	"inceptor/savedmodel"
)

// Append allocates no more than it promises, with any recipe: for a picture of one row or one
// column, and for a single pixel that fills the whole input.
func TestAppendAllocates(t *testing.T) {
	const long, slack = 100_000, 1 << 20
	for _, size := range []image.Point{{long, 1}, {1, long}, {1, 1}} {
		b := pngOf(t, image.NewNRGBA64(image.Rectangle{Max: size}))
		for _, resize := range []string{Bilinear, Nearest, Bicubic, Area} {
			for _, frame := range []Frame{{}, {Fit: Pad}, {Fit: Crop}, {Crop: 1e-18}, {Crop: 0.99, Fit: Crop}, {Crop: 0.5, Fit: Pad}} {
				frame.Height, frame.Width = 100, 150
				r := Recipe{Frame: frame, Resize: resize, Scale: alike(1), DType: savedmodel.Float32}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				_, err := r.Append(nil, b, Header{"png", size.X, size.Y})
				runtime.ReadMemStats(&after)
				took, most := int(after.TotalAlloc-before.TotalAlloc), 27*size.X*size.Y+r.Size()+slack
				if name := fmt.Sprintf("%v, %+v, %s", size, frame, resize); err != nil || took > most {
					t.Errorf("%s: %d bytes, want at most %d, %v", name, took, most, err)
				}
			}
		}
	}
}

// Append fails for a recipe that Check refuses.
func TestCheck(t *testing.T) {
	b, h := pngOf(t, image.NewGray(image.Rect(0, 0, 2, 2))), Header{"png", 2, 2}
	frame := Frame{Height: 2, Width: 2}
	for name, r := range map[string]Recipe{
		"no type":       {Frame: frame},
		"strings":       {Frame: frame, DType: savedmodel.String},
		"quantized":     {Frame: frame, DType: savedmodel.QUInt8},
		"float8":        {Frame: frame, DType: savedmodel.Float8E5M2},
		"complex":       {Frame: frame, DType: savedmodel.Complex64},
		"other resizes": {Frame: frame, DType: savedmodel.Float32, Resize: "lanczos3"},
	} {
		if out, err := r.Append(nil, b, h); r.Check() == nil || err == nil || len(out) > 0 {
			t.Errorf("%s: %d bytes, %v", name, len(out), err)
		}
	}
	for _, resize := range []string{"", Bilinear, Nearest, Bicubic, Area} {
		r := Recipe{Frame: frame, DType: savedmodel.Float32, Resize: resize}
		if out, err := r.Append(nil, b, h); err != nil || len(out) != r.Size() {
			t.Errorf("%s: %d bytes, %v", resize, len(out), err)
		}
	}
}
