package pixels

import (
	"encoding/binary"
	"math"
	"testing"

	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
	"inceptor/testenv"
)

// Every test must give back its goroutines and its native tensors.
func TestMain(m *testing.M) { modeltest.Main(m) }

// A tensorFlow runs the operations that this package replaces.
type tensorFlow struct {
	t       testing.TB
	session *savedmodel.Session
	decode  *savedmodel.Function // contents → uint8 [height, width, 3]

	// The same to [height, width, 4].
	alphaSession *savedmodel.Session
	alpha        *savedmodel.Function

	// The same for a JPEG, with the accurate inverse transform. DecodeImage
	// takes a faster one.
	accurateSession *savedmodel.Session
	accurate        *savedmodel.Function
}

func openTensorFlow(t testing.TB) *tensorFlow {
	t.Helper()
	if err := savedmodel.OpenLibrary(testenv.TensorFlow(t)); err != nil {
		t.Fatal(err)
	}
	tf := &tensorFlow{t: t}
	tf.session, tf.decode = tf.decoder(3)
	tf.alphaSession, tf.alpha = tf.decoder(4)
	tf.accurateSession, tf.accurate = tf.function([]*tfpb.NodeDef{
		node("in", "Placeholder", nil, attrs{"dtype": typeAttr(savedmodel.String)}),
		node("out", "DecodeJpeg", []string{"in"}, attrs{
			"channels":   {Value: &tfpb.AttrValue_I{I: 3}},
			"dct_method": {Value: &tfpb.AttrValue_S{S: []byte("INTEGER_ACCURATE")}},
		}),
	})
	t.Cleanup(func() { tf.accurateSession.Close() })
	return tf
}

func (tf *tensorFlow) decoder(channels int64) (*savedmodel.Session, *savedmodel.Function) {
	tf.t.Helper()
	session, f := tf.function([]*tfpb.NodeDef{
		node("in", "Placeholder", nil, attrs{"dtype": typeAttr(savedmodel.String)}),
		node("out", "DecodeImage", []string{"in"}, attrs{
			"channels":          {Value: &tfpb.AttrValue_I{I: channels}},
			"expand_animations": boolAttr(false),
		}),
	})
	tf.t.Cleanup(func() { session.Close() })
	return session, f
}

func (tf *tensorFlow) function(nodes []*tfpb.NodeDef) (*savedmodel.Session, *savedmodel.Function) {
	tf.t.Helper()
	session, err := savedmodel.NewSession(&tfpb.GraphDef{Node: nodes, Versions: &tfpb.VersionDef{Producer: 1882}}, savedmodel.Options{})
	if err != nil {
		tf.t.Fatal(err)
	}
	f, err := session.Function([]string{"in:0"}, []string{"out:0"})
	if err != nil {
		tf.t.Fatal(err)
	}
	return session, f
}

// picture decodes an image; ok is false where TensorFlow refuses it.
func (tf *tensorFlow) picture(image []byte) (p picture, ok bool) {
	tf.t.Helper()
	return tf.run(tf.decode, image)
}

func (tf *tensorFlow) run(f *savedmodel.Function, image []byte) (p picture, ok bool) {
	tf.t.Helper()
	in, err := savedmodel.NewStringTensor([][]byte{image})
	if err != nil {
		tf.t.Fatal(err)
	}
	defer in.Close()
	out, err := f.Run(tf.t.Context(), in)
	if err != nil {
		return picture{}, false
	}
	defer out[0].Close()
	shape := out[0].Shape()
	return picture{int(shape[1]), int(shape[0]), int(shape[2]), append([]byte(nil), out[0].Bytes()...)}, true
}

// onto decodes an image with alpha, and lays it on a background.
func (tf *tensorFlow) onto(image []byte, background [3]byte) (p picture, ok bool) {
	tf.t.Helper()
	rgba, ok := tf.run(tf.alpha, image)
	if !ok {
		return picture{}, false
	}
	p = newPicture(rgba.width, rgba.height)
	for i := range rgba.width * rgba.height {
		alpha := float64(rgba.pix[4*i+3]) / 255
		for c := range 3 {
			p.pix[3*i+c] = byte(math.Round(float64(rgba.pix[4*i+c])*alpha + float64(background[c])*(1-alpha)))
		}
	}
	return p, true
}

