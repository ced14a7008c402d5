//go:build !race

package pixels

import (
	"bytes"
	"fmt"
	"image"
	"math"
	"testing"

	"inceptor/savedmodel"
)

// Every resize, up and down, with every setting.
func TestResizeEqualsTensorFlow(t *testing.T) {
	tf := openTensorFlow(t)
	worst := 0.0
	for _, from := range []image.Point{{1, 1}, {1, 5}, {2, 3}, {64, 48}, {299, 299}, {640, 427}, {1000, 20}} {
		img := scene(from.X, from.Y)
		p, err := rgb(img)
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range []image.Point{{1, 1}, {7, 5}, {224, 224}, {299, 299}, {300, 2}} {
			for _, r := range []Recipe{
				{}, {AlignCorners: true}, {HalfPixelCenters: true},
				{Resize: Nearest}, {Resize: Nearest, AlignCorners: true}, {Resize: Nearest, HalfPixelCenters: true},
				{Resize: Bicubic}, {Resize: Bicubic, AlignCorners: true}, {Resize: Bicubic, HalfPixelCenters: true},
				{Resize: Area}, {Resize: Area, AlignCorners: true},
			} {
				r.Width, r.Height, r.Scale, r.Offset, r.DType = to.X, to.Y, alike(1/127.5), alike(-1), savedmodel.Float32
				name := fmt.Sprintf("%v to %v %+v", from, to, r)
				got := bytes.Repeat([]byte{0xff}, r.Size())
				r.input(got, p)
				want := tf.input(p, r)
				if len(got) != len(want) {
					t.Fatalf("%s: %d bytes, want %d", name, len(got), len(want))
				}
				most := 0.0
				for i := 0; i < len(got); i += 4 {
					most = max(most, math.Abs(float64(float32At(got[i:])-float32At(want[i:])))) // NaN stays
				}
				worst = max(worst, most)
				// A level of 255 is 0.0078 here.
				if !(most <= 2e-6) {
					t.Errorf("%s: differs by %v", name, most)
				}
			}
		}
	}
	t.Logf("largest difference %.2g", worst)
}
