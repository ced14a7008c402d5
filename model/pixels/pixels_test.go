package pixels

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"inceptor/savedmodel"
	"inceptor/testenv"
)

// How much a JPEG's pixels may differ from TensorFlow's, in levels of 255: on average, and at
// most. TensorFlow's DecodeImage uses libjpeg's fast inverse transform. Go uses the accurate
// one, so that those of TensorFlow's accurate transform are much closer.
const (
	jpegMean         = 2.0
	jpegMost         = 25
	accurateJPEGMean = 0.06
	accurateJPEGMost = 3
)

// How much Inception's scores may differ from Python's, for a JPEG and for other formats.
const (
	jpegScores  = 0.04
	exactScores = 1e-4
)

// The photos, in all formats, decode as with TensorFlow, and are refused where it refuses them.
func TestDecodeEqualsTensorFlow(t *testing.T) {
	tf := openTensorFlow(t)
	for _, a := range testenv.Answers(t) {
		if a.Format == "webp" && a.Error != "" {
			continue // alpha and an animation: TestDecodeWebP
		}
		t.Run(filepath.Base(a.File), func(t *testing.T) {
			b, err := os.ReadFile(a.File)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, tf, a.Format, b)
		})
	}
}

// A PNG larger than libpng's limit is refused.
func TestDecodePNGSides(t *testing.T) {
	tf := openTensorFlow(t)
	for _, size := range []image.Point{{1_000_000, 1}, {1_000_001, 1}, {1, 1_000_000}, {1, 1_000_001}} {
		t.Run(size.String(), func(t *testing.T) {
			b := pngOf(t, image.NewGray(image.Rectangle{Max: size}))
			_, ok := tf.picture(b)
			if _, err := (View{}).picture(b, Header{"png", size.X, size.Y}); (err == nil) != ok {
				t.Errorf("got %v, TensorFlow takes it: %v", err, ok)
			}
		})
	}
}

// compare decodes an image with Go and with TensorFlow.
func compare(t *testing.T, tf *tensorFlow, format string, b []byte) {
	t.Helper()
	want, ok := tf.picture(b)
	h := Header{format, want.width, want.height}
	if !ok {
		h.Width, h.Height = 427, 320 // what it was before it was damaged
	}
	got, err := View{}.picture(b, h)
	if !ok {
		if err == nil {
			t.Error("it was decoded, TensorFlow refuses it")
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if got.width != want.width || got.height != want.height {
		t.Fatalf("got %d×%d, want %d×%d", got.width, got.height, want.width, want.height)
	}
	if format != "jpeg" {
		if mean, most, _ := difference(got.pix, want.pix); most > 0 {
			t.Errorf("differs by %.4f on the mean, by %d in one place", mean, most)
		}
		return
	}
	checkJPEG(t, tf, got, want, b)
}

// checkJPEG compares a picture with TensorFlow's, and with that of its accurate transform.
func checkJPEG(t *testing.T, tf *tensorFlow, got, fast picture, b []byte) {
	t.Helper()
	accurate, ok := tf.run(tf.accurate, b)
	if !ok {
		t.Fatal("DecodeJpeg refuses it")
	}
	mean, most, _ := difference(got.pix, fast.pix)
	accurateMean, accurateMost, other := difference(got.pix, accurate.pix)
	t.Logf("%d×%d: mean %.3f, most %d; from the accurate one mean %.4f, most %d, %.2f %% differ",
		got.width, got.height, mean, most, accurateMean, accurateMost, 100*other)
	if mean > jpegMean || most > jpegMost {
		t.Errorf("differs by %.3f on the mean, want at most %v; by %d in one place, want at most %d", mean, jpegMean, most, jpegMost)
	}
	if accurateMean > accurateJPEGMean || accurateMost > accurateJPEGMost {
		t.Errorf("accurate: differs by %.4f on the mean, want at most %v; by %d in one place, want at most %d",
			accurateMean, accurateJPEGMean, accurateMost, accurateJPEGMost)
	}
}

func difference(a, b []byte) (mean float64, most int, other float64) {
	for i := range a {
		d := int(a[i]) - int(b[i])
		d = max(d, -d)
		mean += float64(d)
		most = max(most, d)
		if d > 0 {
			other++
		}
	}
	return mean / float64(len(a)), most, other / float64(len(a))
}

// scene returns a picture with edges, slopes and noise.
func scene(width, height int) *image.NRGBA {
	random := rand.New(rand.NewPCG(uint64(width), uint64(height)))
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			c := color.NRGBA{byte(x * 255 / width), byte(y * 255 / height), byte(random.IntN(256)), 255}
			if (x/5+y/3)%4 == 0 {
				c = color.NRGBA{255, byte(random.IntN(64)), 0, 255}
			}
			img.SetNRGBA(x, y, c)
		}
	}
	return img
}

