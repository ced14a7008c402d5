package model

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Reasons why one image cannot be classified, whoever asks for it and however
// often. They are stable words: dead letters and metrics carry them.
const (
	ReasonNotAnImage    = "not-an-image"       // no signature of an image
	ReasonUnsupported   = "unsupported-format" // an image of a format that is not taken
	ReasonBadHeader     = "bad-header"         // the signature is there, the header behind it is broken
	ReasonTooManyPixels = "too-many-pixels"    // more pixels than the configuration allows
	ReasonTooComplex    = "too-complex"        // few pixels, but work or memory for the decoder as for very many
	ReasonUndecodable   = "undecodable"        // the decoder refuses it, or would, and must not see it
	ReasonAnimated      = "animated-webp"      // the model decodes images itself, and TensorFlow crashes on this one
)

// An InputError says that an image, and not the model, is at fault.
type InputError struct {
	Reason string // one of the reasons above
	Err    error
}

func (e *InputError) Error() string { return e.Reason + ": " + e.Err.Error() }

func (e *InputError) Unwrap() error { return e.Err }

const takenNames = "JPEG, PNG, GIF, BMP or WebP"

// What TensorFlow 2.21's decoders do with data that no photo holds, measured:
// see ParseHeader.
const (
	maxScans      = 100     // of a JPEG; encoders write about ten
	maxScanPixels = 1 << 30 // scans × pixels of a JPEG with more than fewScans: about 4 s
	fewScans      = 16
	maxInflated   = 64e6   // bytes of a PNG's compressed texts, at worst
	maxChunkBytes = 8e6    // what libpng takes of one such text
	maxDeflate    = 1032   // deflate's best ratio
	maxFrames     = 10_000 // of a GIF
	maxExtensions = 65_536 // data blocks in a GIF's extensions
)

// A Header is what an image says of itself before anything is decoded.
type Header struct {
	Format        string // jpeg, png, gif, bmp or webp
	Width, Height int    // of the picture that TensorFlow decodes
	Frames        int    // complete or begun; 1 but for GIF

	// Pixels is what decoding holds in memory at once: Width × Height, and
	// for a GIF all its frames besides.
	Pixels int64

	// Bytes is what decoding takes at its peak, at most but for some buffers:
	// the picture in RGB, a second one where it is turned or laid on a
	// background, and what the decoder keeps meanwhile.
	Bytes int64
}

// ParseHeader reads format and size of an encoded image from its headers,
// without decoding and without allocating. The time it takes is linear in
// len(b), and small: it hops from block to block. Its error is an
// *InputError.
//
// It sees what the decoders of TensorFlow 2.21 see, and refuses what they
// would pay dearly for:
//
//   - A GIF is read whole even when only its first frame is asked for, and
//     the picture is as wide as the widest frame and as high as the highest;
//     the canvas plays no part. 1.5 MB with 400 frames took 1.5 GB and 13 s.
//   - libpng inflates each compressed text up to 8 MB and keeps it: 460 KB
//     with 60 texts took 460 MB.
//   - libpng allocates, and clears, what a chunk declares, before it looks
//     whether so much is there: 49 bytes that declare a text of 2 GiB took
//     2.1 GB. It refuses any chunk that is cut off, so this does too.
//   - A progressive JPEG is gone through once for each scan; a scan over
//     empty blocks takes few bytes.
//
// The data behind the header may still be broken or end early: only the
// decoder finds out.
func ParseHeader(b []byte) (Header, error) {
	h := Header{Frames: 1}
	var err error
	name, taken := FormatOf(b)
	switch {
	case name == "":
		return Header{}, &InputError{ReasonNotAnImage, errors.New("no signature of " + takenNames)}
	case !taken:
		return Header{}, &InputError{ReasonUnsupported, fmt.Errorf("%s is not supported: convert the image to %s", name, takenNames)}
	}
	h.Format = name
	each := int64(6) // bytes a pixel: RGB, twice
	switch name {
	case "jpeg":
		var coefficients int64
		coefficients, err = h.jpeg(b)
		each = max(each, 3+coefficients)
	case "png":
		each = 7 // RGBA, then RGB
		err = h.png(b)
	case "gif":
		err = h.gif(b)
	case "bmp":
		err = h.bmp(b)
	case "webp":
		each = 8 // RGBA, and the same for a lossless one's decoder
		err = h.webp(b)
	}
	if err == nil && (h.Width <= 0 || h.Height <= 0) {
		err = fmt.Errorf("size is %d×%d", h.Width, h.Height)
	}
	if err != nil {
		bad := &InputError{ReasonBadHeader, err}
		errors.As(err, &bad)
		return Header{}, &InputError{bad.Reason, fmt.Errorf("%s: %w", h.Format, bad.Err)}
	}
	size := int64(h.Width) * int64(h.Height)
	h.Bytes += h.Pixels + each*min(size, 1<<50) // more is never decoded, and would overflow
	h.Pixels += size
	return h, nil
}

