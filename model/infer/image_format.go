package infer

import (
	"bytes"
	"encoding/binary"
)

// FormatOf returns the image format of b by its first bytes, and whether that is supported.
// Supported are jpeg, png, gif, bmp and webp. The others are named as people write them, such as
// TIFF. The name is empty if b has no image's signature. FormatOf checks only the signature:
// the rest may be broken.
//
// A line of text is never taken for an image, unless it begins with GIF87a, GIF89a,
// FUJIFILMCCD-RAW, %PDF- or <svg.
func FormatOf(b []byte) (name string, supported bool) {
	for _, s := range supportedFormats {
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

// A magic is the signature at the start of a format's files.
type magic struct {
	format string
	start  string
	at     int // offset of more
	more   string
	binary int // if not 0, a control character must come before this byte: letters alone may be a text
}

var supportedFormats = []magic{
	{format: "jpeg", start: "\xff\xd8\xff"},
	{format: "png", start: "\x89PNG\r\n\x1a\n"},
	{format: "gif", start: "GIF87a"},
	{format: "gif", start: "GIF89a"},
	{format: "gif", start: "GIF8", binary: 13}, // any version: the decoder ignores it
	{format: "webp", start: "RIFF", at: 8, more: "WEBP"},
	{format: "bmp", start: "BM", binary: 30},
}

// Raw photos of cameras that are TIFF files come before TIFF.
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

// mediaFormat returns the image format of an ISO media file by its brands. HEIC and AVIF are
// such files, and films, for which it returns "".
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

// isIcon checks an icon's directory, since its signature is too short.
func isIcon(b []byte) bool {
	const head, entry = 6, 16
	if len(b) < head+entry || !bytes.HasPrefix(b, []byte("\x00\x00\x01\x00")) {
		return false
	}
	n := uint32(binary.LittleEndian.Uint16(b[4:]))
	size, at := binary.LittleEndian.Uint32(b[head+8:]), binary.LittleEndian.Uint32(b[head+12:])
	return n > 0 && b[head+3] == 0 && size > 0 && at >= head+entry*n
}
