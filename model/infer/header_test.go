package infer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image/gif"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"inceptor/model/internal/modeltest"
)

func TestParseHeader(t *testing.T) {
	const px = 1 << 20
	for _, c := range []struct {
		name   string
		data   []byte
		want   Header
		reason string
	}{
		{name: "jpeg", data: modeltest.JPEG(t, 40, 30), want: Header{"jpeg", 40, 30, 1, 1200, 0}},
		{name: "jpeg, fill bytes and EXIF", data: jpegWith("\xff\xff\xff\xe1\x00\x08\xff\xc0\xff\xda\x00\x00", sof(0xc2, 7, 9), sos), want: Header{"jpeg", 7, 9, 1, 63, 0}},
		{name: "jpeg, arithmetic", data: jpegWith(sof(0xc9, 7, 9), sos), want: Header{"jpeg", 7, 9, 1, 63, 0}},
		{name: "jpeg, 60 scans", data: jpegWith(sof(0xc2, 100, 100), strings.Repeat(sos+"\x01\xff\x00\x02", 60)), want: Header{"jpeg", 100, 100, 1, 10000, 0}},
		{name: "jpeg, 101 scans", data: jpegWith(sof(0xc2, 1, 1), strings.Repeat(sos, 101)), reason: ReasonTooComplex},
		{name: "jpeg, 90 scans of 25 MP", data: jpegWith(sof(0xc2, 5000, 5000), strings.Repeat(sos, 90)), reason: ReasonTooComplex},
		{name: "jpeg, huge", data: jpegWith(sof(0xc0, 65535, 65535), sos), want: Header{"jpeg", 65535, 65535, 1, 65535 * 65535, 0}},
		{name: "jpeg, height 0", data: jpegWith(sof(0xc0, 5, 0), sos), reason: ReasonBadHeader},
		{name: "jpeg, no frame header", data: jpegWith("\xff\xd9"), reason: ReasonBadHeader},
		{name: "jpeg, scan first", data: jpegWith(sos, sof(0xc0, 1, 1)), reason: ReasonBadHeader},
		{name: "jpeg, comment of length 0", data: jpegWith("\xff\xfe\x00\x00", sof(0xc0, 1, 1), sos), want: Header{"jpeg", 1, 1, 1, 1, 0}},
		{name: "jpeg, application's segment of length 1", data: jpegWith("\xff\xe0\x00\x01", sof(0xc0, 1, 1), sos), want: Header{"jpeg", 1, 1, 1, 1, 0}},
		{name: "jpeg, table of length 1", data: jpegWith("\xff\xdb\x00\x01", sof(0xc0, 1, 1), sos), reason: ReasonBadHeader},
		{name: "jpeg, segment past the end", data: jpegWith("\xff\xe0\xff\xff"), reason: ReasonBadHeader},
		{name: "jpeg, short frame header", data: jpegWith("\xff\xc0\x00\x05\x08\x00\x01"+"\x00\x01\x01", sos), reason: ReasonBadHeader},
		{name: "jpeg, second SOI", data: jpegWith("\xff\xd8", sof(0xc0, 1, 1), sos), reason: ReasonBadHeader},
		{name: "png", data: modeltest.PNG(t, 40, 30), want: Header{"png", 40, 30, 1, 1200, 0}},
		{name: "png, huge", data: pngWith(60000, 60000), want: Header{"png", 60000, 60000, 1, 3600000000, 0}},
		{name: "png, most", data: pngWith(1<<31-1, 1<<31-1), want: Header{"png", 1<<31 - 1, 1<<31 - 1, 1, (1<<31 - 1) * (1<<31 - 1), 0}},
		{name: "png, width 0", data: pngWith(0, 1), reason: ReasonBadHeader},
		{name: "png, width negative", data: pngWith(1<<31, 1), reason: ReasonBadHeader},
		{name: "png, texts", data: pngWith(1, 1, chunk("zTXt", 900), chunk("iTXt", 900)), want: Header{"png", 1, 1, 1, 1, 0}},
		{name: "png, text bomb", data: pngWith(1, 1, bytes.Repeat(chunk("zTXt", 7800), 9)), reason: ReasonTooComplex},
		{name: "png, text bomb after IEND", data: pngWith(1, 1, chunk("IEND", 0), bytes.Repeat(chunk("zTXt", 7800), 9)), want: Header{"png", 1, 1, 1, 1, 0}},
		{name: "png, text that is not there", data: pngWith(1, 1, declared("tEXt", 0x7ffffff0)), reason: ReasonUndecodable},
		{name: "png, text after the data that is not there", data: pngWith(1, 1, chunk("IDAT", 9), declared("zTXt", 0x7ffffff0)), reason: ReasonUndecodable},
		{name: "png, chunk whose checksum is cut off", data: pngWith(1, 1, declared("abCd", 5)), reason: ReasonUndecodable},
		{name: "png, chunk of 4 GiB", data: pngWith(1, 1, declared("IDAT", 1<<32-1)), reason: ReasonUndecodable},
		{name: "png, text after IEND that is not there", data: pngWith(1, 1, chunk("IEND", 0), declared("tEXt", 0x7ffffff0)), want: Header{"png", 1, 1, 1, 1, 0}},
		{name: "png, unknown chunk first", data: pngAfter(chunk("fAKE", 3)), want: Header{"png", 1, 1, 1, 1, 0}},
		{name: "png, unknown critical chunk first", data: pngAfter(chunk("FAKE", 3)), reason: ReasonBadHeader},
		{name: "png, unknown chunk of 2 GiB first", data: pngAfter(declared("fAKE", 0x7ffffff0)), reason: ReasonBadHeader},
		{name: "png, IEND first", data: pngAfter(chunk("IEND", 0)), reason: ReasonBadHeader},
		{name: "png, IHDR of 14 bytes", data: append([]byte("\x89PNG\r\n\x1a\n"), chunk("IHDR", 14)...), reason: ReasonBadHeader},
		{name: "png, first chunk another", data: append([]byte("\x89PNG\r\n\x1a\n"), chunk("tEXt", 30)...), reason: ReasonBadHeader},
		{name: "png, signature only", data: []byte("\x89PNG\r\n\x1a\n"), reason: ReasonBadHeader},
		{name: "gif", data: gifImage(t, 1, 40, 30), want: Header{"gif", 40, 30, 1, 2400, 0}},
		{name: "gif, frames", data: gifImage(t, 5, 40, 30), want: Header{"gif", 40, 30, 5, 6 * 1200, 0}},
		{name: "gif, canvas does not count", data: gifWith(65535, 65535, frame(3, 4)), want: Header{"gif", 3, 4, 1, 24, 0}},
		{name: "gif, widest and highest", data: gifWith(1, 1, frame(65535, 1), frame(1, 65535)), want: Header{"gif", 65535, 65535, 2, 65535*65535 + 2*65535, 0}},
		{name: "gif, extension whose first block is empty", data: gifWith(1, 1, "\x21\xfe\x00\x02xx\x00", frame(2, 2)), want: Header{"gif", 2, 2, 1, 8, 0}},
		{name: "gif, frames behind what looks like the end", data: gifWith(1, 1, "\x21\xfe\x00", frame(1, 1), ";", strings.Repeat("\x00", 30), frame(9, 9)), want: Header{"gif", 9, 9, 1, 162, 0}},
		{name: "gif, no frame", data: gifWith(10, 10), reason: ReasonBadHeader},
		{name: "gif, frame of 0", data: gifWith(10, 10, frame(0, 5)), reason: ReasonBadHeader},
		{name: "gif, rubbish after a frame", data: gifWith(10, 10, frame(2, 2), "\x99"), want: Header{"gif", 2, 2, 1, 8, 0}},
		{name: "gif, rubbish", data: gifWith(10, 10, "\x99", frame(2, 2)), reason: ReasonBadHeader},
		{name: "gif, ends in a table", data: gifWith(10, 10)[:14], reason: ReasonBadHeader},
		{name: "gif, frame bomb", data: gifWith(1, 1, strings.Repeat(frame(1, 1), 10001)), reason: ReasonTooComplex},
		{name: "gif, extension bomb", data: gifWith(1, 1, "\x21\xfe"+strings.Repeat("\x01x", px)+"\x00", frame(1, 1)), reason: ReasonTooComplex},
		{name: "bmp", data: bmpImage(7, 5, 24), want: Header{"bmp", 7, 5, 1, 35, 0}},
		{name: "bmp, from the top", data: bmpImage(7, -5, 32), want: Header{"bmp", 7, 5, 1, 35, 0}},
		{name: "bmp, lowest height", data: bmpImage(1, -1<<31, 8), reason: ReasonUndecodable},
		{name: "bmp, pixels end before the file", data: append(bmpImage(7, 5, 24), 0), reason: ReasonUndecodable},
		{name: "bmp, pixels end behind the file", data: bmpImage(7, 5, 24)[:100], reason: ReasonUndecodable},
		{name: "bmp, pixels begin before the file", data: patch(bmpImage(7, 5, 24), 10, "\x00\x00\x00\x80"), reason: ReasonUndecodable},
		{name: "bmp, pixels are all there is", data: patch(bmpImage(64, 32, 32)[:64*32*4], 10, "\x00"), want: Header{"bmp", 64, 32, 1, 2048, 0}},
		{name: "bmp, header of no length", data: patch(bmpImage(7, 5, 24), 14, "\x00"), want: Header{"bmp", 7, 5, 1, 35, 0}},
		{name: "bmp, 31 bits are three bytes", data: patch(bmpImage(7, 5, 24), 28, "\x1f"), want: Header{"bmp", 7, 5, 1, 35, 0}},
		{name: "bmp, no width", data: bmpImage(0, 5, 24), reason: ReasonBadHeader},
		{name: "bmp, negative width", data: bmpImage(-7, 5, 24), reason: ReasonBadHeader},
		{name: "bmp, 16 bits", data: bmpImage(7, 5, 16), reason: ReasonBadHeader},
		{name: "bmp, core header", data: append([]byte("BM\x1e\x00\x00\x00\x00\x00\x00\x00\x1a\x00\x00\x00\x0c\x00\x00\x00"), make([]byte, 30)...), reason: ReasonBadHeader},
		{name: "bmp, short", data: []byte("BM\x00"), reason: ReasonBadHeader},
		{name: "webp, VP8", data: webpWith("VP8 ", "\x30\x01\x00\x9d\x01\x2a\x28\x40\x1e\x00"), want: Header{"webp", 40, 30, 1, 1200, 0}},
		{name: "webp, VP8 inter frame", data: webpWith("VP8 ", "\x31\x01\x00\x9d\x01\x2a\x28\x40\x1e\x00"), reason: ReasonBadHeader},
		{name: "webp, VP8 start code", data: webpWith("VP8 ", "\x30\x01\x00\x9d\x01\x2b\x28\x40\x1e\x00"), reason: ReasonBadHeader},
		{name: "webp, VP8L", data: webpWith("VP8L", "\x2f\x27\x40\x07\x00"), want: Header{"webp", 40, 30, 1, 1200, 0}},
		{name: "webp, VP8L signature", data: webpWith("VP8L", "\x2e\x27\x40\x07\x00"), reason: ReasonBadHeader},
		{name: "webp, VP8X", data: webpWith("VP8X", "\x10\x00\x00\x00\xff\xff\xff\xff\xff\xff"), want: Header{"webp", 1 << 24, 1 << 24, 1, 1 << 48, 0}},
		{name: "webp, animated", data: webpWith("VP8X", "\x02\x00\x00\x00\x07\x00\x00\x05\x00\x00"), want: Header{"webp", 8, 6, 1, 48, 0}},
		{name: "webp, VP8X of another size", data: webpWith("VP8X", "\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), reason: ReasonBadHeader},
		{name: "webp, other chunk", data: webpWith("ICCP", "0123456789"), reason: ReasonBadHeader},
		{name: "webp, container only", data: []byte("RIFF\x04\x00\x00\x00WEBP"), reason: ReasonBadHeader},
		{name: "empty", data: nil, reason: ReasonNotAnImage},
		{name: "RIFF of another kind", data: []byte("RIFF\x04\x00\x00\x00WAVEfmt "), reason: ReasonNotAnImage},
		{name: "text", data: []byte("hello"), reason: ReasonNotAnImage},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseHeader(c.data)
			got.Bytes = 0 // see TestHeaderBytes
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
			reason := ""
			if bad := new(InputError); errors.As(err, &bad) {
				reason = bad.Reason
			} else if err != nil {
				t.Errorf("error is a %T: %v", err, err)
			}
			if reason != c.reason {
				t.Errorf("reason %q (%v), want %q", reason, err, c.reason)
			}
		})
	}
}

