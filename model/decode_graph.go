package model

import (
	"encoding/binary"
	"fmt"

	"inceptor/model/pixels"
	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// decodedName is the decoded image's name in the graph for a ratio.
func decodedName(ratio int) string { return fmt.Sprintf("decoded%d", ratios[ratio]) }

// pixelsName is the result's name in the graph for a ratio.
func pixelsName(ratio int) string { return fmt.Sprintf("pixels%d", ratios[ratio]) }

// decodeGraph is contents → DecodeImage → the steps of addPixels → pixels; and if it
// is to be fast, the same with DecodeJpeg for each of the other ratios. Beside it,
// for images with alpha, contents → DecodeImage → rgba.
func decodeGraph(in Preprocessing, dtype savedmodel.DataType, fast bool) *tfpb.GraphDef {
	g := &graph{def: &tfpb.GraphDef{Versions: &tfpb.VersionDef{Producer: graphProducer}}}
	g.add("contents", "Placeholder", nil, attrs{
		"dtype": typeAttr(tfpb.DataType_DT_STRING), "shape": shapeAttr(),
	})
	g.add("axis", "Const", nil, int32Const(nil, 0))
	if in.frame().Plain() {
		g.add("size", "Const", nil, int32Const([]int64{2}, int32(in.Size[0]), int32(in.Size[1])))
	} else {
		for _, name := range placementFeeds {
			g.add(name, "Placeholder", nil, attrs{"dtype": typeAttr(tfpb.DataType_DT_INT32)})
		}
	}
	g.addDecode(decodedName(0), 3)
	g.addDecode("rgba", 4)
	g.addPixels(in, dtype, decodedName(0), pixelsName(0))
	for i := 1; fast && i < len(ratios); i++ {
		decoded := decodedName(i)
		g.add(decoded, "DecodeJpeg", []string{"contents"}, attrs{"channels": intAttr(3), "ratio": intAttr(int64(ratios[i]))})
		if in.frame().Plain() {
			g.addPixels(in, dtype, decoded, pixelsName(i))
		}
	}
	return g.def
}

func (g *graph) addDecode(name string, channels int64) {
	g.add(name, "DecodeImage", []string{"contents"}, attrs{
		"channels": intAttr(channels), "dtype": typeAttr(tfpb.DataType_DT_UINT8), "expand_animations": boolAttr(false),
	})
}

// placementFeeds say where a picture goes, if that depends on its size: the first
// pixel and the size of the part that is taken, the size it is resized to, and the
// zeros around that.
var placementFeeds = [...]string{"begin", "extent", "size", "paddings"}

// placementTensors are what is fed to placementFeeds. The caller closes them, also
// with an error.
func placementTensors(p pixels.Placement, in pixels.Frame) (tensors []*savedmodel.Tensor, err error) {
	from, to := p.From, p.To
	for _, feed := range [len(placementFeeds)]struct {
		shape  savedmodel.Shape
		values []int
	}{
		{savedmodel.Shape{3}, []int{from.Min.Y, from.Min.X, 0}},
		{savedmodel.Shape{3}, []int{from.Dy(), from.Dx(), 3}},
		{savedmodel.Shape{2}, []int{to.Dy(), to.Dx()}},
		{savedmodel.Shape{4, 2}, []int{0, 0, to.Min.Y, in.Height - to.Max.Y, to.Min.X, in.Width - to.Max.X, 0, 0}},
	} {
		t, err := savedmodel.NewTensor(savedmodel.Int32, feed.shape...)
		if err != nil {
			return tensors, err
		}
		tensors = append(tensors, t)
		for i, v := range feed.values {
			binary.NativeEndian.PutUint32(t.Bytes()[4*i:], uint32(v))
		}
	}
	return tensors, nil
}

// A chain adds operations of which each takes what the one before it gives.
type chain struct {
	*graph
	prefix string // of the operations' names
	last   string // operation
	dtype  tfpb.DataType
}

// then adds an operation that gives the type that it takes; a may be nil.
func (c *chain) then(step, op string, a attrs, more ...string) {
	if a == nil {
		a = attrs{}
	}
	a["T"] = typeAttr(c.dtype)
	name := c.prefix + step
	c.add(name, op, append([]string{c.last}, more...), a)
	c.last = name
}

// constant adds a constant for the next operation.
func (c *chain) constant(name string, value attrs) string {
	c.add(c.prefix+name, "Const", nil, value)
	return c.prefix + name
}

// cast makes it of another type, if it is not.
func (c *chain) cast(step string, to tfpb.DataType) {
	if c.dtype == to {
		return
	}
	name := c.prefix + step
	c.add(name, "Cast", []string{c.last}, attrs{"SrcT": typeAttr(c.dtype), "DstT": typeAttr(to), "Truncate": boolAttr(false)})
	c.last, c.dtype = name, to
}

// resizeOps are TensorFlow's operations by name in inceptor.yaml.
var resizeOps = map[string]string{
	"bilinear": "ResizeBilinear", "nearest": "ResizeNearestNeighbor", "bicubic": "ResizeBicubic", "area": "ResizeArea",
}

// addPixels adds the way from a decoded image to the model's input, leaving out the
// steps that change nothing: what a placement says, the resize, the order of the
// channels, scale and offset, the layout, the type.
func (g *graph) addPixels(in Preprocessing, dtype savedmodel.DataType, decoded, pixelsName string) {
	const float, int32Type = tfpb.DataType_DT_FLOAT, tfpb.DataType_DT_INT32
	c := chain{graph: g, prefix: pixelsName + "/", last: decoded, dtype: tfpb.DataType_DT_UINT8}
	plain := in.frame().Plain()
	if !plain {
		c.then("taken", "Slice", attrs{"Index": typeAttr(int32Type)}, "begin", "extent")
	}
	c.then("batch", "ExpandDims", attrs{"Tdim": typeAttr(int32Type)}, "axis")
	resize := attrs{"align_corners": boolAttr(in.AlignCorners)}
	if in.Resize != "area" {
		resize["half_pixel_centers"] = boolAttr(in.HalfPixelCenters)
	}
	c.then("resized", resizeOps[in.Resize], resize, "size")
	if in.Resize != "nearest" { // which gives the pixels' own type
		c.dtype = float
	}
	if !plain {
		c.then("padded", "Pad", attrs{"Tpaddings": typeAttr(int32Type)}, "paddings")
	}
	channelAxis := func() string { return c.constant("channels", int32Const([]int64{1}, 3)) }
	switch in.Channels {
	case pixels.BGR:
		c.then("bgr", "ReverseV2", attrs{"Tidx": typeAttr(int32Type)}, channelAxis())
	case pixels.Gray:
		c.cast("colours", float)
		c.then("weighed", "Mul", nil, c.constant("weights", floatConst(pixels.GrayWeights[:]...)))
		c.then("gray", "Sum", attrs{"Tidx": typeAttr(int32Type), "keep_dims": boolAttr(true)}, channelAxis())
	}
	if in.Scale != same(1) {
		c.cast("unscaled", float)
		c.then("scaled", "Mul", nil, c.constant("scale", channelConst(in.Scale)))
	}
	if in.Offset != same(0) {
		c.cast("unshifted", float)
		c.then("shifted", "AddV2", nil, c.constant("offset", channelConst(in.Offset)))
	}
	if low, high, whole := pixels.Range(dtype); whole && in.Resize == "bicubic" { // which overshoots
		c.then("within", "ClipByValue", nil, c.constant("low", floatConst(low)), c.constant("high", floatConst(high)))
	}
	if in.Layout == pixels.ChannelsFirst {
		c.then("planes", "Transpose", attrs{"Tperm": typeAttr(int32Type)}, c.constant("order", int32Const([]int64{4}, 0, 3, 1, 2)))
	}
	c.cast("cast", tfpb.DataType(dtype))
	g.add(pixelsName, "Identity", []string{c.last}, attrs{"T": typeAttr(c.dtype)})
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