// tooComplex says which limit of ParseHeader was passed.
func tooComplex(format string, args ...any) error {
	return &InputError{ReasonTooComplex, fmt.Errorf(format, args...)}
}

// undecodable says why the decoder would refuse the image.
func undecodable(format string, args ...any) error {
	return &InputError{ReasonUndecodable, fmt.Errorf(format, args...)}
}

var errEndsInHeader = errors.New("data ends in the header")

// jpeg walks the markers as libjpeg does, through the entropy-coded data too:
// the first frame header gives the size, scans are counted to the end. It
// returns how many bytes of coefficients a pixel the decoder keeps: for each
// component as many as that has, unless there is one scan with all of them.
func (h *Header) jpeg(b []byte) (coefficients int64, err error) {
	scans, components, kept := 0, byte(0), int64(0)
	for b = b[2:]; ; {
		i := bytes.IndexByte(b, 0xff)
		if i < 0 || i+1 >= len(b) {
			break
		}
		marker := b[i+1]
		if marker == 0xff { // fill byte: the next one may be the marker
			b = b[i+1:]
			continue
		}
		b = b[i+2:]
		if marker <= 0x01 || marker >= 0xd0 && marker <= 0xd7 {
			continue // a stuffed byte, TEM or RSTn: nothing follows
		}
		if marker == 0xd9 { // EOI
			break
		}
		if marker == 0xd8 || marker < 0xc0 {
			if scans > 0 {
				break // the decoder stops here too, with what it has
			}
			return 0, fmt.Errorf("marker %#02x out of place", marker)
		}
		if len(b) < 2 {
			break
		}
		n := int(binary.BigEndian.Uint16(b))
		if n < 2 && isSkipped(marker) {
			n = 2 // the decoder goes on behind the length, too
		}
		if n < 2 || n > len(b) {
			if scans > 0 {
				break
			}
			if n < 2 {
				return 0, fmt.Errorf("segment %#02x has length %d", marker, n)
			}
			return 0, errEndsInHeader
		}
		switch {
		case marker == 0xda:
			if h.Width == 0 {
				return 0, errors.New("scan before the frame header")
			}
			scans++
			if n > 2 && b[2] < components {
				coefficients = kept // the other components come in scans of their own
			}
			if scans > maxScans || int64(scans)*int64(h.Width)*int64(h.Height) > maxScanPixels && scans > fewScans {
				return 0, tooComplex("over %d scans of %d×%d pixels", scans-1, h.Width, h.Height)
			}
		case isFrameHeader(marker) && h.Width == 0:
			if n < 8 {
				return 0, fmt.Errorf("frame header has length %d", n)
			}
			h.Height = int(binary.BigEndian.Uint16(b[3:]))
			h.Width = int(binary.BigEndian.Uint16(b[5:]))
			if h.Width == 0 || h.Height == 0 {
				return 0, fmt.Errorf("size is %d×%d", h.Width, h.Height)
			}
			components, kept = b[7], coefficientBytes(b[8:n])
			if isProgressive(marker) {
				coefficients = kept
			}
		}
		b = b[n:]
	}
	if h.Width == 0 || scans == 0 {
		return 0, errEndsInHeader
	}
	return coefficients, nil
}

