package modeltest

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"testing"
)

// Picture returns a black and white pattern.
func Picture(w, h int) *image.Paletted {
	m := image.NewPaletted(image.Rect(0, 0, w, h), color.Palette{color.Black, color.White})
	for i := range m.Pix {
		m.Pix[i] = byte(i*i>>3) & 1
	}
	return m
}

// JPEG returns Picture as a JPEG file.
func JPEG(t testing.TB, w, h int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, Picture(w, h), nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// PNG returns Picture as a PNG file.
func PNG(t testing.TB, w, h int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, Picture(w, h)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
