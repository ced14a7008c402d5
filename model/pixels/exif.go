package pixels

import (
	"bytes"
	"encoding/binary"
)

// An orientation is EXIF's: how to turn a stored picture. 1 is upright, 2 to 4 are mirrored or
// upside down, and from 5 the rows are columns.
type orientation int

const upright orientation = 1

// orientationOf reads the orientation from an image's EXIF; upright if that cannot be read.
func orientationOf(b []byte, format string) orientation {
	switch format {
	case "jpeg":
		return exifOrientation(jpegExif(b))
	case "png":
		return exifOrientation(pngExif(b))
	case "webp":
		return exifOrientation(webpExif(b))
	}
	return upright
}

// turned reports whether width and height are swapped.
func (o orientation) turned() bool { return o >= 5 }

// walk returns where the pixels of a stored picture of w×h go when it is upright: the first
// to base, the next one of its row right positions on, the next one of its column down.
func (o orientation) walk(w, h int) (base, right, down int) {
	switch o {
	case 2:
		return w - 1, -1, w
	case 3:
		return w*h - 1, -1, -w
	case 4:
		return w * (h - 1), 1, -w
	case 5:
		return 0, h, 1
	case 6:
		return h - 1, h, -1
	case 7:
		return w*h - 1, -h, -1
	case 8:
		return h * (w - 1), -h, 1
	}
	return 0, 1, w
}

const exifStart = "Exif\x00\x00"

// exifOrientation reads the tag from the first directory of EXIF's TIFF.
func exifOrientation(b []byte) orientation {
	const orientationTag, short, entry = 0x0112, 3, 12
	b = bytes.TrimPrefix(b, []byte(exifStart))
	if len(b) < 8 {
		return upright
	}
	var order binary.ByteOrder
	switch string(b[:4]) {
	case "II*\x00":
		order = binary.LittleEndian
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return upright
	}
	at := int64(order.Uint32(b[4:]))
	if at+2 > int64(len(b)) {
		return upright
	}
	b = b[at:]
	n := int(order.Uint16(b))
	for b = b[2:]; n > 0 && len(b) >= entry; n, b = n-1, b[entry:] {
		if order.Uint16(b) != orientationTag {
			continue
		}
		if o := orientation(order.Uint16(b[8:])); order.Uint16(b[2:]) == short && o >= 1 && o <= 8 {
			return o
		}
		break
	}
	return upright
}

// jpegExif returns the first APP1 segment with EXIF before the picture; nil: none.
func jpegExif(b []byte) []byte {
	const app1, sos, eoi = 0xe1, 0xda, 0xd9
	for b = b[min(2, len(b)):]; ; {
		i := bytes.IndexByte(b, 0xff)
		if i < 0 || i+4 > len(b) {
			return nil
		}
		b = b[i+1:]
		marker := b[0]
		if marker == 0xff || marker <= 0x01 || marker >= 0xd0 && marker <= 0xd7 {
			continue // a fill byte, or a marker without a segment
		}
		n := int(binary.BigEndian.Uint16(b[1:]))
		if n < 2 && isSkipped(marker) {
			n = 2 // the decoder too continues after the length
		}
		if marker == sos || marker == eoi || n < 2 || n > len(b)-1 {
			return nil
		}
		segment := b[3 : 1+n]
		if marker == app1 && bytes.HasPrefix(segment, []byte(exifStart)) {
			return segment
		}
		b = b[1+n:]
	}
}

func pngExif(b []byte) (exif []byte) {
	pngChunks(b, func(kind string, body []byte) bool {
		if kind == "eXIf" {
			exif = body
		}
		return exif == nil && kind != "IEND"
	})
	return exif
}

// pngChunks calls next for each complete chunk of a PNG, until that returns false.
func pngChunks(b []byte, next func(kind string, body []byte) bool) {
	const signature, frame = 8, 12 // a chunk's length, type and checksum
	for b = b[min(signature, len(b)):]; len(b) >= frame; {
		n := int64(binary.BigEndian.Uint32(b))
		if n > int64(len(b)-frame) || !next(string(b[4:8]), b[8:8+n]) {
			return
		}
		b = b[frame+n:]
	}
}