// A truncated header gives an error or the same Header, never another.
func TestParseHeaderTruncated(t *testing.T) {
	for name, whole := range map[string][]byte{
		"jpeg": modeltest.JPEG(t, 40, 30), "png": modeltest.PNG(t, 40, 30), "gif": gifImage(t, 1, 40, 30),
		"bmp": bmpImage(40, 30, 24), "webp": webpWith("VP8 ", "\x30\x01\x00\x9d\x01\x2a\x28\x40\x1e\x00"),
	} {
		want, err := ParseHeader(whole)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i := range whole {
			if got, err := ParseHeader(whole[:i]); err == nil && got != want {
				t.Errorf("%s: %d of %d bytes: %+v, want %+v", name, i, len(whole), got, want)
			}
		}
	}
}

func TestParseHeaderAllocatesNothing(t *testing.T) {
	b := modeltest.JPEG(t, 64, 64)
	if n := testing.AllocsPerRun(100, func() { _, _ = ParseHeader(b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add(modeltest.JPEG(f, 8, 8))
	f.Add(modeltest.PNG(f, 8, 8))
	f.Add(gifImage(f, 2, 8, 8))
	f.Add(bmpImage(8, 8, 24))
	f.Add(webpWith("VP8L", "\x2f\x27\x40\x07\x00"))
	f.Add(webpWith("VP8X", "\x10\x00\x00\x00\xff\xff\xff\xff\xff\xff"))
	f.Add(pngWith(1, 1, chunk("zTXt", 900)))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err != nil {
			if !errors.As(err, new(*InputError)) || h != (Header{}) {
				t.Fatalf("%+v, %T: %v", h, err, err)
			}
			return
		}
		if h.Width <= 0 || h.Height <= 0 || h.Frames <= 0 || h.Format == "" || h.Pixels < int64(h.Width)*int64(h.Height) {
			t.Fatalf("%+v", h)
		}
	})
}

func BenchmarkParseHeader(b *testing.B) {
	data := modeltest.JPEG(b, 640, 480)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := ParseHeader(data); err != nil {
			b.Fatal(err)
		}
	}
}

