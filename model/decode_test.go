package model

import (
	"bytes"
	"image"
	"image/jpeg"
	"math"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/image/draw"

	"inceptor/savedmodel"
	"inceptor/testenv"
)

func TestDecodeRatio(t *testing.T) {
	d := &decoder{size: [2]int{299, 200}, fast: true}
	for _, test := range []struct {
		h    Header
		want int
	}{
		{Header{Format: "jpeg", Height: 100, Width: 100}, 1},
		{Header{Format: "jpeg", Height: 299, Width: 200}, 1},
		{Header{Format: "jpeg", Height: 597, Width: 5000}, 1},
		{Header{Format: "jpeg", Height: 598, Width: 400}, 2},
		{Header{Format: "jpeg", Height: 5000, Width: 800}, 4},
		{Header{Format: "jpeg", Height: 6000, Width: 8000}, 8},
		{Header{Format: "png", Height: 6000, Width: 8000}, 1},
	} {
		if got := ratios[d.ratio(test.h)]; got != test.want {
			t.Errorf("%+v: got %d, want %d", test.h, got, test.want)
		}
	}
	d.fast = false
	if got := ratios[d.ratio(Header{Format: "jpeg", Height: 6000, Width: 8000})]; got != 1 {
		t.Errorf("exact: got %d", got)
	}
}

// camera makes a picture as large as a camera's of a photo: enlarged smoothly.
func camera(t testing.TB, file string, times int) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join(testenv.Photos(t), file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	photo, _, err := image.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	size := photo.Bounds().Size()
	large := image.NewRGBA(image.Rect(0, 0, size.X*times, size.Y*times))
	draw.BiLinear.Scale(large, large.Bounds(), photo, photo.Bounds(), draw.Src, nil)
	var out bytes.Buffer
	if err := jpeg.Encode(&out, large, &jpeg.Options{Quality: 90}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// What is decoded fast scores as what is decoded exactly, nearly.
func TestFastDecode(t *testing.T) {
	hubble, err := os.ReadFile(filepath.Join(testenv.Photos(t), "hubble_deep_field.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	exact := testConfig(testenv.Model(t))
	fast := exact
	fast.Decode = decodeFast
	models := []*Manager{open(t, exact), open(t, fast)}
	for name, picture := range map[string][]byte{
		"hubble, 1000×872": hubble,
		"china, 3840×2562": camera(t, "china.jpg", 6),
		"rocket, 1280×854": camera(t, "rocket.jpg", 2),
	} {
		var scores [2]map[int]float64
		for i, m := range models {
			p, err := m.Classify(t.Context(), nil, picture)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			scores[i] = map[int]float64{}
			for _, c := range p.Classes {
				scores[i][c.Index] = float64(c.Score)
			}
		}
		most := 0.0
		for class, s := range scores[0] {
			most = max(most, math.Abs(s-scores[1][class]))
		}
		t.Logf("%s: scores differ by %.4f at most", name, most)
		if most > 0.03 || most == 0 {
			t.Errorf("%s: scores differ by %v", name, most)
		}
	}
}

// BenchmarkDecode decodes a camera's picture of 12 megapixels, and a photo of
// 640 pixels.
func BenchmarkDecode(b *testing.B) {
	openLibrary(b)
	in := defaultSpec().Input
	in.Size = [2]int{299, 299}
	small, err := os.ReadFile(filepath.Join(testenv.Photos(b), "china.jpg"))
	if err != nil {
		b.Fatal(err)
	}
	for name, picture := range map[string][]byte{"640x427": small, "3840x2562": camera(b, "china.jpg", 6)} {
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
