package infer

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"inceptor/model/pixels"
	"inceptor/savedmodel"
)

// A conversion turns the channels of a pixel, from 0 to 255, into a model's input.
type conversion struct {
	channels      pixels.Channels // empty: red, green and blue in any order
	scale, offset PerChannel
}

// rgbOf returns a conversion that treats red, green and blue alike.
func rgbOf(scale, offset float64) conversion {
	return conversion{pixels.RGB, same(scale), same(offset)}
}

// normalized returns the conversion (pixel*scale - mean) / std.
func normalized(channels pixels.Channels, scale, mean, std PerChannel) conversion {
	divide := func(x, y float64) float64 { return x / y }
	offset := mean.each(std, func(m, s float64) float64 { return 0 - m/s }) // no -0
	return conversion{channels, scale.each(std, divide), offset}
}

// A norm is the mean and deviation by which a family of models normalizes pixels, in RGB.
type norm struct {
	name      string
	scale     string // as it is written in inceptor.yaml; empty: 1
	by        PerChannel
	mean, std PerChannel
}

// The norms of ImageNet: PyTorch's, and Caffe's, which most models take in BGR.
var (
	torch = norm{
		name: "0…1 normalized by ImageNet's mean and std", scale: "1/255", by: same(1.0 / 255),
		mean: PerChannel{0.485, 0.456, 0.406}, std: PerChannel{0.229, 0.224, 0.225},
	}
	caffe = norm{
		name: "0…255 less ImageNet's mean", by: same(1),
		mean: PerChannel{123.68, 116.779, 103.939}, std: same(1),
	}
	norms = [...]norm{torch, caffe}
)

func (n norm) conversion() conversion { return normalized(pixels.RGB, n.by, n.mean, n.std) }

var (
	minusOneToOne = rgbOf(1/127.5, -1)
	zeroToOne     = rgbOf(1.0/255, 0)
	zeroTo255     = rgbOf(1, 0)
	torchRGB      = torch.conversion()
	caffeBGR      = caffe.conversion().withChannels(pixels.BGR)
)

// conventions are the usual conversions, the assumed one first and those with wide ranges last.
var conventions = [...]conversion{minusOneToOne, zeroToOne, torchRGB, caffeBGR, zeroTo255}

// conventionsFor returns the conventions that fit an input's channels and type, the assumed one
// first. Channels are empty if nothing says which ones the input has.
func conventionsFor(channels pixels.Channels, dtype savedmodel.DataType) (list []conversion) {
	for _, c := range conventions {
		if _, _, whole := pixels.Range(dtype); whole && c != zeroTo255 {
			continue // the others leave only a few whole numbers
		}
		if dtype == savedmodel.Int8 {
			c.offset = same(-128)
		}
		if channels != "" {
			if channels == pixels.Gray && !c.uniform() {
				continue
			}
			c = c.withChannels(channels)
		}
		if !slices.Contains(list, c) {
			list = append(list, c)
		}
	}
	return list
}

// uniform tells whether it treats all channels alike.
func (c conversion) uniform() bool { return c.scale.uniform() && c.offset.uniform() }

// withChannels returns the same conversion for an input with other channels.
func (c conversion) withChannels(channels pixels.Channels) conversion {
	if c.channels != "" && c.channels != channels {
		slices.Reverse(c.scale[:])
		slices.Reverse(c.offset[:])
	}
	c.channels = channels
	return c
}

// norm returns the norm with the same numbers; false: there is none.
func (c conversion) norm() (norm, bool) {
	for _, n := range norms {
		if made := n.conversion(); made == c || c.channels == pixels.BGR && made.withChannels(pixels.BGR) == c {
			return n, true
		}
	}
	return norm{}, false
}

// yamlLines returns the conversion as lines of inceptor.yaml.
func (c conversion) yamlLines() (lines []string) {
	if c.channels == pixels.BGR {
		lines = append(lines, "channels: bgr")
	}
	n, ok := c.norm()
	if !ok {
		return append(lines, "scale: "+c.scale.String(), "offset: "+c.offset.String())
	}
	if c.channels == pixels.BGR {
		slices.Reverse(n.mean[:])
		slices.Reverse(n.std[:])
	}
	if n.scale != "" {
		lines = append(lines, "scale: "+n.scale)
	}
	lines = append(lines, "mean: "+n.mean.String())
	if n.std != same(1) {
		lines = append(lines, "std: "+n.std.String())
	}
	return lines
}

// formula returns the formula that those lines fill in.
func (c conversion) formula() string {
	if _, ok := c.norm(); ok {
		return "(pixel × scale − mean) / std"
	}
	return "pixel × scale + offset"
}

// low and high convert the pixels 0 and 255.
func (c conversion) low() PerChannel { return c.offset }

func (c conversion) high() PerChannel {
	return c.scale.each(c.offset, func(s, o float64) float64 { return 255*s + o })
}

// String returns the range of the converted pixels, such as −1…1, the range of each channel if they
// differ, or the name of a norm.
func (c conversion) String() string {
	order := ""
	switch c.channels {
	case pixels.BGR:
		order = "BGR "
	case pixels.Gray:
		order = "gray "
	case pixels.RGB: // is not worth saying
	}
	if n, ok := c.norm(); ok {
		return order + n.name
	}
	text := func(x float64) string {
		return strings.Replace(strconv.FormatFloat(x, 'g', 4, 64), "-", "−", 1)
	}
	low, high := c.low(), c.high()
	ranges := make([]string, 0, len(low))
	for i := range low {
		ranges = append(ranges, text(low[i])+"…"+text(high[i]))
	}
	if c.uniform() {
		ranges = ranges[:1]
	}
	return order + strings.Join(ranges, ", ")
}

