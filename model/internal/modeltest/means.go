package modeltest

import (
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"inceptor/model/internal/graphdef"
	"inceptor/savedmodel/tfpb"
)

// A Means is a SavedModel whose scores are the means of red, green and blue, after x*scale +
// offset. They show which pixels it was fed.
type Means struct {
	Dtype         tfpb.DataType
	Scale, Offset float32 // 0, 0: pixels stay as they are
	Divides       bool    // by the deviation: an image of one colour gives NaN
	Decoder       string  // the operation that decodes encoded images, one image a run
	Crop          []int32 // of DecodeAndCropJpeg
}

// Write writes a version with this inceptor.yaml to dir; empty: without one.
func (m Means) Write(t testing.TB, dir, yaml string) {
	t.Helper()
	Write(t, filepath.Join(dir, "saved_model.pb"), m.Bytes(t))
	Write(t, filepath.Join(dir, "assets/labels.txt"), []byte("red\ngreen\nblue\n"))
	if yaml != "" {
		Write(t, filepath.Join(dir, "assets.extra/inceptor.yaml"), []byte(yaml))
	}
}

// Bytes returns the saved_model.pb.
func (m Means) Bytes(t testing.TB) []byte { //nolint:funlen // one graph, node by node
	t.Helper()
	const float = tfpb.DataType_DT_FLOAT
	if m.Dtype == 0 {
		m.Dtype = float
	}
	g := graphdef.New()
	same := graphdef.Attrs{"T": graphdef.Type(float)}
	reduce := graphdef.Attrs{"T": graphdef.Type(float), "Tidx": graphdef.Type(tfpb.DataType_DT_INT32), "keep_dims": graphdef.Bool(false)}
	input := TensorInfo("images:0", m.Dtype, -1, 2, 2, 3)
	last := "images"
	if m.Decoder == "" {
		g.Add("images", "Placeholder", nil, graphdef.Attrs{"dtype": graphdef.Type(m.Dtype), "shape": graphdef.Shape(-1, 2, 2, 3)})
	} else {
		m.Dtype, input = tfpb.DataType_DT_UINT8, TensorInfo("images:0", tfpb.DataType_DT_STRING, 1)
		g.Add("images", "Placeholder", nil, graphdef.Attrs{"dtype": graphdef.Type(tfpb.DataType_DT_STRING), "shape": graphdef.Shape(1)})
		g.Add("scalar", "Const", nil, graphdef.Int32s([]int64{0}))
		g.Add("image", "Reshape", []string{"images", "scalar"}, graphdef.Attrs{"T": graphdef.Type(tfpb.DataType_DT_STRING), "Tshape": graphdef.Type(tfpb.DataType_DT_INT32)})
		from, how := []string{"image"}, graphdef.Attrs{"channels": graphdef.Int(3)}
		switch m.Decoder {
		case "DecodeAndCropJpeg":
			g.Add("crop", "Const", nil, graphdef.Int32s([]int64{4}, m.Crop...))
			from = append(from, "crop")
		case "DecodePng":
			how["dtype"] = graphdef.Type(tfpb.DataType_DT_UINT8)
		case "DecodeImage":
			how["dtype"], how["expand_animations"] = graphdef.Type(tfpb.DataType_DT_UINT8), graphdef.Bool(false)
		}
		g.Add("decoded", m.Decoder, from, how)
		g.Add("first", "Const", nil, graphdef.Int32s(nil, 0))
		g.Add("batch", "ExpandDims", []string{"decoded", "first"}, graphdef.Attrs{"T": graphdef.Type(tfpb.DataType_DT_UINT8), "Tdim": graphdef.Type(tfpb.DataType_DT_INT32)})
		last = "batch"
	}
	if m.Dtype != float {
		g.Add("float", "Cast", []string{last}, graphdef.Attrs{"SrcT": graphdef.Type(m.Dtype), "DstT": graphdef.Type(float), "Truncate": graphdef.Bool(false)})
		last = "float"
	}
	if m.Scale != 0 {
		g.Add("scale", "Const", nil, graphdef.Floats(m.Scale))
		g.Add("scaled", "Mul", []string{last, "scale"}, same)
		g.Add("offset", "Const", nil, graphdef.Floats(m.Offset))
		g.Add("shifted", "AddV2", []string{"scaled", "offset"}, same)
		last = "shifted"
	}
	g.Add("axes", "Const", nil, graphdef.Int32s([]int64{2}, 1, 2))
	if m.Divides {
		g.Add("all", "Const", nil, graphdef.Int32s([]int64{3}, 1, 2, 3))
		keep := graphdef.Attrs{"T": graphdef.Type(float), "Tidx": graphdef.Type(tfpb.DataType_DT_INT32), "keep_dims": graphdef.Bool(true)}
		g.Add("middle", "Mean", []string{last, "all"}, keep)
		g.Add("distance", "Sub", []string{last, "middle"}, same)
		g.Add("square", "Square", []string{"distance"}, same)
		g.Add("variance", "Mean", []string{"square", "all"}, keep)
		g.Add("deviation", "Sqrt", []string{"variance"}, same)
		g.Add("standard", "RealDiv", []string{"distance", "deviation"}, same)
		last = "standard"
	}
	g.Add("scores", "Mean", []string{last, "axes"}, reduce)
	graph := &tfpb.MetaGraphDef{
		MetaInfoDef: &tfpb.MetaGraphDef_MetaInfoDef{Tags: []string{"serve"}, TensorflowVersion: "2.21.0"},
		GraphDef:    g.Def,
		SignatureDef: map[string]*tfpb.SignatureDef{"serving_default": {
			MethodName: "tensorflow/serving/predict",
			Inputs:     map[string]*tfpb.TensorInfo{"images": input},
			Outputs:    map[string]*tfpb.TensorInfo{"scores": TensorInfo("scores:0", float, -1, 3)},
		}},
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(&tfpb.SavedModel{SavedModelSchemaVersion: 1, MetaGraphs: []*tfpb.MetaGraphDef{graph}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
