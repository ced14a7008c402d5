package pixels

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"slices"
	"sync"
)

// decodeJPEG rewrites the header for Go's decoder, and decodes with that.
func decodeJPEG(b []byte, h Header) (picture, error) {
	f, err := readJPEG(b)
	if err != nil {
		return picture{}, err
	}
	samples := rgb
	if f.plainCMYK {
		samples = func(img image.Image) (picture, error) {
			if img, ok := img.(*image.CMYK); ok {
				for i, v := range img.Pix {
					img.Pix[i] = 255 - v
				}
			}
			return rgb(img)
		}
	}
	return decodeWith(f.file(), h, jpeg.DecodeConfig, jpeg.Decode, samples)
}

// A jpegFile is a JPEG with a header that Go's decoder accepts where libjpeg's is more
// lenient: without segments shorter than their length and bytes between segments, and with
// the tables that Motion-JPEG omits.
type jpegFile struct {
	header []byte
	scans  []byte // unchanged, from the first one to the end of the file

	plainCMYK  bool // four colours, not inverted as Adobe stores them
	sequential bool
	components []jpegComponent
	tables     [4]bool // quantization tables that are there
	badTables  [4]bool // Huffman tables for differences with values of more than 15 bits
	adobe      bool
}

type jpegComponent struct{ id, table byte }

func (f *jpegFile) file() []byte {
	b := []byte{0xff, 0xd8}
	if f.sequential {
		b = append(b, standardTables()...) // the file's own follow, and replace them
	}
	if f.plainCMYK {
		b = append(b, "\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"...)
	}
	return slices.Concat(b, f.header, f.scans)
}

// standardTables returns a segment with the typical Huffman tables of the JPEG standard, which
// Go's encoder uses.
var standardTables = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewRGBA(image.Rect(0, 0, 1, 1)), nil); err != nil {
		panic(err) // a write to a buffer cannot fail
	}
	at := bytes.Index(b.Bytes(), []byte{0xff, 0xc4})
	n := int(binary.BigEndian.Uint16(b.Bytes()[at+2:]))
	return b.Bytes()[at : at+2+n]
})

// readJPEG reads the segments before the first scan, as libjpeg does.
func readJPEG(b []byte) (f jpegFile, err error) {
	const sos = 0xda
	for at := 2; ; {
		i := bytes.IndexByte(b[min(at, len(b)):], 0xff)
		if i < 0 || at+i+4 > len(b) {
			return f, io.ErrUnexpectedEOF
		}
		start := at + i
		at = start + 2
		marker := b[start+1]
		switch {
		case marker == 0xff: // a fill byte: the next one may be the marker
			at--
			continue
		case marker <= 0x01, marker >= 0xd0 && marker <= 0xd7: // without a segment
			continue
		}
		n := int(binary.BigEndian.Uint16(b[at:]))
		skipped := isSkipped(marker)
		if n < 2 && skipped {
			at += 2
			continue
		}
		if n < 2 {
			return f, fmt.Errorf("segment %#02x has length %d", marker, n)
		}
		if at+n > len(b) {
			return f, io.ErrUnexpectedEOF
		}
		body := b[at+2 : at+n]
		at += n
		if marker == sos {
			f.scans = b[start:]
			f.plainCMYK = len(f.components) == 4 && !f.adobe
			return f, f.checkTables(body)
		}
		f.segment(marker, body)
		if !skipped || marker == 0xe0 || marker == 0xee { // JFIF and Adobe decide about colours
			f.header = append(f.header, b[start:at]...)
		}
	}
}

// isSkipped reports whether libjpeg skips a segment: APP0 to APP15, COM or DNL. The others it
// reads, so that their length must be right.
func isSkipped(marker byte) bool {
	return marker >= 0xe0 && marker <= 0xef || marker == 0xfe || marker == 0xdc
}

// segment records what Go's decoder does not check in a segment.
func (f *jpegFile) segment(marker byte, b []byte) {
	const frame = 6
	switch marker {
	case 0xc0, 0xc1, 0xc2:
		f.sequential = marker != 0xc2
		for i := frame; i+3 <= len(b); i += 3 {
			f.components = append(f.components, jpegComponent{b[i], b[i+2]})
		}
	case 0xc4:
		for len(b) > 17 {
			n := 0
			for _, count := range b[1:17] {
				n += int(count)
			}
			values := b[17:min(17+n, len(b))]
			if b[0]>>4 == 0 {
				f.badTables[b[0]&3] = len(values) > 0 && slices.Max(values) > 15
			}
			b = b[17+len(values):]
		}
	case 0xdb:
		for len(b) > 0 {
			f.tables[b[0]&3] = true
			b = b[min(1+64*(1+int(b[0]>>4&1)), len(b)):]
		}
	case 0xee:
		f.adobe = f.adobe || len(b) >= 12 && string(b[:5]) == "Adobe"
	}
}

// checkTables refuses what libjpeg refuses and Go does not: a scan of a component without a
// quantization table, which Go decodes to grey, or with impossible values in its Huffman
// table.
func (f *jpegFile) checkTables(scan []byte) error {
	for i := 1; i+2 <= len(scan); i += 2 {
		if f.badTables[scan[i+1]>>4&3] {
			return errors.New("a Huffman table has impossible values")
		}
		for _, c := range f.components {
			if c.id == scan[i] && (c.table > 3 || !f.tables[c.table]) {
				return errors.New("a quantization table is missing")
			}
		}
	}
	return nil
}
