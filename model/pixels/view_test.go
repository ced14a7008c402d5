package pixels

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"strings"
	"testing"
)

// tiff returns EXIF with one directory, which holds another tag and an orientation.
func tiff(order binary.AppendByteOrder, kind, value uint16) []byte {
	b := []byte("II*\x00")
	if order.String() == "BigEndian" {
		b = []byte("MM\x00*")
	}
	b = order.AppendUint32(b, 8)
	b = order.AppendUint16(b, 2)
	for _, v := range [][3]uint16{{0x010f, 2, 0}, {0x0112, kind, value}} {
		b = order.AppendUint16(order.AppendUint16(b, v[0]), v[1])
		b = order.AppendUint32(b, 1)
		b = order.AppendUint16(order.AppendUint16(b, v[2]), 0)
	}
	return order.AppendUint32(b, 0)
}

func jpegSegment(marker byte, body ...[]byte) []byte {
	b := bytes.Join(body, nil)
	return append(binary.BigEndian.AppendUint16([]byte{0xff, marker}, uint16(2+len(b))), b...)
}

func pngChunk(kind string, body []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	b = append(append(b, kind...), body...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:]))
}

// afterHeader inserts a chunk after a PNG's IHDR. The other functions insert it before IHDR or
// before IEND.
func afterHeader(b, chunk []byte) []byte  { return bytes.Join([][]byte{b[:33], chunk, b[33:]}, nil) }
func beforeHeader(b, chunk []byte) []byte { return bytes.Join([][]byte{b[:8], chunk, b[8:]}, nil) }
func beforeEnd(b, chunk []byte) []byte {
	end := len(b) - 12
	return bytes.Join([][]byte{b[:end], chunk, b[end:]}, nil)
}

func TestOrientationOf(t *testing.T) {
	little, big := tiff(binary.LittleEndian, 3, 6), tiff(binary.BigEndian, 3, 8)
	exif := []byte(exifStart)
	soi, app0, sos := []byte{0xff, 0xd8}, jpegSegment(0xe0, []byte("JFIF\x00")), []byte{0xff, 0xda, 0, 2}
	xmp := jpegSegment(0xe1, []byte("http://ns.adobe.com/xap/1.0/\x00"))
	whole := pngOf(t, image.NewNRGBA(image.Rect(0, 0, 1, 1)))
	beyond := bytes.Clone(little)
	binary.LittleEndian.PutUint32(beyond[4:], 1<<32-1)
	vp8 := chunkOf("VP8 ", nil)
	for _, test := range []struct {
		name, format string
		file         []byte
		want         orientation
	}{
		{"jpeg", "jpeg", bytes.Join([][]byte{soi, app0, jpegSegment(0xe1, exif, little), sos}, nil), 6},
		{"jpeg, big endian", "jpeg", bytes.Join([][]byte{soi, jpegSegment(0xe1, exif, big), sos}, nil), 8},
		{"jpeg, fill bytes", "jpeg", bytes.Join([][]byte{soi, {0xff, 0xff}, jpegSegment(0xe1, exif, little), sos}, nil), 6},
		{"jpeg, XMP first", "jpeg", bytes.Join([][]byte{soi, xmp, jpegSegment(0xe1, exif, big), sos}, nil), 8},
		{"jpeg, comment of length 0 first", "jpeg", bytes.Join([][]byte{soi, {0xff, 0xfe, 0, 0}, jpegSegment(0xe1, exif, big), sos}, nil), 8},
		{"jpeg, EXIF of length 1 first", "jpeg", bytes.Join([][]byte{soi, {0xff, 0xe1, 0, 1}, jpegSegment(0xe1, exif, big), sos}, nil), 8},
		{"jpeg, DNL of length 0 first", "jpeg", bytes.Join([][]byte{soi, {0xff, 0xdc, 0, 0}, jpegSegment(0xe1, exif, big), sos}, nil), 8},
		{"jpeg, table of length 0 first", "jpeg", bytes.Join([][]byte{soi, {0xff, 0xdb, 0, 0}, jpegSegment(0xe1, exif, big), sos}, nil), 1},
		{"jpeg, none", "jpeg", bytes.Join([][]byte{soi, app0, sos}, nil), 1},
		{"jpeg, behind the scan", "jpeg", bytes.Join([][]byte{soi, sos, jpegSegment(0xe1, exif, big)}, nil), 1},
		{"jpeg, segment too long", "jpeg", append(bytes.Join([][]byte{soi, jpegSegment(0xe1, exif)}, nil)[:10], 0xff), 1},
		{"jpeg, of no bytes", "jpeg", nil, 1},
		{"value 0", "jpeg", bytes.Join([][]byte{soi, jpegSegment(0xe1, exif, tiff(binary.LittleEndian, 3, 0))}, nil), 1},
		{"value 9", "jpeg", bytes.Join([][]byte{soi, jpegSegment(0xe1, exif, tiff(binary.LittleEndian, 3, 9))}, nil), 1},
		{"another type", "jpeg", bytes.Join([][]byte{soi, jpegSegment(0xe1, exif, tiff(binary.LittleEndian, 2, 6))}, nil), 1},
		{"directory beyond", "jpeg", bytes.Join([][]byte{soi, jpegSegment(0xe1, exif, beyond)}, nil), 1},
		{"directory cut short", "jpeg", bytes.Join([][]byte{soi, jpegSegment(0xe1, exif, little[:30])}, nil), 1},
		{"byte order unknown", "jpeg", bytes.Join([][]byte{soi, jpegSegment(0xe1, exif, []byte("XX"), little[2:])}, nil), 1},
		{"png", "png", afterHeader(whole, pngChunk("eXIf", big)), 8},
		{"png, behind the picture", "png", beforeEnd(whole, pngChunk("eXIf", little)), 6},
		{"png, none", "png", whole, 1},
		{"png, chunk too long", "png", append(whole[:33:33], 0x7f, 0xff, 0xff, 0xff, 'e', 'X', 'I', 'f', 0, 0, 0, 0), 1},
		{"webp", "webp", riffOf(vp8x(webpHasExif, 1, 1), vp8, chunkOf("EXIF", little)), 6},
		{"webp, with JPEG's start", "webp", riffOf(vp8x(webpHasExif, 1, 1), vp8, chunkOf("EXIF", exif, big)), 8},
		{"webp, not announced", "webp", riffOf(vp8x(0, 1, 1), vp8, chunkOf("EXIF", little)), 1},
		{"webp, simple", "webp", riffOf(vp8, chunkOf("EXIF", little)), 1},
		{"gif", "gif", []byte("GIF89a"), 1},
	} {
		if got := orientationOf(test.file, test.format); got != test.want {
			t.Errorf("%s: got %d, want %d", test.name, got, test.want)
		}
	}
}

