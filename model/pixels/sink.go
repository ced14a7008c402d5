package pixels

import (
	"encoding/binary"
	"image"
	"math"

	"inceptor/savedmodel"
)

// GrayWeights are the weights of red, green and blue in tf.image.rgb_to_grayscale.
var GrayWeights = [3]float32{0.2989, 0.5870, 0.1140}

// A sink converts resized rows, from the top, and writes them into a model's input. Each
// operation rounds to float32 as TensorFlow's do. Without the conversions, some processors
// would round a product and a sum only once.
type sink struct {
	recipe Recipe
	to     []byte
	place  image.Rectangle // of the picture in the input
	y      int             // of the next row, in the input
	line   []float32       // the next row: red, green and blue of each pixel

	usual bool // putUsual can write the rows

	// The range of an integer type, which a bicubic resize overshoots.
	clip      bool
	low, high float32
}

// newSink returns a sink for a picture at a place in the input. It writes the input around
// that.
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

// put writes the line, and changes it.
func (s *sink) put() {
	r, line := &s.recipe, s.line
	if s.usual {
		s.putUsual()
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
	// The index of the first number, and the distances to the next pixel and to the next
	// channel.
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

// putUsual is put for what most models take: float32, red, green and blue of each pixel in turn.
func (s *sink) putUsual() {
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