// wide tells whether the range is many times wider than that of most models. A network that was
// trained on small numbers gives higher scores for large ones, so a high score does not speak for a
// wide range.
func (c conversion) wide() bool {
	return slices.ContainsFunc(c.scale[:], func(s float64) bool { return math.Abs(255*s) > 10 })
}

// near tells whether two conversions give each channel nearly the same range.
func (c conversion) near(other conversion) bool {
	low, high, otherLow, otherHigh := c.low(), c.high(), other.low(), other.high()
	for i := range low {
		most := 0.05 * math.Abs(high[i]-low[i])
		if !(math.Abs(low[i]-otherLow[i]) <= most && math.Abs(high[i]-otherHigh[i]) <= most) {
			return false
		}
	}
	return true
}

// finite tells whether float32 can hold the converted pixels.
func (c conversion) finite() bool {
	for i, high := range c.high() {
		if !(math.Abs(high) <= math.MaxFloat32 && math.Abs(c.offset[i]) <= math.MaxFloat32) || float32(c.scale[i]) == 0 {
			return false
		}
	}
	return true
}

// checkType says why an input of a type cannot hold the converted pixels; nil: it can. A cast to
// whole numbers drops fractions, so a small range would leave all pixels equal.
func (c conversion) checkType(dtype savedmodel.DataType) error {
	from, to, limited := pixels.Range(dtype)
	if dtype == savedmodel.Float16 {
		from, to, limited = -65504, 65504, true
	}
	low, high := c.low(), c.high()
	least, most := slices.Min(append(low[:], high[:]...)), slices.Max(append(low[:], high[:]...))
	if limited && (math.Trunc(least) < float64(from) || math.Trunc(most) > float64(to)) {
		return fmt.Errorf("it makes pixels of %v, and the input's type %v holds %v to %v", c, dtype, from, to)
	}
	if _, _, whole := pixels.Range(dtype); whole && !c.wide() {
		return fmt.Errorf("it makes pixels of %v, and the input's type %v holds whole numbers only, so nearly nothing of an image would be left", c, dtype)
	}
	return nil
}

// evidence is what is known of the pixels that a model takes, besides their shape.
type evidence struct {
	dtype  savedmodel.DataType
	pixels *savedmodel.Affine // what the graph computes of each pixel first; nil: not known
	tf2    bool               // the model was written by TensorFlow 2
	// channels are the input's, by its shape; empty: three, in any order.
	channels pixels.Channels
}

// conversion returns the conversion that the model shows; false: it shows none. Its channels are
// empty if the model does not show their order.
func (e evidence) conversion() (conversion, bool) {
	found, ok := conversionFor(e.pixels)
	if _, _, whole := pixels.Range(e.dtype); whole && (found.scale != zeroTo255.scale || found.offset != zeroTo255.offset) {
		ok = false // such pixels are fractions
	}
	if e.dtype == savedmodel.UInt8 && !ok {
		return conversion{"", zeroTo255.scale, zeroTo255.offset}, true
	}
	return found, ok
}

// conversionFor infers which pixels a graph takes from what it computes of them first. Only a few
// forms are known well enough; for all others it returns false.
func conversionFor(a *savedmodel.Affine) (found conversion, ok bool) {
	if a == nil || len(a.Scale) == 0 || len(a.Offset) == 0 {
		return conversion{}, false
	}
	// The pixels that the graph turns into zero, one for all channels or one for each.
	var zeros []float64
	for i := range max(len(a.Scale), len(a.Offset)) {
		scale, offset := a.Scale[i%len(a.Scale)], a.Offset[i%len(a.Offset)]
		c, ok := conversionOf(scale, offset)
		if !ok || i > 0 && c != found {
			return conversion{}, false
		}
		found = c
		zeros = append(zeros, -offset/scale)
	}
	found.channels = channelsOf(zeros)
	return found, true
}

// channelsOf tells the order of channels by their means, if these are ImageNet's; empty: they are
// not.
func channelsOf(means []float64) pixels.Channels {
	for _, n := range norms {
		for _, order := range []pixels.Channels{pixels.RGB, pixels.BGR} {
			if len(means) == len(n.mean) && !slices.ContainsFunc([]int{0, 1, 2}, func(i int) bool {
				return !(math.Abs(means[i]-n.mean[i]) <= 0.02*n.mean[i])
			}) {
				return order
			}
			slices.Reverse(n.mean[:])
		}
	}
	return ""
}

// conversionOf is conversionFor for one channel, x*scale + offset. The pixel that the graph turns
// into zero is the middle of the range, or its mean.
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
		// x*2 - 1, or less a mean of 0.406 to 0.485. With a deviation of 0.4 to 0.8, the pixels may
		// also be −1…1 of bright images.
		return zeroToOne, true
	case within(zero, -1.01, -0.99) && (within(scale, 0.499, 0.501) || within(scale, 127, 128)):
		return minusOneToOne, true // (x+1)/2, (x+1)*127.5
	}
	return conversion{}, false
}
