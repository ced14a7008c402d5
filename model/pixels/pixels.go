package pixels

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"inceptor/savedmodel"
)

// A Header is what the caller has read from an image's headers, and found
// small enough to be decoded. An image that turns out to be another is
// refused before memory is taken for it.
type Header struct {
	Format        string // jpeg, png, gif, bmp or webp
	Width, Height int    // of the picture as TensorFlow decodes it; a GIF is as large as its largest frames
}

// A Recipe says how a picture becomes a model's input: resized to
// Height × Width without keeping the aspect ratio, then pixel*Scale + Offset
// with pixels from 0 to 255.
type Recipe struct {
	View             View
	Height, Width    int
	Area             bool // ResizeArea; false: ResizeBilinear
	AlignCorners     bool
	HalfPixelCenters bool // bilinear only
	Scale, Offset    float32
	DType            savedmodel.DataType // Float32 or UInt8, which cuts off fractions
}

// Size is the number of bytes of one image's input.
func (r Recipe) Size() int { return r.Height * r.Width * 3 * r.DType.Size() }

// Append decodes an image and appends the model's input for it, of shape
// [Height, Width, 3], RGB, in the layout of a tensor's content. It takes
// up to 27 bytes a pixel of the picture meanwhile: those of a progressive JPEG in
// four colours. Its error blames the image.
func (r Recipe) Append(to, image []byte, h Header) ([]byte, error) {
	p, err := r.View.picture(image, h)
	if err != nil {
		return to, fmt.Errorf("%s: %w", h.Format, err)
	}
	size := r.Size()
	to = slices.Grow(to, size)
	at := len(to)
	to = to[:at+size]
	out := sink{to: to[at:], scale: r.Scale, offset: r.Offset, bytes: r.DType == savedmodel.UInt8}
	if r.Area {
		r.area(p, &out)
	} else {
		r.bilinear(p, &out)
	}
	return to, nil
}

// A picture is bytes, row by row from the top: RGB, or before it is composed
// RGBA.
type picture struct {
	width, height, channels int
	pix                     []byte
}

// newPicture is an RGB one.
func newPicture(width, height int) picture {
	return picture{width, height, 3, make([]byte, 3*width*height)}
}

func (p picture) row(y int) []byte { return p.pix[3*p.width*y:][:3*p.width] }

// A sink writes resized values, in their order, as a model takes them. Each
// operation rounds to float32, as TensorFlow's do: hence the conversions,
// without which some processors would round a product and a sum at once.
type sink struct {
	to            []byte
	scale, offset float32
	bytes         bool
}

func (s *sink) put(v float32) {
	v = float32(v*s.scale) + s.offset
	if s.bytes {
		s.to[0] = byte(int32(v))
		s.to = s.to[1:]
		return
	}
	binary.LittleEndian.PutUint32(s.to, math.Float32bits(v))
	s.to = s.to[4:]
}