// coefficientBytes is what the coefficients of all components take for each
// pixel, rounded up: two bytes each, of the components' sampling.
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

// isSkipped tells the segments that a decoder may pass over, APP0 to APP15, COM
// and DNL, from those that it reads: their length must be right.
func isSkipped(marker byte) bool {
	return marker >= 0xe0 && marker <= 0xef || marker == 0xfe || marker == 0xdc
}

// isFrameHeader tells SOF0 to SOF15 from DHT, JPG and DAC, which lie among
// them.
func isFrameHeader(marker byte) bool {
	return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc
}

// png reads IHDR and goes through the chunks behind it: each must be there as
// long as it declares itself, and the compressed texts may inflate to so much.
func (h *Header) png(b []byte) error {
	const signature, frame = 8, 12 // a chunk's length, type and checksum
	inflated := int64(0)
	defer func() { h.Bytes += inflated }()
	for b = b[signature:]; len(b) >= frame; {
		n, kind := int64(binary.BigEndian.Uint32(b)), b[4:8]
		if n > int64(len(b)-frame) {
			if h.Width == 0 {
				return errEndsInHeader
			}
			return undecodable("chunk %q declares %d bytes, %d are there", kind, n, len(b)-frame)
		}
		switch string(kind) {
		case "IHDR":
			if h.Width != 0 {
				break // the decoder refuses a second one
			}
			if n != 13 {
				return fmt.Errorf("IHDR has %d bytes", n)
			}
			w, ht := binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])
			if w == 0 || ht == 0 || w > 1<<31-1 || ht > 1<<31-1 {
				return fmt.Errorf("size is %d×%d", w, ht)
			}
			h.Width, h.Height = int(w), int(ht)
		case "zTXt", "iTXt", "iCCP":
			inflated += min(maxChunkBytes, n*maxDeflate)
			if inflated > maxInflated {
				return tooComplex("compressed texts may inflate to more than %d MB", int64(maxInflated/1e6))
			}
		case "IEND":
			b = nil
			continue
		}
		// Only an ancillary chunk, whose name begins with a small letter, may
		// stand before IHDR: the decoder skips those that it does not know.
		if h.Width == 0 && kind[0]&0x20 == 0 {
			return fmt.Errorf("first chunk is %q of %d bytes", kind, n)
		}
		b = b[frame+n:]
	}
	if h.Width == 0 {
		return errEndsInHeader
	}
	return nil
}

// gif walks the blocks to the end, because the decoder does.
func (h *Header) gif(b []byte) error {
	const screen, descriptor = 13, 9
	if len(b) < screen {
		return errEndsInHeader
	}
	b = skip(b, screen+colorTable(b[10]))
	h.Frames = 0
	extensions := 0
	for len(b) > 0 && b[0] != 0x3b { // trailer
		switch b[0] {
		case 0x21: // extension: label, a data block, which may be empty, and others
			var n int
			if b = skip(b, 2); len(b) > 0 {
				b, n = dataBlocks(skip(b, 1+int(b[0])))
			}
			if extensions += n; extensions > maxExtensions {
				return tooComplex("more than %d blocks in extensions", maxExtensions)
			}
		case 0x2c: // image: descriptor, colours, code size, data blocks
			if b = b[1:]; len(b) < descriptor {
				b = nil
				break
			}
			w, ht := int(binary.LittleEndian.Uint16(b[4:])), int(binary.LittleEndian.Uint16(b[6:]))
			h.Width, h.Height = max(h.Width, w), max(h.Height, ht)
			h.Pixels += int64(w) * int64(ht)
			if h.Frames++; h.Frames > maxFrames {
				return tooComplex("more than %d frames", maxFrames)
			}
			b, _ = dataBlocks(skip(b, descriptor+colorTable(b[8])+1))
		default:
			if h.Frames > 0 {
				return nil // the decoder stops here too, and keeps the frames
			}
			return fmt.Errorf("unknown block %#02x", b[0])
		}
	}
	if h.Frames == 0 {
		return errors.New("no frame")
	}
	return nil
}

