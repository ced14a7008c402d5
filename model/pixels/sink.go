package pixels

import (
	"encoding/binary"
	"image"
	"math"

	"inceptor/savedmodel"
)

// GrayWeights are those of red, green and blue in tf.image.rgb_to_grayscale.
var GrayWeights = [3]float32{0.2989, 0.5870, 0.1140}

// A sink writes resized rows, from the top, into a model's input as the model takes them. Each
// operation rounds to float32, as TensorFlow's do: hence the conversions, without which some
// processors would round a product and a sum at once.
type sink struct {
	recipe Recipe
	to     []byte
	place  image.Rectangle // of the picture in the input
	y      int             // of the next row, in the input
	line   []float32       // the row that is resized: red, green and blue of each of its pixels

	usual bool // floats does what put does

	// What the numbers are held within: a bicubic resize overshoots what an integer may hold.
	clip      bool
	low, high float32
}

// newSink is a sink for a picture that lies at a place of the input, around which the input is
// written.
func (r Recipe) newSink(to []byte, place image.Rectangle) sink {
	whole := image.Rect(0, 0, r.Width, r.Height)
	s := sink{recipe: r, to: to, place: whole, line: make([]float32, 3*r.Width)}
	s.usual = r.DType == savedmodel.Float32 && (r.Channels == "" || r.Channels == RGB) && r.Layout != ChannelsFirst
	if r.Resize == Bicubic {
		s.low, s.high, s.clip = Range(r.DType)
	}
	if place != whole {
		for range r.Height {
			clear(s.line)
			s.put()
		}
	}
	s.place, s.y, s.line = place, place.Min.Y, s.line[:3*place.Dx()]
	return s
}

// put writes the line, which it changes.
func (s *sink) put() {
	r, line := &s.recipe, s.line
	if s.usual {
		s.floats()
		return
	}
	if r.Channels == Gray {
		gray := line[:len(line)/3]
		for x := range gray {
			pixel := line[3*x : 3*x+3]
			gray[x] = float32(pixel[0]*GrayWeights[0]) + float32(pixel[1]*GrayWeights[1]) + float32(pixel[2]*GrayWeights[2])
		}
		line = gray
	}
	channels := r.Channels.Count()
	// Where the first number goes, and how many numbers lie from there to the next pixel's and to the
	// next channel's.
	at, next, plane := (s.y*r.Width+s.place.Min.X)*channels, channels, 1
	if r.Layout == ChannelsFirst {
		at, next, plane = s.y*r.Width+s.place.Min.X, 1, r.Height*r.Width
	}
	for c := range channels {
		from := c
		if r.Channels == BGR {
			from = channels - 1 - c
		}
		scale, offset := r.Scale[c], r.Offset[c]
		each := r.DType.Size()
		to := s.to[(at+c*plane)*each:]
		for x := from; x < len(line); x += channels {
			v := float32(line[x]*scale) + offset
			if s.clip {
				v = min(max(v, s.low), s.high)
			}
			Cast(to, r.DType, v)
			to = to[min(next*each, len(to)):]
		}
	}
	s.y++
}

// floats is put for what most models take: float32, red, green and blue of each pixel in turn.
func (s *sink) floats() {
	scale, offset := s.recipe.Scale, s.recipe.Offset
	to := s.to[12*(s.y*s.recipe.Width+s.place.Min.X):]
	for line := s.line; len(line) >= 3; line = line[3:] {
		for c, v := range line[:3] {
			binary.LittleEndian.PutUint32(to[4*c:], math.Float32bits(float32(v*scale[c])+offset[c]))
		}
		to = to[12:]
	}
	s.y++
}
