package model

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"inceptor/model/pixels"
	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// A decoder turns encoded images into the model's input, with the operations
// that Python's tf.io.decode_image and image resizing are made of, so that
// answers are the same. What those do not do, it does between decoding and
// resizing: WebP with alpha and animated WebP, which Python refuses, and the
// orientation and background that a version asks for. See pixels.View.
//
// A fast one lets libjpeg leave out detail of a JPEG far larger than the input:
// see ratio.
type decoder struct {
	session *savedmodel.Session
	decode  [len(ratios)]*savedmodel.Function // contents → input, by ratio; nil: never used
	size    [2]int                            // height and width of the input
	fast    bool
	view    pixels.View

	// The same in two steps, for images that are composed between them.
	rgb    [len(ratios)]*savedmodel.Function // contents → uint8 [height, width, 3], by ratio
	rgba   *savedmodel.Function              // contents → uint8 [height, width, 4]
	finish *savedmodel.Function              // uint8 [height, width, 3] → input
}

// ratios are those of sizes at which libjpeg can decode, by its DCT alone. The
// next one, 8, would leave nothing but each block's mean.
var ratios = [...]int{1, 2, 4}

func newDecoder(p Preprocessing, dtype savedmodel.DataType, fast bool, o savedmodel.Options) (*decoder, error) {
	session, err := savedmodel.NewSession(decodeGraph(p, dtype, fast), o)
	if err != nil {
		return nil, err
	}
	d := &decoder{session: session, size: p.Size, fast: fast, view: p.view}
	var errs []error
	function := func(from, to string) *savedmodel.Function {
		f, err := session.Function([]string{from + ":0"}, []string{to + ":0"})
		errs = append(errs, err)
		return f
	}
	for i := range ratios {
		if i == 0 || fast {
			d.decode[i] = function("contents", pixelsName(i))
			d.rgb[i] = function("contents", decodedName(i))
		}
	}
	d.rgba = function("contents", "rgba")
	d.finish = function(decodedName(0), pixelsName(0))
	if err := errors.Join(errs...); err != nil {
		return nil, errors.Join(err, session.Close())
	}
	return d, nil
}

// margin is how many times larger than the input an image must still be after
// its decoder has scaled it. Resizing picks single pixels of a large image; with
// less margin they are means of so many that scores change: TestFastDecode.
const margin = 2

// ratio is the index of the largest ratio at which the image is still that
// much larger than the input, in both directions.
func (d *decoder) ratio(h Header) int {
	best := 0
	if !d.fast || h.Format != "jpeg" {
		return best
	}
	for i, r := range ratios[1:] {
		if h.Height >= margin*r*d.size[0] && h.Width >= margin*r*d.size[1] {
			best = i + 1
		}
	}
	return best
}

// pixels decodes, resizes and scales one image to a tensor of shape
// [1, height, width, 3], which the caller closes. An image that TensorFlow
// refuses is an *InputError.
func (d *decoder) pixels(ctx context.Context, image []byte, h Header) (*savedmodel.Tensor, error) {
	plan, err := d.view.Plan(image, pixels.Header{Format: h.Format, Width: h.Width, Height: h.Height})
	if err != nil {
		return nil, &InputError{ReasonUndecodable, fmt.Errorf("%s: %w", h.Format, err)}
	}
	contents, err := savedmodel.NewStringTensor([][]byte{plan.Image})
	if err != nil {
		return nil, err
	}
	defer contents.Close()
	if plan.Turned() {
		h.Width, h.Height = h.Height, h.Width
	}
	ratio := d.ratio(h)
	if plan.Plain() {
		return decodeOne(ctx, d.decode[ratio], contents)
	}
	picture, err := d.compose(ctx, plan, ratio, contents)
	if err != nil {
		return nil, err
	}
	defer picture.Close()
	return decodeOne(ctx, d.finish, picture)
}