// Odd and even widths and heights, from one pixel on.
func TestDecodeJPEGSizes(t *testing.T) {
	tf := openTensorFlow(t)
	for width := 1; width <= 20; width++ {
		for _, height := range []int{1, 2, 3, 4, 5, 15, 16, 17, 18} {
			var b bytes.Buffer
			if err := jpeg.Encode(&b, scene(width, height), &jpeg.Options{Quality: 95}); err != nil {
				t.Fatal(err)
			}
			want, ok := tf.run(tf.accurate, b.Bytes())
			got, err := View{}.picture(b.Bytes(), Header{"jpeg", width, height})
			if !ok || err != nil {
				t.Fatalf("%d×%d: %v", width, height, err)
			}
			if mean, most, _ := difference(got.pix, want.pix); most > accurateJPEGMost {
				t.Errorf("%d×%d: differs by %.3f on the mean, by %d at most", width, height, mean, most)
			}
		}
	}
}

// Chroma halved across, halved down and quartered. The last two files declare another layout
// with as many blocks in their frame header: the picture is scrambled, but the same for both
// decoders.
func TestDecodeJPEGSampling(t *testing.T) {
	tf := openTensorFlow(t)
	across, err := os.ReadFile("testdata/4-2-2.jpg") // 64×64, made with Pillow
	if err != nil {
		t.Fatal(err)
	}
	var halved bytes.Buffer
	if err := jpeg.Encode(&halved, scene(64, 64), nil); err != nil {
		t.Fatal(err)
	}
	relaid := func(b []byte, from, to byte) []byte {
		b = bytes.Clone(b)
		at := bytes.Index(b, []byte{0xff, 0xc0}) + 11 // of the first component
		if b[at] != from {
			t.Fatalf("sampling is %#x, want %#x", b[at], from)
		}
		b[at] = to
		return b
	}
	for name, b := range map[string][]byte{
		"4:2:2": across,
		"4:4:0": relaid(across, 0x21, 0x12),
		"4:1:1": relaid(halved.Bytes(), 0x22, 0x41),
	} {
		t.Run(name, func(t *testing.T) { compare(t, tf, "jpeg", b) })
	}
}

// A GIF's first frame may be smaller than the picture, lie anywhere, exceed the screen, and be
// partly transparent.
func TestDecodeGIF(t *testing.T) {
	tf := openTensorFlow(t)
	palette := color.Palette{color.RGBA{200, 10, 10, 255}, color.RGBA{10, 200, 10, 255}, color.RGBA{}, color.RGBA{10, 10, 200, 255}}
	frame := func(r image.Rectangle) *image.Paletted {
		img := image.NewPaletted(r, palette)
		for i := range img.Pix {
			img.Pix[i] = byte(i * i % 4)
		}
		return img
	}
	for name, test := range map[string]struct {
		frames []image.Rectangle
		screen image.Point // 0: as large as it must be
	}{
		"whole":         {frames: []image.Rectangle{image.Rect(0, 0, 9, 7)}},
		"aside":         {frames: []image.Rectangle{image.Rect(2, 1, 9, 7)}},
		"smaller first": {frames: []image.Rectangle{image.Rect(1, 1, 5, 4), image.Rect(0, 0, 12, 8)}},
		"larger screen": {frames: []image.Rectangle{image.Rect(0, 0, 5, 4)}, screen: image.Pt(50, 40)},
		"off screen":    {frames: []image.Rectangle{image.Rect(2, 2, 9, 7)}, screen: image.Pt(3, 3)},
	} {
		t.Run(name, func(t *testing.T) {
			g := &gif.GIF{}
			for _, r := range test.frames {
				g.Image, g.Delay = append(g.Image, frame(r)), append(g.Delay, 0)
				g.Config.Width, g.Config.Height = max(g.Config.Width, r.Max.X), max(g.Config.Height, r.Max.Y)
			}
			var b bytes.Buffer
			if err := gif.EncodeAll(&b, g); err != nil {
				t.Fatal(err)
			}
			if test.screen.X > 0 {
				binary.LittleEndian.PutUint16(b.Bytes()[6:], uint16(test.screen.X))
				binary.LittleEndian.PutUint16(b.Bytes()[8:], uint16(test.screen.Y))
			}
			compare(t, tf, "gif", b.Bytes())
		})
	}
}

// PNG with every kind of pixel that Go's encoder writes.
func TestDecodePNG(t *testing.T) {
	tf := openTensorFlow(t)
	from := scene(13, 11)
	for i := range from.Pix { // some alpha
		if i%4 == 3 {
			from.Pix[i] = byte(i)
		}
	}
	r := from.Bounds()
	for name, to := range map[string]interface {
		image.Image
		Set(x, y int, c color.Color)
	}{
		"NRGBA": image.NewNRGBA(r), "NRGBA64": image.NewNRGBA64(r), "Gray": image.NewGray(r), "Gray16": image.NewGray16(r),
		"Paletted": image.NewPaletted(r, color.Palette{color.NRGBA{255, 0, 0, 128}, color.NRGBA{0, 255, 0, 255}, color.NRGBA{7, 8, 9, 0}}),
	} {
		t.Run(name, func(t *testing.T) {
			for y := range r.Dy() {
				for x := range r.Dx() {
					to.Set(x, y, from.At(x, y))
				}
			}
			var b bytes.Buffer
			if err := png.Encode(&b, to); err != nil {
				t.Fatal(err)
			}
			compare(t, tf, "png", b.Bytes())
		})
	}
}

