package testenv

import (
	"bytes"
	"image"
	"image/jpeg"
	_ "image/png" // photos are JPEG or PNG
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/image/draw"
)

// A Shot is a JPEG made from a photo: the whole or a part, in its own size or in a camera's.
type Shot struct {
	File    string
	Middle  bool // three fifths of both sides; false: the whole
	Side    int  // length to which the short side is enlarged; 0: none
	Quality int
}

// JPEG returns the encoded image.
func (s Shot) JPEG(tb testing.TB) []byte {
	tb.Helper()
	f, err := os.Open(s.File)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	photo, _, err := image.Decode(f)
	if err != nil {
		tb.Fatal(err)
	}
	part := photo.Bounds()
	if s.Middle {
		part = image.Rect(part.Dx()/5, part.Dy()/5, part.Dx()-part.Dx()/5, part.Dy()-part.Dy()/5)
	}
	size := part.Size()
	if s.Side > 0 {
		size = size.Mul(s.Side).Div(min(size.X, size.Y))
	}
	scaled := image.NewRGBA(image.Rectangle{Max: size})
	draw.ApproxBiLinear.Scale(scaled, scaled.Bounds(), photo, part, draw.Src, nil)
	var out bytes.Buffer
	if err := jpeg.Encode(&out, scaled, &jpeg.Options{Quality: s.Quality}); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// Originals returns twenty photos of many kinds, for tests that measure how much two decoders
// differ.
func Originals(tb testing.TB) []string {
	tb.Helper()
	dir := setUp(tb, ".tools/originals")
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) < 20 {
		tb.Fatalf("%s has %d photos, want 20: %v", dir, len(files), err)
	}
	return files
}
