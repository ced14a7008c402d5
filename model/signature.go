package model

import (
	"bytes"
	"encoding/binary"
)

// FormatOf names the image format that b begins like, and tells whether images
// of it are taken: jpeg, png, gif, bmp and webp are. Others are named as people
// write them, such as TIFF. The name is empty if b begins like none. It looks
// at the signature alone: what follows may be broken.
//
// Nothing that is one line of text is an image for it, but for what begins with
// GIF87a, GIF89a, FUJIFILMCCD-RAW, %PDF- or <svg.
func FormatOf(b []byte) (name string, taken bool) {
	for _, s := range takenFormats {
		if s.match(b) {
			return s.format, true
		}
	}
	for _, s := range otherFormats {
		if s.match(b) {
			return s.format, false
		}
	}
	if name := mediaFormat(b); name != "" {
		return name, false
	}
	if isIcon(b) {
		return "ICO", false
	}
	return "", false
}

// A magic is how files of a format begin.
type magic struct {
	format string
	start  string
	at     int // where more of the signature stands
	more   string
	binary int // letters alone may be a text: a control character must stand before this byte
}

var takenFormats = []magic{
	{format: "jpeg", start: "\xff\xd8\xff"},
	{format: "png", start: "\x89PNG\r\n\x1a\n"},
	{format: "gif", start: "GIF87a"},
	{format: "gif", start: "GIF89a"},
	{format: "gif", start: "GIF8", binary: 13}, // of whatever version: the decoder does not mind
	{format: "webp", start: "RIFF", at: 8, more: "WEBP"},
	{format: "bmp", start: "BM", binary: 30},
}

// The raw photos of cameras that are TIFF files come before TIFF.
var otherFormats = []magic{
	{format: "CR2", start: "II*\x00", at: 8, more: "CR"},
	{format: "TIFF", start: "II*\x00"},
	{format: "TIFF", start: "MM\x00*"},
	{format: "TIFF", start: "II+\x00"},
	{format: "TIFF", start: "MM\x00+"},
	{format: "ORF", start: "IIRO", binary: 14},
	{format: "RW2", start: "IIU\x00"},
	{format: "RAF", start: "FUJIFILMCCD-RAW"},
	{format: "JPEG XL", start: "\xff\x0a"},
	{format: "JPEG XL", start: "\x00\x00\x00\x0cJXL \r\n\x87\n"},
	{format: "JPEG 2000", start: "\x00\x00\x00\x0cjP  \r\n\x87\n"},
	{format: "JPEG 2000", start: "\xff\x4f\xff\x51"},
	{format: "JPEG XR", start: "II\xbc\x01"},
	{format: "PSD", start: "8BPS", at: 4, more: "\x00"},
	{format: "OpenEXR", start: "\x76\x2f\x31\x01"},
	{format: "QOI", start: "qoif", binary: 14},
	{format: "PDF", start: "%PDF-"},
	{format: "SVG", start: "<svg"},
}

func (s magic) match(b []byte) bool {
	if !bytes.HasPrefix(b, []byte(s.start)) {
		return false
	}
	if s.more != "" && !bytes.HasPrefix(b[min(s.at, len(b)):], []byte(s.more)) {
		return false
	}
	isControl := func(r rune) bool { return r < ' ' && r != '\t' && r != '\r' && r != '\n' }
	return s.binary == 0 || bytes.ContainsFunc(b[:min(s.binary, len(b))], isControl)
}

// mediaFormat reads the brands of an ISO media file, the container of HEIC and
// AVIF and of films. Films are no images.
func mediaFormat(b []byte) string {
	if len(b) < 12 || string(b[4:8]) != "ftyp" {
		return ""
	}
	brands := b[8:min(int64(len(b)), max(12, int64(binary.BigEndian.Uint32(b))), 512)]
	for i := 0; i+4 <= len(brands); i += 4 {
		if i == 4 {
			continue // a version
		}
		switch string(brands[i : i+4]) {
		case "heic", "heix", "heim", "heis", "hevc", "hevx", "hevm", "hevs":
			return "HEIC"
		case "avif", "avis":
			return "AVIF"
		case "crx ":
			return "CR3"
		}
	}
	switch string(brands[:4]) {
	case "mif1", "msf1", "mif2":
		return "HEIF"
	}
	return ""
}

// isIcon looks at an icon's directory: its signature alone is too short.
func isIcon(b []byte) bool {
	const head, entry = 6, 16
	if len(b) < head+entry || !bytes.HasPrefix(b, []byte("\x00\x00\x01\x00")) {
		return false
	}
	n := uint32(binary.LittleEndian.Uint16(b[4:]))
	size, at := binary.LittleEndian.Uint32(b[head+8:]), binary.LittleEndian.Uint32(b[head+12:])
	return n > 0 && b[head+3] == 0 && size > 0 && at >= head+entry*n
}
