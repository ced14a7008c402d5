package pixels

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

// webpParts are two small pictures with alpha, made with Pillow, in pieces from which the tests
// build other files.
type webpParts struct {
	lossy, lossless webpFile
}

const webpWidth, webpHeight = 37, 29

func readWebPParts(t testing.TB) webpParts {
	t.Helper()
	read := func(name string) webpFile {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parseWebP(b)
		if err != nil || !f.alpha {
			t.Fatalf("%s: alpha %v, %v", name, f.alpha, err)
		}
		return f
	}
	return webpParts{read("alpha-lossy.webp"), read("alpha-lossless.webp")}
}

func riffOf(chunks ...[]byte) []byte {
	b := append([]byte("RIFF\x00\x00\x00\x00WEBP"), slices.Concat(chunks...)...)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-8))
	return b
}

func chunkOf(kind string, parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	b := binary.LittleEndian.AppendUint32([]byte(kind), uint32(len(body)))
	b = append(b, body...)
	return append(b, make([]byte, len(body)%2)...)
}

func vp8x(flags byte, width, height int) []byte {
	b := make([]byte, 10)
	b[0] = flags
	put24(b[4:], width-1)
	put24(b[7:], height-1)
	return chunkOf("VP8X", b)
}

func anmf(x, y, width, height int, chunks ...[]byte) []byte {
	b := make([]byte, 16)
	put24(b, x/2)
	put24(b[3:], y/2)
	put24(b[6:], width-1)
	put24(b[9:], height-1)
	return chunkOf("ANMF", append([][]byte{b}, chunks...)...)
}

// alphaMap returns a chunk of uncompressed alpha. Any bytes are valid, with any filter.
func alphaMap(first byte, n int) []byte {
	random := rand.New(rand.NewPCG(uint64(first), 7))
	b := []byte{first}
	for range n {
		b = append(b, byte(random.Uint32()))
	}
	return chunkOf("ALPH", b)
}

