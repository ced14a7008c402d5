package infer

import (
	"errors"
	"strings"
	"testing"
)

func TestFormatOf(t *testing.T) {
	const box = "\x00\x00\x00\x18ftyp"
	for _, c := range []struct {
		name, data string
		want       string
		taken      bool
	}{
		{name: "jpeg", data: "\xff\xd8\xff", want: "jpeg", taken: true},
		{name: "png", data: "\x89PNG\r\n\x1a\n", want: "png", taken: true},
		{name: "gif", data: "GIF89a", want: "gif", taken: true},
		{name: "gif of another version", data: "GIF88a\x10\x00\x10\x00", want: "gif", taken: true},
		{name: "text that begins with GIF8", data: "GIF8-by-name/a.jpg"},
		{name: "webp", data: "RIFF\x04\x00\x00\x00WEBP", want: "webp", taken: true},
		{name: "another RIFF", data: "RIFF\x04\x00\x00\x00WAVE"},
		{name: "bmp", data: "BM\x36\x04\x00\x00", want: "bmp", taken: true},
		{name: "text that begins with BM", data: "BMW/front/picture of a car, red.jpg"},
		{name: "TIFF, little-endian", data: "II*\x00\x08\x00\x00\x00\x0f\x00", want: "TIFF"},
		{name: "TIFF, big-endian", data: "MM\x00*\x00\x00\x00\x08", want: "TIFF"},
		{name: "BigTIFF", data: "II+\x00\x08\x00\x00\x00", want: "TIFF"},
		{name: "CR2", data: "II*\x00\x10\x00\x00\x00CR\x02\x00", want: "CR2"},
		{name: "CR3", data: box + "crx \x00\x00\x00\x01crx isom", want: "CR3"},
		{name: "RAF", data: "FUJIFILMCCD-RAW 0201", want: "RAF"},
		{name: "ORF", data: "IIRO\x08\x00\x00\x00", want: "ORF"},
		{name: "RW2", data: "IIU\x00\x18\x00\x00\x00", want: "RW2"},
		{name: "HEIC", data: box + "heic\x00\x00\x00\x00mif1heic", want: "HEIC"},
		{name: "HEIC, other brand first", data: box + "mif1\x00\x00\x00\x00mif1heic", want: "HEIC"},
		{name: "HEIF", data: box + "mif1\x00\x00\x00\x00mif1miaf", want: "HEIF"},
		{name: "AVIF", data: box + "avif\x00\x00\x00\x00mif1miaf", want: "AVIF"},
		{name: "AVIF, other brand first", data: box + "mif1\x00\x00\x00\x00avifmiaf", want: "AVIF"},
		{name: "AVIF's version is no brand", data: box + "isomavif\x00\x00\x00\x00\x00\x00\x00\x00"},
		{name: "brand behind the box", data: box + "isom\x00\x00\x00\x00isomisomavif"},
		{name: "a film", data: box + "isom\x00\x00\x02\x00isomiso2"},
		{name: "box of no length", data: "\x00\x00\x00\x00ftypavif", want: "AVIF"},
		{name: "JPEG XL", data: "\xff\x0a\xfa\x1f", want: "JPEG XL"},
		{name: "JPEG XL in boxes", data: "\x00\x00\x00\x0cJXL \r\n\x87\n", want: "JPEG XL"},
		{name: "JPEG 2000", data: "\x00\x00\x00\x0cjP  \r\n\x87\n", want: "JPEG 2000"},
		{name: "JPEG 2000 codestream", data: "\xff\x4f\xff\x51\x00", want: "JPEG 2000"},
		{name: "JPEG XR", data: "II\xbc\x01", want: "JPEG XR"},
		{name: "PSD", data: "8BPS\x00\x01", want: "PSD"},
		{name: "OpenEXR", data: "\x76\x2f\x31\x01\x02", want: "OpenEXR"},
		{name: "QOI", data: "qoif\x00\x00\x02\x80\x00\x00\x01\xab\x03\x00", want: "QOI"},
		{name: "text that begins with qoif", data: "qoif files/a.jpg"},
		{name: "ICO", data: "\x00\x00\x01\x00\x01\x00\x10\x10\x00\x00\x01\x00\x20\x00\x68\x04\x00\x00\x16\x00\x00\x00", want: "ICO"},
		{name: "zeros and a one", data: "\x00\x00\x01\x00" + strings.Repeat("\x00", 40)},
		{name: "SVG", data: `<svg xmlns="http://www.w3.org/2000/svg"/>`, want: "SVG"},
		{name: "PDF", data: "%PDF-1.7\n\xff\xd8\xff", want: "PDF"},
		{name: "nothing"},
		{name: "text", data: "hello"},
		{name: "signature not at the start", data: " \xff\xd8\xff"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, taken := FormatOf([]byte(c.data))
			if got != c.want || taken != c.taken {
				t.Errorf("got %q, taken: %v; want %q, %v", got, taken, c.want, c.taken)
			}
			if taken {
				return
			}
			want := ReasonNotAnImage
			if c.want != "" {
				want = ReasonUnsupported
			}
			_, err := ParseHeader([]byte(c.data))
			if bad := new(InputError); !errors.As(err, &bad) || bad.Reason != want || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "WebP") {
				t.Errorf("header: %v, want %s", err, want)
			}
		})
	}
}