func gifImage(t testing.TB, frames, w, h int) []byte {
	t.Helper()
	g := &gif.GIF{}
	for range frames {
		g.Image, g.Delay = append(g.Image, modeltest.Picture(w, h)), append(g.Delay, 1)
	}
	var b bytes.Buffer
	if err := gif.EncodeAll(&b, g); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const sos = "\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"

func sof(marker byte, w, h uint16) string {
	return string([]byte{0xff, marker, 0, 11, 8, byte(h >> 8), byte(h), byte(w >> 8), byte(w), 1, 1, 0x11, 0})
}

func jpegWith(segments ...string) []byte {
	return []byte("\xff\xd8" + strings.Join(segments, ""))
}

func chunk(kind string, n int) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(n))
	b = append(b, kind...)
	b = append(b, make([]byte, n)...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:]))
}

// declared returns a chunk that declares n bytes, and has eight.
func declared(kind string, n uint32) []byte {
	return append(binary.BigEndian.AppendUint32(nil, n), kind+"\x00\x00\x00\x00\x00\x00\x00\x00"...)
}

func pngWith(w, h uint32, chunks ...[]byte) []byte {
	ihdr := chunk("IHDR", 13)
	binary.BigEndian.PutUint32(ihdr[8:], w)
	binary.BigEndian.PutUint32(ihdr[12:], h)
	return append([]byte("\x89PNG\r\n\x1a\n"+string(ihdr)), bytes.Join(chunks, nil)...)
}

