package pixels

import (
	"bytes"
	"image"
	"image/jpeg"
	"image/png"
	"testing"
)

// A decode takes as much memory as its kind of file needs, by the headers.
func TestMemoryOf(t *testing.T) {
	var baseline, small, deep bytes.Buffer
	for _, err := range []error{
		jpeg.Encode(&baseline, image.NewRGBA(image.Rect(0, 0, 10, 10)), nil),
		png.Encode(&small, image.NewRGBA(image.Rect(0, 0, 10, 10))),
		png.Encode(&deep, image.NewRGBA64(image.Rect(0, 0, 10, 10))),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	progressive := bytes.Replace(baseline.Bytes(), []byte{0xff, 0xc0}, []byte{0xff, 0xc2}, 1)
	for _, test := range []struct {
		name, format string
		content      []byte
		want         int64 // a pixel
	}{
		{"baseline", "jpeg", baseline.Bytes(), 6},
		{"progressive", "jpeg", progressive, 18},
		{"no JPEG", "jpeg", nil, 27},
		{"8 bits", "png", small.Bytes(), 12},
		{"16 bits", "png", deep.Bytes(), 19},
		{"unknown", "tiff", nil, 27},
	} {
		if got := (View{}).MemoryOf(test.content, Header{Format: test.format, Width: 10, Height: 10}); got != 100*test.want {
			t.Errorf("%s: %d bytes for 100 pixels, want %d", test.name, got, 100*test.want)
		}
	}
}
