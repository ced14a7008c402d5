package model

import (
	"cmp"
	"fmt"
	"path/filepath"
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
	Resize           string          `json:"resize"` // a key of resizeOps
	AlignCorners     bool            `json:"align_corners"`
	HalfPixelCenters bool            `json:"half_pixel_centers"`
	Channels         pixels.Channels `json:"channels"`
	Scale            PerChannel      `json:"scale"` // in the order of Channels
	Offset           PerChannel      `json:"offset"`
	ScaleFrom        Origin          `json:"scale_from"`  // of Channels, Scale and Offset
	ResizeFrom       Origin          `json:"resize_from"` // of AlignCorners and HalfPixelCenters

	view   pixels.View
	stated pixels.Channels     // that the file or the input's shape states; empty: neither does
	dtype  savedmodel.DataType // of the input
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
		Size: in.Size, Layout: pixels.ChannelsLast, Crop: 1, Fit: cmp.Or(pixels.Fit(in.Fit), pixels.Stretch), Resize: in.Resize,
		stated: cmp.Or(pixels.Channels(in.Channels), e.channels), dtype: e.dtype, // the two are alike, or refused
	}
	if in.Crop != nil {
		p.Crop = *in.Crop
	}
	p.view, _ = Spec{Input: in}.view() // validated
	said, ok := e.conversion()
	switch {
	case len(in.numbers()) > 0:
		p.convert(in.conversion(cmp.Or(p.stated, pixels.RGB)), OriginFile)
	case ok:
		p.convert(conversion{cmp.Or(p.stated, said.channels, pixels.RGB), said.scale, said.offset}, OriginGraph)
	default:
		p.convert(p.usual()[0], OriginAssumed)
	}
	switch {
	case ok && !said.near(p.conversion()):
		contradiction = fmt.Sprintf("inceptor.yaml makes pixels of %v, the model seems to take %v", p.conversion(), said)
	case ok && said.channels != "" && said.channels != p.Channels:
		contradiction = fmt.Sprintf("inceptor.yaml makes the channels %s, the model seems to take %s", p.Channels, said.channels)
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

// conversion is what the file says. What it leaves out changes nothing.
func (in Input) conversion(channels pixels.Channels) conversion {
	number := func(p *PerChannel, none float64) PerChannel {
		if p == nil {
			return same(none)
		}
		return *p
	}
	c := normalized(channels, number(in.Scale, 1), number(in.Mean, 0), number(in.Std, 1))
	if in.Offset != nil {
		c.offset = *in.Offset
	}
	return c
}

// usual are the conventions that may hold for the input, the assumed one first.
func (p Preprocessing) usual() []conversion { return usual(p.stated, p.dtype) }

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
	steps := append(p.steps(), fmt.Sprintf("%s (%s)", p.sampling(), p.ResizeFrom), fmt.Sprintf("pixels %v (%s)", p.conversion(), p.ScaleFrom))
	return fmt.Sprintf("%d×%d, %s", p.Size[0], p.Size[1], strings.Join(steps, ", "))
}

// steps are what is done besides resizing and converting, in words.
func (p Preprocessing) steps() (list []string) {
	if p.Crop > 0 && p.Crop < 1 {
		list = append(list, fmt.Sprintf("the middle %s of each side", decimal(p.Crop)))
	}
	switch p.Fit {
	case pixels.Pad:
		list = append(list, "padded to the aspect ratio")
	case pixels.Crop:
		list = append(list, "cropped to the aspect ratio")
	}
	if p.Layout == pixels.ChannelsFirst {
		list = append(list, "channels first")
	}
	return list
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
		keys = append(keys, p.conversion().keys()...)
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
