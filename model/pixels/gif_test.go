package pixels

import (
	"bytes"
	"image/gif"
	"strings"
	"testing"
)

// gifOf returns a GIF of these blocks, with two colours and a screen for any frame.
func gifOf(blocks ...string) []byte {
	return []byte("GIF89a\xff\xff\xff\xff\x80\x00\x00\x00\x00\x00\xff\xff\xff" + strings.Join(blocks, "") + ";")
}

// gifFrame returns a frame of one row of this width, with the data of one pixel.
func gifFrame(width byte) string {
	return "\x2c\x00\x00\x00\x00" + string([]byte{width}) + "\x00\x01\x00\x00\x02\x02\x44\x01\x00"
}

// The size is checked of the frame that Go decodes; otherwise the file is refused.
func TestFrameSizeIsTheDecodedFrame(t *testing.T) {
	whole := gifFrame(1)
	for _, test := range []struct {
		name string
		file []byte
		ok   bool
	}{
		{"no extension", gifOf(whole), true},
		{"graphic control", gifOf("\x21\xf9\x04\x00\x00\x00\x00\x00", whole), true},
		{"comment", gifOf("\x21\xfe\x03abc\x01d\x00", whole), true},
		{"plain text", gifOf("\x21\x01\x0c", strings.Repeat("x", 12), "\x02yy\x00", whole), true},
		{"application of 11 bytes", gifOf("\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00", whole), true},
		{"application of 10 bytes", gifOf("\x21\xff\x0a0123456789\x00", whole), true},

		// Go takes 13 bytes for the text's form, and the height 44 for the
		// beginning of a frame of 1×1.
		{"plain text of 5 bytes", gifOf("\x21\x01\x05xxxxx\x00",
			"\x2c\x00\x00\x00\x00\x01\x00\x2c\x00\x00\x02\x0a\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00\x00"), false},
		// Go takes the first frame for a block of the extension.
		{"application of 0 bytes", gifOf("\x21\xff\x00", gifFrame(9), strings.Repeat("x", 30), "\x00", whole), false},
		// TensorFlow does so too, where Go does not.
		{"comment whose first block is empty", gifOf("\x21\xfe\x00", whole), false},
		{"extension past the end", gifOf("\x21\xfe\xff", whole), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			width, height, err := frameSize(test.file)
			if (err == nil) != test.ok {
				t.Errorf("got %d×%d, %v", width, height, err)
			}
			if err != nil {
				return
			}
			img, err := gif.Decode(bytes.NewReader(test.file))
			if err != nil {
				t.Fatal(err)
			}
			if size := img.Bounds().Size(); size.X != width || size.Y != height {
				t.Errorf("frame is said to be %d×%d, decoded is %v", width, height, size)
			}
		})
	}
}