// BMP: rows from the top, padding, palettes, which are ignored, and sizes that do not fit.
func TestDecodeBMP(t *testing.T) {
	tf := openTensorFlow(t)
	for _, bits := range []int{8, 24, 32} {
		for _, height := range []int32{5, -5} {
			for _, missing := range []int{0, 1, 30, -1} {
				name := fmt.Sprintf("%d bits, height %d, %d bytes missing", bits, height, missing)
				t.Run(name, func(t *testing.T) {
					const width, rows = 7, 5
					stride := (bits/8*width + 3) / 4 * 4
					b := make([]byte, 54+stride*rows)
					copy(b, "BM")
					binary.LittleEndian.PutUint32(b[10:], 54)
					binary.LittleEndian.PutUint32(b[14:], 40)
					binary.LittleEndian.PutUint32(b[18:], width)
					binary.LittleEndian.PutUint32(b[22:], uint32(height))
					binary.LittleEndian.PutUint16(b[26:], 1)
					binary.LittleEndian.PutUint16(b[28:], uint16(bits))
					for i := range b[54:] {
						b[54+i] = byte(i * 37)
					}
					b = append(b, 0)[:len(b)-missing]
					want, ok := tf.picture(b)
					got, err := View{}.picture(b, Header{"bmp", width, rows})
					if ok != (err == nil) {
						t.Fatalf("TensorFlow takes it: %v; here: %v", ok, err)
					}
					if ok && !bytes.Equal(got.pix, want.pix) {
						t.Error("pixels differ")
					}
				})
			}
		}
	}
}

// alike returns the same number for each channel.
func alike(x float32) [3]float32 { return [3]float32{x, x, x} }

func float32At(b []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b)) }

// The scores of a model for an image as it sees it.
func TestAppendEqualsTensorFlow(t *testing.T) {
	tf := openTensorFlow(t)
	inception, err := savedmodel.Load(t.Context(), filepath.Join(testenv.Model(t), "1"), savedmodel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer inception.Close()
	r := Recipe{Frame: Frame{Height: 299, Width: 299}, AlignCorners: true, Scale: alike(1 / 255.0), DType: savedmodel.Float32}
	levels := Recipe{Frame: Frame{Height: 224, Width: 224}, HalfPixelCenters: true, Scale: alike(1), DType: savedmodel.UInt8}
	worst := 0.0
	for _, a := range testenv.Answers(t) {
		if a.Error != "" {
			continue
		}
		name := filepath.Base(a.File)
		b, err := os.ReadFile(a.File)
		if err != nil {
			t.Fatal(err)
		}
		h := Header{a.Format, a.Width, a.Height}
		p, _ := tf.picture(b)
		prefix := []byte("prefix")
		got, err := levels.Append(prefix, b, h)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.HasPrefix(got, prefix) {
			t.Errorf("%s: what was there is gone", name)
		}
		mean, most, _ := difference(got[len(prefix):], tf.input(p, levels))
		limit := 1 // a value at the edge of a level
		if a.Format == "jpeg" {
			limit = jpegMost
		}
		if most > limit || mean > jpegMean {
			t.Errorf("%s as uint8: differs by %.4f on the mean, by %d at most", name, mean, most)
		}

		input, err := r.Append(nil, b, h)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		scores := run(t, inception, input)
		largest := 0.0
		for i, want := range a.Scores {
			largest = max(largest, math.Abs(float64(scores[i])-want))
		}
		tolerance := exactScores
		if a.Format == "jpeg" {
			tolerance = jpegScores
			worst = max(worst, largest)
		}
		t.Logf("%s: %.2g", name, largest)
		if !(largest <= tolerance) {
			t.Errorf("%s: scores differ by %v from Python's, want at most %v", name, largest, tolerance)
		}
	}
	t.Logf("largest difference of a JPEG's score: %.2g", worst)
}

func run(t *testing.T, m *savedmodel.Model, input []byte) []float32 {
	t.Helper()
	in, err := savedmodel.NewTensor(savedmodel.Float32, 1, 299, 299, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	copy(in.Bytes(), input)
	out, err := m.Run(t.Context(), "serving_default", map[string]*savedmodel.Tensor{"images": in})
	if err != nil {
		t.Fatal(err)
	}
	defer out["scores"].Close()
	scores, err := savedmodel.Data[float32](out["scores"])
	if err != nil {
		t.Fatal(err)
	}
	return append([]float32(nil), scores...)
}