// input resizes and scales a picture as the decoder of package infer does.
func (tf *tensorFlow) input(p picture, r Recipe) []byte {
	tf.t.Helper()
	size := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, uint32(r.Height)), uint32(r.Width))
	resize := attrs{"T": typeAttr(savedmodel.UInt8), "align_corners": boolAttr(r.AlignCorners)}
	op := map[string]string{"": "ResizeBilinear", Nearest: "ResizeNearestNeighbor", Bicubic: "ResizeBicubic", Area: "ResizeArea"}[r.Resize]
	if r.Resize != Area {
		resize["half_pixel_centers"] = boolAttr(r.HalfPixelCenters)
	}
	resizedType := savedmodel.Float32
	if r.Resize == Nearest {
		resizedType = savedmodel.UInt8
	}
	float := attrs{"T": typeAttr(savedmodel.Float32)}
	last := node("out", "Identity", []string{"shifted"}, float)
	if r.DType == savedmodel.UInt8 {
		last = node("out", "Cast", []string{"shifted"}, attrs{"SrcT": typeAttr(savedmodel.Float32), "DstT": typeAttr(savedmodel.UInt8)})
	}
	session, f := tf.function([]*tfpb.NodeDef{
		node("in", "Placeholder", nil, attrs{"dtype": typeAttr(savedmodel.UInt8)}),
		node("size", "Const", nil, constant(&tfpb.TensorProto{Dtype: tfpb.DataType_DT_INT32, TensorShape: shape(2), TensorContent: size})),
		node("scale", "Const", nil, constant(&tfpb.TensorProto{Dtype: tfpb.DataType_DT_FLOAT, TensorShape: shape(), FloatVal: r.Scale[:1]})),
		node("offset", "Const", nil, constant(&tfpb.TensorProto{Dtype: tfpb.DataType_DT_FLOAT, TensorShape: shape(), FloatVal: r.Offset[:1]})),
		node("resized", op, []string{"in", "size"}, resize),
		node("floats", "Cast", []string{"resized"}, attrs{"SrcT": typeAttr(resizedType), "DstT": typeAttr(savedmodel.Float32)}),
		node("scaled", "Mul", []string{"floats", "scale"}, float),
		node("shifted", "AddV2", []string{"scaled", "offset"}, float),
		last,
	})
	defer session.Close()
	in, err := savedmodel.NewTensor(savedmodel.UInt8, 1, int64(p.height), int64(p.width), 3)
	if err != nil {
		tf.t.Fatal(err)
	}
	defer in.Close()
	copy(in.Bytes(), p.pix)
	out, err := f.Run(tf.t.Context(), in)
	if err != nil {
		tf.t.Fatal(err)
	}
	defer out[0].Close()
	return append([]byte(nil), out[0].Bytes()...)
}

type attrs map[string]*tfpb.AttrValue

func node(name, op string, inputs []string, a attrs) *tfpb.NodeDef {
	return &tfpb.NodeDef{Name: name, Op: op, Input: inputs, Attr: a}
}

func typeAttr(t savedmodel.DataType) *tfpb.AttrValue {
	return &tfpb.AttrValue{Value: &tfpb.AttrValue_Type{Type: tfpb.DataType(t)}}
}

func boolAttr(b bool) *tfpb.AttrValue { return &tfpb.AttrValue{Value: &tfpb.AttrValue_B{B: b}} }

func constant(t *tfpb.TensorProto) attrs {
	return attrs{"dtype": typeAttr(savedmodel.DataType(t.GetDtype())), "value": {Value: &tfpb.AttrValue_Tensor{Tensor: t}}}
}

func shape(dims ...int64) *tfpb.TensorShapeProto {
	s := &tfpb.TensorShapeProto{}
	for _, d := range dims {
		s.Dim = append(s.Dim, &tfpb.TensorShapeProto_Dim{Size: d})
	}
	return s
}
