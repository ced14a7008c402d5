package infer

import (
	"encoding/binary"
	"fmt"

	"inceptor/model/internal/graphdef"
	"inceptor/model/pixels"
	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// decodedName returns the decoded image's name in the graph, for a ratio.
func decodedName(ratio int) string { return fmt.Sprintf("decoded%d", ratios[ratio]) }

// pixelsName returns the result's name in the graph, for a ratio.
func pixelsName(ratio int) string { return fmt.Sprintf("pixels%d", ratios[ratio]) }

// decodeGraph returns the graph of a decoder: contents → DecodeImage → the steps of addPixels →
// pixels. For a fast decoder it has the same with DecodeJpeg for each other ratio. For images
// with alpha it also has contents → DecodeImage → rgba.
func decodeGraph(in Preprocessing, dtype savedmodel.DataType, fast bool) *tfpb.GraphDef {
	g := graphdef.New()
	g.Add("contents", "Placeholder", nil, graphdef.Attrs{
		"dtype": graphdef.Type(tfpb.DataType_DT_STRING), "shape": graphdef.Shape(),
	})
	g.Add("axis", "Const", nil, graphdef.Int32s(nil, 0))
	if in.frame().Plain() {
		g.Add("size", "Const", nil, graphdef.Int32s([]int64{2}, int32(in.Size[0]), int32(in.Size[1])))
	} else {
		for _, name := range placementFeeds {
			g.Add(name, "Placeholder", nil, graphdef.Attrs{"dtype": graphdef.Type(tfpb.DataType_DT_INT32)})
		}
	}
	addDecode(g, decodedName(0), 3)
	addDecode(g, "rgba", 4)
	addPixels(g, in, dtype, decodedName(0), pixelsName(0))
	for i := 1; fast && i < len(ratios); i++ {
		decoded := decodedName(i)
		g.Add(decoded, "DecodeJpeg", []string{"contents"}, graphdef.Attrs{"channels": graphdef.Int(3), "ratio": graphdef.Int(int64(ratios[i]))})
		if in.frame().Plain() {
			addPixels(g, in, dtype, decoded, pixelsName(i))
		}
	}
	return g.Def
}

func addDecode(g *graphdef.Graph, name string, channels int64) {
	g.Add(name, "DecodeImage", []string{"contents"}, graphdef.Attrs{
		"channels": graphdef.Int(channels), "dtype": graphdef.Type(tfpb.DataType_DT_UINT8), "expand_animations": graphdef.Bool(false),
	})
}

// placementFeeds place a picture where that depends on its size: the first pixel and the size
// of the part to take, the size to resize it to, and the zeros around that.
var placementFeeds = [...]string{"begin", "extent", "size", "paddings"}

// placementTensors returns the tensors for placementFeeds. The caller closes them, even with
// an error.
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

// A chain adds operations, each of which takes the result of the one before it.
type chain struct {
	*graphdef.Graph
	prefix string        // of the operations' names
	last   string        // the operation added last
	dtype  tfpb.DataType // of its result
}

// then adds an operation whose result has the type of its input; a may be nil.
func (c *chain) then(step, op string, a graphdef.Attrs, more ...string) {
	if a == nil {
		a = graphdef.Attrs{}
	}
	a["T"] = graphdef.Type(c.dtype)
	name := c.prefix + step
	c.Add(name, op, append([]string{c.last}, more...), a)
	c.last = name
}

// constant adds a constant for the next operation, and returns its name.
func (c *chain) constant(name string, value graphdef.Attrs) string {
	c.Add(c.prefix+name, "Const", nil, value)
	return c.prefix + name
}

// cast adds a conversion to another type, if necessary.
func (c *chain) cast(step string, to tfpb.DataType) {
	if c.dtype == to {
		return
	}
	name := c.prefix + step
	c.Add(name, "Cast", []string{c.last}, graphdef.Attrs{"SrcT": graphdef.Type(c.dtype), "DstT": graphdef.Type(to), "Truncate": graphdef.Bool(false)})
	c.last, c.dtype = name, to
}

// resizeOps are TensorFlow's operations, by their names in inceptor.yaml.
var resizeOps = map[string]string{
	"bilinear": "ResizeBilinear", "nearest": "ResizeNearestNeighbor", "bicubic": "ResizeBicubic", "area": "ResizeArea",
}

// addPixels adds the steps from a decoded image to the model's input: placement, resize, order
// of the channels, scale and offset, layout, and type. It leaves out steps that change nothing.
func addPixels(g *graphdef.Graph, in Preprocessing, dtype savedmodel.DataType, decoded, pixelsName string) {
	const float, int32Type = tfpb.DataType_DT_FLOAT, tfpb.DataType_DT_INT32
	c := chain{Graph: g, prefix: pixelsName + "/", last: decoded, dtype: tfpb.DataType_DT_UINT8}
	plain := in.frame().Plain()
	if !plain {
		c.then("taken", "Slice", graphdef.Attrs{"Index": graphdef.Type(int32Type)}, "begin", "extent")
	}
	c.then("batch", "ExpandDims", graphdef.Attrs{"Tdim": graphdef.Type(int32Type)}, "axis")
	resize := graphdef.Attrs{"align_corners": graphdef.Bool(in.AlignCorners)}
	if in.Resize != "area" {
		resize["half_pixel_centers"] = graphdef.Bool(in.HalfPixelCenters)
	}
	c.then("resized", resizeOps[in.Resize], resize, "size")
	if in.Resize != "nearest" { // which keeps the type
		c.dtype = float
	}
	if !plain {
		c.then("padded", "Pad", graphdef.Attrs{"Tpaddings": graphdef.Type(int32Type)}, "paddings")
	}
	channelAxis := func() string { return c.constant("channels", graphdef.Int32s([]int64{1}, 3)) }
	switch in.Channels {
	case pixels.BGR:
		c.then("bgr", "ReverseV2", graphdef.Attrs{"Tidx": graphdef.Type(int32Type)}, channelAxis())
	case pixels.Gray:
		c.cast("colours", float)
		c.then("weighed", "Mul", nil, c.constant("weights", graphdef.Floats(pixels.GrayWeights[:]...)))
		c.then("gray", "Sum", graphdef.Attrs{"Tidx": graphdef.Type(int32Type), "keep_dims": graphdef.Bool(true)}, channelAxis())
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
		c.then("within", "ClipByValue", nil, c.constant("low", graphdef.Floats(low)), c.constant("high", graphdef.Floats(high)))
	}
	if in.Layout == pixels.ChannelsFirst {
		c.then("planes", "Transpose", graphdef.Attrs{"Tperm": graphdef.Type(int32Type)}, c.constant("order", graphdef.Int32s([]int64{4}, 0, 3, 1, 2)))
	}
	c.cast("cast", tfpb.DataType(dtype))
	g.Add(pixelsName, "Identity", []string{c.last}, graphdef.Attrs{"T": graphdef.Type(c.dtype)})
}

// channelConst returns the attributes of a constant: one number, or one for each channel.
func channelConst(p PerChannel) graphdef.Attrs {
	if p.uniform() {
		return graphdef.Floats(float32(p[0]))
	}
	return graphdef.Floats(float32(p[0]), float32(p[1]), float32(p[2]))
}