func pngOf(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Every orientation of a picture of three columns and two rows, as EXIF's
// specification and Pillow's exif_transpose define it.
func TestUpright(t *testing.T) {
	stored := image.NewGray(image.Rect(0, 0, 3, 2))
	copy(stored.Pix, "ABCDEF")
	withAlpha := image.NewNRGBA(stored.Rect)
	for i, v := range stored.Pix {
		copy(withAlpha.Pix[4*i:], []byte{v, v, v, 255})
	}
	withAlpha.Pix[3] = 254 // so that Go writes it: 65 on 65 stays 65
	for o, want := range map[uint16]string{
		1: "ABC DEF", 2: "CBA FED", 3: "FED CBA", 4: "DEF ABC",
		5: "AD BE CF", 6: "DA EB FC", 7: "FC EB DA", 8: "CF BE AD",
	} {
		chunk := pngChunk("eXIf", tiff(binary.BigEndian, 3, o))
		for name, view := range map[string]View{"": {Upright: true}, ", alpha": {Upright: true, Background: &[3]byte{'A', 'A', 'A'}}} {
			file := afterHeader(pngOf(t, stored), chunk)
			if view.Background != nil {
				file = afterHeader(pngOf(t, withAlpha), chunk)
			}
			p, err := view.picture(file, Header{"png", 3, 2})
			if err != nil {
				t.Fatal(err)
			}
			var rows []string
			for y := range p.height {
				row := ""
				for x := range p.width {
					row += string(p.row(y)[3*x+1])
				}
				rows = append(rows, row)
			}
			if got := strings.Join(rows, " "); got != want {
				t.Errorf("orientation %d%s: got %s, want %s", o, name, got, want)
			}
			p, err = View{}.picture(file, Header{"png", 3, 2})
			if err != nil || p.width != 3 || string(p.pix[0])+string(p.pix[3])+string(p.pix[6]) != "ABC" {
				t.Errorf("orientation %d%s, as stored: %v, %v", o, name, p, err)
			}
		}
	}
}

// A photo's EXIF turns the decoded picture, in every format with EXIF.
func TestUprightFormats(t *testing.T) {
	const w, h = 20, 10
	var photo bytes.Buffer
	if err := jpeg.Encode(&photo, scene(w, h), nil); err != nil {
		t.Fatal(err)
	}
	exif := tiff(binary.LittleEndian, 3, 6)
	parts := readWebPParts(t)
	frame := anmf(2, 4, webpWidth, webpHeight, chunkOf("ALPH", parts.lossy.alph), chunkOf("VP8 ", parts.lossy.data))
	for format, test := range map[string]struct {
		file          []byte
		width, height int
	}{
		"jpeg":      {bytes.Join([][]byte{{0xff, 0xd8}, jpegSegment(0xe1, []byte(exifStart), exif), photo.Bytes()[2:]}, nil), w, h},
		"png":       {afterHeader(pngOf(t, scene(w, h)), pngChunk("eXIf", exif)), w, h},
		"webp":      {riffOf(vp8x(webpHasExif, webpWidth, webpHeight), chunkOf("VP8 ", parts.lossy.data), chunkOf("EXIF", exif)), webpWidth, webpHeight},
		"webp anim": {riffOf(vp8x(webpHasExif|webpAnimated, 50, 40), frame, chunkOf("EXIF", exif)), 50, 40},
	} {
		header := Header{strings.Fields(format)[0], test.width, test.height}
		stored, err := View{}.picture(test.file, header)
		if err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		got, err := View{Upright: true}.picture(test.file, header)
		if err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		if got.width != test.height || got.height != test.width {
			t.Fatalf("%s: got %d×%d", format, got.width, got.height)
		}
		for y := range got.height {
			for x := range got.width { // a quarter to the right: the lowest row is the first column
				from := stored.row(stored.height - 1 - x)[3*y:][:3]
				if !bytes.Equal(got.row(y)[3*x:][:3], from) {
					t.Fatalf("%s: %v at %d,%d, want %v", format, got.row(y)[3*x:][:3], x, y, from)
				}
			}
		}
	}
}

// pngRaw returns a PNG with any kind of pixel, and chunks before them. All bytes of the rows
// differ.
func pngRaw(t testing.TB, w, h, bits, colour, rowBytes int, chunks ...[]byte) []byte {
	t.Helper()
	var data bytes.Buffer
	z := zlib.NewWriter(&data)
	for y := range h {
		row := make([]byte, 1+rowBytes)
		for x := range rowBytes {
			row[1+x] = byte((y*rowBytes + x) * 37)
		}
		if _, err := z.Write(row); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	header := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(w)), uint32(h))
	b := append([]byte("\x89PNG\r\n\x1a\n"), pngChunk("IHDR", append(header, byte(bits), byte(colour), 0, 0, 0))...)
	b = append(b, bytes.Join(chunks, nil)...)
	b = append(b, pngChunk("IDAT", data.Bytes())...)
	return append(b, pngChunk("IEND", nil)...)
}