// Every kind of WebP with alpha is laid on white, and an animation shows its first frame in its
// place. TensorFlow gives the expected colours and alpha.
func TestDecodeWebP(t *testing.T) {
	tf := openTensorFlow(t)
	p := readWebPParts(t)
	const w, h, n = webpWidth, webpHeight, webpWidth * webpHeight
	vp8, alph, vp8l := chunkOf("VP8 ", p.lossy.data), chunkOf("ALPH", p.lossy.alph), chunkOf("VP8L", p.lossless.data)
	opaque := bytes.Clone(p.lossless.data)
	opaque[4] &^= 0x10
	anim := chunkOf("ANIM", []byte{10, 20, 30, 40, 0, 0})
	for _, test := range []struct {
		name          string
		file          []byte
		width, height int
		alpha         bool // TensorFlow gives four channels
		bad           bool // it is refused
	}{
		{name: "lossy", file: riffOf(vp8), width: w, height: h},
		{name: "lossy, alpha", file: riffOf(vp8x(webpAlpha, w, h), alph, vp8), width: w, height: h, alpha: true},
		{name: "lossy, alpha that is not announced", file: riffOf(vp8x(0, w, h), alph, vp8), width: w, height: h, alpha: true},
		{name: "lossy, alpha that is not there", file: riffOf(vp8x(webpAlpha, w, h), vp8), width: w, height: h, alpha: true},
		{name: "lossy, alpha plain", file: riffOf(vp8x(webpAlpha, w, h), alphaMap(0x00, n), vp8), width: w, height: h, alpha: true},
		{name: "lossy, alpha filtered across", file: riffOf(vp8x(webpAlpha, w, h), alphaMap(0x04, n), vp8), width: w, height: h, alpha: true},
		{name: "lossy, alpha filtered down", file: riffOf(vp8x(webpAlpha, w, h), alphaMap(0x08, n), vp8), width: w, height: h, alpha: true},
		{name: "lossy, alpha filtered by gradient", file: riffOf(vp8x(webpAlpha, w, h), alphaMap(0x0c, n), vp8), width: w, height: h, alpha: true},
		{name: "lossy, alpha of few levels", file: riffOf(vp8x(webpAlpha, w, h), alphaMap(0x10, n), vp8), width: w, height: h, alpha: true},
		{name: "lossless", file: riffOf(chunkOf("VP8L", opaque)), width: w, height: h},
		{name: "lossless, alpha", file: riffOf(vp8l), width: w, height: h, alpha: true},
		{name: "lossless, alpha, extended", file: riffOf(vp8x(webpAlpha, w, h), chunkOf("ICCP", []byte("odd")), vp8l), width: w, height: h, alpha: true},
		{name: "lossless, alpha that is not announced", file: riffOf(vp8x(0, w, h), vp8l), width: w, height: h, alpha: true},
		{name: "lossless, alpha that is not there", file: riffOf(vp8x(webpAlpha, w, h), chunkOf("VP8L", opaque)), width: w, height: h},
		{name: "lossless, alpha beside it", file: riffOf(vp8x(webpAlpha, w, h), alph, vp8l), width: w, height: h, alpha: true},
		{name: "bytes behind", file: append(riffOf(vp8x(webpAlpha, w, h), alph, vp8), "more"...), width: w, height: h, alpha: true},

		{name: "animation", file: riffOf(vp8x(webpAnimated, w, h), anim, anmf(0, 0, w, h, vp8), anmf(0, 0, w, h, vp8l)), width: w, height: h},
		{name: "animation, alpha", file: riffOf(vp8x(webpAnimated|webpAlpha, w, h), anim, anmf(0, 0, w, h, alph, vp8)), width: w, height: h, alpha: true},
		{name: "animation, lossless", file: riffOf(vp8x(webpAnimated|webpAlpha, w, h), anim, anmf(0, 0, w, h, vp8l)), width: w, height: h, alpha: true},
		{name: "animation, smaller frame", file: riffOf(vp8x(webpAnimated, 50, 40), anim, anmf(8, 4, w, h, vp8), anmf(0, 0, w, h, vp8l)), width: 50, height: 40},
		{name: "animation, smaller frame with alpha", file: riffOf(vp8x(webpAnimated, 50, 40), anim, anmf(12, 10, w, h, alph, vp8)), width: 50, height: 40, alpha: true},
		{name: "animation, smaller lossless frame", file: riffOf(vp8x(webpAnimated, 50, 40), anim, anmf(12, 10, w, h, vp8l)), width: 50, height: 40, alpha: true},
		{name: "animation, other chunks", file: riffOf(vp8x(webpAnimated, w, h), chunkOf("ICCP", []byte("odd")), anim, anmf(0, 0, w, h, vp8, chunkOf("ABCD", nil))), width: w, height: h},

		{name: "alpha too short", file: riffOf(vp8x(webpAlpha, w, h), alphaMap(0, n-1), vp8), width: w, height: h, alpha: true, bad: true},
		{name: "alpha of no bytes", file: riffOf(vp8x(webpAlpha, w, h), chunkOf("ALPH"), vp8), width: w, height: h, alpha: true, bad: true},
		{name: "alpha of an unknown kind", file: riffOf(vp8x(webpAlpha, w, h), alphaMap(0x02, n), vp8), width: w, height: h, alpha: true, bad: true},
		{name: "alpha of an unknown step", file: riffOf(vp8x(webpAlpha, w, h), alphaMap(0x20, n), vp8), width: w, height: h, alpha: true, bad: true},
		{name: "alpha with a reserved bit", file: riffOf(vp8x(webpAlpha, w, h), alphaMap(0x80, n), vp8), width: w, height: h, alpha: true, bad: true},
		{name: "another canvas", file: riffOf(vp8x(webpAlpha, w+1, h), alph, vp8), width: w + 1, height: h, alpha: true, bad: true},
		{name: "no picture", file: riffOf(vp8x(webpAlpha, w, h), alph), width: w, height: h, alpha: true, bad: true},
		{name: "container too long", file: patch(riffOf(vp8), 4, 2), width: w, height: h, bad: true},
		{name: "container of nothing", file: append([]byte("RIFF\x00\x00\x00\x00"), riffOf(vp8)[8:]...), width: w, height: h, bad: true},
		{name: "chunk too long", file: patch(riffOf(vp8x(0, w, h), chunkOf("ICCP", nil), vp8), 34, 9<<8), width: w, height: h, bad: true},
		{name: "picture's chunk too long", file: patch(riffOf(vp8), 16, 2), width: w, height: h, bad: true},
		{name: "animation without a frame", file: riffOf(vp8x(webpAnimated, w, h), anim), width: w, height: h, bad: true},
		{name: "animation, frame too large", file: riffOf(vp8x(webpAnimated, w, h), anim, anmf(2, 0, w, h, vp8)), width: w, height: h, bad: true},
		{name: "animation, empty frame", file: riffOf(vp8x(webpAnimated, w, h), anim, anmf(0, 0, w, h)), width: w, height: h, bad: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked := test.file
			animated := AnimatedWebP(asked)
			if animated { // TensorFlow takes animations with announced alpha only
				asked = bytes.Clone(asked)
				asked[20] |= webpAlpha
			}
			var want picture
			var ok bool
			if test.alpha || animated {
				want, ok = tf.onto(asked, [3]byte{255, 255, 255})
			} else {
				want, ok = tf.picture(asked)
			}
			if ok == test.bad {
				t.Fatalf("TensorFlow takes it: %v", ok)
			}
			got, err := View{}.picture(test.file, Header{"webp", test.width, test.height})
			if test.bad {
				if err == nil {
					t.Error("it was decoded, TensorFlow refuses it")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.width != want.width || got.height != want.height || !bytes.Equal(got.pix, want.pix) {
				mean, most, _ := difference(got.pix, want.pix)
				t.Errorf("%d×%d, want %d×%d; differs by %.4f on the mean, by %d in one place",
					got.width, got.height, want.width, want.height, mean, most)
			}
			plan, err := (View{}).Plan(test.file, Header{"webp", test.width, test.height})
			if err != nil || plan.Alpha != test.alpha {
				t.Errorf("alpha: %v (%v), want %v", plan.Alpha, err, test.alpha)
			}
		})
	}
}

// A WebP of another size than its header says is refused, with and without alpha.
func TestWebPOfOtherSize(t *testing.T) {
	p := readWebPParts(t)
	const w, h = webpWidth, webpHeight
	for name, file := range map[string][]byte{
		"lossy":           riffOf(chunkOf("VP8 ", p.lossy.data)),
		"lossy, alpha":    riffOf(vp8x(webpAlpha, w, h), chunkOf("ALPH", p.lossy.alph), chunkOf("VP8 ", p.lossy.data)),
		"lossless, alpha": riffOf(chunkOf("VP8L", p.lossless.data)),
		"animation":       riffOf(vp8x(webpAnimated, w, h), anmf(0, 0, w, h, chunkOf("VP8 ", p.lossy.data))),
	} {
		for _, size := range [][2]int{{w, h + 1}, {w + 1, h}, {w, h - 1}, {w, 4 * h}} {
			if _, err := (View{}).picture(file, Header{"webp", size[0], size[1]}); err == nil {
				t.Errorf("%s: %v is taken, it is %d×%d", name, size, w, h)
			}
		}
	}
}

// patch adds to a number in a file.
func patch(b []byte, at int, more uint32) []byte {
	binary.LittleEndian.PutUint32(b[at:], binary.LittleEndian.Uint32(b[at:])+more)
	return b
}
