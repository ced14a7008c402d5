package pixels

import (
	"fmt"
	"image"
)

// A View says how a model sees an image. The zero View is TensorFlow's: the picture as it is
// stored, without its alpha.
type View struct {
	Upright bool // turn and mirror the picture as its EXIF says

	// Background lies behind transparent pixels. Nil: those of a PNG show their hidden
	// colours, and those of a WebP, which TensorFlow cannot decode to three channels, lie
	// on white.
	Background *[3]byte
}

// A Plan says what to decode of an image, and how to compose the picture that a model sees
// from the decoded pixels.
type Plan struct {
	Image []byte // the file to decode, or the first frame of an animation
	Alpha bool   // decode to four channels, RGBA; false: to three

	canvas      image.Point     // size of the stored picture
	frame       image.Rectangle // where the decoded pixels lie on the canvas
	orientation orientation     // of the canvas
	background  [3]byte
	webp        webpFile // if the image is one
}

// Plan reads an image's headers and returns how to decode it. The error blames the image.
func (v View) Plan(b []byte, h Header) (Plan, error) {
	p := Plan{
		Image: b, canvas: image.Pt(h.Width, h.Height),
		orientation: upright, background: [3]byte{255, 255, 255},
	}
	p.frame = image.Rectangle{Max: p.canvas}
	if v.Background != nil {
		p.background = *v.Background
	}
	if v.Upright {
		p.orientation = orientationOf(b, h.Format)
	}
	switch h.Format {
	case "png":
		p.Alpha = v.Background != nil && transparentPNG(b)
	case "webp":
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
	}
	return p, nil
}

// Plain reports whether the decoded pixels are the picture. If not, Compose makes it.
func (p Plan) Plain() bool {
	return !p.Alpha && p.orientation == upright && p.frame == image.Rectangle{Max: p.canvas}
}

// Scaled returns the plan for an image that its decoder scales to another size.
func (p Plan) Scaled(width, height int) Plan {
	p.canvas = image.Pt(width, height)
	p.frame = image.Rectangle{Max: p.canvas}
	return p
}

// Turned reports whether the picture's width is the height of the decoded pixels.
func (p Plan) Turned() bool { return p.orientation.turned() }

// Size returns the size of the picture.
func (p Plan) Size() (width, height int) {
	if p.Turned() {
		return p.canvas.Y, p.canvas.X
	}
	return p.canvas.X, p.canvas.Y
}

// Compose writes the picture, RGB, from the decoded pixels. The background shows where they
// are transparent, and around the frame. Its error is that a buffer does not have the plan's
// size.
func (p Plan) Compose(to, from []byte, channels int) error {
	size := p.frame.Size()
	if len(to) != 3*p.canvas.X*p.canvas.Y || len(from) != channels*size.X*size.Y || channels != 3 && channels != 4 {
		return fmt.Errorf("%d bytes are not %d×%d pixels of %d channels, or %d not %d×%d of 3",
			len(from), size.X, size.Y, channels, len(to), p.canvas.X, p.canvas.Y)
	}
	if size != p.canvas {
		for i := range to {
			to[i] = p.background[i%3]
		}
	}
	base, right, down := p.orientation.walk(p.canvas.X, p.canvas.Y)
	base += p.frame.Min.X*right + p.frame.Min.Y*down
	if right == 1 && channels == 3 {
		for y := range size.Y {
			copy(to[3*(base+y*down):], from[3*y*size.X:][:3*size.X])
		}
		return nil
	}
	columns := size.X // at a time
	if p.Turned() {
		columns = 16 // each becomes a row; a few rows at a time stay in the processor's cache
	}
	for left := 0; left < size.X; left += columns {
		n := min(columns, size.X-left)
		for y := range size.Y {
			at, row := 3*(base+left*right+y*down), from[channels*(y*size.X+left):][:channels*n]
			for ; len(row) > 0; row, at = row[channels:], at+3*right {
				if channels == 4 {
					p.blend(to[at:at+3:at+3], row[:4:4])
				} else {
					to[at], to[at+1], to[at+2] = row[0], row[1], row[2]
				}
			}
		}
	}
	return nil
}

// blend lays a pixel on the background, and rounds to the nearest level.
func (p *Plan) blend(to, rgba []byte) {
	a := int(rgba[3])
	for c := range to {
		to[c] = byte((int(rgba[c])*a + int(p.background[c])*(255-a) + 127) / 255)
	}
}

// transparentPNG reports whether a PNG has alpha, in a channel or in a table.
func transparentPNG(b []byte) bool {
	const colour, alpha = 9, 4 // in IHDR, which need not be the first chunk
	transparent := false
	pngChunks(b, func(kind string, body []byte) bool {
		transparent = kind == "tRNS" || kind == "IHDR" && len(body) > colour && body[colour]&alpha != 0
		return !transparent && kind != "IDAT"
	})
	return transparent
}
