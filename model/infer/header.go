package infer

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Reasons of an InputError. The words are stable, since dead letters and metrics have them.
const (
	ReasonNotAnImage    = "not-an-image"       // it has no signature of an image
	ReasonUnsupported   = "unsupported-format" // a format that is not supported
	ReasonBadHeader     = "bad-header"         // a broken header after the signature
	ReasonTooManyPixels = "too-many-pixels"    // more pixels than the configuration allows
	ReasonTooComplex    = "too-complex"        // few pixels, but the work or memory of very many
	ReasonUndecodable   = "undecodable"        // the decoder refuses it, or must not get it
	ReasonAnimated      = "animated-webp"      // the model decodes images itself, and TensorFlow would crash
)

// An InputError is the error of a record that cannot be answered, however often it is tried.
type InputError struct {
	Reason string // such as ReasonNotAnImage
	Err    error
}

func (e *InputError) Error() string { return e.Reason + ": " + e.Err.Error() }

func (e *InputError) Unwrap() error { return e.Err }

const supportedNames = "JPEG, PNG, GIF, BMP or WebP"

// Bounds for images that no camera makes, by what the decoders of TensorFlow 2.21 do with them:
// see ParseHeader.
const (
	maxScans      = 100     // of a JPEG; encoders write about ten
	maxScanPixels = 1 << 30 // scans × pixels of a JPEG with more than fewScans, which take about 4 s
	fewScans      = 16
	maxInflated   = 64e6   // bytes of a PNG's compressed texts, at worst
	maxChunkBytes = 8e6    // that libpng inflates of one such text
	maxDeflate    = 1032   // the best ratio of deflate
	maxFrames     = 10_000 // of a GIF
	maxExtensions = 65_536 // data blocks in a GIF's extensions
)

// A Header describes an image before it is decoded.
type Header struct {
	Format        string // jpeg, png, gif, bmp or webp
	Width, Height int    // of the picture that TensorFlow decodes
	Frames        int    // of a GIF, the last of which may be incomplete; otherwise 1

	// Pixels is how many pixels decoding holds in memory at a time: Width × Height and, for
	// a GIF, those of all its frames.
	Pixels int64

	// Bytes is the most memory that decoding needs at a time, without some buffers: the
	// picture in RGB, a second one if it is turned or laid on a background, and what the
	// decoder keeps.
	Bytes int64
}

// ParseHeader returns the format and the size of an encoded image, without decoding it and
// without allocating. It skips from block to block, in time linear in len(b). The error is an
// *InputError.
//
// It reads what the decoders of TensorFlow 2.21 read, and refuses what costs them much time or
// memory:
//
//   - They read a whole GIF for its first frame. The picture is as wide as the widest frame
//     and as high as the highest; the canvas is ignored. 1.5 MB with 400 frames took 1.5 GB
//     and 13 s.
//   - libpng inflates each compressed text up to 8 MB, and keeps it. 460 KB with 60 texts took
//     460 MB.
//   - libpng allocates and clears the declared size of a chunk before it checks that the bytes
//     are there. 49 bytes that declare a text of 2 GiB took 2.1 GB. It refuses any truncated
//     chunk, and so does ParseHeader.
//   - A progressive JPEG takes one pass for each scan. A scan of empty blocks has few bytes.
//
// The data after the header may still be broken or truncated: only the decoder finds that.
func ParseHeader(b []byte) (Header, error) {
	h := Header{Frames: 1}
	var err error
	name, taken := FormatOf(b)
	switch {
	case name == "":
		return Header{}, &InputError{ReasonNotAnImage, errors.New("no signature of " + supportedNames)}
	case !taken:
		return Header{}, &InputError{ReasonUnsupported, fmt.Errorf("%s is not supported: convert the image to %s", name, supportedNames)}
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
	h.Bytes += h.Pixels + each*min(size, 1<<50) // a larger image is never decoded, and would overflow
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

// png reads IHDR and the headers of the chunks after it. Each chunk must be as long as it
// declares, and the compressed texts may not inflate to too much.
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
				break // the decoder refuses a second IHDR
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
		// Only an ancillary chunk, whose name begins with a small letter, may come before
		// IHDR: the decoder skips unknown ones.
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

// gif reads the blocks to the end, since the decoder does.
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
		case 0x21: // extension: a label, then data blocks, the first of which may be empty
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
				return nil // the decoder stops here too, and keeps its frames
			}
			return fmt.Errorf("unknown block %#02x", b[0])
		}
	}
	if h.Frames == 0 {
		return errors.New("no frame")
	}
	return nil
}

// colorTable returns the size of the colour table that a byte of packed fields declares.
func colorTable(packed byte) int {
	if packed&0x80 == 0 {
		return 0
	}
	return 3 << (packed&7 + 1)
}

// dataBlocks skips data blocks and the empty one that ends them, and counts them.
func dataBlocks(b []byte) (rest []byte, n int) {
	for len(b) > 0 && b[0] != 0 {
		b = skip(b, 1+int(b[0]))
		n++
	}
	return skip(b, 1), n
}

func skip(b []byte, n int) []byte { return b[min(n, len(b)):] }

// bmp reads the same fields as TensorFlow, which takes every header for a BITMAPINFOHEADER, and
// expects the pixels to end with the file. So a BMP cannot have more pixels than bytes.
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

// webp reads the first chunk. An extended one declares the canvas, and the decoder refuses a
// still picture of another size.
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
