package model

import (
	"cmp"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"inceptor/model/pixels"
	"inceptor/savedmodel"
)

// An Origin says where a value of the preprocessing comes from.
type Origin string

// The origins, in the order in which they decide.
const (
	OriginFile     Origin = "inceptor.yaml" // a person has written it
	OriginGraph    Origin = "graph"         // the model's graph or signature shows it
	OriginMeasured Origin = "measured"      // the golden images pass with it
	OriginAssumed  Origin = "assumed"       // nothing says it
)

// Preprocessing says how an image becomes the input of a model that takes
// pixels, and where that is known from: decoded to RGB, cropped and resized to Size,
// its channels put in order, then pixel*Scale + Offset with pixels from 0 to 255.
type Preprocessing struct {
	Size             [2]int          `json:"size"` // height, width
	Layout           pixels.Layout   `json:"layout"`
	Crop             float64         `json:"crop"` // part of each side that is left before resizing; 1: all of it
	Fit              pixels.Fit      `json:"fit"`
	Resize           string          `json:"resize"` // bilinear or area
	AlignCorners     bool            `json:"align_corners"`
	HalfPixelCenters bool            `json:"half_pixel_centers"`
	Channels         pixels.Channels `json:"channels"`
	Scale            PerChannel      `json:"scale"` // in the order of Channels
	Offset           PerChannel      `json:"offset"`
	ScaleFrom        Origin          `json:"scale_from"`  // of Channels, Scale and Offset
	ResizeFrom       Origin          `json:"resize_from"` // of AlignCorners and HalfPixelCenters

	view pixels.View
}

// A conversion makes what a model takes of the channels of a pixel, from 0 to 255.
type conversion struct {
	channels      pixels.Channels
	scale, offset PerChannel
}

// rgbOf is a conversion of red, green and blue alike.
func rgbOf(scale, offset float64) conversion {
	return conversion{pixels.RGB, same(scale), same(offset)}
}

// conventions are those that models of images have, the assumed one first.
var conventions = [...]conversion{minusOneToOne, zeroToOne, zeroTo255}

var (
	minusOneToOne = rgbOf(1/127.5, -1)
	zeroToOne     = rgbOf(1.0/255, 0)
	zeroTo255     = rgbOf(1, 0)
)

// in is the same conversion for an input of other channels; false: it has numbers
// for each colour, and the input has none.
func (c conversion) in(to pixels.Channels) (conversion, bool) {
	switch {
	case to == "" || to == c.channels:
		return c, true
	case to == pixels.Gray || c.channels == pixels.Gray:
		c.channels = to
		return c, c.scale.uniform() && c.offset.uniform()
	}
	c.channels = to
	slices.Reverse(c.scale[:])
	slices.Reverse(c.offset[:])
	return c, true
}

// low and high are what becomes of the pixels 0 and 255.
func (c conversion) low() PerChannel { return c.offset }
func (c conversion) high() PerChannel {
	return c.scale.each(c.offset, func(s, o float64) float64 { return 255*s + o })
}

// String is the range of the pixels that it makes, such as −1…1, or that of each
// channel where they differ.
func (c conversion) String() string {
	text := func(x float64) string {
		return strings.Replace(strconv.FormatFloat(x, 'g', 4, 64), "-", "−", 1)
	}
	low, high := c.low(), c.high()
	ranges := make([]string, 0, len(low))
	for i := range low {
		ranges = append(ranges, text(low[i])+"…"+text(high[i]))
	}
	if ranges[0] == ranges[1] && ranges[0] == ranges[2] {
		ranges = ranges[:1]
	}
	order := ""
	if c.channels != pixels.RGB && c.channels != "" {
		order = string(c.channels) + " "
	}
	return order + strings.Join(ranges, ", ")
}

// wide tells whether the range is many times as wide as that of most models. Such
// numbers make a network that was trained on small ones surer of its answer, not less
// sure: a high score does not speak for them.
func (c conversion) wide() bool {
	return slices.ContainsFunc(c.scale[:], func(s float64) bool { return math.Abs(255*s) > 10 })
}