// colorTable is the size of the colour table that packed fields announce.
func colorTable(packed byte) int {
	if packed&0x80 == 0 {
		return 0
	}
	return 3 << (packed&7 + 1)
}

// dataBlocks goes past data blocks and the empty one that ends them.
func dataBlocks(b []byte) (rest []byte, n int) {
	for len(b) > 0 && b[0] != 0 {
		b = skip(b, 1+int(b[0]))
		n++
	}
	return skip(b, 1), n
}

func skip(b []byte, n int) []byte { return b[min(n, len(b)):] }

// bmp reads the fields where TensorFlow reads them, which takes every header
// for a BITMAPINFOHEADER, and wants the pixels to end with the file: a BMP
// cannot hold more pixels than bytes.
func (h *Header) bmp(b []byte) error {
	if len(b) < 32 {
		return errEndsInHeader
	}
	start, dib := int64(int32(binary.LittleEndian.Uint32(b[10:]))), binary.LittleEndian.Uint32(b[14:])
	w, ht := int(int32(binary.LittleEndian.Uint32(b[18:]))), int(int32(binary.LittleEndian.Uint32(b[22:])))
	if ht < 0 { // rows from the top
		ht = -ht
	}
	bits := binary.LittleEndian.Uint16(b[28:])
	channels := int64(bits / 8)
	row := (max(0, channels*int64(w)) + 3) / 4 * 4
	known := channels == 1 || channels == 3 || channels == 4
	fits := start >= 0 && start+row*int64(ht) == int64(len(b))
	switch {
	case dib < 40 && (!known || !fits):
		return fmt.Errorf("information header of %d bytes; only 40 and more can be decoded", dib)
	case !known:
		return fmt.Errorf("%d bits a pixel; only 8, 24 and 32 can be decoded", bits)
	case w > 0 && ht > 0 && !fits:
		return undecodable("%d rows of %d bytes from byte %d on do not end with the file, which has %d bytes", ht, row, start, len(b))
	}
	h.Width, h.Height = w, ht
	return nil
}

// webp reads the first chunk. The extended one announces the canvas, and the
// decoder refuses a still picture of another size.
func (h *Header) webp(b []byte) error {
	const riff, chunk = 12, 8
	if len(b) < riff+chunk {
		return errEndsInHeader
	}
	kind, size, p := string(b[riff:riff+4]), binary.LittleEndian.Uint32(b[riff+4:]), b[riff+chunk:]
	if len(p) < 5 || kind != "VP8L" && len(p) < 10 {
		return errEndsInHeader
	}
	switch kind {
	case "VP8 ":
		if p[0]&1 != 0 || p[3] != 0x9d || p[4] != 0x01 || p[5] != 0x2a {
			return errors.New("VP8 data do not begin with a key frame")
		}
		h.Width = int(binary.LittleEndian.Uint16(p[6:]) & 0x3fff)
		h.Height = int(binary.LittleEndian.Uint16(p[8:]) & 0x3fff)
	case "VP8L":
		if p[0] != 0x2f {
			return errors.New("VP8L data do not begin with their signature")
		}
		bits := binary.LittleEndian.Uint32(p[1:])
		h.Width, h.Height = int(bits&0x3fff)+1, int(bits>>14&0x3fff)+1
	case "VP8X":
		if size != 10 {
			return fmt.Errorf("VP8X chunk of %d bytes", size)
		}
		h.Width = 1 + (int(p[4]) | int(p[5])<<8 | int(p[6])<<16)
		h.Height = 1 + (int(p[7]) | int(p[8])<<8 | int(p[9])<<16)
	default:
		return fmt.Errorf("first chunk is %q", kind)
	}
	return nil
}
