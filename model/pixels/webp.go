package pixels

import (
	"bytes"
	"errors"
	"fmt"
	"image"

	"golang.org/x/image/vp8"
	"golang.org/x/image/vp8l"
	"golang.org/x/image/webp"
)

// decodeWebP decodes a file's only picture, or its first frame.
func decodeWebP(p Plan) (picture, error) {
	size, f := p.frame.Size(), p.webp
	h := Header{"webp", size.X, size.Y}
	switch {
	case f.lossless && f.alpha:
		return decodeWith(f.data, h, vp8l.DecodeConfig, vp8l.Decode, rgba)
	case f.lossless:
		return decodeWith(f.data, h, vp8l.DecodeConfig, vp8l.Decode, rgb)
	case f.alph != nil:
		return lossyAlpha(f, h)
	}
	return decodeVP8(f.data, h)
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

// lossyAlpha decodes to RGBA a picture with its alpha in a chunk of its own.
func lossyAlpha(f webpFile, h Header) (picture, error) {
	if err := h.check(f.frame.Dx(), f.frame.Dy()); err != nil {
		return picture{}, err
	}
	// libwebp refuses these bits; Go ignores them.
	if len(f.alph) == 0 || f.alph[0]&0x80 != 0 || f.alph[0]&0x30 > 0x10 {
		return picture{}, errors.New("the ALPH chunk begins with an unknown byte")
	}
	img, err := webp.Decode(bytes.NewReader(f.file())) // checks the sizes before it decodes
	if err != nil {
		return picture{}, err
	}
	planes, ok := img.(*image.NYCbCrA)
	if !ok {
		return picture{}, fmt.Errorf("unexpected pixels %T", img)
	}
	colors := newPicture(h.Width, h.Height)
	fromVP8(colors, &planes.YCbCr)
	p := picture{h.Width, h.Height, 4, make([]byte, 4*h.Width*h.Height)}
	for i := range h.Width * h.Height {
		copy(p.pix[4*i:], colors.pix[3*i:3*i+3])
		p.pix[4*i+3] = planes.A[i/h.Width*planes.AStride+i%h.Width]
	}
	return p, nil
}

// fromVP8 converts VP8's planes as libwebp does: it interpolates chroma from the four nearest
// samples, and then converts as for video, whose black is 16 and whose white is 235.
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

// diamond writes a row in full width. Each sample is 9/16 of the nearest, 3/16 of the next one
// to the side, 3/16 of the one in the far row and 1/16 of the one across, rounded where
// libwebp rounds.
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
