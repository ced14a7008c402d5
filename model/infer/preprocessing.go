package infer

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

// The origins. An earlier one takes precedence over a later one.
const (
	OriginFile     Origin = "inceptor.yaml" // a person wrote it
	OriginGraph    Origin = "graph"         // the model's graph or signature shows it
	OriginMeasured Origin = "measured"      // the golden images pass with it
	OriginAssumed  Origin = "assumed"       // nothing states it
)

// Preprocessing says how an image becomes the input of a model that takes pixels, and how that is
// known. The image is decoded to RGB, cropped, resized to Size, its channels put in order; then
// each pixel, from 0 to 255, becomes pixel*Scale + Offset.
type Preprocessing struct {
	Size             [2]int          `json:"size"` // height, width
	Layout           pixels.Layout   `json:"layout"`
	Crop             float64         `json:"crop"` // fraction of each side to keep
	Fit              pixels.Fit      `json:"fit"`
	Resize           string          `json:"resize"` // bilinear, nearest, bicubic or area
	AlignCorners     bool            `json:"align_corners"`
	HalfPixelCenters bool            `json:"half_pixel_centers"`
	Channels         pixels.Channels `json:"channels"`
	Scale            PerChannel      `json:"scale"` // in the order of Channels
	Offset           PerChannel      `json:"offset"`
	ScaleFrom        Origin          `json:"scale_from"`  // of Channels, Scale and Offset
	ResizeFrom       Origin          `json:"resize_from"` // of AlignCorners and HalfPixelCenters

	view   pixels.View
	stated pixels.Channels     // by the file or the input's shape; empty: by neither
	dtype  savedmodel.DataType // of the input
}

// preprocessing decides how pixels are made for a signature. The contradiction tells that
// inceptor.yaml and the model differ; empty: they do not. graph is nil if a model server has the
// model and no version of it is local.
func (bound signature) preprocessing(signatures map[string]savedmodel.Signature, graph *savedmodel.Graph) (p Preprocessing, contradiction string) {
	e := evidence{dtype: bound.dtype, channels: bound.channels}
	if graph != nil {
		e.tf2 = graph.TF2
		// A model server's signature may be missing here.
		if use, err := graph.Input(bound.Signature, bound.inputKey); err == nil {
			e.pixels = use.Pixels
		}
	} else { // TensorFlow 2 names placeholders so
		e.tf2 = signatures[bound.Signature].Inputs[bound.inputKey].Name == bound.Signature+"_"+bound.inputKey+":0"
	}
	p, contradiction = bound.Input.preprocessing(e)
	if bound.layout != "" {
		p.Layout = bound.layout
	}
	return p, contradiction
}

// preprocessing decides how pixels are made: as inceptor.yaml says, else as the model shows, else
// by convention. The contradiction tells that the first two differ.
func (in Input) preprocessing(e evidence) (p Preprocessing, contradiction string) {
	p = Preprocessing{
		Size: in.Size, Layout: pixels.ChannelsLast, Crop: 1, Fit: cmp.Or(pixels.Fit(in.Fit), pixels.Stretch), Resize: in.Resize,
		// The two agree, or bind refuses them.
		stated: cmp.Or(pixels.Channels(in.Channels), e.channels), dtype: e.dtype,
	}
	if in.Crop != nil {
		p.Crop = *in.Crop
	}
	p.view, _ = Spec{Input: in}.view() // validated
	said, ok := e.conversion()
	switch {
	case len(in.conversionKeys()) > 0:
		p.convert(in.conversion(cmp.Or(p.stated, pixels.RGB)), OriginFile)
	case ok:
		p.convert(conversion{cmp.Or(p.stated, said.channels, pixels.RGB), said.scale, said.offset}, OriginGraph)
	default:
		p.convert(p.candidates()[0], OriginAssumed)
	}
	switch {
	case ok && !said.near(p.conversion()):
		contradiction = fmt.Sprintf("inceptor.yaml makes pixels of %v, but the model seems to take %v", p.conversion(), said)
	case ok && said.channels != "" && said.channels != p.Channels:
		contradiction = fmt.Sprintf("inceptor.yaml makes the channels %s, but the model seems to take %s", p.Channels, said.channels)
	}

	p.AlignCorners = in.AlignCorners != nil && *in.AlignCorners
	p.ResizeFrom = OriginFile
	switch {
	case in.HalfPixelCenters != nil:
		p.HalfPixelCenters = *in.HalfPixelCenters
	case p.AlignCorners, in.Resize == "area": // neither goes with half-pixel centers
	default: // tf.image.resize has had them since TensorFlow 2
		p.HalfPixelCenters, p.ResizeFrom = e.tf2, OriginAssumed
	}
	return p, contradiction
}

// conversion returns the conversion that the file states. Keys that it leaves out change nothing.
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

// candidates returns the conventions that the input may follow, the assumed one first.
func (p Preprocessing) candidates() []conversion { return conventionsFor(p.stated, p.dtype) }

func (p *Preprocessing) convert(c conversion, from Origin) {
	p.Channels, p.Scale, p.Offset, p.ScaleFrom = c.channels, c.scale, c.offset, from
}

// Range returns the range of the pixels that the model gets, such as −1…1.
func (p Preprocessing) Range() string { return p.conversion().String() }

// frame returns where the pixels of an image go.
func (p Preprocessing) frame() pixels.Frame {
	return pixels.Frame{Crop: p.Crop, Fit: p.Fit, Height: p.Size[0], Width: p.Size[1]}
}

func (p Preprocessing) conversion() conversion { return conversion{p.Channels, p.Scale, p.Offset} }

// String says how pixels are made, and how that is known.
func (p Preprocessing) String() string {
	steps := append(p.steps(), fmt.Sprintf("%s (%s)", p.sampling(), p.ResizeFrom), fmt.Sprintf("pixels %v (%s)", p.conversion(), p.ScaleFrom))
	return fmt.Sprintf("%d×%d, %s", p.Size[0], p.Size[1], strings.Join(steps, ", "))
}

// input says how pixels are made, whatever tells that.
func (p Preprocessing) input() string {
	steps := append(p.steps(), p.sampling(), "pixels "+p.conversion().String())
	return fmt.Sprintf("%d×%d, %s", p.Size[0], p.Size[1], strings.Join(steps, ", "))
}

// steps names what is done besides resizing and converting.
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

// sampling says how the image is resized.
func (p Preprocessing) sampling() string {
	switch {
	case p.AlignCorners:
		return p.Resize + ", corners aligned"
	case p.HalfPixelCenters:
		return p.Resize + ", half-pixel centers"
	}
	return p.Resize
}

// Assumed names what nothing states, such as "pixels −1…1"; empty: everything is stated.
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

// note says what is assumed, and what to write into which file to state it; empty: nothing is
// assumed. The version's directory is dir; empty: there is none.
func (p Preprocessing) note(dir string) string {
	var keys []string
	if p.ScaleFrom == OriginAssumed {
		keys = append(keys, p.conversion().yamlLines()...)
	}
	if p.ResizeFrom == OriginAssumed {
		keys = append(keys, fmt.Sprintf("half_pixel_centers: %v", p.HalfPixelCenters))
	}
	if len(keys) == 0 {
		return ""
	}
	file := specPath(dir)
	if dir == "" {
		file = filepath.Join("DIR/VERSION", SpecFile) + " of model.dir"
	}
	return fmt.Sprintf(`%s are assumed, not stated by the model: if they are right, write "input: {%s}" into %s to state them`,
		p.Assumed(), strings.Join(keys, ", "), file)
}

func decimal(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