// near tells whether two conversions make nearly the same range of each channel.
func (c conversion) near(other conversion) bool {
	if c.channels != other.channels {
		return false
	}
	low, high, otherLow, otherHigh := c.low(), c.high(), other.low(), other.high()
	for i := range low {
		most := 0.05 * math.Abs(high[i]-low[i])
		if !(math.Abs(low[i]-otherLow[i]) <= most && math.Abs(high[i]-otherHigh[i]) <= most) {
			return false
		}
	}
	return true
}

// evidence is what a model says of the pixels that it takes, besides the shape.
type evidence struct {
	dtype  savedmodel.DataType
	pixels *savedmodel.Affine // what the graph computes first of each; nil: not known, or nothing
	tf2    bool               // the model was written by TensorFlow 2
	// channels are those of the input, as its shape tells; empty: three of any order.
	channels pixels.Channels
}

// conversion is the one that the model says; false: it says none.
func (e evidence) conversion() (conversion, bool) {
	if e.dtype == savedmodel.UInt8 {
		return zeroTo255, true
	}
	return conversionFor(e.pixels)
}

// conversionFor infers what pixels a graph takes from what it computes first of
// each. Only a few forms are known well enough; for all others it is false.
func conversionFor(a *savedmodel.Affine) (found conversion, ok bool) {
	if a == nil || len(a.Scale) == 0 || len(a.Offset) == 0 {
		return conversion{}, false
	}
	for i := range max(len(a.Scale), len(a.Offset)) { // one for all channels, or one for each
		c, ok := conversionOf(a.Scale[i%len(a.Scale)], a.Offset[i%len(a.Offset)])
		if !ok || i > 0 && c != found {
			return conversion{}, false
		}
		found = c
	}
	return found, true
}

// conversionOf is conversionFor of one channel, x*scale + offset. The pixel of
// which the graph makes zero is the middle of the range, or its mean.
func conversionOf(scale, offset float64) (conversion, bool) {
	within := func(x, from, to float64) bool { return from <= x && x <= to }
	zero := -offset / scale
	switch {
	case !(scale > 0) || math.IsInf(scale, 0):
	case offset == 0 && within(scale, 1/260.0, 1/120.0):
		return zeroTo255, true // x/255, x/127.5
	case offset == 0 && within(scale, 250, 260):
		return zeroToOne, true // x*255
	case offset == 0: // the channels' deviations alone, or nothing
	case within(zero, 90, 140):
		return zeroTo255, true // x/127.5 - 1, or less a mean of 103.9 to 123.7
	case within(zero, 0.3, 0.6) && (within(zero, 0.49, 0.51) || !within(scale, 1.3, 2.5)):
		return zeroToOne, true // x*2 - 1, or less a mean of 0.406 to 0.485; by a deviation of 0.4 to 0.8, −1…1 may be bright
	case within(zero, -1.01, -0.99) && (within(scale, 0.499, 0.501) || within(scale, 127, 128)):
		return minusOneToOne, true // (x+1)/2, (x+1)*127.5
	}
	return conversion{}, false
}

// preprocessing is how pixels are made for a signature; graph is nil where a
// model server has the model, and no version of it is here.
func (bound signature) preprocessing(signatures map[string]savedmodel.Signature, graph *savedmodel.Graph) (p Preprocessing, contradiction string) {
	e := evidence{dtype: bound.dtype, channels: bound.channels}
	if graph != nil {
		e.tf2 = graph.TF2
		if use, err := graph.Input(bound.Signature, bound.inputKey); err == nil { // a server's signature may be missing here
			e.pixels = use.Pixels
		}
	} else { // TensorFlow 2 names each placeholder so
		e.tf2 = signatures[bound.Signature].Inputs[bound.inputKey].Name == bound.Signature+"_"+bound.inputKey+":0"
	}
	p, contradiction = bound.Input.preprocessing(e)
	if bound.layout != "" {
		p.Layout = bound.layout
	}
	return p, contradiction
}