// compose decodes and composes a picture, uint8 [height, width, 3].
func (d *decoder) compose(ctx context.Context, plan pixels.Plan, ratio int, contents *savedmodel.Tensor) (*savedmodel.Tensor, error) {
	decode, channels := d.rgb[ratio], 3
	if plan.Alpha {
		decode, channels = d.rgba, 4
	}
	decoded, err := decodeOne(ctx, decode, contents)
	if err != nil {
		return nil, err
	}
	defer decoded.Close()
	if ratio > 0 {
		shape := decoded.Shape()
		plan = plan.Scaled(int(shape[1]), int(shape[0]))
	}
	width, height := plan.Size()
	picture, err := savedmodel.NewTensor(savedmodel.UInt8, int64(height), int64(width), 3)
	if err != nil {
		return nil, err
	}
	if err := plan.Compose(picture.Bytes(), decoded.Bytes(), channels); err != nil {
		picture.Close()
		return nil, &InputError{ReasonUndecodable, err}
	}
	return picture, nil
}

// decodeOne runs a step of decoding, whose refusal blames the image.
func decodeOne(ctx context.Context, f *savedmodel.Function, in *savedmodel.Tensor) (*savedmodel.Tensor, error) {
	out, err := f.Run(ctx, in)
	if err != nil {
		return nil, blame(err, ReasonUndecodable)
	}
	return out[0], nil
}

// item is pixels as an item of a batch, which owns them.
func (d *decoder) item(ctx context.Context, image []byte, h Header) (item, error) {
	p, err := d.pixels(ctx, image, h)
	return item{pixels: p}, err
}

func (d *decoder) Close() error { return d.session.Close() }

// blame makes an *InputError of an error by which TensorFlow says that the
// input is at fault, or of one about what the model makes of it; other errors
// stay what they are.
func blame(err error, reason string) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, savedmodel.ErrNotFinite) {
		return &InputError{Reason: ReasonNotFinite, Err: err}
	}
	var status *savedmodel.Error
	if errors.As(err, &status) && status.Code == savedmodel.InvalidArgument {
		return &InputError{Reason: reason, Err: err}
	}
	return err
}

// decodedName is the decoded image's name in the graph for a ratio.
func decodedName(ratio int) string { return fmt.Sprintf("decoded%d", ratios[ratio]) }

// pixelsName is the result's name in the graph for a ratio.
func pixelsName(ratio int) string { return fmt.Sprintf("pixels%d", ratios[ratio]) }

// decodeGraph is contents → DecodeImage → ResizeBilinear or ResizeArea →
// Mul → AddV2 → Cast → pixels, leaving out the steps that change nothing; and
// if it is to be fast, the same with DecodeJpeg for each of the other ratios.
// Beside it, for images with alpha, contents → DecodeImage → rgba.
func decodeGraph(in Preprocessing, dtype savedmodel.DataType, fast bool) *tfpb.GraphDef {
	g := &graph{def: &tfpb.GraphDef{Versions: &tfpb.VersionDef{Producer: graphProducer}}}
	g.add("contents", "Placeholder", nil, attrs{
		"dtype": typeAttr(tfpb.DataType_DT_STRING), "shape": shapeAttr(),
	})
	g.add("axis", "Const", nil, int32Const(nil, 0))
	g.add("size", "Const", nil, int32Const([]int64{2}, int32(in.Size[0]), int32(in.Size[1])))
	g.addDecode(decodedName(0), 3)
	g.addDecode("rgba", 4)
	g.addPixels(in, dtype, decodedName(0), pixelsName(0))
	for i := 1; fast && i < len(ratios); i++ {
		decoded := decodedName(i)
		g.add(decoded, "DecodeJpeg", []string{"contents"}, attrs{"channels": intAttr(3), "ratio": intAttr(int64(ratios[i]))})
		g.addPixels(in, dtype, decoded, pixelsName(i))
	}
	return g.def
}

func (g *graph) addDecode(name string, channels int64) {
	g.add(name, "DecodeImage", []string{"contents"}, attrs{
		"channels": intAttr(channels), "dtype": typeAttr(tfpb.DataType_DT_UINT8), "expand_animations": boolAttr(false),
	})
}

