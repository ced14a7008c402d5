package pixels

import (
	"fmt"
	"image"
)

// A Plan says what must be decoded of an image, and how the decoded pixels
// become the picture that a model sees.
type Plan struct {
	Image []byte // what to decode: the file, or the first frame of an animation
	Alpha bool   // decode it to four channels, RGBA; false: to three

	canvas image.Point     // size of the picture
	frame  image.Rectangle // of what is decoded, on the canvas
	webp   webpFile        // if the image is one
}

// NewPlan reads what decoding needs from an image's headers. Its error blames
// the image.
func NewPlan(b []byte, h Header) (Plan, error) {
	p := Plan{Image: b, canvas: image.Pt(h.Width, h.Height)}
	p.frame = image.Rectangle{Max: p.canvas}
	if h.Format != "webp" {
		return p, nil
	}
	f, err := parseWebP(b)
	if err != nil {
		return Plan{}, err
	}
	p.webp, p.Alpha = f, f.alpha
	if f.animated {
		if err := h.check(f.canvas.X, f.canvas.Y); err != nil {
			return Plan{}, err
		}
		p.Image, p.frame = f.file(), f.frame
	}
	return p, nil
}

// Plain tells whether the decoded pixels are the picture. If not, Compose
// makes it.
func (p Plan) Plain() bool {
	return !p.Alpha && p.frame == image.Rectangle{Max: p.canvas}
}

// Size is the size of the picture.
func (p Plan) Size() (width, height int) { return p.canvas.X, p.canvas.Y }

// white lies behind transparent pixels.
var white = [3]byte{255, 255, 255}

// Compose writes the picture, RGB, from the decoded pixels. Transparent ones,
// and those that the frame leaves free, show what lies behind. It refuses
// buffers of another size than the plan's.
func (p Plan) Compose(to, from []byte, channels int) error {
	size := p.frame.Size()
	if len(to) != 3*p.canvas.X*p.canvas.Y || len(from) != channels*size.X*size.Y || channels != 3 && channels != 4 {
		return fmt.Errorf("%d bytes are not %d×%d pixels of %d channels, or %d not %d×%d of 3",
			len(from), size.X, size.Y, channels, len(to), p.canvas.X, p.canvas.Y)
	}
	if size != p.canvas {
		for i := range to {
			to[i] = white[i%3]
		}
	}
	for y := range size.Y {
		row := to[3*((p.frame.Min.Y+y)*p.canvas.X+p.frame.Min.X):]
		if channels == 3 {
			copy(row, from[3*y*size.X:3*(y+1)*size.X])
			continue
		}
		for x := range size.X {
			blend(row[3*x:3*x+3], from[4*(y*size.X+x):], white)
		}
	}
	return nil
}

// blend lays a pixel with alpha on a background, rounded to the nearest level.
func blend(to, rgba []byte, background [3]byte) {
	a := int(rgba[3])
	if a == 255 {
		copy(to, rgba[:3])
		return
	}
	for c := range to {
		to[c] = byte((int(rgba[c])*a + int(background[c])*(255-a) + 127) / 255)
	}
}
