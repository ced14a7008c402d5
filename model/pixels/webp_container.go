package pixels

import (
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
)

// A webpFile describes the picture to decode of a WebP file: the only one, or the first frame
// of an animation.
type webpFile struct {
	canvas   image.Point
	frame    image.Rectangle // on the canvas
	animated bool
	alpha    bool
	lossless bool
	alph     []byte // the ALPH chunk of a lossy picture; nil: none
	data     []byte // the VP8 or VP8L chunk
}

// Flags of a VP8X chunk.
const (
	webpAnimated = 0x02
	webpHasExif  = 0x08
	webpAlpha    = 0x10
)

// AnimatedWebP reports whether a WebP file declares that it is animated.
func AnimatedWebP(b []byte) bool {
	const flags = 20
	return len(b) > flags && string(b[12:16]) == "VP8X" && b[flags]&webpAnimated != 0
}

// parseWebP reads the chunks as libwebp does. It leaves the picture's own header to the
// decoder, except for the alpha of a lossless one.
func parseWebP(b []byte) (webpFile, error) {
	b, err := webpChunks(b)
	if err != nil {
		return webpFile{}, err
	}
	var f webpFile
	kind, body, rest, err := webpChunk(b)
	if err != nil {
		return webpFile{}, err
	}
	if kind != "VP8X" {
		if err := f.picture(kind, body); err != nil {
			return webpFile{}, err
		}
		return f, nil
	}
	if len(body) != 10 {
		return webpFile{}, fmt.Errorf("VP8X chunk of %d bytes", len(body))
	}
	f.animated, f.alpha = body[0]&webpAnimated != 0, body[0]&webpAlpha != 0
	f.canvas = image.Pt(1+uint24(body[4:]), 1+uint24(body[7:]))
	f.frame = image.Rectangle{Max: f.canvas}
	if f.animated {
		return f, f.firstFrame(rest)
	}
	return f, f.still(rest)
}

// still finds the picture among the chunks of a file or a frame.
func (f *webpFile) still(b []byte) error {
	for {
		kind, body, rest, err := webpChunk(b)
		if err != nil {
			return err
		}
		switch kind {
		case "ALPH":
			f.alph, f.alpha = body, true
		case "VP8 ", "VP8L":
			return f.picture(kind, body)
		}
		b = rest
	}
}

func (f *webpFile) picture(kind string, body []byte) error {
	f.data = body
	switch kind {
	case "VP8 ":
		return nil
	case "VP8L":
		const alphaIsUsed = 1 << 28 // after the signature
		f.lossless, f.alph = true, nil
		// libwebp accepts a size that is too small.
		f.alpha = len(body) >= 5 && binary.LittleEndian.Uint32(body[1:])&alphaIsUsed != 0
		return nil
	}
	return fmt.Errorf("chunk %q where a picture was expected", kind)
}

// firstFrame finds the picture in an animation's first frame.
func (f *webpFile) firstFrame(b []byte) error {
	const header = 16
	for {
		kind, body, rest, err := webpChunk(b)
		if err != nil {
			return err
		}
		if kind != "ANMF" {
			b = rest
			continue
		}
		if len(body) < header {
			return io.ErrUnexpectedEOF
		}
		at := image.Pt(2*uint24(body), 2*uint24(body[3:]))
		f.frame = image.Rectangle{at, at.Add(image.Pt(1+uint24(body[6:]), 1+uint24(body[9:])))}
		if !f.frame.In(image.Rectangle{Max: f.canvas}) {
			return fmt.Errorf("first frame %v exceeds the canvas of %d×%d", f.frame, f.canvas.X, f.canvas.Y)
		}
		f.alpha = false // that of the frame decides
		return f.still(body[header:])
	}
}

// file returns a WebP file with this picture alone.
func (f *webpFile) file() []byte {
	size := f.frame.Size()
	b := append(make([]byte, 0, 64+len(f.alph)+len(f.data)), "RIFF\x00\x00\x00\x00WEBP"...)
	chunk := func(kind string, body []byte) {
		b = append(b, kind...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
		b = append(b, body...)
		if len(body)%2 != 0 {
			b = append(b, 0)
		}
	}
	kind, x := "VP8 ", make([]byte, 10)
	if f.lossless {
		kind = "VP8L"
	}
	if f.alpha {
		x[0] = webpAlpha
	}
	put24(x[4:], size.X-1)
	put24(x[7:], size.Y-1)
	chunk("VP8X", x)
	if f.alph != nil {
		chunk("ALPH", f.alph)
	}
	chunk(kind, f.data)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-8))
	return b
}

// webpExif returns the EXIF chunk of a WebP file; nil: its header declares none.
func webpExif(b []byte) []byte {
	const flags = 20
	if len(b) <= flags || string(b[12:16]) != "VP8X" || b[flags]&webpHasExif == 0 {
		return nil
	}
	b, err := webpChunks(b)
	for err == nil {
		var kind string
		var body []byte
		if kind, body, b, err = webpChunk(b); kind == "EXIF" && err == nil {
			return body
		}
	}
	return nil
}

// webpChunks returns the bytes of a file's chunks. Bytes after the container's declared
// length are ignored.
func webpChunks(b []byte) ([]byte, error) {
	const riff, least = 12, 12
	if len(b) < riff {
		return nil, io.ErrUnexpectedEOF
	}
	size := int64(binary.LittleEndian.Uint32(b[4:]))
	if size < least {
		return nil, fmt.Errorf("the container declares %d bytes, too few for a picture", size)
	}
	if size > int64(len(b)-8) {
		return nil, fmt.Errorf("the file has %d bytes, its container declares %d", len(b), size+8)
	}
	return b[riff : size+8], nil
}

// webpChunk splits off the first chunk. The last chunk may lack its padding byte.
func webpChunk(b []byte) (kind string, body, rest []byte, err error) {
	const header = 8
	if len(b) < header {
		return "", nil, nil, errNoPicture
	}
	kind = string(b[:4])
	size := int64(binary.LittleEndian.Uint32(b[4:]))
	b = b[header:]
	if size > int64(len(b)) {
		return "", nil, nil, fmt.Errorf("chunk %q declares %d bytes, %d are left", kind, size, len(b))
	}
	return kind, b[:size], b[min(size+size&1, int64(len(b))):], nil
}

var errNoPicture = errors.New("no picture in the file")

func uint24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

func put24(b []byte, v int) { b[0], b[1], b[2] = byte(v), byte(v>>8), byte(v>>16) }
