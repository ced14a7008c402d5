package pixels

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
)

// picture decodes an image and composes what a model sees of it. A panic of a decoder is left
// to the caller, who knows the record.
func (v View) picture(b []byte, h Header) (p picture, err error) {
	if h.Width < 1 || h.Height < 1 || h.Width > math.MaxInt32/3/h.Height {
		return picture{}, fmt.Errorf("size is %d×%d", h.Width, h.Height)
	}
	plan, err := v.Plan(b, h)
	if err != nil {
		return picture{}, err
	}
	decoded, err := decode(plan, h)
	if err != nil || plan.Plain() {
		return decoded, err
	}
	p = newPicture(plan.Size())
	return p, plan.Compose(p.pix, decoded.pix, decoded.channels)
}

// maxPNGSide is libpng's limit. Go's decoder allocates rows in addition to the picture.
const maxPNGSide = 1_000_000

// decode decodes the image of a plan, without composing it.
func decode(plan Plan, h Header) (picture, error) {
	b := plan.Image
	switch h.Format {
	case "jpeg":
		return decodeJPEG(b, h)
	case "png":
		if h.Width > maxPNGSide || h.Height > maxPNGSide {
			return picture{}, fmt.Errorf("%d×%d is larger than %d on a side", h.Width, h.Height, maxPNGSide)
		}
		if plan.Alpha {
			return decodeWith(b, h, png.DecodeConfig, png.Decode, rgba)
		}
		return decodeWith(b, h, png.DecodeConfig, png.Decode, rgb)
	case "gif":
		return decodeGIF(b, h)
	case "bmp":
		return decodeBMP(b, h)
	case "webp":
		return decodeWebP(plan)
	}
	return picture{}, errors.New("unknown format")
}

func decodeWith(b []byte, h Header, config func(io.Reader) (image.Config, error), decode func(io.Reader) (image.Image, error),
	samples func(image.Image) (picture, error),
) (picture, error) {
	c, err := config(bytes.NewReader(b))
	if err != nil {
		return picture{}, err
	}
	if err := h.check(c.Width, c.Height); err != nil {
		return picture{}, err
	}
	img, err := decode(bytes.NewReader(b))
	if err != nil {
		return picture{}, err
	}
	return samples(img)
}

func (h Header) check(width, height int) error {
	if width != h.Width || height != h.Height {
		return fmt.Errorf("the picture is %d×%d, its header says %d×%d", width, height, h.Width, h.Height)
	}
	return nil
}

// rgb copies the colours of an image. It drops alpha, and does not blend.
func rgb(img image.Image) (picture, error) {
	size := img.Bounds().Size()
	p := newPicture(size.X, size.Y)
	switch img := img.(type) {
	case *image.YCbCr:
		fromYCbCr(p, img)
	case *image.Gray:
		p.fill(img.Pix, img.Stride, 1, 0)
	case *image.Gray16:
		p.fill(img.Pix, img.Stride, 2, 0)
	case *image.RGBA: // an image without alpha
		p.fill(img.Pix, img.Stride, 4, 1)
	case *image.NRGBA:
		p.fill(img.Pix, img.Stride, 4, 1)
	case *image.RGBA64: // an image without alpha
		p.fill(img.Pix, img.Stride, 8, 2)
	case *image.NRGBA64:
		p.fill(img.Pix, img.Stride, 8, 2)
	case *image.CMYK:
		fromCMYK(p, img)
	case *image.Paletted:
		p.draw(img, image.Point{})
	default:
		return picture{}, fmt.Errorf("unexpected pixels %T", img)
	}
	return p, nil
}

