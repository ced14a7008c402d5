package pixels

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"io"

	"golang.org/x/image/vp8"
	"golang.org/x/image/vp8l"
)

// decodeWebP finds the picture among the chunks of the file. What TensorFlow
// refuses when three channels are asked for is refused here: alpha, and
// several frames.
func decodeWebP(b []byte, h Header) (picture, error) {
	const riff, chunk = 12, 8
	if len(b) < riff {
		return picture{}, io.ErrUnexpectedEOF
	}
	for b = b[riff:]; len(b) >= chunk; {
		kind, size := string(b[:4]), int64(binary.LittleEndian.Uint32(b[4:]))
		b = b[chunk:]
		if size > int64(len(b)) {
			return picture{}, io.ErrUnexpectedEOF
		}
		body := b[:size]
		switch kind {
		case "VP8 ":
			return decodeVP8(body, h)
		case "VP8L":
			return decodeVP8L(body, h)
		case "VP8X":
			if size < 1 || body[0]&0x12 != 0 {
				return picture{}, errors.New("it has alpha or several frames")
			}
		case "ALPH", "ANIM", "ANMF":
			return picture{}, errors.New("it has alpha or several frames")
		}
		b = b[min(size+size&1, int64(len(b))):]
	}
	return picture{}, io.ErrUnexpectedEOF
}

func decodeVP8(b []byte, h Header) (picture, error) {
	d := vp8.NewDecoder()
	d.Init(bytes.NewReader(b), len(b))
	f, err := d.DecodeFrameHeader()
	if err != nil {
		return picture{}, err
	}
	if err := h.check(f.Width, f.Height); err != nil {
		return picture{}, err
	}
	img, err := d.DecodeFrame()
	if err != nil {
		return picture{}, err
	}
	p := newPicture(h.Width, h.Height)
	fromVP8(p, img)
	return p, nil
}

func decodeVP8L(b []byte, h Header) (picture, error) {
	const alphaIsUsed = 1 << 28 // after the signature
	if len(b) < 5 {
		return picture{}, io.ErrUnexpectedEOF
	}
	if binary.LittleEndian.Uint32(b[1:])&alphaIsUsed != 0 {
		return picture{}, errors.New("it has alpha")
	}
	return decodeWith(b, h, vp8l.DecodeConfig, vp8l.Decode)
}

// fromVP8 is what libwebp makes of VP8's planes: chroma interpolated from the
// four nearest samples, then the conversion of video, whose black is 16 and
// whose white is 235.
func fromVP8(p picture, img *image.YCbCr) {
	columns := (p.width + 1) / 2
	u, v := make([]byte, p.width), make([]byte, p.width)
	for y := range p.height {
		near, far := nearRows(img.Cb, img.CStride, y, columns, p.height)
		diamond(u, near, far)
		near, far = nearRows(img.Cr, img.CStride, y, columns, p.height)
		diamond(v, near, far)
		luma, to := img.Y[y*img.YStride:], p.row(y)
		for x := range p.width {
			l, b, r := 19077*int32(luma[x])>>8, int32(u[x]), int32(v[x])
			to[3*x] = clamp((l + 26149*r>>8 - 14234) >> 6)
			to[3*x+1] = clamp((l - 6419*b>>8 - 13320*r>>8 + 8708) >> 6)
			to[3*x+2] = clamp((l + 33050*b>>8 - 17685) >> 6)
		}
	}
}

// diamond writes a row in full width: each sample is 9/16 of the nearest, 3/16
// of the next one to the side and of the one in the far row, 1/16 of the one
// across, rounded where libwebp does.
func diamond(to, near, far []byte) {
	for x := range to {
		i := x / 2
		j := i - 1 + x%2*2
		if j < 0 || j >= len(near) {
			to[x] = byte((3*int(near[i]) + int(far[i]) + 2) >> 2)
			continue
		}
		n, side, across, corner := int(near[i]), int(near[j]), int(far[i]), int(far[j])
		to[x] = byte(((n+side+across+corner+8+2*(side+across))>>3 + n) >> 1)
	}
}