// pngAfter returns a PNG with a chunk before its IHDR.
func pngAfter(first []byte) []byte {
	b := pngWith(1, 1)
	return slices.Concat(b[:8], first, b[8:])
}

func frame(w, h uint16) string {
	return string([]byte{0x2c, 0, 0, 0, 0, byte(w), byte(w >> 8), byte(h), byte(h >> 8), 0, 2, 2, 0x44, 1, 0})
}

func gifWith(w, h uint16, blocks ...string) []byte {
	return append([]byte{'G', 'I', 'F', '8', '9', 'a', byte(w), byte(w >> 8), byte(h), byte(h >> 8), 0x80, 0, 0,
		0, 0, 0, 255, 255, 255}, strings.Join(blocks, "")+";"...)
}

// bmpImage returns a BMP with as many bytes as its header says, up to a million.
func bmpImage(w, h int32, bits uint16) []byte {
	b := append([]byte("BM"), make([]byte, 8)...)
	for _, v := range []uint32{54, 40, uint32(w), uint32(h), 1 | uint32(bits)<<16, 0, 0, 0, 0, 0, 0} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	row := (int64(w)*int64(bits/8) + 3) / 4 * 4
	return append(b, make([]byte, min(1e6, max(row*int64(h), -row*int64(h))))...)
}

func patch(b []byte, at int, with string) []byte {
	copy(b[at:], with)
	return b
}

func webpWith(kind, data string) []byte {
	b := []byte("RIFF\x00\x00\x00\x00WEBP" + kind)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = append(b, data...)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-8))
	return b
}