// rgba copies the colours and the alpha of an image that has alpha.
func rgba(img image.Image) (picture, error) {
	size := img.Bounds().Size()
	p := picture{size.X, size.Y, 4, nil}
	if img, ok := img.(*image.NRGBA); ok && img.Stride == 4*size.X {
		p.pix = img.Pix
		return p, nil
	}
	p.pix = make([]byte, 4*size.X*size.Y)
	switch img := img.(type) {
	case *image.NRGBA64:
		for i := range p.pix {
			p.pix[i] = img.Pix[2*i] // the upper 8 of 16 bits; rows have no padding
		}
	case *image.Paletted:
		var colors [256][4]byte
		for i, c := range img.Palette[:min(len(img.Palette), 256)] {
			c := color.NRGBAModel.Convert(c).(color.NRGBA)
			colors[i] = [4]byte{c.R, c.G, c.B, c.A}
		}
		for i, index := range img.Pix {
			copy(p.pix[4*i:], colors[index][:])
		}
	default:
		return picture{}, fmt.Errorf("unexpected pixels %T", img)
	}
	return p, nil
}

// fill copies red, green and blue from pixels of size bytes, in which they lie step bytes
// apart. A step of 0 copies a grey.
func (p picture) fill(pix []byte, stride, size, step int) {
	for y := range p.height {
		from, to := pix[y*stride:], p.row(y)
		for x := range p.width {
			pixel := from[x*size : (x+1)*size]
			to[3*x], to[3*x+1], to[3*x+2] = pixel[0], pixel[step], pixel[2*step]
		}
	}
}

// draw copies a paletted image to a position in the picture, and cuts off what lies outside.
func (p picture) draw(img *image.Paletted, at image.Point) {
	var colors [256][3]byte
	for i, c := range img.Palette[:min(len(img.Palette), 256)] {
		switch c := c.(type) {
		case color.RGBA:
			colors[i] = [3]byte{c.R, c.G, c.B}
		case color.NRGBA:
			colors[i] = [3]byte{c.R, c.G, c.B}
		}
	}
	size := img.Bounds().Size()
	for y := range min(size.Y, p.height-at.Y) {
		to := p.row(at.Y + y)
		for x := range min(size.X, p.width-at.X) {
			copy(to[3*(at.X+x):], colors[img.Pix[y*img.Stride+x]][:])
		}
	}
}

// fromCMYK converts as TensorFlow does. Go's decoder inverts every JPEG of four colours, as
// Adobe stores it.
func fromCMYK(p picture, img *image.CMYK) {
	for y := range p.height {
		from, to := img.Pix[y*img.Stride:], p.row(y)
		for x := range p.width {
			k := 255 - int(from[4*x+3])
			for c := range 3 {
				to[3*x+c] = byte(k * (255 - int(from[4*x+c])) / 255)
			}
		}
	}
}

// decodeBMP reads the same fields as TensorFlow, at the same offsets. It ignores palettes: 8
// bits are a grey.
func decodeBMP(b []byte, h Header) (picture, error) {
	if len(b) < 32 {
		return picture{}, io.ErrUnexpectedEOF
	}
	start := int64(int32(binary.LittleEndian.Uint32(b[10:])))
	width := int64(int32(binary.LittleEndian.Uint32(b[18:])))
	height := int64(int32(binary.LittleEndian.Uint32(b[22:])))
	each := int64(binary.LittleEndian.Uint16(b[28:])) / 8
	fromTop := height < 0
	if fromTop {
		height = -height
	}
	if err := h.check(int(width), int(height)); err != nil {
		return picture{}, err
	}
	if each != 1 && each != 3 && each != 4 {
		return picture{}, fmt.Errorf("%d bytes a pixel, want 1, 3 or 4", each)
	}
	stride := (each*width + 3) / 4 * 4
	if end := start + height*stride; start < 0 || end != int64(len(b)) {
		return picture{}, fmt.Errorf("the file has %d bytes, its pixels end at %d", len(b), end)
	}
	p := newPicture(h.Width, h.Height)
	for y := range p.height {
		line := y
		if !fromTop {
			line = p.height - 1 - y
		}
		from, to := b[start+int64(line)*stride:], p.row(y)
		for x := range p.width {
			pixel := from[int64(x)*each:][:each]
			if each == 1 {
				to[3*x], to[3*x+1], to[3*x+2] = pixel[0], pixel[0], pixel[0]
			} else {
				to[3*x], to[3*x+1], to[3*x+2] = pixel[2], pixel[1], pixel[0]
			}
		}
	}
	return p, nil
}
