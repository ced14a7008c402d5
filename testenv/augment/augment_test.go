package augment

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pattern is a photo with a colour of its own for each pixel.
func pattern() Photo {
	m := image.NewRGBA(image.Rect(0, 0, 90, 60))
	for i := range m.Pix {
		m.Pix[i] = uint8(i * i / 7)
		if i%4 == 3 {
			m.Pix[i] = 255
		}
	}
	return Photo{"pattern.png", m}
}

func TestWays(t *testing.T) {
	const side = 40
	made := map[[sha256.Size]byte]string{}
	for _, w := range Ways {
		t.Run(w.Name, func(t *testing.T) {
			m := w.Picture(pattern(), side)
			if m.Bounds() != image.Rect(0, 0, side, side) {
				t.Fatalf("the picture has the bounds %v", m.Bounds())
			}
			for i := 3; i < len(m.Pix); i += 4 {
				if m.Pix[i] != 255 {
					t.Fatalf("pixel %d is transparent", i/4)
				}
			}
			sum := sha256.Sum256(m.Pix)
			if other := made[sum]; other != "" {
				t.Errorf("same picture as %q", other)
			}
			made[sum] = w.Name
			if !bytes.Equal(m.Pix, w.Picture(pattern(), side).Pix) {
				t.Error("another picture the second time")
			}
		})
	}
}

func TestGeometry(t *testing.T) {
	// Red at the top left, blue at the top right, the rest black.
	m := image.NewRGBA(image.Rect(0, 0, 100, 100))
	for i := 3; i < len(m.Pix); i += 4 {
		m.Pix[i] = 255
	}
	for y := range 50 {
		for x := range 50 {
			m.SetRGBA(x, y, color.RGBA{255, 0, 0, 255})
			m.SetRGBA(50+x, y, color.RGBA{0, 0, 255, 255})
		}
	}
	red, blue, black := color.RGBA{255, 0, 0, 255}, color.RGBA{0, 0, 255, 255}, color.RGBA{0, 0, 0, 255}
	corners := map[string][4]color.RGBA{ // clockwise from the top left
		"whole":              {red, blue, black, black},
		"mirrored":           {blue, red, black, black},
		"turned by 90°":      {black, red, blue, black},
		"bottom right, 60 %": {red, blue, black, black},
		"top right, 40 %":    {blue, blue, blue, blue},
	}
	for _, w := range Ways {
		want, ok := corners[w.Name]
		if !ok {
			continue
		}
		delete(corners, w.Name)
		p := w.Picture(Photo{Image: m}, 100)
		got := [4]color.RGBA{p.RGBAAt(3, 3), p.RGBAAt(96, 3), p.RGBAAt(96, 96), p.RGBAAt(3, 96)}
		if got != want {
			t.Errorf("%s: %v, want %v", w.Name, got, want)
		}
	}
	if len(corners) > 0 {
		t.Errorf("no such ways: %v", corners)
	}
}

func TestAppend(t *testing.T) {
	m := image.NewRGBA(image.Rect(0, 0, 1, 2))
	copy(m.Pix, []uint8{0, 1, 255, 255, 3, 4, 5, 255})
	got := Append([]float32{9}, m, 2, -1)
	want := []float32{9, -1, 1, 509, 5, 7, 9}
	for i := range want {
		if len(got) != len(want) || got[i] != want[i] {
			t.Fatalf("%v, want %v", got, want)
		}
	}
}

func TestRead(t *testing.T) {
	var b bytes.Buffer
	if err := png.Encode(&b, pattern().Image); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.png"), filepath.Join(dir, "bad.png")
	if err := errors.Join(os.WriteFile(good, b.Bytes(), 0o600), os.WriteFile(bad, []byte("no picture"), 0o600)); err != nil {
		t.Fatal(err)
	}
	photos, err := Read([]string{good})
	if err != nil || len(photos) != 1 || photos[0].Name != "good.png" || photos[0].Image.Bounds() != pattern().Image.Bounds() {
		t.Errorf("%d photos, %v", len(photos), err)
	}
	if _, err := Read([]string{good, bad}); err == nil || !strings.Contains(err.Error(), bad) {
		t.Errorf("a file that is no picture: %v", err)
	}
}
