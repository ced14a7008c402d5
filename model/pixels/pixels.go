package pixels

import (
	"fmt"
	"image"
	"slices"

	"inceptor/savedmodel"
)

// A Header is what the caller has read from an image's headers and found small enough to
// decode. An image that does not match it is refused before memory is allocated.
type Header struct {
	Format        string // jpeg, png, gif, bmp or webp
	Width, Height int    // of the picture that TensorFlow decodes; a GIF is as large as its largest frames
}

// A Recipe says how to make a model's input from a picture: which part to take, how to resize
// it to Height × Width, which channels each pixel has, and then pixel*Scale + Offset with
// pixels from 0 to 255.
type Recipe struct {
	View View
	Frame
	Resize           string // Bilinear, Nearest, Bicubic or Area; empty: Bilinear
	AlignCorners     bool
	HalfPixelCenters bool       // Area ignores it
	Channels         Channels   // empty: RGB
	Scale, Offset    [3]float32 // of the channels, in their order
	Layout           Layout     // empty: ChannelsLast
	DType            savedmodel.DataType
}

// Values of Recipe.Resize: TensorFlow's operations ResizeBilinear, ResizeNearestNeighbor,
// ResizeBicubic and ResizeArea.
const (
	Bilinear = "bilinear"
	Nearest  = "nearest"
	Bicubic  = "bicubic"
	Area     = "area"
)

// Check returns an error that names what this package cannot do; nil: it can do it all.
func (r Recipe) Check() error {
	if !castable(r.DType) {
		return fmt.Errorf("pixels of %v cannot be made without TensorFlow's library", r.DType)
	}
	switch r.Resize {
	case "", Bilinear, Nearest, Bicubic, Area:
		return nil
	}
	return fmt.Errorf("resize %q cannot be done without TensorFlow's library", r.Resize)
}

// Size is the number of bytes of one image's input.
func (r Recipe) Size() int { return r.Height * r.Width * r.Channels.Count() * r.DType.Size() }

// Append decodes an image and appends the model's input for it, in the layout of a tensor's
// content. Its shape is [Height, Width, channels], or [channels, Height, Width] with
// ChannelsFirst. While it decodes, it needs up to 27 bytes a pixel of the picture: those of a
// progressive JPEG in four colours. The error blames the image, unless Check returns one.
func (r Recipe) Append(to, image []byte, h Header) ([]byte, error) {
	if err := r.Check(); err != nil {
		return to, err
	}
	p, err := r.View.picture(image, h)
	if err != nil {
		return to, fmt.Errorf("%s: %w", h.Format, err)
	}
	size := r.Size()
	to = slices.Grow(to, size)
	at := len(to)
	to = to[:at+size]
	r.input(to[at:], p)
	return to, nil
}

// input writes the model's input for a picture.
func (r Recipe) input(to []byte, p picture) {
	place := r.Place(p.width, p.height)
	out := r.newSink(to, place.To)
	from := region{p, place.From}
	switch r.Resize {
	case Nearest:
		r.nearest(from, &out)
	case Bicubic:
		r.bicubic(from, &out)
	case Area:
		r.area(from, &out)
	default:
		r.bilinear(from, &out)
	}
}

// A picture is rows of bytes from the top: RGB, or RGBA before it is composed.
type picture struct {
	width, height, channels int
	pix                     []byte
}

// newPicture returns a black RGB picture.
func newPicture(width, height int) picture {
	return picture{width, height, 3, make([]byte, 3*width*height)}
}

func (p picture) row(y int) []byte { return p.pix[3*p.width*y:][:3*p.width] }

// A region is a rectangle of a picture.
type region struct {
	picture picture
	image.Rectangle
}

func (r region) row(y int) []byte { return r.picture.row(r.Min.Y + y)[3*r.Min.X : 3*r.Max.X] }
