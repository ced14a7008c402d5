package model

import (
	"context"
	"encoding/binary"
	"errors"

	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// A decoder turns encoded images into the model's input, with the operations
// that Python's tf.io.decode_image and image resizing are made of, so that
// answers are the same. It does what they do with EXIF: nothing, an image
// that was stored sideways stays sideways.
type decoder struct {
	session *savedmodel.Session
	decode  *savedmodel.Function
}

func newDecoder(in Input, dtype savedmodel.DataType, o savedmodel.Options) (*decoder, error) {
	session, err := savedmodel.NewSession(decodeGraph(in, dtype), o)
	if err != nil {
		return nil, err
	}
	decode, err := session.Function([]string{"contents:0"}, []string{"pixels:0"})
	if err != nil {
		return nil, errors.Join(err, session.Close())
	}
	return &decoder{session, decode}, nil
}

// pixels decodes, resizes and scales one image to a tensor of shape
// [1, height, width, 3], which the caller closes. An image that TensorFlow
// refuses is an *InputError.
func (d *decoder) pixels(ctx context.Context, image []byte) (*savedmodel.Tensor, error) {
	contents, err := savedmodel.NewStringTensor([][]byte{image})
	if err != nil {
		return nil, err
	}
	defer contents.Close()
	out, err := d.decode.Run(ctx, contents)
	if err != nil {
		return nil, blame(err, ReasonUndecodable)
	}
	return out[0], nil
}

// item is pixels as an item of a batch, which owns them.
func (d *decoder) item(ctx context.Context, image []byte) (item, error) {
	p, err := d.pixels(ctx, image)
	return item{pixels: p}, err
}

func (d *decoder) Close() error { return d.session.Close() }

// blame makes an *InputError of an error by which TensorFlow says that the
// input is at fault; other errors stay what they are.
func blame(err error, reason string) error {
	var status *savedmodel.Error
	if errors.As(err, &status) && status.Code == savedmodel.InvalidArgument {
		return &InputError{Reason: reason, Err: err}
	}
	return err
}

// decodeGraph is contents → DecodeImage → ResizeBilinear or ResizeArea →
// Mul → AddV2 → Cast → pixels, leaving out the steps that change nothing.
func decodeGraph(in Input, dtype savedmodel.DataType) *tfpb.GraphDef {
	const float = tfpb.DataType_DT_FLOAT
	g := &graph{def: &tfpb.GraphDef{Versions: &tfpb.VersionDef{Producer: graphProducer}}}
	g.add("contents", "Placeholder", nil, attrs{
		"dtype": typeAttr(tfpb.DataType_DT_STRING), "shape": shapeAttr(),
	})
	g.add("decoded", "DecodeImage", []string{"contents"}, attrs{
		"channels": intAttr(3), "dtype": typeAttr(tfpb.DataType_DT_UINT8), "expand_animations": boolAttr(false),
	})
	g.add("axis", "Const", nil, int32Const(nil, 0))
	g.add("batch", "ExpandDims", []string{"decoded", "axis"}, attrs{
		"T": typeAttr(tfpb.DataType_DT_UINT8), "Tdim": typeAttr(tfpb.DataType_DT_INT32),
	})
	g.add("size", "Const", nil, int32Const([]int64{2}, int32(in.Size[0]), int32(in.Size[1])))
	resize := attrs{"T": typeAttr(tfpb.DataType_DT_UINT8), "align_corners": boolAttr(in.AlignCorners)}
	op := "ResizeArea"
	if in.Resize == "bilinear" {
		op = "ResizeBilinear"
		resize["half_pixel_centers"] = boolAttr(in.HalfPixelCenters)
	}
	g.add("resized", op, []string{"batch", "size"}, resize)
	last := "resized"
	if in.Scale != 1 {
		g.add("scale", "Const", nil, floatConst(float32(in.Scale)))
		g.add("scaled", "Mul", []string{last, "scale"}, attrs{"T": typeAttr(float)})
		last = "scaled"
	}
	if in.Offset != 0 {
		g.add("offset", "Const", nil, floatConst(float32(in.Offset)))
		g.add("shifted", "AddV2", []string{last, "offset"}, attrs{"T": typeAttr(float)})
		last = "shifted"
	}
	if dtype != savedmodel.Float32 {
		g.add("cast", "Cast", []string{last}, attrs{
			"SrcT": typeAttr(float), "DstT": typeAttr(tfpb.DataType(dtype)), "Truncate": boolAttr(false),
		})
		last = "cast"
	}
	g.add("pixels", "Identity", []string{last}, attrs{"T": typeAttr(tfpb.DataType(dtype))})
	return g.def
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

func floatConst(v float32) attrs {
	return constant(&tfpb.TensorProto{Dtype: tfpb.DataType_DT_FLOAT, TensorShape: shapeOf(), FloatVal: []float32{v}})
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
