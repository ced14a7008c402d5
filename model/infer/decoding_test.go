package infer

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"

	"inceptor/savedmodel"
)

// resized returns a JPEG with another size in its header. The decoder fills up with grey.
func resized(t testing.TB, file string, w, h uint16) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte("\xff\xc2"))
	binary.BigEndian.PutUint16(b[at+5:], h)
	binary.BigEndian.PutUint16(b[at+7:], w)
	return b
}

func encodeWith(t testing.TB, encode func(*bytes.Buffer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := encode(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Decoding needs no more memory than Header.Bytes, and never more than worstPixel.
func TestDecodeMemory(t *testing.T) {
	const w, h = 2400, 1800
	rect := image.Rect(0, 0, w, h)
	bmp := slices.Concat(bmpImage(w, h, 24)[:54], make([]byte, 3*w*h))
	for _, c := range []struct {
		name  string
		image []byte
		each  float64 // bytes a pixel by the header
	}{
		{"baseline JPEG", encodeWith(t, func(b *bytes.Buffer) error {
			return jpeg.Encode(b, image.NewYCbCr(rect, image.YCbCrSubsampleRatio420), nil)
		}), 6},
		{"progressive JPEG, 4:2:0", resized(t, "progressive-420.jpg", w, h), 6},
		{"progressive JPEG, 4:4:4", resized(t, "progressive-444.jpg", w, h), 9},
		{"progressive JPEG, four colours", resized(t, "progressive-cmyk.jpg", w, h), 11},
		{"PNG, 8 bits", encodeWith(t, func(b *bytes.Buffer) error { return png.Encode(b, image.NewNRGBA(rect)) }), 7},
		{"PNG, 16 bits", encodeWith(t, func(b *bytes.Buffer) error { return png.Encode(b, image.NewNRGBA64(rect)) }), 7},
		{"GIF", gifImage(t, 1, w, h), 7},
		{"BMP", bmp, 6},
	} {
		child := startDecodeChild(t, byThisPackage, 8<<30, 64e6)
		d, ok := child.decode(c.image)
		if err := child.close(); !ok || err != nil || d.Reason != "" {
			t.Errorf("%s: %s, %v", c.name, d.Error, err)
			continue
		}
		each := float64(d.Header.Bytes) / (w * h)
		t.Logf("%s: %.1f bytes a pixel by the header, %.1f measured", c.name, each, float64(d.Peak-int64(len(c.image)))/(w*h))
		if each != c.each {
			t.Errorf("%s: %v bytes a pixel by the header, want %v", c.name, each, c.each)
		}
		if most := d.Header.Bytes + int64(len(c.image)) + 8<<20; d.Peak > most {
			t.Errorf("%s: the process grew by %d MB, want %d at most", c.name, d.Peak>>20, most>>20)
		}
		if each > worstPixel {
			t.Errorf("%s: %v bytes a pixel, over worstPixel", c.name, each)
		}
	}
}

// filled returns a JPEG with a single scan of n bytes.
func filled(b []byte, n int) []byte {
	at := bytes.Index(b, []byte("\xff\xda"))
	at += 2 + int(binary.BigEndian.Uint16(b[at+2:]))
	return slices.Concat(b[:at], make([]byte, n), []byte("\xff\xd9"))
}

// With Go's decoders no image allocates more than it has acquired.
func TestDecodeMemoryInGo(t *testing.T) {
	const w, h = 1200, 900
	rect := image.Rect(0, 0, w, h)
	transparent := image.NewNRGBA64(rect)
	transparent.Pix[0] = 1
	encodePNG := func(img image.Image) []byte {
		return encodeWith(t, func(b *bytes.Buffer) error { return png.Encode(b, img) })
	}
	in := defaultSpec().Input
	in.Size, in.Orientation, in.Background = [2]int{9, 9}, "exif", "white"
	how, _ := in.preprocessing(evidence{})
	decode := decodeInGo(how.recipe(savedmodel.Float32))
	d := NewDecodeLimits(1e9)
	for _, c := range []struct {
		name  string
		image []byte
	}{
		{"progressive JPEG, 4:4:4", filled(resized(t, "progressive-444.jpg", w, h), w*h)},
		{"progressive JPEG, four colours", filled(resized(t, "progressive-cmyk.jpg", w, h), w*h)},
		{"PNG, 16 bits and alpha", encodePNG(transparent)},
		{"PNG of one row", encodePNG(image.NewNRGBA64(image.Rect(0, 0, 1_000_000, 1)))},
		{"GIF", gifImage(t, 1, w, h)},
	} {
		header, err := ParseHeader(c.image)
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err = decode(t.Context(), c.image, header)
		runtime.ReadMemStats(&after)
		size, took := int64(header.Width)*int64(header.Height), int64(after.TotalAlloc-before.TotalAlloc)
		t.Logf("%s: %.1f bytes a pixel", c.name, float64(took)/float64(size))
		if most := d.need(c.image, header, goPixel) + 4<<20; err != nil || took > most {
			t.Errorf("%s: it takes %d bytes, has acquired %d, %v", c.name, took, most, err)
		}
		if header.Bytes = 1; d.need(nil, header, goPixel) != goPixel*size {
			t.Errorf("%s: it acquires %d bytes", c.name, d.need(nil, header, goPixel))
		}
	}
}

func TestCoefficientBytes(t *testing.T) {
	for _, c := range []struct {
		name       string
		components string
		want       int64
	}{
		{"grey", "\x01\x11\x00", 2},
		{"4:4:4", "\x01\x11\x00\x02\x11\x01\x03\x11\x01", 6},
		{"4:2:0", "\x01\x22\x00\x02\x11\x01\x03\x11\x01", 3},
		{"4:1:1", "\x01\x41\x00\x02\x11\x01\x03\x11\x01", 3},
		{"four colours", "\x01\x11\x00\x02\x11\x00\x03\x11\x00\x04\x11\x00", 8},
		{"no sampling", "\x01\x00\x00", 0},
		{"half a component", "\x01\x11\x00\x02", 2},
		{"none", "", 0},
	} {
		if got := coefficientBytes([]byte(c.components)); got != c.want {
			t.Errorf("%s: %d bytes a pixel, want %d", c.name, got, c.want)
		}
	}
}

// The decoder keeps scans of single components until it has all, as for a progressive JPEG.
func TestHeaderBytes(t *testing.T) {
	three := "\xff\xc0\x00\x11\x08\x00\x64\x00\x64\x03\x01\x11\x00\x02\x11\x01\x03\x11\x01"
	for _, c := range []struct {
		name string
		data []byte
		want int64
	}{
		{"one scan", jpegWith(three, "\xff\xda\x00\x0c\x03\x01\x00\x02\x11\x03\x11\x00\x3f\x00"), 6e4},
		{"a scan for each component", jpegWith(three, sos, sos, sos), 9e4},
		{"texts", pngWith(100, 100, chunk("zTXt", 1000)), 7e4 + 1000*maxDeflate},
		{"frames", gifWith(1, 1, frame(100, 100), frame(100, 100)), 6e4 + 2e4},
		{"the largest", pngWith(1<<31-1, 1<<31-1), 7 << 50},
	} {
		h, err := ParseHeader(c.data)
		if err != nil || h.Bytes != c.want {
			t.Errorf("%s: %d bytes (%v), want %d", c.name, h.Bytes, err, c.want)
		}
	}
}

// Images that are decoded at the same time have acquired their bytes. An image that needs more
// than the limit is decoded alone.
func TestDecodeLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDecodeLimits(1)
		half, large := d.need(nil, Header{Bytes: d.maxBytes/2 + 1}, 0), d.need(nil, Header{Bytes: 1 << 50}, 0)
		if huge := d.need(nil, Header{Width: 1<<31 - 1, Height: 1<<31 - 1}, goPixel); huge != d.maxBytes {
			t.Errorf("the largest image, decoded in Go, needs %d bytes of %d", huge, d.maxBytes)
		}
		if large != d.maxBytes {
			t.Errorf("the largest image needs %d bytes of %d", large, d.maxBytes)
		}
		d.slots = make(chan struct{}, 3) // whatever processors there are
		begun := make(chan int64, 3)
		for _, need := range []int64{half, half, large} {
			go func() {
				if d.acquire(t.Context(), need) == nil {
					begun <- need
				}
			}()
			synctest.Wait()
		}
		for _, want := range []int64{half, half, large} {
			synctest.Wait()
			if len(begun) != 1 {
				t.Fatalf("%d are decoded at once, want 1", len(begun))
			}
			if got := <-begun; got != want {
				t.Errorf("%d bytes are being decoded, want %d", got, want)
			}
			d.release(want)
		}
	})
}
