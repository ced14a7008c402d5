package model

import (
	"os"
	"path/filepath"
	"testing"

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

// BenchmarkDecode decodes cameras' pictures of 10 and 19 megapixels, and a photo
// of 640 pixels.
func BenchmarkDecode(b *testing.B) {
	openLibrary(b)
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
			if err := d.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
}