// Transparent pixels of every kind of PNG lie on the background. TensorFlow gives the expected
// colours and alpha.
func TestBackground(t *testing.T) {
	tf := openTensorFlow(t)
	const w, h = 16, 5
	palette := pngChunk("PLTE", bytes.Repeat([]byte{200, 30, 90, 10, 220, 40, 5, 60, 250, 7}, 300)[:768])
	paletted := image.NewPaletted(image.Rect(0, 0, w, h), color.Palette{color.NRGBA{255, 0, 0, 128}, color.NRGBA{0, 255, 0, 255}, color.NRGBA{7, 8, 9, 0}})
	for i := range paletted.Pix {
		paletted.Pix[i] = byte(i % 3)
	}
	parts := readWebPParts(t)
	const wide, high = webpWidth, webpHeight
	for _, test := range []struct {
		name   string
		file   []byte
		h      Header
		opaque bool
	}{
		{name: "grey and alpha", file: pngRaw(t, w, h, 8, 4, 2*w)},
		{name: "grey and alpha, 16 bits", file: pngRaw(t, w, h, 16, 4, 4*w)},
		{name: "colour and alpha", file: pngRaw(t, w, h, 8, 6, 4*w)},
		{name: "colour and alpha, 16 bits", file: pngRaw(t, w, h, 16, 6, 8*w)},
		{name: "palette with alpha", file: pngRaw(t, w, h, 8, 3, w, palette, pngChunk("tRNS", bytes.Repeat([]byte{0, 128, 255}, 50)))},
		{name: "palette of Go's", file: pngOf(t, paletted)},
		{name: "palette, 4 bits", file: pngRaw(t, w, h, 4, 3, w/2, pngChunk("PLTE", bytes.Repeat([]byte{9, 99, 199}, 16)), pngChunk("tRNS", []byte{7, 77}))},
		{name: "transparent grey", file: pngRaw(t, w, h, 8, 0, w, pngChunk("tRNS", []byte{0, 37}))},
		{name: "transparent grey, 16 bits", file: pngRaw(t, w, h, 16, 0, 2*w, pngChunk("tRNS", []byte{0, 37}))},
		{name: "transparent grey, 2 bits", file: pngRaw(t, w, h, 2, 0, w/4, pngChunk("tRNS", []byte{0, 1}))},
		{name: "transparent colour", file: pngRaw(t, w, h, 8, 2, 3*w, pngChunk("tRNS", []byte{0, 0, 0, 37, 0, 74}))},
		{name: "transparent colour, 16 bits", file: pngRaw(t, w, h, 16, 2, 6*w, pngChunk("tRNS", []byte{0, 37, 74, 111, 148, 185}))},
		{name: "unknown chunk before the header", file: beforeHeader(pngRaw(t, w, h, 8, 6, 4*w), pngChunk("abCd", nil))},
		{name: "opaque, unknown chunk before the header", file: beforeHeader(pngRaw(t, w, h, 8, 2, 3*w), pngChunk("abCd", []byte("\xff\xff\xff\xff"))), opaque: true},
		{name: "opaque", file: pngRaw(t, w, h, 8, 2, 3*w), opaque: true},
		{name: "lossy WebP", file: riffOf(vp8x(webpAlpha, wide, high), chunkOf("ALPH", parts.lossy.alph), chunkOf("VP8 ", parts.lossy.data)), h: Header{"webp", wide, high}},
		{name: "lossless WebP", file: riffOf(chunkOf("VP8L", parts.lossless.data)), h: Header{"webp", wide, high}},
	} {
		t.Run(test.name, func(t *testing.T) {
			header := test.h
			if header.Format == "" {
				header = Header{"png", w, h}
			}
			for _, background := range [][3]byte{{255, 255, 255}, {}, {0x30, 0x80, 0xc0}} {
				view := View{Background: &background}
				if plan, err := view.Plan(test.file, header); err != nil || plan.Alpha == test.opaque {
					t.Errorf("alpha: %v, %v", plan.Alpha, err)
				}
				want, ok := tf.onto(test.file, background)
				got, err := view.picture(test.file, header)
				if !ok || err != nil {
					t.Fatalf("TensorFlow takes it: %v; here: %v", ok, err)
				}
				if !bytes.Equal(got.pix, want.pix) {
					mean, most, _ := difference(got.pix, want.pix)
					t.Errorf("on %v: differs by %.3f on the mean, by %d in one place", background, mean, most)
				}
			}
		})
	}
}

// Buffers that do not fit are refused before anything is written.
func TestComposeRefuses(t *testing.T) {
	plan, err := View{}.Plan(nil, Header{"png", 2, 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ to, from, channels int }{{12, 11, 3}, {11, 12, 3}, {12, 12, 4}, {12, 4, 1}} {
		if err := plan.Compose(make([]byte, test.to), make([]byte, test.from), test.channels); err == nil {
			t.Errorf("%+v is taken", test)
		}
	}
}

// BenchmarkCompose turns a photo of 12 megapixels.
func BenchmarkCompose(b *testing.B) {
	const w, h = 4000, 3000
	from, to := make([]byte, 3*w*h), make([]byte, 3*w*h)
	for _, o := range []orientation{3, 6} {
		p := Plan{canvas: image.Pt(w, h), frame: image.Rect(0, 0, w, h), orientation: o}
		b.Run(string('0'+rune(o)), func(b *testing.B) {
			for b.Loop() {
				if err := p.Compose(to, from, 3); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
