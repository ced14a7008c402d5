package infer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// jpeg reads the markers as libjpeg does, and those in the entropy-coded data too. The first
// frame header has the size; scans are counted to the end. It returns how many bytes of
// coefficients the decoder keeps for each pixel: those of all components, unless one scan has
// all of them.
func (h *Header) jpeg(b []byte) (coefficients int64, err error) {
	var f jpegFrame
	for b = b[2:]; ; {
		marker, rest, ok := nextMarker(b)
		if b = rest; !ok || marker == markerEOI {
			break
		}
		n, err := segmentLength(marker, b)
		if err != nil && f.scans > 0 {
			break // the decoder stops here too, and keeps what it has
		}
		if err != nil {
			return 0, err
		}
		switch {
		case marker == markerSOS:
			err = f.addScan(h, b[:n])
		case isFrameHeader(marker) && h.Width == 0:
			err = f.read(h, marker, b[:n])
		}
		if err != nil {
			return 0, err
		}
		b = b[n:]
	}
	if h.Width == 0 || f.scans == 0 {
		return 0, errEndsInHeader
	}
	return f.coefficients, nil
}

// Markers of a JPEG.
const (
	markerSOI = 0xd8
	markerEOI = 0xd9
	markerSOS = 0xda
)

// nextMarker returns the next marker that a segment follows, or EOI, and the bytes after it; ok
// is false if there is none.
func nextMarker(b []byte) (marker byte, rest []byte, ok bool) {
	for {
		i := bytes.IndexByte(b, 0xff)
		if i < 0 || i+1 >= len(b) {
			return 0, nil, false
		}
		marker = b[i+1]
		if marker == 0xff { // fill byte: the next one may be the marker
			b = b[i+1:]
			continue
		}
		b = b[i+2:]
		if marker <= 0x01 || marker >= 0xd0 && marker <= 0xd7 {
			continue // a stuffed byte, TEM or RSTn, without a segment
		}
		return marker, b, true
	}
}

// segmentLength returns the length of the segment after a marker, with the two bytes that hold
// it.
func segmentLength(marker byte, b []byte) (int, error) {
	if marker == markerSOI || marker < 0xc0 {
		return 0, fmt.Errorf("marker %#02x out of place", marker)
	}
	if len(b) < 2 {
		return 0, errEndsInHeader
	}
	n := int(binary.BigEndian.Uint16(b))
	if n < 2 && isSkipped(marker) {
		n = 2 // the decoder too continues after the length
	}
	if n < 2 {
		return 0, fmt.Errorf("segment %#02x has length %d", marker, n)
	}
	if n > len(b) {
		return 0, errEndsInHeader
	}
	return n, nil
}

// A jpegFrame says how many scans a JPEG has, and how many bytes the decoder keeps for each pixel
// between them.
type jpegFrame struct {
	scans        int
	components   byte
	perPixel     int64 // bytes of the coefficients of all components
	coefficients int64 // bytes of those that the decoder keeps
}

// read reads a frame header.
func (f *jpegFrame) read(h *Header, marker byte, segment []byte) error {
	if len(segment) < 8 {
		return fmt.Errorf("frame header has length %d", len(segment))
	}
	h.Height = int(binary.BigEndian.Uint16(segment[3:]))
	h.Width = int(binary.BigEndian.Uint16(segment[5:]))
	if h.Width == 0 || h.Height == 0 {
		return fmt.Errorf("size is %d×%d", h.Width, h.Height)
	}
	f.components, f.perPixel = segment[7], coefficientBytes(segment[8:])
	if isProgressive(marker) {
		f.coefficients = f.perPixel
	}
	return nil
}

// addScan counts a scan. Its error is that the decoder would need too much time.
func (f *jpegFrame) addScan(h *Header, segment []byte) error {
	if h.Width == 0 {
		return errors.New("scan before the frame header")
	}
	f.scans++
	if len(segment) > 2 && segment[2] < f.components {
		f.coefficients = f.perPixel // the other components have scans of their own
	}
	if f.scans > maxScans || int64(f.scans)*int64(h.Width)*int64(h.Height) > maxScanPixels && f.scans > fewScans {
		return tooComplex("over %d scans of %d×%d pixels", f.scans-1, h.Width, h.Height)
	}
	return nil
}

// coefficientBytes returns how many bytes the coefficients of all components have for each
// pixel, rounded up: two bytes each, by the sampling factors of the components.
func coefficientBytes(components []byte) int64 {
	h, v, sum := 1, 1, 0
	for ; len(components) >= 3; components = components[3:] {
		ch, cv := int(components[1]>>4), int(components[1]&15)
		h, v, sum = max(h, ch), max(v, cv), sum+ch*cv
	}
	return int64((2*sum + h*v - 1) / (h * v))
}

func isProgressive(marker byte) bool {
	return marker == 0xc2 || marker == 0xc6 || marker == 0xca || marker == 0xce
}

// isSkipped reports whether a decoder may skip a segment: APP0 to APP15, COM or DNL. The others
// it reads, so that their length must be right.
func isSkipped(marker byte) bool {
	return marker >= 0xe0 && marker <= 0xef || marker == 0xfe || marker == 0xdc
}

// isFrameHeader reports whether a marker is one of SOF0 to SOF15. DHT, JPG and DAC lie among
// these.
func isFrameHeader(marker byte) bool {
	return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc
}