// addPixels adds the way from a decoded image to the model's input.
func (g *graph) addPixels(in Preprocessing, dtype savedmodel.DataType, decoded, pixels string) {
	const float = tfpb.DataType_DT_FLOAT
	name := func(step string) string { return pixels + "/" + step }
	g.add(name("batch"), "ExpandDims", []string{decoded, "axis"}, attrs{
		"T": typeAttr(tfpb.DataType_DT_UINT8), "Tdim": typeAttr(tfpb.DataType_DT_INT32),
	})
	resize := attrs{"T": typeAttr(tfpb.DataType_DT_UINT8), "align_corners": boolAttr(in.AlignCorners)}
	op := "ResizeArea"
	if in.Resize == "bilinear" {
		op = "ResizeBilinear"
		resize["half_pixel_centers"] = boolAttr(in.HalfPixelCenters)
	}
	last := name("resized")
	g.add(last, op, []string{name("batch"), "size"}, resize)
	then := func(step, op string, a attrs, more ...string) {
		inputs := append([]string{last}, more...)
		last = name(step)
		g.add(last, op, inputs, a)
	}
	if in.Scale != same(1) {
		g.add(name("scale"), "Const", nil, channelConst(in.Scale))
		then("scaled", "Mul", attrs{"T": typeAttr(float)}, name("scale"))
	}
	if in.Offset != same(0) {
		g.add(name("offset"), "Const", nil, channelConst(in.Offset))
		then("shifted", "AddV2", attrs{"T": typeAttr(float)}, name("offset"))
	}
	if dtype != savedmodel.Float32 {
		then("cast", "Cast", attrs{
			"SrcT": typeAttr(float), "DstT": typeAttr(tfpb.DataType(dtype)), "Truncate": boolAttr(false),
		})
	}
	g.add(pixels, "Identity", []string{last}, attrs{"T": typeAttr(tfpb.DataType(dtype))})
}

// graphProducer is the GraphDef version that the attributes above are written
// for; anything recent does.
const graphProducer = 1882

type attrs map[string]*tfpb.AttrValue

type graph struct{ def *tfpb.GraphDef }

func (g *graph) add(name, op string, inputs []string, a attrs) {
	g.def.Node = append(g.def.Node, &tfpb.NodeDef{Name: name, Op: op, Input: inputs, Attr: a})
}

func typeAttr(t tfpb.DataType) *tfpb.AttrValue {
	return &tfpb.AttrValue{Value: &tfpb.AttrValue_Type{Type: t}}
}

func intAttr(i int64) *tfpb.AttrValue {
	return &tfpb.AttrValue{Value: &tfpb.AttrValue_I{I: i}}
}

func boolAttr(b bool) *tfpb.AttrValue {
	return &tfpb.AttrValue{Value: &tfpb.AttrValue_B{B: b}}
}

func shapeOf(dims ...int64) *tfpb.TensorShapeProto {
	s := &tfpb.TensorShapeProto{}
	for _, d := range dims {
		s.Dim = append(s.Dim, &tfpb.TensorShapeProto_Dim{Size: d})
	}
	return s
}

func shapeAttr(dims ...int64) *tfpb.AttrValue {
	return &tfpb.AttrValue{Value: &tfpb.AttrValue_Shape{Shape: shapeOf(dims...)}}
}

func constant(t *tfpb.TensorProto) attrs {
	return attrs{
		"dtype": typeAttr(t.Dtype),
		"value": {Value: &tfpb.AttrValue_Tensor{Tensor: t}},
	}
}

// floatConst is one number, or a list of several.
func floatConst(values ...float32) attrs {
	t := &tfpb.TensorProto{Dtype: tfpb.DataType_DT_FLOAT, TensorShape: shapeOf(), FloatVal: values}
	if len(values) > 1 {
		t.TensorShape = shapeOf(int64(len(values)))
	}
	return constant(t)
}

// channelConst is one number, or one for each channel.
func channelConst(p PerChannel) attrs {
	if p.uniform() {
		return floatConst(float32(p[0]))
	}
	return floatConst(float32(p[0]), float32(p[1]), float32(p[2]))
}

func int32Const(shape []int64, values ...int32) attrs {
	var content []byte
	for _, v := range values {
		content = binary.NativeEndian.AppendUint32(content, uint32(v))
	}
	return constant(&tfpb.TensorProto{
		Dtype: tfpb.DataType_DT_INT32, TensorShape: shapeOf(shape...), TensorContent: content,
	})
}
