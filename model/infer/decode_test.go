package infer

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"inceptor/model/internal/modeltest"
	"inceptor/model/pixels"
	"inceptor/savedmodel"
	"inceptor/testenv"
)

func TestDecodeRatio(t *testing.T) {
	d := &decoder{frame: pixels.Frame{Height: 299, Width: 200}, fast: true}
	for _, test := range []struct {
		h    Header
		want int
	}{
		{Header{Format: "jpeg", Height: 100, Width: 100}, 1},
		{Header{Format: "jpeg", Height: 1195, Width: 5000}, 1},
		{Header{Format: "jpeg", Height: 5000, Width: 799}, 1},
		{Header{Format: "jpeg", Height: 1196, Width: 800}, 2},
		{Header{Format: "jpeg", Height: 2391, Width: 9000}, 2},
		{Header{Format: "jpeg", Height: 2392, Width: 1600}, 4},
		{Header{Format: "jpeg", Height: 9000, Width: 8000}, 4},
		{Header{Format: "png", Height: 8000, Width: 8000}, 1},
	} {
		if got := ratios[d.ratio(test.h)]; got != test.want {
			t.Errorf("%+v: got %d, want %d", test.h, got, test.want)
		}
	}
	for _, test := range []struct {
		frame pixels.Frame
		want  int
	}{ // of 2400×1600
		{pixels.Frame{Height: 200, Width: 200}, 4},
		{pixels.Frame{Height: 200, Width: 200, Crop: 0.5}, 2},                     // 800 are left of its height
		{pixels.Frame{Height: 200, Width: 600, Fit: pixels.Crop}, 2},              // 2400×800
		{pixels.Frame{Height: 300, Width: 300, Fit: pixels.Pad}, 4},               // to 300×200
		{pixels.Frame{Height: 300, Width: 300, Fit: pixels.Pad, Crop: 0.5}, 2},    // 1200×800 of it
		{pixels.Frame{Height: 2400, Width: 2400, Fit: pixels.Pad, Crop: 0.01}, 1}, // larger than the picture
	} {
		d := &decoder{frame: test.frame, fast: true}
		if got := ratios[d.ratio(Header{Format: "jpeg", Height: 1600, Width: 2400})]; got != test.want {
			t.Errorf("%+v: got %d, want %d", test.frame, got, test.want)
		}
	}
	d.fast = false
	if got := ratios[d.ratio(Header{Format: "jpeg", Height: 8000, Width: 8000})]; got != 1 {
		t.Errorf("exact: got %d", got)
	}
}

// BenchmarkDecode decodes pictures of cameras, of 10 and 19 megapixels, and a photo of 640 pixels.
func BenchmarkDecode(b *testing.B) {
	modeltest.OpenLibrary(b)
	in := Preprocessing{Size: [2]int{299, 299}, Resize: "bilinear", Scale: same(1 / 127.5), Offset: same(-1)}
	small, err := os.ReadFile(filepath.Join(testenv.Photos(b), "china.jpg"))
	if err != nil {
		b.Fatal(err)
	}
	china := filepath.Join(testenv.Photos(b), "china.jpg")
	for name, picture := range map[string][]byte{
		"640x427": small, "3840x2562": testenv.Shot{File: china, Side: 2562, Quality: 90}.JPEG(b),
		"5396x3600": testenv.Shot{File: china, Side: 3600, Quality: 90}.JPEG(b),
	} {
		h, err := ParseHeader(picture)
		if err != nil {
			b.Fatal(err)
		}
		for _, fast := range []bool{false, true} {
			d, err := newDecoder(in, savedmodel.Float32, fast, savedmodel.Options{})
			if err != nil {
				b.Fatal(err)
			}
			b.Run(name+map[bool]string{false: "/exact", true: "/fast"}[fast], func(b *testing.B) {
				for b.Loop() {
					p, err := d.pixels(b.Context(), picture, h)
					if err != nil {
						b.Fatal(err)
					}
					p.Close()
				}
			})
			if err := d.close(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// A version's settings of the resize are what TensorFlow is told: its pixels
// are those of package pixels, which is compared with TensorFlow's operations.
func TestDecoderSettings(t *testing.T) {
	modeltest.OpenLibrary(t)
	image := modeltest.PNG(t, 40, 30)
	h, err := ParseHeader(image)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for name, in := range map[string]Preprocessing{
		"bilinear":           {Resize: "bilinear", Scale: same(1)},
		"align_corners":      {Resize: "bilinear", Scale: same(1), AlignCorners: true},
		"half_pixel_centers": {Resize: "bilinear", Scale: same(1), HalfPixelCenters: true},
		"area":               {Resize: "area", Scale: same(1)},
		"scale, offset":      {Resize: "bilinear", Scale: same(0.5), Offset: same(-7)},
	} {
		in.Size = [2]int{7, 9}
		d, err := newDecoder(in, savedmodel.Float32, false, savedmodel.Options{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.pixels(t.Context(), image, h)
		if err != nil {
			t.Fatal(err)
		}
		want, err := in.recipe(savedmodel.Float32).Append(nil, image, pixels.Header{Format: h.Format, Width: h.Width, Height: h.Height})
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(want); i += 4 {
			a := math.Float32frombits(binary.NativeEndian.Uint32(got.Bytes()[i:]))
			b := math.Float32frombits(binary.NativeEndian.Uint32(want[i:]))
			if !(math.Abs(float64(a-b)) < 1e-3) {
				t.Errorf("%s: value %d is %v, want %v", name, i/4, a, b)
				break
			}
		}
		if other := seen[string(want)]; other != "" {
			t.Errorf("%s and %s give the same pixels", name, other)
		}
		seen[string(want)] = name
		got.Close()
		if err := d.close(); err != nil {
			t.Error(err)
		}
	}
}