// preprocessing decides how pixels are made: as a person has written it, else
// as the model says, else by convention. The contradiction, if any, tells that
// the first two differ.
func (in Input) preprocessing(e evidence) (p Preprocessing, contradiction string) {
	p = Preprocessing{
		Size: in.Size, Layout: pixels.ChannelsLast, Crop: 1, Fit: pixels.Stretch, Resize: in.Resize,
		Channels: cmp.Or(e.channels, pixels.RGB),
	}
	p.view, _ = in.view() // validated
	said, ok := e.conversion()
	if ok {
		said, ok = said.in(p.Channels)
	}
	switch {
	case in.Scale != nil || in.Offset != nil:
		c := conversion{p.Channels, same(1), PerChannel{}} // what the file leaves out changes nothing
		if in.Scale != nil {
			c.scale = *in.Scale
		}
		if in.Offset != nil {
			c.offset = *in.Offset
		}
		p.convert(c, OriginFile)
		if ok && !said.near(c) {
			contradiction = fmt.Sprintf("inceptor.yaml makes pixels of %v, the model seems to take %v", c, said)
		}
	case ok:
		p.convert(said, OriginGraph)
	default:
		assumed, _ := minusOneToOne.in(p.Channels)
		p.convert(assumed, OriginAssumed)
	}

	p.AlignCorners = in.AlignCorners != nil && *in.AlignCorners
	p.ResizeFrom = OriginFile
	switch {
	case in.HalfPixelCenters != nil:
		p.HalfPixelCenters = *in.HalfPixelCenters
	case p.AlignCorners, in.Resize == "area": // which excludes it, and does not know it
	default: // tf.image.resize has them since TensorFlow 2
		p.HalfPixelCenters, p.ResizeFrom = e.tf2, OriginAssumed
	}
	return p, contradiction
}

func (p *Preprocessing) convert(c conversion, from Origin) {
	p.Channels, p.Scale, p.Offset, p.ScaleFrom = c.channels, c.scale, c.offset, from
}

// Range is the range of the pixels that the model gets, such as −1…1.
func (p Preprocessing) Range() string { return p.conversion().String() }

// frame is where the pixels of a picture go.
func (p Preprocessing) frame() pixels.Frame {
	return pixels.Frame{Crop: p.Crop, Fit: p.Fit, Height: p.Size[0], Width: p.Size[1]}
}

func (p Preprocessing) conversion() conversion { return conversion{p.Channels, p.Scale, p.Offset} }

// String is how pixels are made, and where that is known from.
func (p Preprocessing) String() string {
	return fmt.Sprintf("%d×%d, %s (%s), pixels %v (%s)", p.Size[0], p.Size[1], p.sampling(), p.ResizeFrom, p.conversion(), p.ScaleFrom)
}

// sampling is how the image is resized.
func (p Preprocessing) sampling() string {
	switch {
	case p.AlignCorners:
		return p.Resize + ", corners aligned"
	case p.HalfPixelCenters:
		return p.Resize + ", half-pixel centers"
	}
	return p.Resize
}

// Assumed names what nothing says, such as "pixels −1…1"; empty: all is known.
func (p Preprocessing) Assumed() string {
	var parts []string
	if p.ScaleFrom == OriginAssumed {
		parts = append(parts, "pixels "+p.conversion().String())
	}
	if p.ResizeFrom == OriginAssumed {
		centers := "no half-pixel centers"
		if p.HalfPixelCenters {
			centers = "half-pixel centers"
		}
		parts = append(parts, centers)
	}
	return strings.Join(parts, " and ")
}

// note tells what is assumed, and what to write into which file to state it;
// empty: nothing is assumed. The version's directory is dir; empty: there is none.
func (p Preprocessing) note(dir string) string {
	var keys []string
	if p.ScaleFrom == OriginAssumed {
		keys = append(keys, "scale: "+p.Scale.String(), "offset: "+p.Offset.String())
	}
	if p.ResizeFrom == OriginAssumed {
		keys = append(keys, fmt.Sprintf("half_pixel_centers: %v", p.HalfPixelCenters))
	}
	if len(keys) == 0 {
		return ""
	}
	file := filepath.Join(dir, specFile)
	if dir == "" {
		file = filepath.Join("DIR/VERSION", specFile) + " of model.dir"
	}
	return fmt.Sprintf(`%s are assumed, not stated by the model: if they are right, write "input: {%s}" into %s to state them`,
		p.Assumed(), strings.Join(keys, ", "), file)
}

func decimal(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
