package pixels

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"testing"

	"inceptor/savedmodel"
	"inceptor/testenv"
)

// Append refuses images that do not match their header, and what is no image.
func TestAppendRefuses(t *testing.T) {
	r := Recipe{Frame: Frame{Height: 2, Width: 2}, Scale: alike(1), DType: savedmodel.UInt8}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(testenv.Root(t), ".tools/reference/images", name))
		if err != nil {
			t.Skipf("%v: run `make setup`", err)
		}
		return b
	}
	for format, name := range map[string]string{
		"jpeg": "baseline.jpg", "png": "rgb.png", "bmp": "24-bit.bmp", "webp": "lossy.webp", "gif": "still.gif",
	} {
		whole := read(name)
		if out, err := r.Append(nil, whole, Header{format, 427, 320}); err != nil || len(out) != r.Size() {
			t.Errorf("%s: %d bytes, %v", name, len(out), err)
		}
		for what, test := range map[string]struct {
			image []byte
			h     Header
		}{
			"empty":          {nil, Header{format, 427, 320}},
			"half":           {whole[:len(whole)/2], Header{format, 427, 320}},
			"text":           {[]byte("not an image, but long enough to be one"), Header{format, 427, 320}},
			"no size":        {whole, Header{format, 0, 320}},
			"huge size":      {whole, Header{format, math.MaxInt, math.MaxInt}},
			"unknown format": {whole, Header{"tiff", 427, 320}},
		} {
			before := []byte{1, 2, 3}
			if out, err := r.Append(before, test.image, test.h); err == nil || !bytes.Equal(out, before) {
				t.Errorf("%s, %s: %d bytes, %v", name, what, len(out), err)
			}
		}
		if _, err := r.Append(nil, whole, Header{format, 426, 320}); err == nil {
			t.Errorf("%s: another size than announced is taken", name)
		}
	}
}

// For any bytes Append returns an error or an input of the right size, and does not panic.
func FuzzAppend(f *testing.F) {
	for _, a := range testenv.Answers(f) {
		b, err := os.ReadFile(a.File)
		if err != nil {
			f.Fatal(err)
		}
		if len(b) < 30_000 {
			f.Add(b, a.Format, 427, 320)
		}
	}
	for _, name := range []string{"alpha-lossy.webp", "alpha-lossless.webp"} {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, "webp", webpWidth, webpHeight)
	}
	f.Fuzz(func(t *testing.T, b []byte, format string, width, height int) {
		if width > 1000 || height > 1000 {
			return
		}
		for _, view := range []View{{}, {Upright: true, Background: &[3]byte{1, 2, 3}}} {
			if plan, err := view.Plan(b, Header{format, width, height}); err == nil {
				plan.Size()
			}
			for _, r := range []Recipe{
				{DType: savedmodel.UInt8},
				{Resize: Nearest, Frame: Frame{Fit: Pad}, Layout: ChannelsFirst, DType: savedmodel.Float16},
				{Resize: Bicubic, Frame: Frame{Crop: 0.01}, HalfPixelCenters: true, DType: savedmodel.Int8},
				{Resize: Area, Frame: Frame{Fit: Crop}, Channels: Gray, DType: savedmodel.Float64},
			} {
				r.View, r.Height, r.Width, r.Scale = view, 3, 5, alike(1)
				out, err := r.Append(nil, b, Header{format, width, height})
				if err == nil && len(out) != r.Size() {
					t.Errorf("%d bytes, want %d", len(out), r.Size())
				}
			}
		}
	})
}
