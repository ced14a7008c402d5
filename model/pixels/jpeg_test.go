package pixels

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/jpeg"
	"os"
	"path/filepath"
	"testing"

	"inceptor/testenv"
)

// withoutSegment removes the first segment with a marker.
func withoutSegment(t testing.TB, b []byte, marker byte) []byte {
	t.Helper()
	at := bytes.Index(b, []byte{0xff, marker})
	if at < 0 {
		t.Fatalf("no segment %#x", marker)
	}
	n := 2 + int(binary.BigEndian.Uint16(b[at+2:]))
	return bytes.Join([][]byte{b[:at], b[at+n:]}, nil)
}

// behindStart inserts bytes after a JPEG's first marker.
func behindStart(b []byte, more string) []byte {
	return bytes.Join([][]byte{b[:2], []byte(more), b[2:]}, nil)
}

// changed replaces bytes after a segment's marker and length.
func changed(t testing.TB, b []byte, marker byte, at int, to ...byte) []byte {
	t.Helper()
	start := bytes.Index(b, []byte{0xff, marker})
	if start < 0 {
		t.Fatalf("no segment %#x", marker)
	}
	b = bytes.Clone(b)
	copy(b[start+4+at:], to)
	return b
}

// Headers that libjpeg accepts and Go's decoder refuses, or the other way round.
func TestDecodeJPEGHeader(t *testing.T) {
	tf := openTensorFlow(t)
	encode := func(img image.Image) []byte {
		var b bytes.Buffer
		if err := jpeg.Encode(&b, img, nil); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	grey := image.NewGray(image.Rect(0, 0, 24, 16))
	for i := range grey.Pix {
		grey.Pix[i] = byte(i / 2)
	}
	whole := encode(scene(40, 30))
	cmyk, err := os.ReadFile(filepath.Join(testenv.Root(t), ".tools/reference/images/cmyk.jpg"))
	if err != nil {
		t.Skipf("%v: run `make setup`", err)
	}
	const frame, tables, huffman, scan = 0xc0, 0xdb, 0xc4, 0xda
	for _, test := range []struct {
		name          string
		file          []byte
		width, height int
		bad           bool
	}{
		{name: "whole", file: whole},
		{name: "Motion-JPEG: no Huffman tables", file: withoutSegment(t, whole, huffman)},
		{name: "comment of length 0", file: behindStart(whole, "\xff\xfe\x00\x00")},
		{name: "comment of length 1, and bytes", file: behindStart(whole, "\xff\xfe\x00\x01some more")},
		{name: "EXIF of length 0", file: behindStart(whole, "\xff\xe1\x00\x00")},
		{name: "DNL of length 0", file: behindStart(whole, "\xff\xdc\x00\x00")},
		{name: "DNL", file: behindStart(whole, "\xff\xdc\x00\x04\x00\x1e")},
		{name: "bytes between segments", file: behindStart(whole, "\xff\xfe\x00\x02some more\x00")},
		{name: "fill bytes", file: behindStart(whole, "\xff\xff\xff\xff\xfe\x00\x02")},
		{name: "markers without a segment", file: behindStart(whole, "\xff\x01\xff\xd3")},
		{name: "four colours without Adobe", file: withoutSegment(t, cmyk, 0xee), width: 427, height: 320},
		{name: "grey, of blocks said to be twice as large", file: changed(t, encode(grey), frame, 7, 0x22), width: 24, height: 16},
		{name: "grey without Huffman tables", file: withoutSegment(t, encode(grey), huffman), width: 24, height: 16},

		{name: "no quantization tables", file: withoutSegment(t, whole, tables), bad: true},
		{name: "table of the chroma under another number", file: changed(t, whole, tables, 65, 2), bad: true},
		{name: "component with a table that is not there", file: changed(t, whole, frame, 11, 3), bad: true},
		{name: "Huffman table with impossible values", file: changed(t, whole, huffman, 17, 16), bad: true},
		{name: "quantization table of length 1", file: behindStart(whole, "\xff\xdb\x00\x01"), bad: true},
		{name: "scan of length 0", file: changed(t, whole, scan, -2, 0, 0), bad: true},
		{name: "unknown segment", file: behindStart(whole, "\xff\x02\x00\x02"), bad: true},
		{name: "second start", file: behindStart(whole, "\xff\xd8\xff\xd8"), bad: true},
		{name: "segment past the end", file: behindStart(whole[:200], "\xff\xfe\xff\xff"), bad: true},
		{name: "ends in the header", file: whole[:100], bad: true},
		{name: "ends in a length", file: append(bytes.Clone(whole[:2]), 0xff, 0xfe, 0), bad: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.width == 0 {
				test.width, test.height = 40, 30
			}
			want, ok := tf.run(tf.accurate, test.file)
			if ok == test.bad {
				t.Fatalf("TensorFlow takes it: %v", ok)
			}
			got, err := View{}.picture(test.file, Header{"jpeg", test.width, test.height})
			if (err == nil) != ok {
				t.Fatalf("got %v, TensorFlow takes it: %v", err, ok)
			}
			if !ok {
				return
			}
			if mean, most, _ := difference(got.pix, want.pix); mean > accurateJPEGMean || most > accurateJPEGMost {
				t.Errorf("differs by %.3f on the mean, by %d in one place", mean, most)
			}
		})
	}
}
